//! A bundle: one file with every artifact that a spec asks for, for nodes without a network.
//!
//! It is a plain tar archive of regular files `<SHA-256>/<upstream's name>`, sorted: `tar tf` lists it, and
//! the same artifacts give the same bytes. It is a source like any other, so nothing that it says of itself
//! is believed: what is pinned is looked up by its digest, and verified. Only headers of 512 bytes are read
//! before that; extensions of the format, which would be parsed, are refused.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tar::{Archive, EntryType, Header};

use crate::digest::{BUFFER, Digest, Hashing};
use crate::error::{Failure, Kind, printable};
use crate::extent::Extent;
use crate::fetch::{Fetched, Fetcher};
use crate::interrupt;
use crate::lock::Lock;
use crate::parallel;
use crate::resolve::{self, Artifact};
use crate::selection::{Architectures, Selection};
use crate::spec::Spec;

/// A file with more entries is no bundle: there are a few for each architecture.
const MOST_ENTRIES: usize = 1024;
const BLOCK: u64 = 512;
/// What ends an archive.
const ZEROS: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];
const ANEW: &str = "copy it anew from where it was made";

/// A bundle's table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
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
    pub fn open(path: &Path) -> Result<Bundle, Failure> {
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
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that are said to have this digest; none where the bundle has none.
    pub fn part(&self, digest: &Digest) -> Result<Option<Extent>, Failure> {
        let Some(part) = self.parts.get(digest) else { return Ok(None) };
        let file = reopen(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        Ok(Some(Extent::part(file, part.start, part.size)))
    }

    /// The names of what it holds.
    pub fn names(&self) -> Vec<&str> {
        self.parts.values().map(|part| part.name.as_str()).collect()
    }

    /// Compares everything in it with its digest: [`Kind::Unverified`] names what is not intact. Gives
    /// digests and names.
    pub fn verify(&self) -> anyhow::Result<Vec<(Digest, &str)>> {
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
fn parted(name: &str) -> Option<(Digest, &str)> {
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

/// Fetches and verifies what goes into a bundle: all that `spec` asks for, as it is pinned.
pub fn gather(
    spec: &Spec,
    lock: &Lock,
    architectures: &Architectures,
    fetcher: &Fetcher,
) -> anyhow::Result<Vec<Fetched>> {
    const DONE: &str = "in the bundle";
    let selected = Selection::new(spec, lock, architectures)?;
    // Before anything is fetched: what has no digest, and what could not be found again.
    let pinned = selected.map(1, &fetcher.progress, DONE, |candidate| {
        let artifact = resolve::pin(candidate, lock)?;
        match parted(&name(&artifact)).is_some() {
            true => Ok(artifact),
            false => Err(unnamed(&artifact).into()),
        }
    })?;
    let at_once = fetcher.at_once(pinned.values().map(|artifact| artifact.url.as_str()));
    let fetched = pinned.map(at_once, &fetcher.progress, DONE, |artifact| fetcher.fetch(&artifact))?;
    let mut artifacts = fetched.into_values();
    if artifacts.is_empty() {
        let message = "the spec asks for no artifact: there is nothing to pack";
        return Err(Failure::new(Kind::Invalid, message).help("packages need no bundle").into());
    }
    artifacts.sort_by_key(|fetched| fetched.artifact.sha256);
    // Two builds may be the same file.
    artifacts.dedup_by_key(|fetched| fetched.artifact.sha256);
    Ok(artifacts)
}

fn name(artifact: &Artifact) -> String {
    format!("{}/{}", artifact.sha256, artifact.file_name())
}

fn unnamed(artifact: &Artifact) -> Failure {
    let message = format!("{artifact}: `{}` is no name in a bundle", printable(artifact.file_name()));
    Failure::new(Kind::Invalid, message).help("let the `url` of the component end in a plain, short name")
}

/// Writes what has been gathered to `into`, which is empty. What has changed since it was verified is
/// [`Kind::Unverified`]; an [`io::Error`] is one of `into`.
pub fn write(artifacts: &[Fetched], mut into: &File) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER];
    for fetched in artifacts {
        let Fetched { artifact, bytes, private } = fetched;
        let mut header = Header::new_ustar();
        header.set_path(name(artifact)).map_err(|_| unnamed(artifact))?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.size());
        header.set_mode(0o644);
        header.set_cksum();
        into.write_all(header.as_bytes())?;
        let (mut source, mut written) = (Hashing::new(bytes.reader(), !private), 0);
        loop {
            interrupt::check()?;
            let count = source.read(&mut buffer).map_err(|error| {
                Failure::new(Kind::Fetch, format!("reading {artifact} once more: {error}"))
            })?;
            if count == 0 {
                break;
            }
            into.write_all(&buffer[..count])?;
            written += count as u64;
        }
        if let Some(found) = source.finish().filter(|found| *found != artifact.sha256) {
            return Err(fetched.changed(found).into());
        }
        let padding = written.next_multiple_of(BLOCK) - written;
        into.write_all(&ZEROS[..usize::try_from(padding)?])?;
    }
    Ok(into.write_all(&ZEROS)?)
}
