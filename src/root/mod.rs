//! Reads and changes the target root filesystem; no other module may open a path in it.
//!
//! Every path is resolved inside the root as the kernel would after a chroot: an absolute symlink
//! such as `/usr/local -> /var/usrlocal` is followed inside the root, and no link leads out of it. A call
//! resolves the parent directory to a descriptor and then works on one name in it, so that a final
//! symlink, FIFO or device is never followed or opened. This module must not know what is
//! installed, but for the directories that a bake uses: on other mounts it changes nothing.

mod at;
mod label;
mod lock;
mod look;
mod metadata;
pub(crate) mod mounts;
mod resolver;
pub(crate) mod selinux;
pub(crate) mod target;
mod write;

use std::fmt::Display;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Failure, Kind, errno};
use crate::interrupt;
use crate::path::ImagePath;

use crate::root::at::At;
use crate::root::mounts::Mounts;
use crate::root::resolver::Resolver;
use crate::root::selinux::Labels;

/// Limit for [`Root::text`] that is far above the length of any text written by hand.
pub(crate) const LONGEST_TEXT: u64 = 1 << 20;

/// Limit of a file that is hashed, in bytes: no archive that is installed inflates to more.
const LARGEST_HASHED: u64 = 1 << 30;

/// Limit of the bytes that a run hashes in one root: a bake of all components hashes a third, and it takes 20 s on a
/// slow processor.
const MOST_HASHED: u64 = 3 << 30;

/// An open root filesystem.
pub(crate) struct Root {
    resolver: Resolver,
    /// The caller allows programs of the root to run.
    may_execute: bool,
    /// The caller allows what is installed to be of another architecture than the root's own executables.
    may_be_foreign: bool,
    /// Labels by the root's policy, which is read when the first file is created.
    labels: OnceLock<Labels>,
    /// Bytes of files that this run has hashed in the root.
    hashed: AtomicU64,
    mounts: Mounts,
}

impl Root {
    /// Opens the directory `host`; only here a symlink given as root is followed.
    pub(crate) fn open(host: &Path) -> Result<Root, Failure> {
        let refuse = |why: &str| {
            Failure::new(Kind::Unsupported, format!("root `{}` {why}", host.display()))
                .help("give the directory of a root filesystem; `--root /` is the running system")
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(host, flags, Mode::empty()) {
            Ok(directory) => Ok(Root {
                resolver: Resolver::new(directory, host),
                may_execute: false,
                may_be_foreign: false,
                labels: OnceLock::new(),
                hashed: AtomicU64::new(0),
                mounts: Mounts::default(),
            }),
            Err(Errno::NOENT) => Err(refuse("does not exist")),
            Err(Errno::NOTDIR) => Err(refuse("is not a directory")),
            Err(errno) => Err(Failure::filesystem("opening root", host.display(), errno)),
        }
    }

    /// Returns this root with the caller's word whether programs of it may run. A root may be hostile, so nothing in
    /// it decides this.
    pub(crate) fn executing(self, may_execute: bool) -> Root {
        Root { may_execute, ..self }
    }

    /// Returns this root with the caller's word whether what is installed may be of another architecture than the root's
    /// own executables.
    pub(crate) fn foreign(self, may_be_foreign: bool) -> Root {
        Root { may_be_foreign, ..self }
    }

    /// Returns whether what is installed may be of another architecture than the root's own executables.
    pub(crate) fn may_be_foreign(&self) -> bool {
        self.may_be_foreign
    }

    /// Fails with [`Kind::Unsupported`] unless the caller allows programs of the root to run.
    pub(crate) fn require_execution(&self) -> Result<(), Failure> {
        if self.may_execute {
            return Ok(());
        }
        let message = format!("programs of root `{}` would have to run", self.host().display());
        Err(Failure::new(Kind::Unsupported, message).help(
            "give --execute if they may: in a sandbox, a package manager with root's rights in the root",
        ))
    }

    /// Returns the root's path on this host, as the user gave it.
    pub(crate) fn host(&self) -> &Path {
        self.resolver.host()
    }

    /// Returns the name by which a child process enters the directory that is held open here, whatever has become of
    /// its path. It needs /proc.
    pub(crate) fn descriptor(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.resolver.directory().as_raw_fd()))
    }

    /// Returns device and inode of the root: the same for two paths of one root.
    pub(crate) fn identity(&self) -> Result<(u64, u64), Failure> {
        let stat =
            rustix::fs::fstat(self.resolver.directory()).map_err(|e| self.failed("reading", "/", e))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Returns whether this root is the one that this process sees as `/`.
    pub(crate) fn is_own(&self) -> Result<bool, Failure> {
        let own = rustix::fs::stat("/").map_err(|errno| self.failed("reading", "/", errno))?;
        Ok(self.identity()? == (own.st_dev, own.st_ino))
    }

    /// Returns `path` with the root's path on this host before it, for messages.
    pub(crate) fn shown(&self, path: impl Display) -> String {
        self.resolver.shown(path)
    }

    /// Returns the failure for a path whose parent vanished during this run.
    pub(crate) fn moved(&self, path: &ImagePath) -> Failure {
        self.resolver.moved(path)
    }

    fn stat_at(&self, at: &At, path: &ImagePath) -> Result<Option<Stat>, Failure> {
        at.stat().map_err(|errno| self.failed("reading", path, errno))
    }

    fn link_at(&self, at: &At, path: &ImagePath) -> Result<String, Failure> {
        at.target().map_err(|errno| match errno {
            // The caller has just seen a link there.
            Errno::INVAL => self.failed("reading the link", path, Errno::NOTDIR),
            errno => self.failed("reading", path, errno),
        })
    }

    fn open_at(&self, at: &At, path: &ImagePath) -> Result<Option<File>, Failure> {
        at.regular_file().map_err(|errno| self.failed("opening", path, errno))
    }

    fn create(&self, path: &ImagePath) -> Result<File, Failure> {
        self.require_changeable(path)?.create().map_err(|errno| self.failed("creating", path, errno))
    }

    fn failed(&self, doing: &str, path: impl Display, errno: Errno) -> Failure {
        if let (Errno::INTR, Err(signal)) = (errno, interrupt::check()) {
            return signal;
        }
        self.resolver.failed(doing, path, errno)
    }

    fn no_file(&self, path: &ImagePath) -> Failure {
        Failure::new(Kind::Unsafe, format!("`{}` is not a regular file", self.shown(path)))
            .help("nodebake made a file there; see who replaced it, and remove it")
    }

    fn unreadable(&self, path: &ImagePath, error: anyhow::Error) -> Failure {
        let errno = error.downcast_ref::<std::io::Error>().map_or(Errno::IO, errno);
        Failure::from_error(error, |_| self.failed("reading", path, errno))
    }
}
