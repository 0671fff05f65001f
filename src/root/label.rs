//! Gives what is made in a root its SELinux label, and compares the labels of what is there.
//!
//! [`crate::labels`] says what a label should be; this is where the thing and its place are found. It
//! decides nothing of a policy, and opens no path but a name in a directory that is open.

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

/// The labels of one root, where its files lie.
pub(crate) struct Labelling<'a> {
    /// What they should be.
    pub labels: &'a Labels,
    /// The root.
    pub resolver: &'a Resolver,
}

impl Labelling<'_> {
    /// Labels what has just been made at `place`: by the policy or, without one, as what it replaces.
    pub(crate) fn label(
        &self,
        made: &Labelled,
        place: &At,
        path: &ImagePath,
        kind: FileKind,
    ) -> Result<(), Errno> {
        if self.labels.are_wanted() {
            return self.labels.set(made, &self.named(place, &path.settled()), kind);
        }
        let replaced = path.settled();
        if replaced != *path
            && let Some(label) = label_beside(place, replaced.name(), kind)
        {
            made.set(&label)?;
        }
        Ok(())
    }

    /// Gives what is at `place` the label that belongs at `final_path`, where it is going to be moved.
    pub(crate) fn label_as(&self, place: &At, final_path: &ImagePath) -> Result<(), Errno> {
        match open(place)? {
            Some((found, kind)) => self.labels.set(&Labelled::open(&found), final_path.as_str(), kind),
            None => Ok(()),
        }
    }

    /// Compares the label at `place` with the policy's. None where nothing is that has one.
    pub(crate) fn compare(&self, place: &At, path: &ImagePath) -> Result<Option<Comparison>, Errno> {
        let Some(stat) = place.stat()? else { return Ok(None) };
        let named = self.named(place, path);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return self.labels.compare(&link(place), &named, FileKind::Link).map(Some);
        }
        let Some((found, kind)) = open(place)? else { return Ok(None) };
        self.labels.compare(&Labelled::open(&found), &named, kind).map(Some)
    }

    /// Where `path` really lies inside the root, links on its way resolved: what a boot that labels the
    /// root will call it. `place` is the directory that was opened for it.
    fn named(&self, place: &At, path: &ImagePath) -> String {
        let real = |directory: &OwnedFd| {
            let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
            rustix::fs::readlink(name, Vec::new()).ok()?.into_string().ok()
        };
        let inside = || {
            let (root, directory) = (real(self.resolver.directory())?, real(&place.directory)?);
            let below = directory.strip_prefix(root.trim_end_matches('/'))?.trim_end_matches('/').to_owned();
            (below.is_empty() || below.starts_with('/')).then(|| format!("{below}/{}", path.name()))
        };
        inside().unwrap_or_else(|| path.to_string())
    }
}

/// The symlink at `place`. Without /proc it is not found.
pub(super) fn link(place: &At) -> Labelled<'static> {
    Labelled::Link(format!("/proc/self/fd/{}/{}", place.directory.as_raw_fd(), place.name))
}

/// Makes `to` the same symlink as `from`, of which `stat` is known: its target, label and owner.
pub(super) fn copy_link(from: &At, to: &At, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::symlinkat(from.target()?, &to.directory, &to.name)?;
    if let Ok(Some(label)) = link(from).label() {
        link(to).set(&label)?;
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(&to.directory, &to.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// The label of `name` beside `place`, if it is of that kind and has one that can be read.
fn label_beside(place: &At, name: &str, kind: FileKind) -> Option<Vec<u8>> {
    let other = At { directory: place.directory.try_clone().ok()?, name: name.to_owned() };
    if kind == FileKind::Link {
        return link(&other).label().ok()?;
    }
    Labelled::open(&other.open().ok()?).label().ok()?
}

/// The file or directory at `place`, open. None for anything else.
fn open(place: &At) -> Result<Option<(OwnedFd, FileKind)>, Errno> {
    let Ok(found) = place.open() else { return Ok(None) };
    let stat = rustix::fs::fstat(&found)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some((found, FileKind::File)),
        FileType::Directory => Some((found, FileKind::Directory)),
        _ => None,
    })
}

impl Root {
    /// What the root's own SELinux policy says of its files.
    pub(crate) fn labels(&self) -> &Labels {
        self.labels.get_or_init(|| Labels::read(&self.resolver))
    }

    /// Gives what is at `path` the label that belongs at `final_path`, where it is going to be moved.
    pub(crate) fn label_as(&self, path: &ImagePath, final_path: &ImagePath) -> Result<(), Failure> {
        if !self.labels().are_wanted() {
            return Ok(());
        }
        let Some(place) = self.resolver.place(path)? else { return Ok(()) };
        let set = self.labelling().label_as(&place, final_path);
        set.map_err(|errno| self.failed("labelling", path, errno))
    }

    /// Compares the label at `path`, nothing followed, with the policy's. None where nothing is.
    pub(crate) fn compare_label(&self, path: &ImagePath) -> Result<Option<Comparison>, Failure> {
        let Some(place) = self.resolver.place(path)? else { return Ok(None) };
        let compared = self.labelling().compare(&place, path);
        compared.map_err(|errno| self.failed("reading the label of", path, errno))
    }

    /// Has the next boot label the root if something could not be given its label. Durable when it returns.
    pub(crate) fn mark_for_relabelling(&self) -> Result<bool, Failure> {
        if !self.labels().are_lacking() {
            return Ok(false);
        }
        let mark = ImagePath::fixed(RELABEL);
        if self.node(&mark)?.is_none() {
            self.write_new(&mark, 0o644, b"", 0)?;
            self.sync_directory(None)?;
        }
        Ok(true)
    }

    pub(crate) fn labelling(&self) -> Labelling<'_> {
        Labelling { labels: self.labels(), resolver: &self.resolver }
    }
}
