//! Files of the build host, opened as safely as a root process has to.
//!
//! This module must not read a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file to read it. A FIFO that has been put in its place is not waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NONBLOCK)
}

/// Opens a file to read it, as [`open`] does, unless it is a link.
pub(super) fn open_no_follow(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NOFOLLOW | OFlags::NONBLOCK)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    File::options().read(true).custom_flags(raw(flags)).open(path)
}

/// Returns the flags as [`OpenOptionsExt::custom_flags`] takes them.
pub(super) fn raw(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}
