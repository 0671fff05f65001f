//! Where the prepared lab and the release builds lie.

use std::path::{Path, PathBuf};

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn lab() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    let lab = target.join("lab");
    assert!(lab.join("roots/trixie").is_dir(), "run tests/lab/prepare first");
    lab
}

/// The release build for a target without a libc of its own.
pub fn static_binary(target: &str) -> PathBuf {
    let binary = lab().parent().unwrap().join(target).join("release/nodebake");
    assert!(binary.is_file(), "run make dist first");
    binary
}
