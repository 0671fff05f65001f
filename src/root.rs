//! The target root filesystem: the only module that touches it.
//!
//! Every path is resolved inside the root as the kernel would after a chroot: an absolute symlink
//! such as `/usr/local -> /var/usrlocal` leads to a place inside, and none leads out. A call
//! resolves the parent directory to a descriptor and then works on one name below it, so that a
//! final symlink, FIFO or device is never followed or opened. It must not know what is installed.

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, StatxFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::digest::{BUFFER, Digest};
use crate::error::{Failure, Kind, errno, printable};
use crate::file_contexts;
use crate::inside::Inside;
use crate::labels::{Comparison, Labelled, Labels, RELABEL};
use crate::path::ImagePath;
use crate::receipt::{Node, Octal, Owner};

/// A limit for [`Root::text`] that no text which people write comes near.
pub const LONGEST_TEXT: u64 = 1 << 20;
/// The remedy where a root changes while nodebake works on it.
const MOVING: &str = "something else changes this root: stop it and run again";

/// A root filesystem, open.
pub struct Root {
    inside: Inside,
    host: PathBuf,
    /// Read when the first file is made.
    labels: OnceLock<Labels>,
}

/// A name in a directory that has been resolved: what the `*at()` calls take.
struct Place {
    directory: OwnedFd,
    name: String,
}

impl Place {
    /// The symlink of this name. Without /proc it is not found.
    fn link(&self) -> Labelled<'static> {
        Labelled::Link(format!("/proc/self/fd/{}/{}", self.directory.as_raw_fd(), self.name))
    }
}

impl Root {
    /// Opens the directory `host`; a symlink given as root is followed once, here.
    pub fn open(host: &Path) -> Result<Root, Failure> {
        let refuse = |why: &str| {
            Failure::new(Kind::Unsupported, format!("root `{}` {why}", host.display()))
                .help("give the directory of a root filesystem; `--root /` is the running system")
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(host, flags, Mode::empty()) {
            Ok(directory) => {
                Ok(Root { inside: Inside::new(directory), host: host.to_owned(), labels: OnceLock::new() })
            }
            Err(Errno::NOENT) => Err(refuse("does not exist")),
            Err(Errno::NOTDIR) => Err(refuse("is not a directory")),
            Err(errno) => Err(Failure::filesystem("opening root", host.display(), errno)),
        }
    }

    /// Where it is on this host, as the user gave it.
    pub fn host(&self) -> &Path {
        &self.host
    }

    /// Device and inode: the same for two spellings of one root.
    pub fn identity(&self) -> Result<(u64, u64), Failure> {
        let stat = rustix::fs::fstat(self.inside.directory()).map_err(|e| self.failed("reading", "/", e))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Whether it is the root that this process sees as `/`.
    pub fn is_own(&self) -> Result<bool, Failure> {
        let own = rustix::fs::stat("/").map_err(|errno| self.failed("reading", "/", errno))?;
        Ok(self.identity()? == (own.st_dev, own.st_ino))
    }

    // --- looking -------------------------------------------------------------------------------

    /// What is at `path`, the last component not followed. A regular file is hashed.
    pub fn node(&self, path: &ImagePath) -> Result<Option<Node>, Failure> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        let Some(stat) = self.stat_at(&place, path)? else { return Ok(None) };
        let mode = Octal(stat.st_mode & 0o7777);
        let owner = Owner(stat.st_uid, stat.st_gid);
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Node::Directory { mode, owner },
            FileType::Symlink => Node::Link { target: self.link_at(&place, path)? },
            FileType::RegularFile => match self.open_at(&place, path)? {
                Some(file) => {
                    let sha256 = Digest::of_file(&file).map_err(|e| self.unreadable(path, &e))?;
                    Node::File { mode, sha256, owner }
                }
                None => Node::Other,
            },
            _ => Node::Other,
        }))
    }

    /// Whether a directory is at `path`, through symlinks inside the root.
    pub fn is_directory(&self, path: &ImagePath) -> Result<bool, Failure> {
        Ok(self.directory(path)?.is_some())
    }

    /// The regular file at `path`, through symlinks inside the root; none where there is none.
    pub fn file(&self, path: &ImagePath) -> Result<Option<File>, Failure> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let found = match self.inside.open(path.relative(), flags) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Ok(None),
            Err(errno) => return Err(self.refused(path, errno)),
        };
        let stat = rustix::fs::fstat(&found).map_err(|e| self.failed("reading", path, e))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(regular.then(|| File::from(found)))
    }

    /// The text of the regular file at `path` itself, no link followed, if it is at most `limit` bytes long.
    pub fn text(&self, path: &ImagePath, limit: u64) -> Result<Option<String>, Failure> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        self.open_at(&place, path)?.map(|file| self.read(path, file, limit)).transpose()
    }

    /// As [`Root::text`], through symlinks inside the root.
    pub fn linked_text(&self, path: &ImagePath, limit: u64) -> Result<Option<String>, Failure> {
        self.file(path)?.map(|file| self.read(path, file, limit)).transpose()
    }

    /// The regular file at `path` itself, no link followed, if it is at most `limit` bytes long.
    pub fn bytes(&self, path: &ImagePath, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        let Some(file) = self.open_at(&place, path)? else { return Ok(None) };
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

    /// The names in a directory, sorted; none where there is no directory.
    pub fn names(&self, path: &ImagePath) -> Result<Option<Vec<String>>, Failure> {
        let Some(directory) = self.directory(path)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let list = || -> Result<Vec<String>, Errno> {
            let readable = rustix::fs::openat(&directory, ".", flags, Mode::empty())?;
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(readable)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        };
        list().map(Some).map_err(|errno| self.failed("listing", path, errno))
    }

    /// The directories on the way to `path` that do not exist yet, outermost first.
    ///
    /// A parent that is a link to nothing inside the root, a loop or no directory is refused: its
    /// target is never created.
    pub fn missing_directories(&self, path: &ImagePath) -> Result<Vec<ImagePath>, Failure> {
        let above = path.ancestors();
        let mut first_missing = above.len();
        while first_missing > 0 && self.directory(&above[first_missing - 1])?.is_none() {
            first_missing -= 1;
        }
        if let Some(missing) = above.get(first_missing)
            && let Some(place) = self.place(missing)?
            && self.stat_at(&place, missing)?.is_some()
        {
            let target = self.link_at(&place, missing).unwrap_or_default();
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

    /// Whether two paths are names of one file.
    pub fn is_same_file(&self, a: &ImagePath, b: &ImagePath) -> Result<bool, Failure> {
        let identity = |path: &ImagePath| -> Result<Option<(u64, u64)>, Failure> {
            let Some(place) = self.place(path)? else { return Ok(None) };
            Ok(self.stat_at(&place, path)?.map(|stat| (stat.st_dev, stat.st_ino)))
        };
        let (a, b) = (identity(a)?, identity(b)?);
        Ok(a.is_some() && a == b)
    }

    /// The directory on the way to `path` below which another filesystem is mounted, if one is.
    pub fn mount_on_the_way(&self, path: &ImagePath) -> Result<Option<ImagePath>, Failure> {
        let mount = |directory: &OwnedFd| {
            let stat = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
            // Kernels before 5.8 do not say it.
            stat.ok()
                .filter(|stat| stat.stx_mask & StatxFlags::MNT_ID.bits() != 0)
                .map(|stat| stat.stx_mnt_id)
        };
        let own = mount(self.inside.directory());
        for above in path.ancestors() {
            let Some(directory) = self.directory(&above)? else { break };
            if mount(&directory) != own {
                return Ok(Some(above));
            }
        }
        Ok(None)
    }

    /// What identifies the directory entry that `path` resolves to: two paths with the same
    /// identity are one file. None where the parent does not exist yet.
    pub fn entry(&self, path: &ImagePath) -> Result<Option<(u64, u64, String)>, Failure> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&place.directory).map_err(|e| self.failed("reading", path, e))?;
        Ok(Some((stat.st_dev, stat.st_ino, place.name)))
    }

    // --- writing -------------------------------------------------------------------------------

    /// Creates the directory `path`, owned by root, with exactly `mode` whatever the umask.
    pub fn make_directory(&self, path: &ImagePath, mode: u32) -> Result<(), Failure> {
        let place = self.existing_place(path)?;
        let make = || -> Result<(), Errno> {
            rustix::fs::mkdirat(&place.directory, &place.name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&place.directory, &place.name, flags, Mode::empty())?;
            self.label(&Labelled::open(&made), &place, path, file_contexts::Kind::Directory)?;
            own(&made, mode)
        };
        make().map_err(|errno| self.failed("creating directory", path, errno))
    }

    /// Sets mode and owner of the directory `path` itself; its access control list stays.
    pub fn set_directory(&self, path: &ImagePath, mode: Octal, owner: Owner) -> Result<(), Failure> {
        let place = self.existing_place(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let set = || -> Result<(), Errno> {
            let directory = rustix::fs::openat(&place.directory, &place.name, flags, Mode::empty())?;
            rustix::fs::fchown(&directory, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode.0))
        };
        set().map_err(|errno| self.failed("setting the mode of", path, errno))
    }

    /// Writes a new file with `bytes`, durable when it returns. `path` must not exist.
    pub fn write_new(&self, path: &ImagePath, mode: u32, bytes: &[u8], mtime: i64) -> Result<(), Failure> {
        let mut file = self.create(path)?;
        file.write_all(bytes).map_err(|error| self.failed("writing", path, errno(&error)))?;
        self.finish(&file, path, mode, mtime)
    }

    /// Makes `file`, which has or will have the name `path`, what is installed: root:root, exactly
    /// `mode`, the time that all installed files carry, its label; durable when it returns.
    pub fn finish(&self, file: &File, path: &ImagePath, mode: u32, mtime: i64) -> Result<(), Failure> {
        let place = self.existing_place(path)?;
        let finish = || -> Result<(), Errno> {
            own(file, mode)?;
            self.label(&Labelled::open(file), &place, path, file_contexts::Kind::File)?;
            rustix::fs::futimens(file, &times(mtime))?;
            rustix::fs::fsync(file)
        };
        finish().map_err(|errno| self.failed("writing", path, errno))
    }

    /// A file without a name on the filesystem that holds `directory` (or will hold it), to be
    /// given a name by [`Root::link_anonymous`]. None where the filesystem has no O_TMPFILE.
    pub fn anonymous(&self, directory: &ImagePath) -> Result<Option<File>, Failure> {
        let mut nearest = Some(directory.clone());
        let parent = loop {
            match &nearest {
                Some(path) => match self.directory(path)? {
                    Some(found) => break found,
                    None => nearest = path.parent(),
                },
                None => break self.open_directory(".").map_err(|e| self.failed("opening", "/", e))?,
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
    pub fn link_anonymous(&self, file: &File, path: &ImagePath) -> Result<bool, Failure> {
        let place = self.existing_place(path)?;
        let by_descriptor = rustix::fs::linkat(file, "", &place.directory, &place.name, AtFlags::EMPTY_PATH);
        let linked = match by_descriptor {
            Err(Errno::NOENT | Errno::PERM) => {
                let proc = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
                rustix::fs::linkat(CWD, proc, &place.directory, &place.name, AtFlags::SYMLINK_FOLLOW)
            }
            other => other,
        };
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::XDEV | Errno::NOENT | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(self.failed("linking", path, errno)),
        }
    }

    /// Copies `source` to a new file, by reflink where the filesystem can; durable when it returns.
    pub fn copy_new(
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
    pub fn link_new(&self, path: &ImagePath, target: &str, mtime: i64) -> Result<(), Failure> {
        let place = self.existing_place(path)?;
        let link = || -> Result<(), Errno> {
            rustix::fs::symlinkat(target, &place.directory, &place.name)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&place.directory, &place.name, Some(Uid::ROOT), Some(Gid::ROOT), flags)?;
            self.label(&place.link(), &place, path, file_contexts::Kind::Link)?;
            rustix::fs::utimensat(&place.directory, &place.name, &times(mtime), flags)
        };
        link().map_err(|errno| self.failed("linking", path, errno))
    }

    /// Makes `copy` the same file as `path`, whatever it is, by a hard link; a regular file or a
    /// symlink on another filesystem is copied with its mode, owner and time.
    pub fn duplicate(&self, path: &ImagePath, copy: &ImagePath) -> Result<(), Failure> {
        let (from, to) = (self.existing_place(path)?, self.existing_place(copy)?);
        match rustix::fs::linkat(&from.directory, &from.name, &to.directory, &to.name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP) => self.copy_as_is(path, copy),
            Err(errno) => Err(self.failed("saving", path, errno)),
        }
    }

    /// Replaces `to` by `from` in one step. Both are in the same directory.
    pub fn rename(&self, from: &ImagePath, to: &ImagePath) -> Result<(), Failure> {
        let place = self.existing_place(to)?;
        rustix::fs::renameat(&place.directory, from.name(), &place.directory, &place.name)
            .map_err(|errno| self.failed("replacing", to, errno))
    }

    /// Gives the directory `from` the name `to`, which must not exist. Both have the same parent.
    pub fn rename_beside(&self, from: &ImagePath, to: &ImagePath) -> Result<(), Failure> {
        let place = self.existing_place(to)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&place.directory, from.name(), &place.directory, &place.name, flags) {
            // Filesystems without the flag: a directory replaces nothing but an empty directory anyway.
            Err(Errno::INVAL | Errno::NOSYS) => self.rename(from, to),
            other => other.map_err(|errno| self.failed("renaming to", to, errno)),
        }
    }

    /// Removes a file, link or device. It is no error where there is none.
    pub fn remove_file(&self, path: &ImagePath) -> Result<(), Failure> {
        let Some(place) = self.place(path)? else { return self.was_missing(path) };
        match rustix::fs::unlinkat(&place.directory, &place.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("removing", path, errno)),
        }
    }

    /// Removes a directory if it is empty. False where it is not.
    pub fn remove_empty_directory(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(place) = self.place(path)? else { return Ok(true) };
        match rustix::fs::unlinkat(&place.directory, &place.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => Ok(false),
            Err(errno) => Err(self.failed("removing directory", path, errno)),
        }
    }

    /// Makes the entries of a directory durable. It is no error where there is none.
    pub fn sync_directory(&self, path: Option<&ImagePath>) -> Result<(), Failure> {
        let shown = path.map_or("/", ImagePath::as_str);
        let relative = path.map_or(".", ImagePath::relative);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match self.inside.open(relative, flags) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(self.refused(shown, errno)),
        };
        match rustix::fs::fsync(&directory) {
            // Some filesystems have nothing to do for a directory and say so.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(self.failed("syncing", shown, errno)),
        }
    }

    /// Opens or creates the file `path` for [`Root::try_lock`].
    pub fn lock_file(&self, path: &ImagePath) -> Result<File, Failure> {
        let place = self.existing_place(path)?;
        // Reading is enough for flock, and works where nothing can be written.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&place.directory, &place.name, flags, Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) => match self.write_new(path, 0o600, b"", 0) {
                // Another run may have been faster.
                Err(failure) => open().map_err(|_| failure)?,
                Ok(()) => open().map_err(|errno| self.failed("opening", path, errno))?,
            },
            Err(Errno::LOOP | Errno::NXIO) => return Err(self.no_file(path)),
            Err(errno) => return Err(self.failed("opening", path, errno)),
            Ok(opened) => opened,
        };
        let stat = rustix::fs::fstat(&opened).map_err(|e| self.failed("reading", path, e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(File::from(opened)),
            _ => Err(self.no_file(path)),
        }
    }

    /// The directory that holds `path`, locked until it is dropped; none: somebody else has the lock.
    pub fn lock_above(&self, path: &ImagePath) -> Result<Option<OwnedFd>, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match path.parent() {
            Some(parent) => self.inside.open(parent.relative(), flags),
            None => self.inside.open(".", flags),
        };
        let directory = opened.map_err(|errno| match path.parent() {
            Some(parent) => self.refused(&parent, errno),
            None => self.failed("opening", "/", errno),
        })?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(directory)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(self.failed("locking the parent of", path, errno)),
        }
    }

    /// Takes the lock on `file` if nobody has it; false if somebody has.
    ///
    /// None: the file at `path` is another one by now, open it again.
    pub fn try_lock(&self, file: &File, path: &ImagePath) -> Result<Option<bool>, Failure> {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Some(false)),
            Err(errno) => return Err(self.failed("locking", path, errno)),
        }
        let held = rustix::fs::fstat(file).map_err(|e| self.failed("reading", path, e))?;
        let Some(place) = self.place(path)? else { return Ok(None) };
        let named = self.stat_at(&place, path)?;
        let same = named.is_some_and(|named| (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino));
        Ok(same.then_some(true))
    }

    // --- labels --------------------------------------------------------------------------------

    /// What the root's own SELinux policy says of its files.
    pub fn labels(&self) -> &Labels {
        self.labels.get_or_init(|| Labels::read(self))
    }

    /// Gives what is at `path` the label that belongs at `final_path`, where it is going to be moved.
    pub fn label_as(&self, path: &ImagePath, final_path: &ImagePath) -> Result<(), Failure> {
        if !self.labels().are_wanted() {
            return Ok(());
        }
        let Some((found, kind)) = self.labelled(path)? else { return Ok(()) };
        let set = self.labels().set(&Labelled::open(&found), final_path.as_str(), kind);
        set.map_err(|errno| self.failed("labelling", path, errno))
    }

    /// Compares the label at `path`, nothing followed, with the policy's. None where nothing is.
    pub fn compare_label(&self, path: &ImagePath) -> Result<Option<Comparison>, Failure> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        let Some(stat) = self.stat_at(&place, path)? else { return Ok(None) };
        let named = self.named(&place, path);
        let compared = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.labels().compare(&place.link(), &named, file_contexts::Kind::Link),
            _ => match self.labelled(path)? {
                Some((found, kind)) => self.labels().compare(&Labelled::open(&found), &named, kind),
                None => return Ok(None),
            },
        };
        compared.map(Some).map_err(|errno| self.failed("reading the label of", path, errno))
    }

    /// Has the next boot label the root if something could not be given its label. Durable when it returns.
    pub fn mark_for_relabelling(&self) -> Result<bool, Failure> {
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

    /// Labels what has just been made at `place`: by the policy or, without one, as what it replaces.
    fn label(
        &self,
        made: &Labelled,
        place: &Place,
        path: &ImagePath,
        kind: file_contexts::Kind,
    ) -> Result<(), Errno> {
        let labels = self.labels();
        if labels.are_wanted() {
            return labels.set(made, &self.named(place, &path.settled()), kind);
        }
        let replaced = path.settled();
        if replaced != *path
            && let Some(label) = self.label_at(place, replaced.name(), kind)
        {
            made.set(&label)?;
        }
        Ok(())
    }

    /// The label of `name` beside `place`, if it is of that kind and has one that can be read.
    fn label_at(&self, place: &Place, name: &str, kind: file_contexts::Kind) -> Option<Vec<u8>> {
        let other = Place { directory: place.directory.try_clone().ok()?, name: name.to_owned() };
        if kind == file_contexts::Kind::Link {
            return other.link().label().ok()?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let replaced = rustix::fs::openat(&other.directory, name, flags, Mode::empty()).ok()?;
        Labelled::open(&replaced).label().ok()?
    }

    /// Where `path` really lies inside the root, links on its way resolved: what a boot that labels the
    /// root will call it. `place` is the directory that was opened for it.
    fn named(&self, place: &Place, path: &ImagePath) -> String {
        let real = |directory: &OwnedFd| {
            let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
            rustix::fs::readlink(name, Vec::new()).ok()?.into_string().ok()
        };
        let inside = || {
            let (root, directory) = (real(self.inside.directory())?, real(&place.directory)?);
            let below = directory.strip_prefix(root.trim_end_matches('/'))?.trim_end_matches('/').to_owned();
            (below.is_empty() || below.starts_with('/')).then(|| format!("{below}/{}", path.name()))
        };
        inside().unwrap_or_else(|| path.to_string())
    }

    /// The file or directory at `path`, nothing followed, open. None for anything else.
    fn labelled(&self, path: &ImagePath) -> Result<Option<(OwnedFd, file_contexts::Kind)>, Failure> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(found) = rustix::fs::openat(&place.directory, &place.name, flags, Mode::empty()) else {
            return Ok(None);
        };
        let stat = rustix::fs::fstat(&found).map_err(|e| self.failed("reading", path, e))?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some((found, file_contexts::Kind::File)),
            FileType::Directory => Some((found, file_contexts::Kind::Directory)),
            _ => None,
        })
    }

    // --- resolving -----------------------------------------------------------------------------

    /// The parent of `path` as a descriptor and the name below it. None where there is no parent.
    fn place(&self, path: &ImagePath) -> Result<Option<Place>, Failure> {
        let directory = match path.parent() {
            Some(parent) => self.directory(&parent)?,
            None => Some(self.open_directory(".").map_err(|e| self.failed("opening", "/", e))?),
        };
        Ok(directory.map(|directory| Place { directory, name: path.name().to_owned() }))
    }

    fn existing_place(&self, path: &ImagePath) -> Result<Place, Failure> {
        self.place(path)?.ok_or_else(|| self.moved(path))
    }

    /// The refusal of a root that changes under a run.
    pub fn moved(&self, path: &ImagePath) -> Failure {
        let message = format!("the directory of `{}` vanished while nodebake was at work", self.shown(path));
        Failure::new(Kind::Unsafe, message).help(MOVING)
    }

    /// Refused where the directory of `path`, missing a moment ago, is there again or leads astray: what
    /// is in it would be taken for gone, and left behind.
    fn was_missing(&self, path: &ImagePath) -> Result<(), Failure> {
        match self.missing_directories(path)?.is_empty() {
            true => Err(self.moved(path)),
            false => Ok(()),
        }
    }

    fn directory(&self, path: &ImagePath) -> Result<Option<OwnedFd>, Failure> {
        match self.open_directory(path.relative()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.refused(path, errno)),
        }
    }

    fn open_directory(&self, relative: &str) -> Result<OwnedFd, Errno> {
        self.inside.open(relative, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    // --- on one name ---------------------------------------------------------------------------

    fn stat_at(&self, place: &Place, path: &ImagePath) -> Result<Option<Stat>, Failure> {
        match rustix::fs::statat(&place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("reading", path, errno)),
        }
    }

    fn link_at(&self, place: &Place, path: &ImagePath) -> Result<String, Failure> {
        match rustix::fs::readlinkat(&place.directory, &place.name, Vec::new()) {
            Ok(target) => Ok(target.to_string_lossy().into_owned()),
            // It was a link a moment ago.
            Err(Errno::INVAL) => Err(self.failed("reading the link", path, Errno::NOTDIR)),
            Err(errno) => Err(self.failed("reading", path, errno)),
        }
    }

    /// The regular file at `place`; none for anything else. Never blocks on a FIFO.
    fn open_at(&self, place: &Place, path: &ImagePath) -> Result<Option<File>, Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(&place.directory, &place.name, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(self.failed("opening", path, errno)),
        };
        let stat = rustix::fs::fstat(&opened).map_err(|e| self.failed("reading", path, e))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(regular.then(|| File::from(opened)))
    }

    fn create(&self, path: &ImagePath) -> Result<File, Failure> {
        let place = self.existing_place(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&place.directory, &place.name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|errno| self.failed("creating", path, errno))
    }

    fn copy_as_is(&self, path: &ImagePath, copy: &ImagePath) -> Result<(), Failure> {
        let (from, to) = (self.existing_place(path)?, self.existing_place(copy)?);
        let Some(stat) = self.stat_at(&from, path)? else { return Ok(()) };
        let own = |flags| {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::chownat(&to.directory, &to.name, Some(uid), Some(gid), flags)
        };
        let failed = |errno| self.failed("saving", path, errno);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = self.link_at(&from, path)?;
            rustix::fs::symlinkat(target.as_str(), &to.directory, &to.name).map_err(failed)?;
            if let Ok(Some(label)) = from.link().label() {
                to.link().set(&label).map_err(failed)?;
            }
            return own(AtFlags::SYMLINK_NOFOLLOW).map_err(failed);
        }
        let Some(source) = self.open_at(&from, path)? else { return Err(failed(Errno::XDEV)) };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mode = stat.st_mode & 0o7777;
        self.copy_new(&source, size, copy, mode, stat.st_mtime)?;
        let Some(copied) = self.open_at(&to, copy)? else { return Err(failed(Errno::XDEV)) };
        own(AtFlags::empty()).map_err(failed)?;
        copy_attributes(&source, &copied).map_err(failed)?;
        // chown clears setuid: the mode once more.
        rustix::fs::fchmod(&copied, Mode::from_raw_mode(mode)).map_err(failed)?;
        rustix::fs::fsync(&copied).map_err(failed)
    }

    // --- saying what went wrong ----------------------------------------------------------------

    /// `path` as it is found on this host, for messages.
    pub fn shown(&self, path: impl Display) -> String {
        let host = self.host.display().to_string();
        printable(&format!("{}{path}", host.trim_end_matches('/')))
    }

    fn failed(&self, doing: &str, path: impl Display, errno: Errno) -> Failure {
        // What has been looked at a moment ago is another thing now.
        let changed = matches!(errno, Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR);
        let failure = Failure::filesystem(doing, self.shown(path), errno);
        match changed {
            true => Failure::new(Kind::Unsafe, failure).help(MOVING),
            false => failure,
        }
    }

    fn no_file(&self, path: &ImagePath) -> Failure {
        Failure::new(Kind::Unsafe, format!("`{}` is not a regular file", self.shown(path)))
            .help("nodebake made a file there; see who replaced it, and remove it")
    }

    fn unreadable(&self, path: &ImagePath, error: &anyhow::Error) -> Failure {
        let errno = error.downcast_ref::<std::io::Error>().map_or(Errno::IO, errno);
        self.failed("reading", path, errno)
    }

    /// A path on the way that can't be walked.
    fn refused(&self, path: impl Display, errno: Errno) -> Failure {
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

/// root:root, exactly `mode`, and no access control list inherited from the directory.
fn own(file: impl AsFd, mode: u32) -> Result<(), Errno> {
    rustix::fs::fchown(&file, Some(Uid::ROOT), Some(Gid::ROOT))?;
    for inherited in ["system.posix_acl_access", "system.posix_acl_default"] {
        match rustix::fs::fremovexattr(&file, inherited) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn copy_all(source: &File, copy: &File, size: u64) -> Result<(), Errno> {
    let mut offset = 0;
    while offset < size {
        let (mut from, mut to) = (offset, offset);
        let chunk = usize::try_from(size - offset).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), copy, Some(&mut to), chunk) {
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_buffered(source, copy, offset).map_err(|error| errno(&error));
            }
            Ok(count) => offset += count as u64,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Access control lists, capabilities and what users have set; of what else the kernel's modules keep, a
/// label among it, as much as can be set here.
fn copy_attributes(source: &File, copy: &File) -> Result<(), Errno> {
    // Two limits of the kernel: for all names together, and for one value.
    let (mut names, mut value) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let length = match rustix::fs::flistxattr(source, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let required =
            [&b"user."[..], b"system.", b"security.capability"].iter().any(|it| name.starts_with(it));
        if !required && !name.starts_with(b"security.") {
            continue;
        }
        let size = rustix::fs::fgetxattr(source, name, &mut value[..])?;
        match rustix::fs::fsetxattr(copy, name, &value[..size], XattrFlags::empty()) {
            Err(_) if !required => {}
            other => other?,
        }
    }
    Ok(())
}

fn copy_buffered(source: &File, copy: &File, mut offset: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read_at(&mut buffer, offset)? {
            0 => return Ok(()),
            count => {
                copy.write_all_at(&buffer[..count], offset)?;
                offset += count as u64;
            }
        }
    }
}
