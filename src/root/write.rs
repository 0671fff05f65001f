//! Writes to a root: one name at a time, durable, owned by root, labelled before a file has its final name.
//!
//! This module must not decide what is written or in which order.

use std::fs::File;
use std::io::Write;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::error::{Failure, errno};
use crate::format::file_contexts;
use crate::node::{Octal, Owner};
use crate::path::ImagePath;
use crate::root::metadata::{self, copy_all, own, times};
use crate::root::selinux::Labelled;
use crate::root::{Root, label};

impl Root {
    /// Creates the directory `path`, owned by root, with exactly `mode`, independent of the umask.
    pub(crate) fn make_directory(&self, path: &ImagePath, mode: u32) -> Result<(), Failure> {
        let at = self.require_changeable(path)?;
        let make = || -> Result<(), Errno> {
            rustix::fs::mkdirat(&at.directory, &at.name, Mode::from_raw_mode(0o700))?;
            let made = at.open_directory()?;
            self.labelling().label(&Labelled::open(&made), &at, path, file_contexts::FileKind::Directory)?;
            own(&made, mode)
        };
        make().map_err(|errno| self.failed("creating directory", path, errno))
    }

    /// Sets mode and owner of the directory `path`, no link followed; its access control list stays.
    pub(crate) fn set_directory(&self, path: &ImagePath, mode: Octal, owner: Owner) -> Result<(), Failure> {
        let at = self.require_changeable(path)?;
        self.refuse_mount_point(&at, path)?;
        let set = || -> Result<(), Errno> {
            let directory = at.open_directory()?;
            rustix::fs::fchown(&directory, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode.0))
        };
        set().map_err(|errno| self.failed("setting the mode of", path, errno))
    }

    /// Writes a new file with `bytes`, durable when it returns. `path` must not exist.
    pub(crate) fn write_new(
        &self,
        path: &ImagePath,
        mode: u32,
        bytes: &[u8],
        mtime: i64,
    ) -> Result<(), Failure> {
        let mut file = self.create(path)?;
        file.write_all(bytes).map_err(|error| self.failed("writing", path, errno(&error)))?;
        self.finish(&file, path, mode, mtime)
    }

    /// Sets owner root:root, exactly `mode`, the time of all installed files and the label of `file`, which
    /// has or will have the name `path`; durable when it returns.
    pub(crate) fn finish(&self, file: &File, path: &ImagePath, mode: u32, mtime: i64) -> Result<(), Failure> {
        let at = self.resolver.require_at(path)?;
        let finish = || -> Result<(), Errno> {
            own(file, mode)?;
            self.labelling().label(&Labelled::open(file), &at, path, file_contexts::FileKind::File)?;
            rustix::fs::futimens(file, &times(mtime))?;
            rustix::fs::fsync(file)
        };
        finish().map_err(|errno| self.failed("writing", path, errno))
    }

    /// Creates a file without a name on the filesystem that holds `directory` (or will hold it), for
    /// [`Root::link_anonymous`]. `None` if the filesystem has no O_TMPFILE, or must not be changed.
    pub(crate) fn anonymous(&self, directory: &ImagePath) -> Result<Option<File>, Failure> {
        let mut nearest = Some(directory.clone());
        let parent = loop {
            match &nearest {
                Some(path) => match self.resolver.directory_at(path)? {
                    Some(found) => break found,
                    None => nearest = path.parent(),
                },
                None => {
                    break self.resolver.open_directory(".").map_err(|e| self.failed("opening", "/", e))?;
                }
            }
        };
        if !self.is_changeable(&parent, directory)? {
            return Ok(None);
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, ".", flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.failed("creating a file in", directory, errno)),
        }
    }

    /// Gives an anonymous file the name `path`. Returns false if the kernel does not allow it: the file is
    /// on another filesystem, or there is neither CAP_DAC_READ_SEARCH nor /proc.
    pub(crate) fn link_anonymous(&self, file: &File, path: &ImagePath) -> Result<bool, Failure> {
        let at = self.require_changeable(path)?;
        at.link_anonymous(file).map_err(|errno| self.failed("linking", path, errno))
    }

    /// Copies `source` to a new file, by reflink if the filesystem supports it; durable when it returns.
    pub(crate) fn copy_new(
        &self,
        source: &File,
        size: u64,
        path: &ImagePath,
        mode: u32,
        mtime: i64,
    ) -> Result<(), Failure> {
        let copy = self.create(path)?;
        copy_all(source, &copy, size).map_err(|errno| self.failed("writing", path, errno))?;
        self.finish(&copy, path, mode, mtime)
    }

    /// Creates the symlink `path`.
    pub(crate) fn link_new(&self, path: &ImagePath, target: &str, mtime: i64) -> Result<(), Failure> {
        let at = self.require_changeable(path)?;
        let link = || -> Result<(), Errno> {
            rustix::fs::symlinkat(target, &at.directory, &at.name)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&at.directory, &at.name, Some(Uid::ROOT), Some(Gid::ROOT), flags)?;
            self.labelling().label(&label::link(&at), &at, path, file_contexts::FileKind::Link)?;
            rustix::fs::utimensat(&at.directory, &at.name, &times(mtime), flags)
        };
        link().map_err(|errno| self.failed("linking", path, errno))
    }

    /// Creates `copy` as a hard link to `path`, of whatever type; a regular file or a symlink on another
    /// filesystem is copied with its mode, owner and time.
    pub(crate) fn duplicate(&self, path: &ImagePath, copy: &ImagePath) -> Result<(), Failure> {
        let (from, to) = (self.resolver.require_at(path)?, self.require_changeable(copy)?);
        match rustix::fs::linkat(&from.directory, &from.name, &to.directory, &to.name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP) => self.copy_as_is(path, copy),
            Err(errno) => Err(self.failed("saving", path, errno)),
        }
    }

    /// Replaces `to` by `from` in one step. Both must be in the same directory.
    pub(crate) fn rename(&self, from: &ImagePath, to: &ImagePath) -> Result<(), Failure> {
        let at = self.require_changeable(to)?;
        rustix::fs::renameat(&at.directory, from.name(), &at.directory, &at.name)
            .map_err(|errno| self.failed("replacing", to, errno))
    }

    /// Renames the directory `from` to `to`, which must not exist. Both must have the same parent.
    pub(crate) fn rename_beside(&self, from: &ImagePath, to: &ImagePath) -> Result<(), Failure> {
        let at = self.require_changeable(to)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&at.directory, from.name(), &at.directory, &at.name, flags) {
            // On a filesystem without the flag, a directory can replace nothing but an empty directory.
            Err(Errno::INVAL | Errno::NOSYS) => self.rename(from, to),
            other => other.map_err(|errno| self.failed("renaming to", to, errno)),
        }
    }

    /// Removes a file, link or device; no error if there is none.
    pub(crate) fn remove_file(&self, path: &ImagePath) -> Result<(), Failure> {
        let Some(at) = self.changeable(path)? else { return self.was_missing(path) };
        match rustix::fs::unlinkat(&at.directory, &at.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // A filesystem that is read-only says so before it looks for the name.
            Err(Errno::ROFS) if self.stat_at(&at, path)?.is_none() => Ok(()),
            Err(errno) => Err(self.failed("removing", path, errno)),
        }
    }

    /// Removes a directory if it is empty; returns false if it is not.
    pub(crate) fn remove_empty_directory(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(at) = self.changeable(path)? else { return Ok(true) };
        match rustix::fs::unlinkat(&at.directory, &at.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::ROFS) if self.stat_at(&at, path)?.is_none() => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => Ok(false),
            Err(errno) => Err(self.failed("removing directory", path, errno)),
        }
    }

    /// Makes the entries of a directory durable; no error if there is none.
    pub(crate) fn sync_directory(&self, path: Option<&ImagePath>) -> Result<(), Failure> {
        let shown = path.map_or("/", ImagePath::as_str);
        let directory = match self.resolver.open_readable(path.map_or(".", ImagePath::relative)) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(self.resolver.refused(shown, errno)),
        };
        match rustix::fs::fsync(&directory) {
            // Some filesystems have nothing to sync for a directory and return EINVAL.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(self.failed("syncing", shown, errno)),
        }
    }

    /// Fails if the parent of `path`, which did not exist before, exists now or can't be resolved: the file
    /// would count as removed and be left behind.
    fn was_missing(&self, path: &ImagePath) -> Result<(), Failure> {
        match self.missing_directories(path)?.is_empty() {
            true => Err(self.resolver.moved(path)),
            false => Ok(()),
        }
    }

    /// Copies a regular file with its metadata, or a symlink, to another filesystem.
    fn copy_as_is(&self, path: &ImagePath, copy: &ImagePath) -> Result<(), Failure> {
        let (from, to) = (self.resolver.require_at(path)?, self.require_changeable(copy)?);
        let Some(stat) = self.stat_at(&from, path)? else { return Ok(()) };
        let failed = |errno| self.failed("saving", path, errno);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return label::copy_link(&from, &to, &stat).map_err(failed);
        }
        let Some(source) = self.open_at(&from, path)? else { return Err(failed(Errno::XDEV)) };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.copy_new(&source, size, copy, stat.st_mode & 0o7777, stat.st_mtime)?;
        let Some(copied) = self.open_at(&to, copy)? else { return Err(failed(Errno::XDEV)) };
        metadata::copy(&source, &copied, &stat).map_err(failed)
    }
}
