//! Reads release archives: entries one by one, by a strict policy, never unpacked.
//!
//! What an archive may hold: regular files and directories with plain relative names. Links,
//! devices, sparse files, setuid bits, duplicates and trailing data are refused, also in members that
//! nobody asked for: upstream's releases have none, so one is a sign of an attack or of damage. It
//! writes nothing.

mod check;
pub(crate) mod decode;
mod policy;
mod writer;

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use tar::Archive;

use crate::archive::policy::{LARGEST, LimitExceeded, Names, admit, corrupt, refuse, system_error};
use crate::digest::{Digest, Hashing};
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::source::fetch::{HTML, looks_like_html};
use crate::source::section::Section;

/// An archive with more entries is refused.
const MOST_ENTRIES: usize = 4096;

/// What may stand between two members (long names, PAX records) and after the last one (padding).
const METADATA: u64 = 1 << 20;

const BLOCK: u64 = 512;

/// Compressed bytes are read in pieces of this size; smaller ones cost time.
const INPUT: usize = 128 * 1024;

/// A regular file in an archive.
pub(crate) struct Member<'entry> {
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
pub(crate) fn read(
    bytes: &Section,
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

/// Gives a member to the visitor; an error of reading it is the archive's, not the visitor's.
fn hand_over<R: Read>(
    entry: &mut tar::Entry<R>,
    name: &str,
    label: &str,
    visit: &mut dyn FnMut(Member) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let size = entry.size();
    let mut content = MemberReader { entry, error: None };
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

/// Remembers the reading error of a member, which is the archive's fault and not the visitor's.
struct MemberReader<'entry, R: Read> {
    entry: &'entry mut R,
    error: Option<io::Error>,
}

impl<R: Read> Read for MemberReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.entry.read(buffer).inspect_err(|error| {
            let copy = match error.get_ref().and_then(|inner| inner.downcast_ref::<LimitExceeded>()) {
                Some(limit) => io::Error::other(LimitExceeded(limit.0.clone())),
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

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.total += count as u64;
        if self.total > LARGEST {
            return Err(io::Error::other(LimitExceeded(format!("it inflates to more than {LARGEST} bytes"))));
        }
        let Some(left) = self.budget.get().checked_sub(count as u64) else {
            return Err(io::Error::other(LimitExceeded(format!(
                "more than {METADATA} bytes of names, records or padding in one place"
            ))));
        };
        self.budget.set(left);
        Ok(count)
    }
}
