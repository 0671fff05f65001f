//! Files of the build host, opened as safely as a root process has to.
//!
//! This module must not know what is in a file.

use std::fs::File;
use std::io::{self, Error, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Limit of a certificate file or a key in bytes; the bundle of a distribution has a quarter.
pub(crate) const LONGEST_CERTIFICATES: u64 = 1 << 20;

/// Reads a file that the user has named, of at most `longest` bytes. A pipe is not waited for and a device not read.
pub(crate) fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The file may grow meanwhile.
    open_input(path, longest)?.take(longest + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > longest {
        true => Err(too_long(longest)),
        false => Ok(bytes),
    }
}

/// Opens a file that the user has named: a regular one of at most `longest` bytes.
pub(crate) fn open_input(path: &Path, longest: u64) -> io::Result<File> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Error::other("is not a regular file: pipes, devices and directories are not read"));
    }
    match metadata.len() > longest {
        true => Err(too_long(longest)),
        false => Ok(file),
    }
}

fn too_long(longest: u64) -> Error {
    Error::other(format!("longer than {longest} bytes"))
}

/// Opens a file to read it. A FIFO that has been put in its place is not waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Opens a file to read it, as [`open`] does, unless it is a link.
pub(super) fn open_no_follow(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    File::options().read(true).custom_flags(raw(flags)).open(path)
}

/// Returns the flags as [`OpenOptionsExt::custom_flags`] takes them.
pub(super) fn raw(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}
