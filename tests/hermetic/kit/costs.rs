//! Notes the memory and the time that runs of nodebake needed, for the table in tests/README.md.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// One file a test, one line a run: KiB and milliseconds. `tests/matrix` finds them there.
const DIRECTORY: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/tally/costs");

/// Notes what a run of the present test has needed.
pub fn cost(kibibytes: u64, time: Duration) {
    // libtest gives each test a thread of its name; runs on other threads are not noted.
    let thread = thread::current();
    let Some(test) = thread.name().filter(|name| *name != "main") else { return };
    fs::create_dir_all(DIRECTORY).unwrap();
    let file = Path::new(DIRECTORY).join(test);
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    writeln!(file, "{kibibytes} {}", time.as_millis()).unwrap();
}
