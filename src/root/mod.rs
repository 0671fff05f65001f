//! The target root filesystem: the only module that touches it.
//!
//! Every path is resolved inside the root as the kernel would after a chroot: an absolute symlink
//! such as `/usr/local -> /var/usrlocal` leads to a place inside, and none leads out. A call
//! resolves the parent directory to a descriptor and then works on one name below it, so that a
//! final symlink, FIFO or device is never followed or opened. It must not know what is installed.

mod at;
mod label;
mod lock;
mod look;
mod metadata;
mod resolver;
pub(crate) mod selinux;
pub(crate) mod target;
mod write;

use std::fmt::Display;
use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Failure, Kind, errno};
use crate::path::ImagePath;
use crate::root::at::At;
use crate::root::resolver::Resolver;
use crate::root::selinux::Labels;

/// A limit for [`Root::text`] that no text which people write comes near.
pub(crate) const LONGEST_TEXT: u64 = 1 << 20;

/// A root filesystem, open.
pub(crate) struct Root {
    resolver: Resolver,
    /// Read when the first file is made.
    labels: OnceLock<Labels>,
}

impl Root {
    /// Opens the directory `host`; a symlink given as root is followed once, here.
    pub(crate) fn open(host: &Path) -> Result<Root, Failure> {
        let refuse = |why: &str| {
            Failure::new(Kind::Unsupported, format!("root `{}` {why}", host.display()))
                .help("give the directory of a root filesystem; `--root /` is the running system")
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(host, flags, Mode::empty()) {
            Ok(directory) => Ok(Root { resolver: Resolver::new(directory, host), labels: OnceLock::new() }),
            Err(Errno::NOENT) => Err(refuse("does not exist")),
            Err(Errno::NOTDIR) => Err(refuse("is not a directory")),
            Err(errno) => Err(Failure::filesystem("opening root", host.display(), errno)),
        }
    }

    /// Where it is on this host, as the user gave it.
    pub(crate) fn host(&self) -> &Path {
        self.resolver.host()
    }

    /// Device and inode: the same for two spellings of one root.
    pub(crate) fn identity(&self) -> Result<(u64, u64), Failure> {
        let stat =
            rustix::fs::fstat(self.resolver.directory()).map_err(|e| self.failed("reading", "/", e))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Whether it is the root that this process sees as `/`.
    pub(crate) fn is_own(&self) -> Result<bool, Failure> {
        let own = rustix::fs::stat("/").map_err(|errno| self.failed("reading", "/", errno))?;
        Ok(self.identity()? == (own.st_dev, own.st_ino))
    }

    pub(crate) fn stat_at(&self, place: &At, path: &ImagePath) -> Result<Option<Stat>, Failure> {
        place.stat().map_err(|errno| self.failed("reading", path, errno))
    }

    pub(crate) fn link_at(&self, place: &At, path: &ImagePath) -> Result<String, Failure> {
        place.target().map_err(|errno| match errno {
            // It was a link a moment ago.
            Errno::INVAL => self.failed("reading the link", path, Errno::NOTDIR),
            errno => self.failed("reading", path, errno),
        })
    }

    pub(crate) fn open_at(&self, place: &At, path: &ImagePath) -> Result<Option<File>, Failure> {
        place.regular_file().map_err(|errno| self.failed("opening", path, errno))
    }

    pub(crate) fn create(&self, path: &ImagePath) -> Result<File, Failure> {
        self.resolver.existing_place(path)?.create().map_err(|errno| self.failed("creating", path, errno))
    }

    /// `path` as it is found on this host, for messages.
    pub(crate) fn shown(&self, path: impl Display) -> String {
        self.resolver.shown(path)
    }

    /// The refusal of a root that changes under a run.
    pub(crate) fn moved(&self, path: &ImagePath) -> Failure {
        self.resolver.moved(path)
    }

    pub(crate) fn failed(&self, doing: &str, path: impl Display, errno: Errno) -> Failure {
        self.resolver.failed(doing, path, errno)
    }

    pub(crate) fn no_file(&self, path: &ImagePath) -> Failure {
        Failure::new(Kind::Unsafe, format!("`{}` is not a regular file", self.shown(path)))
            .help("nodebake made a file there; see who replaced it, and remove it")
    }

    pub(crate) fn unreadable(&self, path: &ImagePath, error: &anyhow::Error) -> Failure {
        let errno = error.downcast_ref::<std::io::Error>().map_or(Errno::IO, errno);
        self.failed("reading", path, errno)
    }
}
