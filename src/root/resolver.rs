//! Opens paths inside a root as the kernel would after a chroot into it.
//!
//! Uses openat2(2), and libpathrs if the kernel or a seccomp filter has no openat2. This module opens
//! paths and says why one can't be opened; it must not change anything.

use std::fmt::Display;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Failure, Kind, errno};
use crate::path::ImagePath;
use crate::printable::printable;
use crate::root::at::{At, regular};

/// Attempts after which [`Resolver::open`] gives up: openat2 fails with EAGAIN if a rename raced with it,
/// and more races than these are an attack or a bug.
const RACES: u32 = 128;

/// Help for a root that changes while nodebake works on it.
const MOVING: &str = "something else changes this root: stop it and run again";

/// An open directory, below which all paths are resolved: none leads out of it.
pub(super) struct Resolver {
    directory: OwnedFd,
    host: PathBuf,
}

impl Resolver {
    /// Creates a resolver for `directory`, whose path on this host is `host`.
    pub(super) fn new(directory: OwnedFd, host: &Path) -> Self {
        Resolver { directory, host: host.to_owned() }
    }

    /// Returns the directory itself.
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Returns the directory's path on this host, as the user gave it.
    pub(super) fn host(&self) -> &Path {
        &self.host
    }

    /// Opens `relative` as the kernel would after a chroot into the root.
    fn open(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES {
            match rustix::fs::openat2(&self.directory, relative, flags, Mode::empty(), inside) {
                Err(Errno::AGAIN) => {}
                // Linux before 5.6, or a seccomp filter that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => return self.open_without_openat2(relative, flags),
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens the regular file at `relative`, symlinks followed inside the root; `None` if there is none.
    pub(super) fn file(&self, relative: &str) -> Result<Option<File>, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match self.open(relative, flags) {
            Ok(found) => regular(found),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens the parent of `path` and returns it with the name in it; `None` if the parent does not exist.
    pub(super) fn at(&self, path: &ImagePath) -> Result<Option<At>, Failure> {
        let directory = match path.parent() {
            Some(parent) => self.directory_at(&parent)?,
            None => Some(self.open_directory(".").map_err(|e| self.failed("opening", "/", e))?),
        };
        Ok(directory.map(|directory| At { directory, name: path.name().to_owned() }))
    }

    /// Does the same as [`Resolver::at`], but fails if the parent does not exist.
    pub(super) fn require_at(&self, path: &ImagePath) -> Result<At, Failure> {
        self.at(path)?.ok_or_else(|| self.moved(path))
    }

    /// Opens the directory at `path`, symlinks followed inside the root; `None` if it does not exist.
    pub(super) fn directory_at(&self, path: &ImagePath) -> Result<Option<OwnedFd>, Failure> {
        match self.open_directory(path.relative()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.refused(path, errno)),
        }
    }

    /// Opens the directory at `relative` to read or sync it.
    pub(super) fn open_readable(&self, relative: &str) -> Result<OwnedFd, Errno> {
        self.open(relative, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    /// Opens the directory at `relative` with O_PATH, for `*at()` calls but not for reading.
    pub(super) fn open_directory(&self, relative: &str) -> Result<OwnedFd, Errno> {
        self.open(relative, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    fn open_without_openat2(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        // libpathrs uses /proc/self/fd and panics if it is missing.
        let proc = rustix::fs::statfs("/proc").map_err(|_| Errno::NOSYS)?;
        if proc.f_type != PROC_SUPER_MAGIC {
            return Err(Errno::NOSYS);
        }
        let wrapped = |error: pathrs::error::Error| match error.kind() {
            pathrs::error::ErrorKind::OsError(Some(number)) => Errno::from_raw_os_error(number),
            pathrs::error::ErrorKind::SafetyViolation => Errno::XDEV,
            _ => Errno::IO,
        };
        let directory = self.directory.try_clone().map_err(|error| errno(&error))?;
        let handle = pathrs::Root::from_fd(directory).resolve(relative).map_err(wrapped)?;
        if flags.contains(OFlags::PATH) {
            let found = OwnedFd::from(handle);
            let stat = rustix::fs::fstat(&found)?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            return if is_directory || !flags.contains(OFlags::DIRECTORY) {
                Ok(found)
            } else {
                Err(Errno::NOTDIR)
            };
        }
        let flags = pathrs::flags::OpenFlags::from_bits_retain(flags.bits().into());
        handle.reopen(flags).map(OwnedFd::from).map_err(wrapped)
    }

    /// Returns `path` with the root's path on this host before it, for messages.
    pub(super) fn shown(&self, path: impl Display) -> String {
        let host = self.host.display().to_string();
        printable(&format!("{}{path}", host.trim_end_matches('/')))
    }

    /// Returns the failure for a path whose parent vanished during this run.
    pub(super) fn moved(&self, path: &ImagePath) -> Failure {
        let message = format!("the directory of `{}` vanished while nodebake was at work", self.shown(path));
        Failure::new(Kind::Unsafe, message).help(MOVING)
    }

    /// Returns the failure for what could not be done at `path`; unsafe if the error shows that the root
    /// changes during this run.
    pub(super) fn failed(&self, doing: &str, path: impl Display, errno: Errno) -> Failure {
        // The caller has looked at the path before: these errors mean that another process changed it.
        let changed = matches!(errno, Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR);
        let failure = Failure::filesystem(doing, self.shown(path), errno);
        match changed {
            true => Failure::new(Kind::Unsafe, failure).help(MOVING),
            false => failure,
        }
    }

    /// Returns the failure for a path that can't be resolved inside the root.
    pub(super) fn refused(&self, path: impl Display, errno: Errno) -> Failure {
        let unsafe_ = |why: &str| {
            Failure::new(Kind::Unsafe, format!("`{}` {why}", self.shown(&path)))
                .help("replace it in the root by a directory or by a link to one inside the root")
        };
        match errno {
            Errno::LOOP => unsafe_("has a symlink loop or a magic link on its way"),
            Errno::NOTDIR => unsafe_("is not a directory, or has something else than a directory on its way"),
            Errno::XDEV => unsafe_("leads out of the root"),
            Errno::NOSYS => Failure::new(
                Kind::Unsupported,
                "this kernel has no openat2, and /proc, which is needed instead, is not mounted",
            )
            .help("mount /proc, or run nodebake from outside with --root DIR"),
            errno => self.failed("opening", path, errno),
        }
    }
}
