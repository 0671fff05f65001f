//! Counts what the tests have done to nodebake, for the table in tests/README.md.
//!
//! One file a kind below cargo's own directory for tests, one byte an event: test binaries run side
//! by side, and appending needs no lock. `make test` clears them first.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Where `tests/matrix` finds the counts.
const DIRECTORY: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/tally");

/// Notes that `what` happened `count` times: system calls that failed, archives, power cuts.
pub fn tally(what: &str, count: usize) {
    fs::create_dir_all(DIRECTORY).unwrap();
    let mut file =
        OpenOptions::new().create(true).append(true).open(Path::new(DIRECTORY).join(what)).unwrap();
    file.write_all(&vec![b'.'; count]).unwrap();
}
