//! Decides which mounts below a root may be changed, and tells where a path really lies.
//!
//! While a chroot is built, directories of the host such as /dev are mounted below it, so what a root says of itself
//! must not reach them. This module must not change anything.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::plan::possible;
use crate::root::at::{self, At};
use crate::root::{Root, resolver::Resolver};

/// Flags for a directory that is only looked at, its own link not followed.
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is said of a path that must not be changed.
pub(crate) const ON_UNUSED_MOUNT: &str = "is on a mount that no bake uses";

/// Help for a path on a mount that no bake uses.
const UNUSED: &str = "unmount it and run again, or see where the links on its way lead";

/// Mounts below a root that may be changed.
#[derive(Default)]
pub(super) struct Mounts {
    /// The root's own.
    own: OnceLock<u64>,
    /// Those on which every bake creates paths.
    fixed: OnceLock<BTreeSet<u64>>,
    /// Those on which this run creates paths as well.
    planned: Mutex<BTreeSet<u64>>,
}

impl Root {
    /// Returns whether nodebake may change what is at `path`: it is on the root's own mount, on one where every bake
    /// creates paths, or on one where this run does.
    pub(crate) fn permits(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(true) };
        Ok(self.is_changeable(&at.directory, path)? && !self.is_foreign_mount_point(&at, path)?)
    }

    /// Permits changes on the mount where `path` is, or will be created.
    pub(crate) fn use_mount_of(&self, path: &ImagePath) -> Result<(), Failure> {
        let failed = |errno| self.failed("reading the mount of", path, errno);
        let mut used = vec![at::mount(&self.nearest(path)?).map_err(failed)?];
        if let Some(at) = self.resolver.at(path)? {
            match at::mount_of(&at.directory, &at.name) {
                Ok(own) => used.push(own),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        self.mounts.planned.lock().unwrap_or_else(PoisonError::into_inner).extend(used);
        Ok(())
    }

    /// Returns whether `path` is, or would be created, in `directory` or below it once all links are resolved.
    pub(crate) fn is_really_below(&self, path: &ImagePath, directory: &ImagePath) -> Result<bool, Failure> {
        let Some(wanted) = self.resolver.directory_at(directory)? else { return Ok(false) };
        let mut here = self.nearest(path)?;
        let mut look = || -> Result<bool, Errno> {
            let (wanted, top) = (identity(&wanted)?, identity(self.resolver.directory())?);
            loop {
                let found = identity(&here)?;
                if found == wanted || found == top {
                    return Ok(found == wanted);
                }
                let above = rustix::fs::openat(&here, "..", LOOK, Mode::empty())?;
                if identity(&above)? == found {
                    return Ok(false);
                }
                here = above;
            }
        };
        look().map_err(|errno| self.failed("reading the directories above", path, errno))
    }

    /// Returns the outermost directory above `path` that is on another mount than the root, if any.
    pub(crate) fn mount_on_the_way(&self, path: &ImagePath) -> Result<Option<ImagePath>, Failure> {
        let mount = |directory: &OwnedFd| {
            at::mount(directory).map_err(|errno| self.failed("reading the mount of", path, errno))
        };
        let own = mount(self.resolver.directory())?;
        for above in path.ancestors() {
            let Some(directory) = self.resolver.directory_at(&above)? else { break };
            if mount(&directory)? != own {
                return Ok(Some(above));
            }
        }
        Ok(None)
    }

    /// Returns whether another filesystem is mounted on the directory at `path`.
    pub(crate) fn is_mount_point(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(false) };
        let Some(directory) = self.resolver.directory_at(path)? else { return Ok(false) };
        let mounts = at::mount(&at.directory).and_then(|above| Ok((above, at::mount(&directory)?)));
        let (above, below) = mounts.map_err(|errno| self.failed("reading the mount of", path, errno))?;
        Ok(above != below)
    }

    /// Does the same as [`Resolver::at`], for a name that is going to be changed: fails on a mount that must not be.
    pub(super) fn changeable(&self, path: &ImagePath) -> Result<Option<At>, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        match self.is_changeable(&at.directory, path)? {
            true => Ok(Some(at)),
            false => Err(self.on_unused_mount(path)),
        }
    }

    /// Does the same as [`Root::changeable`], but fails if the parent does not exist.
    pub(super) fn require_changeable(&self, path: &ImagePath) -> Result<At, Failure> {
        self.changeable(path)?.ok_or_else(|| self.moved(path))
    }

    /// Fails if the directory at `at` is the mount point of a mount that must not be changed.
    pub(super) fn refuse_mount_point(&self, at: &At, path: &ImagePath) -> Result<(), Failure> {
        match self.is_foreign_mount_point(at, path)? {
            true => Err(self.on_unused_mount(path)),
            false => Ok(()),
        }
    }

    /// Returns whether what is in the open `directory`, the parent of `path`, may be changed.
    pub(super) fn is_changeable(&self, directory: &OwnedFd, path: &ImagePath) -> Result<bool, Failure> {
        let mount = at::mount(directory).map_err(|errno| self.failed("reading the mount of", path, errno))?;
        self.has_permitted(mount)
    }

    fn is_foreign_mount_point(&self, at: &At, path: &ImagePath) -> Result<bool, Failure> {
        match at::mount_of(&at.directory, &at.name) {
            Ok(mount) => Ok(!self.has_permitted(mount)?),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("reading the mount of", path, errno)),
        }
    }

    fn has_permitted(&self, mount: u64) -> Result<bool, Failure> {
        let Mounts { own, fixed, planned } = &self.mounts;
        let failed = |errno| self.failed("reading the mounts of", "/", errno);
        if *once(own, || at::mount(self.resolver.directory())).map_err(failed)? == mount {
            return Ok(true);
        }
        let fixed = once(fixed, || fixed_mounts(&self.resolver)).map_err(failed)?;
        let planned = || planned.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(fixed.contains(&mount) || planned().contains(&mount))
    }

    /// Opens the nearest directory above `path` that exists, links followed inside the root.
    fn nearest(&self, path: &ImagePath) -> Result<OwnedFd, Failure> {
        for above in path.ancestors().iter().rev() {
            if let Some(directory) = self.resolver.directory_at(above)? {
                return Ok(directory);
            }
        }
        self.resolver.open_directory(".").map_err(|errno| self.failed("opening", "/", errno))
    }

    fn on_unused_mount(&self, path: &ImagePath) -> Failure {
        let message = format!("`{}` {ON_UNUSED_MOUNT}", self.shown(path));
        Failure::new(Kind::Unsafe, message).help(UNUSED)
    }
}

/// Returns the value of `cell`, which `read` gives at the first time.
fn once<T>(cell: &OnceLock<T>, read: impl FnOnce() -> Result<T, Errno>) -> Result<&T, Errno> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = read()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// Returns the mounts of the directories in which every bake creates paths. A link on the way to one ends it: a root
/// can have a link to any mount.
fn fixed_mounts(resolver: &Resolver) -> Result<BTreeSet<u64>, Errno> {
    let mut mounts = BTreeSet::new();
    for directory in possible::directories() {
        let mut here = rustix::fs::openat(resolver.directory(), ".", LOOK, Mode::empty())?;
        for name in directory.relative().split('/') {
            here = match rustix::fs::openat(&here, name, LOOK, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => break,
                Err(errno) => return Err(errno),
            };
        }
        mounts.insert(at::mount(&here)?);
    }
    Ok(mounts)
}

fn identity(directory: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}
