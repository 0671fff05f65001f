//! Waits for what other processes do.

use std::thread;
use std::time::{Duration, Instant};

/// Returns once it is so.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(180), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
