//! Sets the SELinux labels of files that are created in a root, and compares the labels of existing ones.
//!
//! `root/selinux.rs` knows which label a path should have; this module finds the file and its path in the root.
//! This module must not interpret a policy, and it opens only names in directories that are open.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::error::Failure;
use crate::format::file_contexts::FileKind;
use crate::path::ImagePath;
use crate::root::Root;
use crate::root::at::At;
use crate::root::resolver::Resolver;
use crate::root::selinux::{Comparison, Labelled, Labels, RELABEL};

/// A root's policy together with the root's paths.
pub(super) struct Labelling<'a> {
    labels: &'a Labels,
    resolver: &'a Resolver,
}

impl Root {
    /// Returns the labels that the root's own SELinux policy wants.
    pub(crate) fn labels(&self) -> &Labels {
        self.labels.get_or_init(|| Labels::read(&self.resolver))
    }

    /// Sets the label that belongs at `final_path` on the file at `path`, which will be renamed to it.
    pub(crate) fn label_as(&self, path: &ImagePath, final_path: &ImagePath) -> Result<(), Failure> {
        if !self.labels().are_wanted() {
            return Ok(());
        }
        let Some(at) = self.resolver.at(path)? else { return Ok(()) };
        // A package may list files of the host, on mounts such as /dev.
        if !self.permits(path)? {
            return Ok(());
        }
        let set = self.labelling().label_as(&at, final_path);
        set.map_err(|errno| self.failed("labelling", path, errno))
    }

    /// Compares the label at `path`, no link followed, with the policy's; `None` if `path` does not exist.
    pub(crate) fn compare_label(&self, path: &ImagePath) -> Result<Option<Comparison>, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        let compared = self.labelling().compare(&at, path);
        compared.map_err(|errno| self.failed("reading the label of", path, errno))
    }

    /// Writes [`RELABEL`], durably, if a file could not be given its label. Returns whether one could not.
    pub(crate) fn mark_for_relabelling(&self) -> Result<bool, Failure> {
        if !self.labels().are_lacking() {
            return Ok(false);
        }
        let mark = ImagePath::fixed(RELABEL);
        if !self.has(&mark)? {
            self.write_new(&mark, 0o644, b"", 0)?;
            self.sync_directory(None)?;
        }
        Ok(true)
    }

    /// Returns the policy and the paths of this root.
    pub(super) fn labelling(&self) -> Labelling<'_> {
        Labelling { labels: self.labels(), resolver: &self.resolver }
    }
}

impl Labelling<'_> {
    /// Labels the file `made`, which was just created at `at`: as the policy wants it or, if the root has
    /// none, like the file that it will replace.
    pub(super) fn label(
        &self,
        made: &Labelled,
        at: &At,
        path: &ImagePath,
        kind: FileKind,
    ) -> Result<(), Errno> {
        if self.labels.are_wanted() {
            return self.labels.set(made, &self.named(at, &path.settled()), kind);
        }
        let replaced = path.settled();
        if replaced != *path
            && let Some(label) = label_beside(at, replaced.name(), kind)
        {
            made.set(&label)?;
        }
        Ok(())
    }

    /// Sets the label that belongs at `final_path` on the file at `at`, which will be renamed to it.
    fn label_as(&self, at: &At, final_path: &ImagePath) -> Result<(), Errno> {
        match open(at)? {
            Some((found, kind)) => self.labels.set(&Labelled::open(&found), final_path.as_str(), kind),
            None => Ok(()),
        }
    }

    /// Compares the label of the file at `at` with the policy's; `None` if no file, directory or link is there.
    fn compare(&self, at: &At, path: &ImagePath) -> Result<Option<Comparison>, Errno> {
        let Some(stat) = at.stat()? else { return Ok(None) };
        let named = self.named(at, path);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return self.labels.compare(&link(at), &named, FileKind::Link).map(Some);
        }
        let Some((found, kind)) = open(at)? else { return Ok(None) };
        self.labels.compare(&Labelled::open(&found), &named, kind).map(Some)
    }

    /// Returns the path of `at` in the root with all links on its way resolved, because a boot that labels
    /// the root looks the label up by that path. Falls back to `path`, for which `at` was opened.
    fn named(&self, at: &At, path: &ImagePath) -> String {
        let real = |directory: &OwnedFd| {
            let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
            rustix::fs::readlink(name, Vec::new()).ok()?.into_string().ok()
        };
        let inside = || {
            let (root, directory) = (real(self.resolver.directory())?, real(&at.directory)?);
            let below = directory.strip_prefix(root.trim_end_matches('/'))?.trim_end_matches('/').to_owned();
            (below.is_empty() || below.starts_with('/')).then(|| format!("{below}/{}", path.name()))
        };
        inside().unwrap_or_else(|| path.to_string())
    }
}

/// Returns the symlink at `at` by its name in /proc; reading or setting its label fails if /proc is missing.
pub(super) fn link(at: &At) -> Labelled<'static> {
    Labelled::Link(format!("/proc/self/fd/{}/{}", at.directory.as_raw_fd(), at.name))
}

/// Creates the symlink `to` with the target, label and owner of `from`, whose status is `stat`.
pub(super) fn copy_link(from: &At, to: &At, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::symlinkat(from.target()?, &to.directory, &to.name)?;
    if let Ok(Some(label)) = link(from).label() {
        link(to).set(&label)?;
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(&to.directory, &to.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Reads the label of `name` in the directory of `at`; `None` if it is not of that kind or has no readable label.
fn label_beside(at: &At, name: &str, kind: FileKind) -> Option<Vec<u8>> {
    let other = At { directory: at.directory.try_clone().ok()?, name: name.to_owned() };
    if kind == FileKind::Link {
        return link(&other).label().ok()?;
    }
    Labelled::open(&other.open().ok()?).label().ok()?
}

/// Opens the file or directory at `at`; `None` for everything else.
fn open(at: &At) -> Result<Option<(OwnedFd, FileKind)>, Errno> {
    let Ok(found) = at.open() else { return Ok(None) };
    let stat = rustix::fs::fstat(&found)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some((found, FileKind::File)),
        FileType::Directory => Some((found, FileKind::Directory)),
        _ => None,
    })
}
