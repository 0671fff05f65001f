//! Writing to a root: one name at a time, durable, root's own, labelled before it has a name.

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
    /// Creates the directory `path`, owned by root, with exactly `mode` whatever the umask.
    pub(crate) fn make_directory(&self, path: &ImagePath, mode: u32) -> Result<(), Failure> {
        let place = self.resolver.existing_place(path)?;
        let make = || -> Result<(), Errno> {
            rustix::fs::mkdirat(&place.directory, &place.name, Mode::from_raw_mode(0o700))?;
            let made = place.open_directory()?;
            self.labelling().label(
                &Labelled::open(&made),
                &place,
                path,
                file_contexts::FileKind::Directory,
            )?;
            own(&made, mode)
        };
        make().map_err(|errno| self.failed("creating directory", path, errno))
    }

    /// Sets mode and owner of the directory `path` itself; its access control list stays.
    pub(crate) fn set_directory(&self, path: &ImagePath, mode: Octal, owner: Owner) -> Result<(), Failure> {
        let place = self.resolver.existing_place(path)?;
        let set = || -> Result<(), Errno> {
            let directory = place.open_directory()?;
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

    /// Makes `file`, which has or will have the name `path`, what is installed: root:root, exactly
    /// `mode`, the time that all installed files carry, its label; durable when it returns.
    pub(crate) fn finish(&self, file: &File, path: &ImagePath, mode: u32, mtime: i64) -> Result<(), Failure> {
        let place = self.resolver.existing_place(path)?;
        let finish = || -> Result<(), Errno> {
            own(file, mode)?;
            self.labelling().label(&Labelled::open(file), &place, path, file_contexts::FileKind::File)?;
            rustix::fs::futimens(file, &times(mtime))?;
            rustix::fs::fsync(file)
        };
        finish().map_err(|errno| self.failed("writing", path, errno))
    }

    /// A file without a name on the filesystem that holds `directory` (or will hold it), to be
    /// given a name by [`Root::link_anonymous`]. None where the filesystem has no O_TMPFILE.
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
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, ".", flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.failed("creating a file in", directory, errno)),
        }
    }

    /// Gives an anonymous file the name `path`. False where the kernel does not allow it here: another
    /// filesystem, or neither CAP_DAC_READ_SEARCH nor /proc.
    pub(crate) fn link_anonymous(&self, file: &File, path: &ImagePath) -> Result<bool, Failure> {
        let place = self.resolver.existing_place(path)?;
        place.link_anonymous(file).map_err(|errno| self.failed("linking", path, errno))
    }

    /// Copies `source` to a new file, by reflink where the filesystem can; durable when it returns.
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
        let place = self.resolver.existing_place(path)?;
        let link = || -> Result<(), Errno> {
            rustix::fs::symlinkat(target, &place.directory, &place.name)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&place.directory, &place.name, Some(Uid::ROOT), Some(Gid::ROOT), flags)?;
            self.labelling().label(&label::link(&place), &place, path, file_contexts::FileKind::Link)?;
            rustix::fs::utimensat(&place.directory, &place.name, &times(mtime), flags)
        };
        link().map_err(|errno| self.failed("linking", path, errno))
    }

    /// Makes `copy` the same file as `path`, whatever it is, by a hard link; a regular file or a
    /// symlink on another filesystem is copied with its mode, owner and time.
    pub(crate) fn duplicate(&self, path: &ImagePath, copy: &ImagePath) -> Result<(), Failure> {
        let (from, to) = (self.resolver.existing_place(path)?, self.resolver.existing_place(copy)?);
        match rustix::fs::linkat(&from.directory, &from.name, &to.directory, &to.name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP) => self.copy_as_is(path, copy),
            Err(errno) => Err(self.failed("saving", path, errno)),
        }
    }

    /// Replaces `to` by `from` in one step. Both are in the same directory.
    pub(crate) fn rename(&self, from: &ImagePath, to: &ImagePath) -> Result<(), Failure> {
        let place = self.resolver.existing_place(to)?;
        rustix::fs::renameat(&place.directory, from.name(), &place.directory, &place.name)
            .map_err(|errno| self.failed("replacing", to, errno))
    }

    /// Gives the directory `from` the name `to`, which must not exist. Both have the same parent.
    pub(crate) fn rename_beside(&self, from: &ImagePath, to: &ImagePath) -> Result<(), Failure> {
        let place = self.resolver.existing_place(to)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&place.directory, from.name(), &place.directory, &place.name, flags) {
            // Filesystems without the flag: a directory replaces nothing but an empty directory anyway.
            Err(Errno::INVAL | Errno::NOSYS) => self.rename(from, to),
            other => other.map_err(|errno| self.failed("renaming to", to, errno)),
        }
    }

    /// Removes a file, link or device. It is no error where there is none.
    pub(crate) fn remove_file(&self, path: &ImagePath) -> Result<(), Failure> {
        let Some(place) = self.resolver.place(path)? else { return self.was_missing(path) };
        match rustix::fs::unlinkat(&place.directory, &place.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("removing", path, errno)),
        }
    }

    /// Removes a directory if it is empty. False where it is not.
    pub(crate) fn remove_empty_directory(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(place) = self.resolver.place(path)? else { return Ok(true) };
        match rustix::fs::unlinkat(&place.directory, &place.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => Ok(false),
            Err(errno) => Err(self.failed("removing directory", path, errno)),
        }
    }

    /// Makes the entries of a directory durable. It is no error where there is none.
    pub(crate) fn sync_directory(&self, path: Option<&ImagePath>) -> Result<(), Failure> {
        let shown = path.map_or("/", ImagePath::as_str);
        let directory = match self.resolver.open_readable(path.map_or(".", ImagePath::relative)) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(self.resolver.refused(shown, errno)),
        };
        match rustix::fs::fsync(&directory) {
            // Some filesystems have nothing to do for a directory and say so.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(self.failed("syncing", shown, errno)),
        }
    }

    /// Refused where the directory of `path`, missing a moment ago, is there again or leads astray: what
    /// is in it would be taken for gone, and left behind.
    pub(crate) fn was_missing(&self, path: &ImagePath) -> Result<(), Failure> {
        match self.missing_directories(path)?.is_empty() {
            true => Err(self.resolver.moved(path)),
            false => Ok(()),
        }
    }

    pub(crate) fn copy_as_is(&self, path: &ImagePath, copy: &ImagePath) -> Result<(), Failure> {
        let (from, to) = (self.resolver.existing_place(path)?, self.resolver.existing_place(copy)?);
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
