//! Sets owner, mode and times of installed files, and copies content and metadata between files.
//!
//! This module works on open files and must not know a path.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::digest::BUFFER;
use crate::error::errno;
use crate::interrupt;

/// Bytes that one call copies: a signal waits for the call.
const LONGEST_STEP: usize = 1 << 26;

/// Sets the owner root:root and exactly `mode`, and removes access control lists inherited from the directory.
pub(super) fn own(file: impl AsFd, mode: u32) -> Result<(), Errno> {
    rustix::fs::fchown(&file, Some(Uid::ROOT), Some(Gid::ROOT))?;
    for inherited in ["system.posix_acl_access", "system.posix_acl_default"] {
        match rustix::fs::fremovexattr(&file, inherited) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
}

/// Returns `mtime`, in seconds, as time of last access and of last modification.
pub(super) fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Copies the first `size` bytes of `source`, by reflink if the filesystem supports it. EINTR at a signal.
pub(super) fn copy_all(source: &File, copy: &File, size: u64) -> Result<(), Errno> {
    let mut offset = 0;
    while offset < size {
        interrupt::check().map_err(|_| Errno::INTR)?;
        let (mut from, mut to) = (offset, offset);
        let chunk = usize::try_from(size - offset).unwrap_or(usize::MAX).min(LONGEST_STEP);
        match rustix::fs::copy_file_range(source, Some(&mut from), copy, Some(&mut to), chunk) {
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_from(source, copy, offset).map_err(|error| errno(&error));
            }
            Ok(count) => offset += count as u64,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Copies `source` from `offset` on to the same offset of `copy`; neither file's own position is used. At a signal the
/// error is EINTR.
pub(crate) fn copy_from(source: &File, copy: &File, mut offset: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        interrupt::check().map_err(|_| std::io::Error::from(Errno::INTR))?;
        match source.read_at(&mut buffer, offset)? {
            0 => return Ok(()),
            count => {
                copy.write_all_at(&buffer[..count], offset)?;
                offset += count as u64;
            }
        }
    }
}

/// Copies owner, extended attributes and mode of `source`, whose status is `stat`; durable when it returns.
pub(super) fn copy(source: &File, copy: &File, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::fchown(copy, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    copy_attributes(source, copy)?;
    // chown has cleared setuid: the mode is set after it.
    rustix::fs::fchmod(copy, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    rustix::fs::fsync(copy)
}

/// Copies extended attributes: access control lists, capabilities and `user.` attributes, or fails; other
/// `security.` attributes, SELinux labels among them, only if they can be set here.
fn copy_attributes(source: &File, copy: &File) -> Result<(), Errno> {
    // XATTR_LIST_MAX and XATTR_SIZE_MAX, the kernel's limits for all names together and for one value.
    let (mut names, mut value) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let length = match rustix::fs::flistxattr(source, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let required =
            [&b"user."[..], b"system.", b"security.capability"].iter().any(|it| name.starts_with(it));
        if !required && !name.starts_with(b"security.") {
            continue;
        }
        let size = rustix::fs::fgetxattr(source, name, &mut value[..])?;
        match rustix::fs::fsetxattr(copy, name, &value[..size], XattrFlags::empty()) {
            Err(_) if !required => {}
            other => other?,
        }
    }
    Ok(())
}
