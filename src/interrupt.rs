//! SIGINT and SIGTERM, noticed between steps so that a run cleans up before it ends.
//!
//! This module must hold nothing but the signal's number, and whether a thread cleans up. That is the program's one
//! piece of global state: a signal handler can reach nothing else.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use crate::error::{Failure, Kind};

/// Number of the signal that has arrived; 0 before.
static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Registers the handlers of the signals.
pub fn listen() -> std::io::Result<()> {
    let flag = SIGNAL.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        let number = signal as usize;
        signal_hook::flag::register_usize(signal, Arc::clone(flag), number)?;
    }
    // By default SIGXFSZ kills: with a handler, a write beyond the limit for files fails and is cleaned up.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

thread_local! {
    /// This thread cleans up.
    static CLEANING_UP: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`, which undoes what a run has done, although a signal has arrived: [`check`] does not fail in it.
pub fn clean_up<T>(work: impl FnOnce() -> T) -> T {
    let before = CLEANING_UP.replace(true);
    let done = work();
    CLEANING_UP.set(before);
    done
}

/// Fails once a signal has arrived, except in [`clean_up`].
pub fn check() -> Result<(), Failure> {
    if CLEANING_UP.get() {
        return Ok(());
    }
    match SIGNAL.get().map_or(0, |flag| flag.load(Ordering::Relaxed)) {
        0 => Ok(()),
        signal => {
            let signal = i32::try_from(signal).unwrap_or(SIGINT);
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            Err(Failure::new(Kind::Interrupted(signal), format!("stopped by {name}, cleaned up")))
        }
    }
}
