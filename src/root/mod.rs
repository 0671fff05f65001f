//! The target root filesystem: the only module that touches it.
//!
//! Every path is resolved inside the root as the kernel would after a chroot: an absolute symlink
//! such as `/usr/local -> /var/usrlocal` leads to a place inside, and none leads out. A call
//! resolves the parent directory to a descriptor and then works on one name below it, so that a
//! final symlink, FIFO or device is never followed or opened. It must not know what is installed.

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::digest::Digest;
use crate::error::{Failure, Kind, errno, printable};
use crate::file_contexts;
use crate::inside::Inside;
use crate::labelling::{self, Labelling};
use crate::labels::{Comparison, Labelled, Labels, RELABEL};
use crate::metadata::{self, copy_all, own, times};
use crate::path::ImagePath;
use crate::place::{self, Place};
use crate::receipt::{Node, Octal, Owner};

/// A limit for [`Root::text`] that no text which people write comes near.
pub const LONGEST_TEXT: u64 = 1 << 20;

/// A root filesystem, open.
pub struct Root {
    inside: Inside,
    /// Read when the first file is made.
    labels: OnceLock<Labels>,
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
            Ok(directory) => Ok(Root { inside: Inside::new(directory, host), labels: OnceLock::new() }),
            Err(Errno::NOENT) => Err(refuse("does not exist")),
            Err(Errno::NOTDIR) => Err(refuse("is not a directory")),
            Err(errno) => Err(Failure::filesystem("opening root", host.display(), errno)),
        }
    }

    /// Where it is on this host, as the user gave it.
    pub fn host(&self) -> &Path {
        self.inside.host()
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
        let Some(place) = self.inside.place(path)? else { return Ok(None) };
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
        Ok(self.inside.directory_at(path)?.is_some())
    }

    /// The regular file at `path`, through symlinks inside the root; none where there is none.
    pub fn file(&self, path: &ImagePath) -> Result<Option<File>, Failure> {
        self.inside.file(path.relative()).map_err(|errno| self.inside.refused(path, errno))
    }

    /// The text of the regular file at `path` itself, no link followed, if it is at most `limit` bytes long.
    pub fn text(&self, path: &ImagePath, limit: u64) -> Result<Option<String>, Failure> {
        let Some(place) = self.inside.place(path)? else { return Ok(None) };
        self.open_at(&place, path)?.map(|file| self.read(path, file, limit)).transpose()
    }

    /// As [`Root::text`], through symlinks inside the root.
    pub fn linked_text(&self, path: &ImagePath, limit: u64) -> Result<Option<String>, Failure> {
        self.file(path)?.map(|file| self.read(path, file, limit)).transpose()
    }

    /// The regular file at `path` itself, no link followed, if it is at most `limit` bytes long.
    pub fn bytes(&self, path: &ImagePath, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let Some(place) = self.inside.place(path)? else { return Ok(None) };
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
        let Some(directory) = self.inside.directory_at(path)? else { return Ok(None) };
        place::names(&directory).map(Some).map_err(|errno| self.failed("listing", path, errno))
    }

    /// The directories on the way to `path` that do not exist yet, outermost first.
    ///
    /// A parent that is a link to nothing inside the root, a loop or no directory is refused: its
    /// target is never created.
    pub fn missing_directories(&self, path: &ImagePath) -> Result<Vec<ImagePath>, Failure> {
        let above = path.ancestors();
        let mut first_missing = above.len();
        while first_missing > 0 && self.inside.directory_at(&above[first_missing - 1])?.is_none() {
            first_missing -= 1;
        }
        if let Some(missing) = above.get(first_missing)
            && let Some(place) = self.inside.place(missing)?
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
            let Some(place) = self.inside.place(path)? else { return Ok(None) };
            Ok(self.stat_at(&place, path)?.map(|stat| (stat.st_dev, stat.st_ino)))
        };
        let (a, b) = (identity(a)?, identity(b)?);
        Ok(a.is_some() && a == b)
    }

    /// The directory on the way to `path` below which another filesystem is mounted, if one is.
    pub fn mount_on_the_way(&self, path: &ImagePath) -> Result<Option<ImagePath>, Failure> {
        let own = place::mount(self.inside.directory());
        for above in path.ancestors() {
            let Some(directory) = self.inside.directory_at(&above)? else { break };
            if place::is_another(own, place::mount(&directory)) {
                return Ok(Some(above));
            }
        }
        Ok(None)
    }

    /// Whether another filesystem is mounted on the directory at `path`.
    pub fn is_mount_point(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(place) = self.inside.place(path)? else { return Ok(false) };
        let Some(directory) = self.inside.directory_at(path)? else { return Ok(false) };
        Ok(place::is_another(place::mount(&place.directory), place::mount(&directory)))
    }

    /// What identifies the directory entry that `path` resolves to: two paths with the same
    /// identity are one file. None where the parent does not exist yet.
    pub fn entry(&self, path: &ImagePath) -> Result<Option<(u64, u64, String)>, Failure> {
        let Some(place) = self.inside.place(path)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&place.directory).map_err(|e| self.failed("reading", path, e))?;
        Ok(Some((stat.st_dev, stat.st_ino, place.name)))
    }

    // --- writing -------------------------------------------------------------------------------

    /// Creates the directory `path`, owned by root, with exactly `mode` whatever the umask.
    pub fn make_directory(&self, path: &ImagePath, mode: u32) -> Result<(), Failure> {
        let place = self.inside.existing_place(path)?;
        let make = || -> Result<(), Errno> {
            rustix::fs::mkdirat(&place.directory, &place.name, Mode::from_raw_mode(0o700))?;
            let made = place.open_directory()?;
            self.labelling().label(&Labelled::open(&made), &place, path, file_contexts::Kind::Directory)?;
            own(&made, mode)
        };
        make().map_err(|errno| self.failed("creating directory", path, errno))
    }

    /// Sets mode and owner of the directory `path` itself; its access control list stays.
    pub fn set_directory(&self, path: &ImagePath, mode: Octal, owner: Owner) -> Result<(), Failure> {
        let place = self.inside.existing_place(path)?;
        let set = || -> Result<(), Errno> {
            let directory = place.open_directory()?;
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
        let place = self.inside.existing_place(path)?;
        let finish = || -> Result<(), Errno> {
            own(file, mode)?;
            self.labelling().label(&Labelled::open(file), &place, path, file_contexts::Kind::File)?;
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
                Some(path) => match self.inside.directory_at(path)? {
                    Some(found) => break found,
                    None => nearest = path.parent(),
                },
                None => break self.inside.open_directory(".").map_err(|e| self.failed("opening", "/", e))?,
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
        let place = self.inside.existing_place(path)?;
        place.link_anonymous(file).map_err(|errno| self.failed("linking", path, errno))
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
        let place = self.inside.existing_place(path)?;
        let link = || -> Result<(), Errno> {
            rustix::fs::symlinkat(target, &place.directory, &place.name)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&place.directory, &place.name, Some(Uid::ROOT), Some(Gid::ROOT), flags)?;
            self.labelling().label(&labelling::link(&place), &place, path, file_contexts::Kind::Link)?;
            rustix::fs::utimensat(&place.directory, &place.name, &times(mtime), flags)
        };
        link().map_err(|errno| self.failed("linking", path, errno))
    }

    /// Makes `copy` the same file as `path`, whatever it is, by a hard link; a regular file or a
    /// symlink on another filesystem is copied with its mode, owner and time.
    pub fn duplicate(&self, path: &ImagePath, copy: &ImagePath) -> Result<(), Failure> {
        let (from, to) = (self.inside.existing_place(path)?, self.inside.existing_place(copy)?);
        match rustix::fs::linkat(&from.directory, &from.name, &to.directory, &to.name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP) => self.copy_as_is(path, copy),
            Err(errno) => Err(self.failed("saving", path, errno)),
        }
    }

    /// Replaces `to` by `from` in one step. Both are in the same directory.
    pub fn rename(&self, from: &ImagePath, to: &ImagePath) -> Result<(), Failure> {
        let place = self.inside.existing_place(to)?;
        rustix::fs::renameat(&place.directory, from.name(), &place.directory, &place.name)
            .map_err(|errno| self.failed("replacing", to, errno))
    }

    /// Gives the directory `from` the name `to`, which must not exist. Both have the same parent.
    pub fn rename_beside(&self, from: &ImagePath, to: &ImagePath) -> Result<(), Failure> {
        let place = self.inside.existing_place(to)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&place.directory, from.name(), &place.directory, &place.name, flags) {
            // Filesystems without the flag: a directory replaces nothing but an empty directory anyway.
            Err(Errno::INVAL | Errno::NOSYS) => self.rename(from, to),
            other => other.map_err(|errno| self.failed("renaming to", to, errno)),
        }
    }

    /// Removes a file, link or device. It is no error where there is none.
    pub fn remove_file(&self, path: &ImagePath) -> Result<(), Failure> {
        let Some(place) = self.inside.place(path)? else { return self.was_missing(path) };
        match rustix::fs::unlinkat(&place.directory, &place.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("removing", path, errno)),
        }
    }

    /// Removes a directory if it is empty. False where it is not.
    pub fn remove_empty_directory(&self, path: &ImagePath) -> Result<bool, Failure> {
        let Some(place) = self.inside.place(path)? else { return Ok(true) };
        match rustix::fs::unlinkat(&place.directory, &place.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => Ok(false),
            Err(errno) => Err(self.failed("removing directory", path, errno)),
        }
    }

    /// Makes the entries of a directory durable. It is no error where there is none.
    pub fn sync_directory(&self, path: Option<&ImagePath>) -> Result<(), Failure> {
        let shown = path.map_or("/", ImagePath::as_str);
        let directory = match self.inside.open_readable(path.map_or(".", ImagePath::relative)) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(self.inside.refused(shown, errno)),
        };
        match rustix::fs::fsync(&directory) {
            // Some filesystems have nothing to do for a directory and say so.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(self.failed("syncing", shown, errno)),
        }
    }

    /// Opens or creates the file `path` for [`Root::try_lock`].
    pub fn lock_file(&self, path: &ImagePath) -> Result<File, Failure> {
        let place = self.inside.existing_place(path)?;
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
        let above = path.parent();
        let shown = above.as_ref().map_or("/", ImagePath::as_str);
        let opened = self.inside.open_readable(above.as_ref().map_or(".", ImagePath::relative));
        let directory = opened.map_err(|errno| self.inside.refused(shown, errno))?;
        let locked = place::try_lock(&directory);
        let locked = locked.map_err(|errno| self.failed("locking the parent of", path, errno))?;
        Ok(locked.then_some(directory))
    }

    /// Takes the lock on `file` if nobody has it; false if somebody has.
    ///
    /// None: the file at `path` is another one by now, open it again.
    pub fn try_lock(&self, file: &File, path: &ImagePath) -> Result<Option<bool>, Failure> {
        if !place::try_lock(file).map_err(|errno| self.failed("locking", path, errno))? {
            return Ok(Some(false));
        }
        let held = rustix::fs::fstat(file).map_err(|e| self.failed("reading", path, e))?;
        let Some(place) = self.inside.place(path)? else { return Ok(None) };
        let named = self.stat_at(&place, path)?;
        let same = named.is_some_and(|named| (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino));
        Ok(same.then_some(true))
    }

    // --- labels --------------------------------------------------------------------------------

    /// What the root's own SELinux policy says of its files.
    pub fn labels(&self) -> &Labels {
        self.labels.get_or_init(|| Labels::read(&self.inside))
    }

    /// Gives what is at `path` the label that belongs at `final_path`, where it is going to be moved.
    pub fn label_as(&self, path: &ImagePath, final_path: &ImagePath) -> Result<(), Failure> {
        if !self.labels().are_wanted() {
            return Ok(());
        }
        let Some(place) = self.inside.place(path)? else { return Ok(()) };
        let set = self.labelling().label_as(&place, final_path);
        set.map_err(|errno| self.failed("labelling", path, errno))
    }

    /// Compares the label at `path`, nothing followed, with the policy's. None where nothing is.
    pub fn compare_label(&self, path: &ImagePath) -> Result<Option<Comparison>, Failure> {
        let Some(place) = self.inside.place(path)? else { return Ok(None) };
        let compared = self.labelling().compare(&place, path);
        compared.map_err(|errno| self.failed("reading the label of", path, errno))
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

    fn labelling(&self) -> Labelling<'_> {
        Labelling { labels: self.labels(), inside: &self.inside }
    }

    /// Refused where the directory of `path`, missing a moment ago, is there again or leads astray: what
    /// is in it would be taken for gone, and left behind.
    fn was_missing(&self, path: &ImagePath) -> Result<(), Failure> {
        match self.missing_directories(path)?.is_empty() {
            true => Err(self.inside.moved(path)),
            false => Ok(()),
        }
    }

    // --- on one name ---------------------------------------------------------------------------

    fn stat_at(&self, place: &Place, path: &ImagePath) -> Result<Option<Stat>, Failure> {
        place.stat().map_err(|errno| self.failed("reading", path, errno))
    }

    fn link_at(&self, place: &Place, path: &ImagePath) -> Result<String, Failure> {
        place.target().map_err(|errno| match errno {
            // It was a link a moment ago.
            Errno::INVAL => self.failed("reading the link", path, Errno::NOTDIR),
            errno => self.failed("reading", path, errno),
        })
    }

    fn open_at(&self, place: &Place, path: &ImagePath) -> Result<Option<File>, Failure> {
        place.regular_file().map_err(|errno| self.failed("opening", path, errno))
    }

    fn create(&self, path: &ImagePath) -> Result<File, Failure> {
        self.inside.existing_place(path)?.create().map_err(|errno| self.failed("creating", path, errno))
    }

    fn copy_as_is(&self, path: &ImagePath, copy: &ImagePath) -> Result<(), Failure> {
        let (from, to) = (self.inside.existing_place(path)?, self.inside.existing_place(copy)?);
        let Some(stat) = self.stat_at(&from, path)? else { return Ok(()) };
        let failed = |errno| self.failed("saving", path, errno);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return labelling::copy_link(&from, &to, &stat).map_err(failed);
        }
        let Some(source) = self.open_at(&from, path)? else { return Err(failed(Errno::XDEV)) };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.copy_new(&source, size, copy, stat.st_mode & 0o7777, stat.st_mtime)?;
        let Some(copied) = self.open_at(&to, copy)? else { return Err(failed(Errno::XDEV)) };
        metadata::copy(&source, &copied, &stat).map_err(failed)
    }

    // --- saying what went wrong ----------------------------------------------------------------

    /// `path` as it is found on this host, for messages.
    pub fn shown(&self, path: impl Display) -> String {
        self.inside.shown(path)
    }

    /// The refusal of a root that changes under a run.
    pub fn moved(&self, path: &ImagePath) -> Failure {
        self.inside.moved(path)
    }

    fn failed(&self, doing: &str, path: impl Display, errno: Errno) -> Failure {
        self.inside.failed(doing, path, errno)
    }

    fn no_file(&self, path: &ImagePath) -> Failure {
        Failure::new(Kind::Unsafe, format!("`{}` is not a regular file", self.shown(path)))
            .help("nodebake made a file there; see who replaced it, and remove it")
    }

    fn unreadable(&self, path: &ImagePath, error: &anyhow::Error) -> Failure {
        let errno = error.downcast_ref::<std::io::Error>().map_or(Errno::IO, errno);
        self.failed("reading", path, errno)
    }
}
