//! A name in an open directory, as the `*at()` calls take it, so that no path is resolved twice.
//!
//! A symlink at the name is never followed, and opening a FIFO or a device never blocks. This module must
//! not know a root or a message: its errors are errnos.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

/// Flags for opening a name for reading that follow no symlink and block on no FIFO or device.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// An open directory and a name in it, which need not exist.
pub(super) struct At {
    /// The directory that holds the name, or will hold it.
    pub directory: OwnedFd,
    /// The name: one component of a path.
    pub name: String,
}

impl At {
    /// Returns the status of the name, no link followed; `None` if it does not exist.
    pub(super) fn stat(&self) -> Result<Option<Stat>, Errno> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Reads the target of the symlink.
    pub(super) fn target(&self) -> Result<String, Errno> {
        let target = rustix::fs::readlinkat(&self.directory, &self.name, Vec::new())?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Opens the name for reading, whatever its type.
    pub(super) fn open(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.directory, &self.name, READ, Mode::empty())
    }

    /// Opens the name as a directory.
    pub(super) fn open_directory(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty())
    }

    /// Opens the name if it is a regular file; `None` for everything else.
    pub(super) fn regular_file(&self) -> Result<Option<File>, Errno> {
        match self.open() {
            Ok(opened) => regular(opened),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Creates a regular file with mode 0600, so that only its owner reads it until it is finished.
    pub(super) fn create(&self) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, &self.name, flags, Mode::from_raw_mode(0o600)).map(File::from)
    }

    /// Links a file without a name to this name. Returns false if the kernel does not allow it: the file is
    /// on another filesystem, or there is neither CAP_DAC_READ_SEARCH nor /proc.
    pub(super) fn link_anonymous(&self, file: &File) -> Result<bool, Errno> {
        let by_descriptor = rustix::fs::linkat(file, "", &self.directory, &self.name, AtFlags::EMPTY_PATH);
        let linked = match by_descriptor {
            Err(Errno::NOENT | Errno::PERM) => {
                let proc = format!("/proc/self/fd/{}", file.as_raw_fd());
                rustix::fs::linkat(CWD, proc, &self.directory, &self.name, AtFlags::SYMLINK_FOLLOW)
            }
            other => other,
        };
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::XDEV | Errno::NOENT | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// Returns `opened` if it is a regular file.
pub(super) fn regular(opened: OwnedFd) -> Result<Option<File>, Errno> {
    let stat = rustix::fs::fstat(&opened)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| File::from(opened)))
}

/// Calls `each` with the names in a directory, in any order, until it returns false.
pub(super) fn each_name(directory: &OwnedFd, mut each: impl FnMut(&str) -> bool) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(readable)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if name != "." && name != ".." && !each(&name) {
            break;
        }
    }
    Ok(())
}

/// Returns the id of the mount that a directory is on. On kernels before 5.8, and where a seccomp filter does not know
/// statx, this is the number of its device, which tells filesystems apart but not two mounts of one.
pub(super) fn mount(directory: &OwnedFd) -> Result<u64, Errno> {
    mount_of(directory, "")
}

/// Returns the id of the mount that `name` in a directory is on, no link followed: another one if something is
/// mounted there.
pub(super) fn mount_of(directory: &OwnedFd, name: &str) -> Result<u64, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(directory, name, flags, StatxFlags::MNT_ID) {
        Ok(stat) if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 => Ok(stat.stx_mnt_id),
        Ok(_) | Err(Errno::NOSYS | Errno::PERM) => Ok(rustix::fs::statat(directory, name, flags)?.st_dev),
        Err(errno) => Err(errno),
    }
}

/// Takes the lock (flock) on an open file or directory; returns false if another process holds it.
pub(super) fn try_lock(file: impl AsFd) -> Result<bool, Errno> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}
