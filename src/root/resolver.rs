//! Opens paths inside a root as the kernel would after a chroot into it.
//!
//! By openat2(2), and by libpathrs where the kernel or a seccomp filter has no openat2. It opens,
//! says what stands in the way, and does nothing else.

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

/// openat2 asks to try again when a rename raced with it; more than this many is an attack or a bug.
const RACES: u32 = 128;

/// The remedy where a root changes while nodebake works on it.
const MOVING: &str = "something else changes this root: stop it and run again";

/// A directory that no path opened through it leads out of.
pub(crate) struct Resolver {
    directory: OwnedFd,
    host: PathBuf,
}

impl Resolver {
    /// All paths are resolved below `directory`, which has the name `host`.
    pub(crate) fn new(directory: OwnedFd, host: &Path) -> Self {
        Resolver { directory, host: host.to_owned() }
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Where the directory is on this host, as the user gave it.
    pub(crate) fn host(&self) -> &Path {
        &self.host
    }

    /// Opens `relative` as the kernel would after a chroot into the root.
    pub(crate) fn open(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES {
            match rustix::fs::openat2(&self.directory, relative, flags, Mode::empty(), inside) {
                Err(Errno::AGAIN) => {}
                // Before Linux 5.6, or below a seccomp filter that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => return self.open_without_openat2(relative, flags),
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The regular file at `relative`, through symlinks inside the root; none where there is none.
    pub(crate) fn file(&self, relative: &str) -> Result<Option<File>, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match self.open(relative, flags) {
            Ok(found) => regular(found),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The parent of `path` as a descriptor and the name below it. None where there is no parent.
    pub(crate) fn place(&self, path: &ImagePath) -> Result<Option<At>, Failure> {
        let directory = match path.parent() {
            Some(parent) => self.directory_at(&parent)?,
            None => Some(self.open_directory(".").map_err(|e| self.failed("opening", "/", e))?),
        };
        Ok(directory.map(|directory| At { directory, name: path.name().to_owned() }))
    }

    /// As [`Resolver::place`], where the parent must be there.
    pub(crate) fn existing_place(&self, path: &ImagePath) -> Result<At, Failure> {
        self.place(path)?.ok_or_else(|| self.moved(path))
    }

    /// The directory at `path`, through symlinks inside the root; none where nothing is.
    pub(crate) fn directory_at(&self, path: &ImagePath) -> Result<Option<OwnedFd>, Failure> {
        match self.open_directory(path.relative()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.refused(path, errno)),
        }
    }

    /// The directory at `relative`, to read, lock or sync it.
    pub(crate) fn open_readable(&self, relative: &str) -> Result<OwnedFd, Errno> {
        self.open(relative, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    /// The directory at `relative` as a place to work from: not for reading.
    pub(crate) fn open_directory(&self, relative: &str) -> Result<OwnedFd, Errno> {
        self.open(relative, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    fn open_without_openat2(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        // libpathrs walks through /proc/self/fd and panics where that is missing.
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

    // --- saying what went wrong ----------------------------------------------------------------

    /// `path` as it is found on this host, for messages.
    pub(crate) fn shown(&self, path: impl Display) -> String {
        let host = self.host.display().to_string();
        printable(&format!("{}{path}", host.trim_end_matches('/')))
    }

    /// The refusal of a root that changes under a run.
    pub(crate) fn moved(&self, path: &ImagePath) -> Failure {
        let message = format!("the directory of `{}` vanished while nodebake was at work", self.shown(path));
        Failure::new(Kind::Unsafe, message).help(MOVING)
    }

    /// What could not be done, and where; a root that changes under a run is unsafe.
    pub(crate) fn failed(&self, doing: &str, path: impl Display, errno: Errno) -> Failure {
        // What has been looked at a moment ago is another thing now.
        let changed = matches!(errno, Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR);
        let failure = Failure::filesystem(doing, self.shown(path), errno);
        match changed {
            true => Failure::new(Kind::Unsafe, failure).help(MOVING),
            false => failure,
        }
    }

    /// A path on the way that can't be walked.
    pub(crate) fn refused(&self, path: impl Display, errno: Errno) -> Failure {
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
