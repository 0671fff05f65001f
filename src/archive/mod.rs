//! Reads release archives, entry by entry and by a strict policy, without unpacking them.
//!
//! An archive may contain regular files and directories with plain relative names. Links, devices, sparse
//! files, setuid bits, duplicates and trailing data are refused, also in members that are not installed:
//! upstream's releases have none, so one is a sign of an attack or of damage. `archive::read` must not write.

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

/// Number of entries above which an archive is refused.
const MOST_ENTRIES: usize = 4096;

/// Bytes allowed between two members (long names, PAX records) and after the last one (padding).
const METADATA: u64 = 1 << 20;

/// Size of a tar block.
const BLOCK: u64 = 512;

/// Buffer for compressed bytes; a smaller one costs time.
const INPUT: usize = 128 * 1024;

/// A regular file in an archive.
pub(crate) struct Member<'entry> {
    /// The normalised name, without `./`.
    pub name: &'entry str,
    /// The length in bytes, from a PAX record if there is one.
    pub size: u64,
    /// The content.
    pub content: &'entry mut dyn Read,
}

/// Calls `visit` for every regular file of the gzip-compressed or plain tar archive `bytes`, in
/// order. `label` names the archive in messages.
///
/// Succeeds only if the whole archive was read and is intact: members that `visit` received before an error
/// must not be used. If `hashed`, returns the digest of exactly the bytes that were parsed, because a file
/// that another user can write to may have changed since it was verified.
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
        // GzDecoder would end after the first of the several members that pigz and others write.
        Format::Gzip => read_tar(MultiGzDecoder::new(input), label, &mut visit)?,
        Format::Tar => read_tar(input, label, &mut visit)?,
    }
    Ok(source.finish())
}

enum Format {
    Gzip,
    Tar,
}

/// Detects the format by the first bytes, not by the file name.
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
    let mut archive = Archive::new(LimitReader { source, total: 0, budget: Rc::clone(&budget) });
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
            visit_member(&mut entry, &name, label, visit)?;
        }
        // The rest is read, too, because the whole archive has to be intact.
        skip(&mut entry, label)?;
        budget.set(METADATA);
    }
    require_end(archive.into_inner(), end, label)
}

/// Reads an entry to its end.
fn skip(entry: &mut impl Read, label: &str) -> Result<(), Failure> {
    let mut buffer = vec![0; INPUT];
    loop {
        interrupt::check()?;
        if entry.read(&mut buffer).map_err(|error| corrupt(label, &error))? == 0 {
            return Ok(());
        }
    }
}

/// Calls `visit` for a member. An error of reading the member is returned instead of the visitor's.
fn visit_member<R: Read>(
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

/// Fails unless the archive, after its last entry at `end`, has two or more blocks of zeros, only zeros, and
/// an intact end of the compressed stream.
fn require_end<R: Read>(mut source: LimitReader<R>, end: u64, label: &str) -> anyhow::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        interrupt::check()?;
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

/// Reader of a member that keeps its error, which is the archive's and not the visitor's.
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

/// Reader that fails when a decompression bomb inflates to too many bytes of members or metadata.
struct LimitReader<R> {
    source: R,
    total: u64,
    /// Bytes that may be read before the next member begins.
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for LimitReader<R> {
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
