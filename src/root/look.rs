//! Reads a root: nodes, texts, names and mounts. Nothing here may change the root.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use rustix::fs::FileType;

use crate::digest::Digest;
use crate::error::{Failure, Kind, errno};
use crate::node::{Node, Octal, Owner};
use crate::path::ImagePath;
use crate::printable::printable;
use crate::root::{LARGEST_HASHED, MOST_HASHED, Root, at};

/// Limit of the names in a directory that is listed; /usr/bin of a large desktop has a tenth.
const MOST_NAMES: usize = 1 << 16;

/// Size up to which a file is hashed even if another size is expected.
const SHORT: u64 = 1 << 16;

impl Root {
    /// Returns the node at `path`, the last component not followed. A regular file is hashed, unless it is larger
    /// than any that nodebake installs.
    pub(crate) fn node(&self, path: &ImagePath) -> Result<Option<Node>, Failure> {
        self.node_of_size(path, None)
    }

    /// Returns the node at `path` as [`Root::node`] does, but does not read a file of another size than `expected`:
    /// it is another file. Short ones are hashed all the same, so that messages can show their digest.
    pub(crate) fn node_of_size(
        &self,
        path: &ImagePath,
        expected: Option<u64>,
    ) -> Result<Option<Node>, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        let Some(stat) = self.stat_at(&at, path)? else { return Ok(None) };
        let mode = Octal(stat.st_mode & 0o7777);
        let owner = Owner(stat.st_uid, stat.st_gid);
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Node::Directory { mode, owner },
            FileType::Symlink => Node::Link { target: self.link_at(&at, path)? },
            FileType::RegularFile => match self.open_at(&at, path)? {
                Some(file) => {
                    let size = u64::try_from(stat.st_size).unwrap_or(0);
                    let is_other = size > SHORT && expected.is_some_and(|expected| expected != size);
                    if is_other || !self.may_hash(path, &file)? {
                        return Ok(Some(Node::Unread { size, inode: (stat.st_dev, stat.st_ino) }));
                    }
                    let sha256 = self.digest(path, &file)?;
                    Node::File { mode, sha256, owner }
                }
                None => Node::Other,
            },
            _ => Node::Other,
        }))
    }

    /// Returns whether something is at `path`, the last component not followed.
    pub(crate) fn has(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(false) };
        Ok(self.stat_at(&at, path)?.is_some())
    }

    /// Returns whether `file`, which is at `path`, is small enough to be hashed. Fails if this run has hashed more in
    /// the root than any bake has to.
    pub(crate) fn may_hash(&self, path: &ImagePath, file: &File) -> Result<bool, Failure> {
        let size = file.metadata().map_err(|error| self.failed("reading", path, errno(&error)))?.len();
        if size > LARGEST_HASHED {
            return Ok(false);
        }
        let before = self.hashed.fetch_add(size, Ordering::Relaxed);
        if before.saturating_add(size) <= MOST_HASHED {
            return Ok(true);
        }
        let message = format!(
            "`{}` is not read: the files that are looked at in this root have more than {MOST_HASHED} bytes",
            self.shown(path)
        );
        Err(Failure::new(Kind::Unsafe, message).help("see what has been put in place of the installed files"))
    }

    /// Hashes a file of the root, which may grow meanwhile.
    fn digest(&self, path: &ImagePath, file: &File) -> Result<Digest, Failure> {
        let read_at = |buffer: &mut [u8], offset| match offset > LARGEST_HASHED {
            true => Ok(0),
            false => file.read_at(buffer, offset),
        };
        Digest::by_position(read_at).map_err(|error| self.unreadable(path, error))
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

    /// Reads a file as [`Root::linked_text`] does, with a mark in place of every byte that is no text: a comment in another
    /// encoding does not keep other programs from reading the file. An error if it is longer than `limit` bytes.
    pub(crate) fn any_text(&self, path: &ImagePath, limit: u64) -> Result<Option<String>, Failure> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        match self.read_bytes(path, file, limit)? {
            Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            None => {
                let message = format!("`{}` has more than {limit} bytes", self.shown(path));
                Err(Failure::new(Kind::Invalid, message))
            }
        }
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

    /// Lists the names in a directory that are `wanted`, sorted; none if there is no directory. Fails if the directory
    /// has more names than any directory of a distribution.
    pub(crate) fn names(
        &self,
        path: &ImagePath,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Failure> {
        let Some(directory) = self.resolver.directory_at(path)? else { return Ok(Vec::new()) };
        let (mut names, mut count) = (Vec::new(), 0);
        let listed = at::each_name(&directory, |name| {
            count += 1;
            if wanted(name) {
                names.push(name.to_owned());
            }
            count <= MOST_NAMES
        });
        listed.map_err(|errno| self.failed("listing", path, errno))?;
        if count > MOST_NAMES {
            let message = format!("directory `{}` has more than {MOST_NAMES} names", self.shown(path));
            return Err(Failure::new(Kind::Unsafe, message).help("remove what does not belong there"));
        }
        names.sort();
        Ok(names)
    }

    /// Returns whether a directory has no other names than `known`; `None` if there is no directory.
    pub(crate) fn has_only(&self, path: &ImagePath, known: &[&str]) -> Result<Option<bool>, Failure> {
        let Some(directory) = self.resolver.directory_at(path)? else { return Ok(None) };
        let mut only = true;
        let listed = at::each_name(&directory, |name| {
            only = known.contains(&name);
            only
        });
        listed.map(|()| Some(only)).map_err(|errno| self.failed("listing", path, errno))
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

    /// Returns the device, the inode and the name of the directory entry that `path` resolves to: two paths
    /// with the same identity are one file. `None` if the parent does not exist.
    pub(crate) fn entry_identity(&self, path: &ImagePath) -> Result<Option<(u64, u64, String)>, Failure> {
        let Some(at) = self.resolver.at(path)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&at.directory).map_err(|e| self.failed("reading", path, e))?;
        Ok(Some((stat.st_dev, stat.st_ino, at.name)))
    }
}
