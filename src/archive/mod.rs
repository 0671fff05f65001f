//! Reads release archives: entries one by one, by a strict policy, never unpacked.
//!
//! What an archive may hold: regular files and directories with plain relative names. Links,
//! devices, sparse files, setuid bits, duplicates and trailing data are refused, also in members that
//! nobody asked for: upstream's releases have none, so one is a sign of an attack or of damage. It
//! writes nothing.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use rustix::io::Errno;
use tar::{Archive, EntryType};

use crate::digest::{Digest, Hashing};
use crate::error::{Failure, Kind, printable, steers};
use crate::extent::Extent;
use crate::interrupt;
use crate::path::LONGEST_COMPONENT;

/// An archive with more entries is refused.
const MOST_ENTRIES: usize = 4096;
/// An archive that inflates to more is refused; containerd's has 0.15 GB.
const LARGEST: u64 = 1 << 30;
/// Names longer or deeper are refused.
const LONGEST_NAME: usize = 255;
const DEEPEST_NAME: usize = 8;
/// What may stand between two members (long names, PAX records) and after the last one (padding).
const METADATA: u64 = 1 << 20;
const BLOCK: u64 = 512;
/// Compressed bytes are read in pieces of this size; smaller ones cost time.
const INPUT: usize = 128 * 1024;

/// A regular file in an archive.
pub struct Member<'entry> {
    /// Its normalised name, without `./`.
    pub name: &'entry str,
    /// Bytes; PAX records are taken into account.
    pub size: u64,
    /// Its content.
    pub content: &'entry mut dyn Read,
}

/// Calls `visit` for every regular file of the gzip-compressed or plain tar archive `bytes`, in
/// order. `label` names the archive in messages.
///
/// It has succeeded only when the whole archive was read and found intact: what `visit` was given
/// before an error must not be used. Gives the digest of exactly the bytes that were parsed, if `hashed`:
/// a file that somebody else can write to may have changed since it was verified.
pub fn read(
    bytes: &Extent,
    label: &str,
    hashed: bool,
    mut visit: impl FnMut(Member) -> anyhow::Result<()>,
) -> anyhow::Result<Option<Digest>> {
    let mut source = Hashing::new(bytes.reader(), hashed);
    let mut input = BufReader::with_capacity(INPUT, &mut source);
    let magic = input.fill_buf().map_err(|error| corrupt(label, &error))?.to_vec();
    match format(&magic, label)? {
        // Not GzDecoder: it ends after the first member of what pigz and others write.
        Format::Gzip => read_tar(MultiGzDecoder::new(input), label, &mut visit)?,
        Format::Tar => read_tar(input, label, &mut visit)?,
    }
    Ok(source.finish())
}

enum Format {
    Gzip,
    Tar,
}

/// By magic, not by name.
fn format(start: &[u8], label: &str) -> Result<Format, Failure> {
    let unsupported = |format: &str| {
        Failure::new(Kind::Invalid, format!("{label}: {format} is not supported"))
            .help("use the .tar.gz that upstream publishes")
    };
    match start {
        [0x1f, 0x8b, ..] => Ok(Format::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(unsupported("xz")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(unsupported("zstd")),
        _ if start.get(257..262) == Some(b"ustar") => Ok(Format::Tar),
        [] => Err(Failure::new(Kind::Unverified, format!("{label} is empty"))),
        _ => Err(not_an_archive(start, label)),
    }
}

fn not_an_archive(start: &[u8], label: &str) -> Failure {
    let failure = Failure::new(Kind::Unverified, format!("{label} is not a gzip-compressed tar archive"));
    match looks_like_html(start) {
        true => failure.help(HTML),
        false => failure,
    }
}

/// The remedy where a web page stands in an artifact's place.
pub const HTML: &str =
    "it is an HTML page: a captive portal, a proxy or a login page answered instead of the server";

/// Whether `start` is the beginning of a web page.
pub fn looks_like_html(start: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&start[..start.len().min(256)]).trim_start().to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html")
}

fn read_tar<R: Read>(
    source: R,
    label: &str,
    visit: &mut dyn FnMut(Member) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let budget = Rc::new(Cell::new(METADATA));
    let mut archive = Archive::new(Meter { source, total: 0, budget: Rc::clone(&budget) });
    let mut names = Names::default();
    let (mut count, mut end) = (0, 0);
    for entry in archive.entries().map_err(|error| corrupt(label, &error))? {
        interrupt::check()?;
        let mut entry = entry.map_err(|error| corrupt(label, &error))?;
        count += 1;
        if count > MOST_ENTRIES {
            return Err(refuse(label, &format!("more than {MOST_ENTRIES} entries")).into());
        }
        let kind = admit(&mut entry, label)?;
        end = entry.raw_file_position() + entry.size().div_ceil(BLOCK) * BLOCK;
        budget.set(u64::MAX);
        if let Some(name) = names.file(&entry, kind, label)? {
            hand_over(&mut entry, &name, label, visit)?;
        }
        // What nobody wanted is read all the same: the archive has to be intact.
        io::copy(&mut entry, &mut io::sink()).map_err(|error| corrupt(label, &error))?;
        budget.set(METADATA);
    }
    drained(archive.into_inner(), end, label)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    File,
    Directory,
}

/// Whether an entry is of a kind, a mode and a size that a release may hold.
fn admit<R: Read>(entry: &mut tar::Entry<R>, label: &str) -> Result<EntryKind, Failure> {
    let shown = printable(&String::from_utf8_lossy(&entry.path_bytes()));
    let refuse = |why: &str| Err(refuse(label, &format!("member `{shown}` {why}")));
    let kind = match entry.header().entry_type() {
        EntryType::Directory => EntryKind::Directory,
        EntryType::Regular | EntryType::Continuous => EntryKind::File,
        EntryType::Symlink => return refuse("is a symlink"),
        EntryType::Link => return refuse("is a hard link"),
        EntryType::GNUSparse => return refuse("is a sparse file"),
        other => return refuse(&format!("is of type {:?}", printable(&format!("{other:?}")))),
    };
    if is_pax_sparse(entry) {
        return refuse("is a sparse file");
    }
    let mode = entry.header().mode().map_err(|error| corrupt(label, &error))?;
    if mode & 0o7000 != 0 && kind == EntryKind::File {
        return refuse(&format!("has mode {mode:04o}: setuid, setgid or sticky"));
    }
    match entry.size() {
        size if size > LARGEST => refuse(&format!("has {size} bytes; at most {LARGEST} are read")),
        _ => Ok(kind),
    }
}

/// The names that an archive has used.
#[derive(Default)]
struct Names {
    files: BTreeSet<String>,
    directories: BTreeSet<String>,
}

impl Names {
    /// The name of a regular file, seen for the first time; none for a directory.
    fn file<R: Read>(
        &mut self,
        entry: &tar::Entry<R>,
        kind: EntryKind,
        label: &str,
    ) -> Result<Option<String>, Failure> {
        let raw = entry.path_bytes();
        let shown = printable(&String::from_utf8_lossy(&raw));
        let refuse = |why: &str| refuse(label, &format!("member `{shown}` {why}"));
        let Some(name) = normalise(&raw).map_err(|why| refuse(&why))? else { return Ok(None) };
        // A directory may be named again, as GNU tar does when it appends.
        let fits = match kind {
            EntryKind::Directory => !self.files.contains(&name),
            EntryKind::File => !self.files.contains(&name) && !self.directories.contains(&name),
        };
        if !fits {
            return Err(refuse("stands in the archive twice"));
        }
        match kind {
            EntryKind::Directory => {
                self.directories.insert(name);
                Ok(None)
            }
            EntryKind::File => {
                self.files.insert(name.clone());
                Ok(Some(name))
            }
        }
    }
}

/// Gives a member to the visitor; an error of reading it is the archive's, not the visitor's.
fn hand_over<R: Read>(
    entry: &mut tar::Entry<R>,
    name: &str,
    label: &str,
    visit: &mut dyn FnMut(Member) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let size = entry.size();
    let mut content = Content { entry, error: None };
    let visited = visit(Member { name, size, content: &mut content });
    match content.error.take() {
        Some(error) => Err(corrupt(label, &error).into()),
        None => visited,
    }
}

/// The rest of the archive after its last entry: two blocks of zeros at least, nothing but zeros,
/// and an intact end of the compressed stream.
fn drained<R: Read>(mut source: Meter<R>, end: u64, label: &str) -> anyhow::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match source.read(&mut buffer).map_err(|error| corrupt(label, &error))? {
            0 => break,
            count if buffer[..count].iter().all(|byte| *byte == 0) => {}
            _ => return Err(refuse(label, "data after the end of the archive").into()),
        }
    }
    match source.total >= end + 2 * BLOCK {
        true => Ok(()),
        false => {
            Err(Failure::new(Kind::Unverified, format!("{label} is truncated: its end mark is missing"))
                .into())
        }
    }
}

fn is_pax_sparse<R: Read>(entry: &mut tar::Entry<R>) -> bool {
    let Ok(Some(records)) = entry.pax_extensions() else { return false };
    records.flatten().any(|record| record.key_bytes().starts_with(b"GNU.sparse"))
}

/// A member's name without `./` and a trailing slash; none for the archive's own `./`.
fn normalise(raw: &[u8]) -> Result<Option<String>, String> {
    let name = std::str::from_utf8(raw).map_err(|_| "has a name that is not UTF-8")?;
    if name.is_empty() || name.chars().any(steers) {
        return Err("has an empty name or a control character in it".to_owned());
    }
    if name.starts_with('/') {
        return Err("has an absolute name".to_owned());
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err("has `..` in its name".to_owned());
    }
    let too_long = name.len() > LONGEST_NAME || parts.iter().any(|part| part.len() > LONGEST_COMPONENT);
    if too_long || parts.len() > DEEPEST_NAME {
        return Err(format!(
            "has a name of more than {LONGEST_NAME} bytes, {LONGEST_COMPONENT} in one part, or {DEEPEST_NAME} levels"
        ));
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

fn refuse(label: &str, why: &str) -> Failure {
    Failure::new(Kind::Unsafe, format!("{label}: {why}"))
        .help("nothing of it was installed; get the archive that upstream published")
}

fn corrupt(label: &str, error: &io::Error) -> Failure {
    if let Some(limit) = error.get_ref().and_then(|inner| inner.downcast_ref::<Limit>()) {
        return refuse(label, &limit.0);
    }
    if let Some(errno) = system_error(error) {
        return Failure::filesystem("reading", label, errno);
    }
    if error.to_string().contains("overflow") {
        return refuse(label, "a member has an impossible size");
    }
    let truncated = error.kind() == io::ErrorKind::UnexpectedEof
        || error.to_string().contains("failed to read entire block");
    let why = if truncated {
        "truncated".to_owned()
    } else {
        format!("corrupt: {}", printable(&error.to_string()))
    };
    Failure::new(Kind::Unverified, format!("{label} is {why}"))
        .help("fetch it again; what it should be is pinned by its digest")
}

/// The error of the disk below what the decoders made of it.
fn system_error(error: &io::Error) -> Option<Errno> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        let found = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if let Some(number) = found {
            return Some(Errno::from_raw_os_error(number));
        }
        cause = inner.source();
    }
    None
}

/// Remembers the reading error of a member, which is the archive's fault and not the visitor's.
struct Content<'entry, R: Read> {
    entry: &'entry mut R,
    error: Option<io::Error>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.entry.read(buffer).inspect_err(|error| {
            let copy = match error.get_ref().and_then(|inner| inner.downcast_ref::<Limit>()) {
                Some(limit) => io::Error::other(Limit(limit.0.clone())),
                None => match system_error(error) {
                    Some(errno) => errno.into(),
                    None => io::Error::new(error.kind(), error.to_string()),
                },
            };
            self.error = Some(copy);
        })
    }
}

/// Counts what comes out of the decoder and cuts off a bomb, whether it inflates members or names.
struct Meter<R> {
    source: R,
    total: u64,
    /// What may still be read before the next member has to begin.
    budget: Rc<Cell<u64>>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Limit(String);

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.total += count as u64;
        if self.total > LARGEST {
            return Err(io::Error::other(Limit(format!("it inflates to more than {LARGEST} bytes"))));
        }
        let Some(left) = self.budget.get().checked_sub(count as u64) else {
            return Err(io::Error::other(Limit(format!(
                "more than {METADATA} bytes of names, records or padding in one place"
            ))));
        };
        self.budget.set(left);
        Ok(count)
    }
}
