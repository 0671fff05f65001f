//! A bundle: one file with every artifact that a spec asks for, for builds without a network.
//!
//! The format is a plain tar archive of regular files `<SHA-256>/<upstream's name>`, sorted: `tar tf` lists it, and
//! the same artifacts give the same bytes. This module must not trust a bundle: an artifact is looked up by its
//! pinned digest and verified like one of any other source. Only headers of 512 bytes are parsed before that;
//! extensions of the format are refused.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tar::{Archive, EntryType};

use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::parallel;
use crate::printable::printable;
use crate::source::fetch::LARGEST;
use crate::source::open::open;
use crate::source::section::Section;

/// Limit of entries: a bundle has a few for each architecture.
const MOST_ENTRIES: usize = 1024;

/// Block of a tar archive: the length of a header, and contents are padded to a multiple of it.
pub(super) const BLOCK: u64 = 512;

/// End mark of a tar archive: two blocks of zeros.
pub(super) const ZEROS: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// Remedy for a damaged bundle.
const ANEW: &str = "copy it anew from where it was made";

/// Table of contents of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    path: PathBuf,
    artifacts: BTreeMap<Digest, Position>,
}

/// Position of an artifact in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    name: String,
    start: u64,
    size: u64,
}

impl Bundle {
    /// Opens a bundle and reads its headers. [`Kind::Invalid`] if the file is not a bundle, [`Kind::Unverified`] if
    /// it is truncated or damaged.
    pub(crate) fn open(path: &Path) -> Result<Bundle, Failure> {
        let file = open(path).map_err(|error| unreadable(path, &error))?;
        let length = file.metadata().map_err(|error| unreadable(path, &error))?.len();
        let mut magic = [0; 5];
        let is_tar = file.read_at(&mut magic, 257).is_ok_and(|count| magic[..count] == *b"ustar");
        let mut archive = Archive::new(file);
        let entries = archive.entries_with_seek().map_err(|error| unreadable(path, &error))?;
        let (mut artifacts, mut end) = (BTreeMap::new(), 0);
        for entry in entries.raw(true) {
            let entry = entry.map_err(|error| malformed(path, &error, is_tar))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (Some((digest, file_name)), EntryType::Regular) =
                (parse_name(&name), entry.header().entry_type())
            else {
                return Err(no_bundle(path, &format!("it holds `{}`", printable(&name))));
            };
            let (start, size) = (entry.raw_file_position(), entry.size());
            if size > LARGEST {
                let why = format!("`{}` has more than {LARGEST} bytes", printable(&name));
                return Err(no_bundle(path, &why));
            }
            end = start.saturating_add(size);
            if end > length {
                return Err(damaged(path, "truncated"));
            }
            if artifacts.insert(digest, Position { name: file_name.to_owned(), start, size }).is_some() {
                return Err(no_bundle(path, &format!("it holds `{}` twice", printable(&name))));
            }
            if artifacts.len() > MOST_ENTRIES {
                return Err(no_bundle(path, &format!("it holds more than {MOST_ENTRIES} files")));
            }
        }
        if artifacts.is_empty() {
            return Err(no_bundle(path, "it holds nothing"));
        }
        // After the last entry stands the end mark and nothing else: a lost block would end the list early.
        let whole = end.next_multiple_of(BLOCK).saturating_add(ZEROS.len() as u64);
        match length.cmp(&whole) {
            Ordering::Less => Err(damaged(path, "truncated")),
            Ordering::Greater => Err(damaged(path, "damaged: it goes on after its end")),
            Ordering::Equal => Ok(Bundle { path: path.to_owned(), artifacts }),
        }
    }

    /// Returns the path on the build host.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes that the bundle has under `digest`, not verified; none if it has none.
    pub(crate) fn section(&self, digest: &Digest) -> Result<Option<Section>, Failure> {
        let Some(position) = self.artifacts.get(digest) else { return Ok(None) };
        let file = open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        Ok(Some(Section::part(file, position.start, position.size)))
    }

    /// Returns the file names of the artifacts.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.artifacts.values().map(|position| position.name.as_str()).collect()
    }

    /// Compares every artifact with its digest and returns digests and names. [`Kind::Unverified`] names those that
    /// are damaged.
    pub(crate) fn verify(&self) -> anyhow::Result<Vec<(Digest, &str)>> {
        let digests = self.artifacts.keys().collect();
        let intact = parallel::map(digests, parallel::processors(), |digest| -> anyhow::Result<bool> {
            interrupt::check()?;
            Ok(self.section(digest)?.map(|section| section.digest()).transpose()? == Some(*digest))
        });
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for ((digest, position), intact) in self.artifacts.iter().zip(intact) {
            match intact? {
                true => good.push((*digest, position.name.as_str())),
                false => bad.push(format!("`{}`", position.name)),
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

/// Splits an entry's name into digest and file name; none if the name is not `<SHA-256>/<upstream's name>`.
pub(super) fn parse_name(name: &str) -> Option<(Digest, &str)> {
    let (digest, file_name) = name.split_once('/')?;
    let plain = !file_name.is_empty() && !file_name.contains('/') && printable(file_name) == file_name;
    digest.parse().ok().filter(|_| plain).map(|digest| (digest, file_name))
}

/// Makes the failure of an entry that can't be read: of the disk, of a damaged bundle, or of another format.
fn malformed(path: &Path, error: &io::Error, is_tar: bool) -> Failure {
    match (error.raw_os_error(), is_tar) {
        (Some(_), _) => unreadable(path, error),
        (None, true) => damaged(path, &format!("damaged: {}", printable(&error.to_string()))),
        (None, false) => no_bundle(path, &printable(&error.to_string())),
    }
}

fn no_bundle(path: &Path, why: &str) -> Failure {
    Failure::new(Kind::Invalid, format!("`{}` is not a bundle: {why}", path.display()))
        .help("`nodebake bundle create` writes one; loose artifacts are given by their directory")
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::new(Kind::Unverified, format!("bundle `{}` is {why}", path.display())).help(ANEW)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Fetch, format!("reading `{}`: {error}", path.display()))
}
