//! Locks on files and directories of a root.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Failure;
use crate::path::ImagePath;
use crate::root::{Root, at};

impl Root {
    /// Opens or creates the file `path` for [`Root::try_lock`].
    pub(crate) fn lock_file(&self, path: &ImagePath) -> Result<File, Failure> {
        let place = self.resolver.existing_place(path)?;
        // Reading is enough for flock, and works where nothing can be written.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&place.directory, &place.name, flags, Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) => match self.write_new(path, 0o600, b"", 0) {
                // Another run may have been faster.
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

    /// The directory that holds `path`, locked until it is dropped; none: somebody else has the lock.
    pub(crate) fn lock_above(&self, path: &ImagePath) -> Result<Option<OwnedFd>, Failure> {
        let above = path.parent();
        let shown = above.as_ref().map_or("/", ImagePath::as_str);
        let opened = self.resolver.open_readable(above.as_ref().map_or(".", ImagePath::relative));
        let directory = opened.map_err(|errno| self.resolver.refused(shown, errno))?;
        let locked = at::try_lock(&directory);
        let locked = locked.map_err(|errno| self.failed("locking the parent of", path, errno))?;
        Ok(locked.then_some(directory))
    }

    /// Takes the lock on `file` if nobody has it; false if somebody has.
    ///
    /// None: the file at `path` is another one by now, open it again.
    pub(crate) fn try_lock(&self, file: &File, path: &ImagePath) -> Result<Option<bool>, Failure> {
        if !at::try_lock(file).map_err(|errno| self.failed("locking", path, errno))? {
            return Ok(Some(false));
        }
        let held = rustix::fs::fstat(file).map_err(|e| self.failed("reading", path, e))?;
        let Some(place) = self.resolver.place(path)? else { return Ok(None) };
        let named = self.stat_at(&place, path)?;
        let same = named.is_some_and(|named| (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino));
        Ok(same.then_some(true))
    }
}
