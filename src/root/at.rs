//! One name in a directory that is open: what the `*at()` calls take, so that nothing on the way to it is
//! resolved twice.
//!
//! The name itself is never followed, and no FIFO or device is ever waited for. It knows no root and no
//! message: what goes wrong is an errno.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

/// How anything is opened for reading: whatever lies there, it neither leads elsewhere nor blocks.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A name in a directory that has been resolved.
pub(crate) struct At {
    /// Where the name is, or will be.
    pub directory: OwnedFd,
    /// One component.
    pub name: String,
}

impl At {
    /// What is here, not followed; none where nothing is.
    pub(crate) fn stat(&self) -> Result<Option<Stat>, Errno> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The target of the symlink here.
    pub(crate) fn target(&self) -> Result<String, Errno> {
        let target = rustix::fs::readlinkat(&self.directory, &self.name, Vec::new())?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Whatever is here, open.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.directory, &self.name, READ, Mode::empty())
    }

    /// The directory here, open.
    pub(crate) fn open_directory(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty())
    }

    /// The regular file here; none for anything else.
    pub(crate) fn regular_file(&self) -> Result<Option<File>, Errno> {
        match self.open() {
            Ok(opened) => regular(opened),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// A new regular file, for root alone until it is finished.
    pub(crate) fn create(&self) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, &self.name, flags, Mode::from_raw_mode(0o600)).map(File::from)
    }

    /// Gives a file that has no name this one. False where the kernel does not allow it here: another
    /// filesystem, or neither CAP_DAC_READ_SEARCH nor /proc.
    pub(crate) fn link_anonymous(&self, file: &File) -> Result<bool, Errno> {
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

/// `opened` if it is a regular file.
pub(super) fn regular(opened: OwnedFd) -> Result<Option<File>, Errno> {
    let stat = rustix::fs::fstat(&opened)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| File::from(opened)))
}

/// The names in a directory, sorted.
pub(super) fn names(directory: &OwnedFd) -> Result<Vec<String>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(readable)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Which mount a directory is on. Kernels before 5.8 do not say it.
pub(super) fn mount(directory: &OwnedFd) -> Option<u64> {
    let stat = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    stat.ok().filter(|stat| stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).map(|stat| stat.stx_mnt_id)
}

/// Whether two directories are on different mounts. What the kernel has not told is none.
pub(super) fn is_another(own: Option<u64>, mount: Option<u64>) -> bool {
    matches!((own, mount), (Some(own), Some(mount)) if own != mount)
}

/// Takes the lock on an open file or directory; false if somebody else has it.
pub(super) fn try_lock(file: impl AsFd) -> Result<bool, Errno> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}
