//! Takes locks (flock) on files of a root that only root can open.
//!
//! This module must not know what a lock protects.

use std::fs::File;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Failure;
use crate::path::ImagePath;
use crate::root::{Root, at};

impl Root {
    /// Opens the file `path` for [`Root::try_lock`] and creates it first if it does not exist.
    pub(crate) fn lock_file(&self, path: &ImagePath) -> Result<File, Failure> {
        let at = self.resolver.require_at(path)?;
        // Reading is enough for flock, and works where nothing can be written.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&at.directory, &at.name, flags, Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) => match self.write_new(path, 0o600, b"", 0) {
                // Another run may have created it meanwhile.
                Err(failure) => open().map_err(|_| failure)?,
                Ok(()) => open().map_err(|errno| self.failed("opening", path, errno))?,
            },
            Err(Errno::LOOP | Errno::NXIO) => return Err(self.no_file(path)),
            Err(errno) => return Err(self.failed("opening", path, errno)),
            Ok(opened) => opened,
        };
        let stat = rustix::fs::fstat(&opened).map_err(|e| self.failed("reading", path, e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(File::from(opened)),
            _ => Err(self.no_file(path)),
        }
    }

    /// Takes the lock on `file`; returns false if another process holds it.
    ///
    /// `None` means that `path` now names another file, which the caller has to open.
    pub(crate) fn try_lock(&self, file: &File, path: &ImagePath) -> Result<Option<bool>, Failure> {
        if !at::try_lock(file).map_err(|errno| self.failed("locking", path, errno))? {
            return Ok(Some(false));
        }
        let held = rustix::fs::fstat(file).map_err(|e| self.failed("reading", path, e))?;
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        let named = self.stat_at(&at, path)?;
        let same = named.is_some_and(|named| (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino));
        Ok(same.then_some(true))
    }
}
