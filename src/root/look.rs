//! Reads a root: nodes, texts, names and mounts. Nothing here may change the root.

use std::fs::File;
use std::io::Read;

use rustix::fs::FileType;

use crate::digest::Digest;
use crate::error::{Failure, Kind, errno};
use crate::node::{Node, Octal, Owner};
use crate::path::ImagePath;
use crate::printable::printable;
use crate::root::{Root, at};

impl Root {
    /// Returns the node at `path`, the last component not followed. A regular file is hashed.
    pub(crate) fn node(&self, path: &ImagePath) -> Result<Option<Node>, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        let Some(stat) = self.stat_at(&at, path)? else { return Ok(None) };
        let mode = Octal(stat.st_mode & 0o7777);
        let owner = Owner(stat.st_uid, stat.st_gid);
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Node::Directory { mode, owner },
            FileType::Symlink => Node::Link { target: self.link_at(&at, path)? },
            FileType::RegularFile => match self.open_at(&at, path)? {
                Some(file) => {
                    let sha256 = Digest::of_file(&file).map_err(|e| self.unreadable(path, &e))?;
                    Node::File { mode, sha256, owner }
                }
                None => Node::Other,
            },
            _ => Node::Other,
        }))
    }

    /// Returns whether `path` is a directory, symlinks followed inside the root.
    pub(crate) fn is_directory(&self, path: &ImagePath) -> Result<bool, Failure> {
        Ok(self.resolver.directory_at(path)?.is_some())
    }

    /// Opens the regular file at `path`, symlinks followed inside the root; `None` if there is none.
    pub(crate) fn file(&self, path: &ImagePath) -> Result<Option<File>, Failure> {
        self.resolver.file(path.relative()).map_err(|errno| self.resolver.refused(path, errno))
    }

    /// Reads the text of the regular file at `path`, no link followed at the last component; `None` if there
    /// is none, an error if it is longer than `limit` bytes.
    pub(crate) fn text(&self, path: &ImagePath, limit: u64) -> Result<Option<String>, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        self.open_at(&at, path)?.map(|file| self.read(path, file, limit)).transpose()
    }

    /// Reads a text as [`Root::text`] does, but follows symlinks inside the root.
    pub(crate) fn linked_text(&self, path: &ImagePath, limit: u64) -> Result<Option<String>, Failure> {
        self.file(path)?.map(|file| self.read(path, file, limit)).transpose()
    }

    /// Reads the regular file at `path`, no link followed at the last component; `None` if there is none or
    /// it is longer than `limit` bytes.
    pub(crate) fn bytes(&self, path: &ImagePath, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        let Some(file) = self.open_at(&at, path)? else { return Ok(None) };
        self.read_bytes(path, file, limit)
    }

    fn read_bytes(&self, path: &ImagePath, file: File, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.failed("reading", path, errno(&error)))?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= limit))
    }

    fn read(&self, path: &ImagePath, file: File, limit: u64) -> Result<String, Failure> {
        let bytes = self.read_bytes(path, file, limit)?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| {
            Failure::new(
                Kind::Invalid,
                format!("`{}` is not a text of at most {limit} bytes", self.shown(path)),
            )
        })
    }

    /// Lists the names in a directory, sorted; `None` if there is no directory.
    pub(crate) fn names(&self, path: &ImagePath) -> Result<Option<Vec<String>>, Failure> {
        let Some(directory) = self.resolver.directory_at(path)? else { return Ok(None) };
        at::names(&directory).map(Some).map_err(|errno| self.failed("listing", path, errno))
    }

    /// Returns the directories above `path` that do not exist, outermost first.
    ///
    /// Fails if a parent is a link to a path that does not exist in the root, a loop, or no directory: the
    /// target of a link is never created.
    pub(crate) fn missing_directories(&self, path: &ImagePath) -> Result<Vec<ImagePath>, Failure> {
        let above = path.ancestors();
        let mut first_missing = above.len();
        while first_missing > 0 && self.resolver.directory_at(&above[first_missing - 1])?.is_none() {
            first_missing -= 1;
        }
        if let Some(missing) = above.get(first_missing)
            && let Some(at) = self.resolver.at(missing)?
            && self.stat_at(&at, missing)?.is_some()
        {
            let target = self.link_at(&at, missing).unwrap_or_default();
            let message = format!(
                "`{}` is a link to `{}`, which is not a directory inside the root",
                self.shown(missing),
                printable(&target)
            );
            return Err(Failure::new(Kind::Unsafe, message)
                .help("create the target inside the root, or replace the link by a directory"));
        }
        Ok(above[first_missing..].to_vec())
    }

    /// Returns whether two paths are names of one file.
    pub(crate) fn is_same_file(&self, a: &ImagePath, b: &ImagePath) -> Result<bool, Failure> {
        let identity = |path: &ImagePath| -> Result<Option<(u64, u64)>, Failure> {
            let Some(at) = self.resolver.at(path)? else { return Ok(None) };
            Ok(self.stat_at(&at, path)?.map(|stat| (stat.st_dev, stat.st_ino)))
        };
        let (a, b) = (identity(a)?, identity(b)?);
        Ok(a.is_some() && a == b)
    }

    /// Returns the outermost directory above `path` that is on another filesystem than the root, if any.
    pub(crate) fn mount_on_the_way(&self, path: &ImagePath) -> Result<Option<ImagePath>, Failure> {
        let own = at::mount(self.resolver.directory());
        for above in path.ancestors() {
            let Some(directory) = self.resolver.directory_at(&above)? else { break };
            if at::is_another(own, at::mount(&directory)) {
                return Ok(Some(above));
            }
        }
        Ok(None)
    }

    /// Returns whether another filesystem is mounted on the directory at `path`.
    pub(crate) fn is_mount_point(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(false) };
        let Some(directory) = self.resolver.directory_at(path)? else { return Ok(false) };
        Ok(at::is_another(at::mount(&at.directory), at::mount(&directory)))
    }

    /// Returns the device, the inode and the name of the directory entry that `path` resolves to: two paths
    /// with the same identity are one file. `None` if the parent does not exist.
    pub(crate) fn entry_identity(&self, path: &ImagePath) -> Result<Option<(u64, u64, String)>, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&at.directory).map_err(|e| self.failed("reading", path, e))?;
        Ok(Some((stat.st_dev, stat.st_ino, at.name)))
    }
}
