//! A bundle: one file with every artifact that a spec asks for, for nodes without a network.
//!
//! It is a plain tar archive of regular files `<SHA-256>/<upstream's name>`, sorted: `tar tf` lists it, and
//! the same artifacts give the same bytes. It is a source like any other, so nothing that it says of itself
//! is believed: what is pinned is looked up by its digest, and verified. Only headers of 512 bytes are read
//! before that; extensions of the format, which would be parsed, are refused.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tar::{Archive, EntryType};

use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::parallel;
use crate::printable::printable;
use crate::source::section::Section;

/// A file with more entries is no bundle: there are a few for each architecture.
const MOST_ENTRIES: usize = 1024;

/// Headers are that long, and contents are filled up to it.
pub(crate) const BLOCK: u64 = 512;

/// What ends an archive.
pub(crate) const ZEROS: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

const ANEW: &str = "copy it anew from where it was made";

/// A bundle's table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    path: PathBuf,
    parts: BTreeMap<Digest, Part>,
}

/// Where an artifact is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    name: String,
    start: u64,
    size: u64,
}

impl Bundle {
    /// Reads where everything is. [`Kind::Invalid`] for what is no bundle, [`Kind::Unverified`] for one
    /// that is truncated or damaged.
    pub(crate) fn open(path: &Path) -> Result<Bundle, Failure> {
        let file = reopen(path).map_err(|error| unreadable(path, &error))?;
        Bundle::read(file, path)
    }

    /// The same of an open file; `path` is where it is found later, and stands in messages.
    fn read(file: File, path: &Path) -> Result<Bundle, Failure> {
        let no_bundle = |why: &str| {
            Failure::new(Kind::Invalid, format!("`{}` is not a bundle: {why}", path.display()))
                .help("`nodebake bundle create` writes one; loose artifacts are given by their directory")
        };
        let damaged = |why: &str| {
            Failure::new(Kind::Unverified, format!("bundle `{}` is {why}", path.display())).help(ANEW)
        };
        let length = file.metadata().map_err(|error| unreadable(path, &error))?.len();
        let mut magic = [0; 5];
        let is_tar = file.read_at(&mut magic, 257).is_ok_and(|count| magic[..count] == *b"ustar");
        let mut archive = Archive::new(file);
        let entries = archive.entries_with_seek().map_err(|error| unreadable(path, &error))?;
        let (mut parts, mut end) = (BTreeMap::new(), 0);
        for entry in entries.raw(true) {
            let entry = entry.map_err(|error| match (error.raw_os_error(), is_tar) {
                (Some(_), _) => unreadable(path, &error),
                (None, true) => damaged(&format!("damaged: {}", printable(&error.to_string()))),
                (None, false) => no_bundle(&printable(&error.to_string())),
            })?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (Some((digest, file_name)), EntryType::Regular) =
                (parted(&name), entry.header().entry_type())
            else {
                return Err(no_bundle(&format!("it holds `{}`", printable(&name))));
            };
            let (start, size) = (entry.raw_file_position(), entry.size());
            end = start.saturating_add(size);
            if end > length {
                return Err(damaged("truncated"));
            }
            if parts.insert(digest, Part { name: file_name.to_owned(), start, size }).is_some() {
                return Err(no_bundle(&format!("it holds `{}` twice", printable(&name))));
            }
            if parts.len() > MOST_ENTRIES {
                return Err(no_bundle(&format!("it holds more than {MOST_ENTRIES} files")));
            }
        }
        if parts.is_empty() {
            return Err(no_bundle("it holds nothing"));
        }
        // After the last of them an end mark, and nothing else: a block that was lost ends the list early.
        let whole = end.next_multiple_of(BLOCK).saturating_add(ZEROS.len() as u64);
        match length.cmp(&whole) {
            Ordering::Less => Err(damaged("truncated")),
            Ordering::Greater => Err(damaged("damaged: it goes on after its end")),
            Ordering::Equal => Ok(Bundle { path: path.to_owned(), parts }),
        }
    }

    /// The host's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that are said to have this digest; none where the bundle has none.
    pub(crate) fn part(&self, digest: &Digest) -> Result<Option<Section>, Failure> {
        let Some(part) = self.parts.get(digest) else { return Ok(None) };
        let file = reopen(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        Ok(Some(Section::part(file, part.start, part.size)))
    }

    /// The names of what it holds.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.parts.values().map(|part| part.name.as_str()).collect()
    }

    /// Compares everything in it with its digest: [`Kind::Unverified`] names what is not intact. Gives
    /// digests and names.
    pub(crate) fn verify(&self) -> anyhow::Result<Vec<(Digest, &str)>> {
        let parts = self.parts.keys().collect();
        let intact = parallel::map(parts, parallel::processors(), |digest| -> anyhow::Result<bool> {
            interrupt::check()?;
            Ok(self.part(digest)?.map(|part| part.digest()).transpose()? == Some(*digest))
        });
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for ((digest, part), intact) in self.parts.iter().zip(intact) {
            match intact? {
                true => good.push((*digest, part.name.as_str())),
                false => bad.push(format!("`{}`", part.name)),
            }
        }
        match bad.is_empty() {
            true => Ok(good),
            false => {
                let message = format!("bundle `{}` is damaged: {}", self.path.display(), bad.join(", "));
                Err(Failure::new(Kind::Unverified, message).help(ANEW).into())
            }
        }
    }
}

/// The digest and the file's name of an entry that is called as ours are.
pub(crate) fn parted(name: &str) -> Option<(Digest, &str)> {
    let (digest, file_name) = name.split_once('/')?;
    let plain = !file_name.is_empty() && !file_name.contains('/') && printable(file_name) == file_name;
    digest.parse().ok().filter(|_| plain).map(|digest| (digest, file_name))
}

/// Without waiting: somebody may have put a FIFO there since.
fn reopen(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    File::options().read(true).custom_flags(flags).open(path)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Fetch, format!("reading `{}`: {error}", path.display()))
}
