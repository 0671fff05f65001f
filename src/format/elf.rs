//! Facts from the headers of an ELF file: its architecture, the glibc it needs or defines, its Go version.
//!
//! This module must not load a whole file or execute it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, FileKind, elf};

use crate::arch::Arch;
use crate::interrupt;

/// Limit of the bytes that are read of one file: its headers and a few sections. The largest of the files that
/// nodebake installs needs a tenth.
const MOST_READ: u64 = 1 << 20;

/// Cost of a read in bytes, however short it is.
const EACH_READ: u64 = 64;

/// Version of glibc: `2.34` as `(2, 34)`.
pub(crate) type Glibc = (u32, u32);

/// The facts that decide whether a file can run on a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elf {
    /// Architecture; none for a machine that upstream does not build for, or a 32-bit file of a 64-bit one.
    pub arch: Option<Arch>,
    /// The newest glibc symbol version that the file asks for; none for a static file.
    pub needs_glibc: Option<Glibc>,
    /// The newest glibc symbol version that the file defines, as `libc.so.6` does.
    pub gives_glibc: Option<Glibc>,
    /// The main module's `X.Y.Z` from Go's build information, if the build recorded it.
    pub go_version: Option<String>,
}

/// Reason why a file could not be read as ELF.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The file is broken: what is wrong with it.
    #[error("{0}")]
    Broken(String),
    /// The filesystem failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads `file` by position; none if it is not an ELF file.
pub(crate) fn read(file: &File) -> Result<Option<Elf>, Unreadable> {
    let failure = Rc::new(Cell::new(None));
    let cache = ReadCache::new(Positioned { file, offset: 0, failure: Rc::clone(&failure) });
    let left = Cell::new(Some(MOST_READ));
    let found = read_through(Bounded { cache: &cache, left: &left });
    // The parser takes a read error for the end of the file.
    match (failure.take(), left.get()) {
        (Some(error), _) => Err(Unreadable::Io(error)),
        (None, None) => {
            Err(Unreadable::Broken(format!("broken ELF file: its headers have more than {MOST_READ} bytes")))
        }
        (None, Some(_)) => found.map_err(Unreadable::Broken),
    }
}

fn read_through<'data, R: ReadRef<'data>>(data: R) -> Result<Option<Elf>, String> {
    let magic = data.read_bytes_at(0, 4).unwrap_or_default();
    if magic != elf::ELFMAG {
        return Ok(None);
    }
    let broken = |error: object::read::Error| format!("broken ELF file: {error}");
    match FileKind::parse(data).map_err(broken)? {
        FileKind::Elf64 => parse::<elf::FileHeader64<Endianness>, R>(data).map(Some),
        FileKind::Elf32 => parse::<elf::FileHeader32<Endianness>, R>(data).map(Some),
        _ => Err("broken ELF file: neither 32 nor 64 bits".to_owned()),
    }
}

fn parse<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(data: R) -> Result<Elf, String> {
    let broken = |error: object::read::Error| format!("broken ELF file: {error}");
    let header = H::parse(data).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    let length = data.len().map_err(|()| "unreadable".to_owned())?;
    for segment in header.program_headers(endian, data).map_err(broken)? {
        let (offset, size) = segment.file_range(endian);
        if segment.p_type(endian) == elf::PT_LOAD && offset.saturating_add(size) > length {
            return Err("truncated ELF file".to_owned());
        }
    }
    let sections = header.sections(endian, data).map_err(|_| "truncated ELF file".to_owned())?;
    Ok(Elf {
        arch: arch_of(header.e_machine(endian), header.is_type_64()),
        needs_glibc: needed_glibc(&sections, endian, data).map_err(broken)?,
        gives_glibc: defined_glibc(&sections, endian, data).map_err(broken)?,
        go_version: go_version(&sections, endian, data),
    })
}

fn arch_of(machine: elf::Machine, is_64: bool) -> Option<Arch> {
    match (machine, is_64) {
        (elf::EM_X86_64, true) => Some(Arch::Amd64),
        (elf::EM_AARCH64, true) => Some(Arch::Arm64),
        (elf::EM_ARM, false) => Some(Arch::Arm),
        (elf::EM_PPC64, true) => Some(Arch::Ppc64le),
        (elf::EM_RISCV, true) => Some(Arch::Riscv64),
        (elf::EM_S390, true) => Some(Arch::S390x),
        _ => None,
    }
}

/// Returns the newest version in `.gnu.version_r`.
fn needed_glibc<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(
    sections: &SectionTable<'data, H, R>,
    endian: Endianness,
    data: R,
) -> object::read::Result<Option<Glibc>> {
    let Some((mut needs, link)) = sections.gnu_verneed(endian, data)? else { return Ok(None) };
    let strings = sections.strings(endian, data, link)?;
    let mut newest = None;
    while let Some((_, mut versions)) = needs.next()? {
        while let Some(version) = versions.next()? {
            newest = newest.max(glibc(version.name(endian, strings)?));
        }
    }
    Ok(newest)
}

/// Returns the newest version in `.gnu.version_d`.
fn defined_glibc<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(
    sections: &SectionTable<'data, H, R>,
    endian: Endianness,
    data: R,
) -> object::read::Result<Option<Glibc>> {
    let Some((mut definitions, link)) = sections.gnu_verdef(endian, data)? else { return Ok(None) };
    let strings = sections.strings(endian, data, link)?;
    let mut newest = None;
    while let Some((_, mut names)) = definitions.next()? {
        if let Some(name) = names.next()? {
            newest = newest.max(glibc(name.name(endian, strings)?));
        }
    }
    Ok(newest)
}

/// Parses `GLIBC_2.34` as `(2, 34)`; none for `GLIBC_PRIVATE` and other names.
fn glibc(name: &[u8]) -> Option<Glibc> {
    let mut parts = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Reads the version in the `mod` line of Go's build information.
///
/// The layout (Go's debug/buildinfo, since 1.18): 32 bytes of header with magic and flags, then
/// two strings with a varint length each: Go's version and the module text, which itself stands
/// between two 16-byte marks.
fn go_version<'data, H: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(
    sections: &SectionTable<'data, H, R>,
    endian: Endianness,
    data: R,
) -> Option<String> {
    const INLINE_STRINGS: u8 = 2;
    let (_, section) = sections.section_by_name(endian, b".go.buildinfo")?;
    let bytes = section.data(endian, data).ok()?;
    let header = bytes.get(..32)?;
    if !header.starts_with(b"\xff Go buildinf:") || header[15] & INLINE_STRINGS == 0 {
        return None;
    }
    let (_, rest) = varint_string(&bytes[32..])?;
    let (module, _) = varint_string(rest)?;
    let text = std::str::from_utf8(module.get(16..module.len().checked_sub(16)?)?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("mod\t"))?;
    release(line.split('\t').nth(1)?)
}

/// Splits off a string that begins with its length as a varint.
fn varint_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes[index + 1..].split_at_checked(length);
        }
    }
    None
}

/// Parses `v2.1.9+dirty` as `2.1.9`; none for `(devel)` and pseudo-versions such as `v0.0.0-2024…`.
fn release(version: &str) -> Option<String> {
    let version = semver::Version::parse(version.strip_prefix('v')?).ok()?;
    let real = version.pre.is_empty() && (version.major, version.minor, version.patch) != (0, 0, 0);
    real.then(|| format!("{}.{}.{}", version.major, version.minor, version.patch))
}

/// Finds the version that containerd's own source carries, `X.Y.Z+unknown` in its read-only data. The mark stays
/// in a build that overrides it by a linker flag, and in one without build information (containerd's
/// version/version.go; seen in 1.6.20, 1.7.24 and 2.1.9). Go lays strings end to end, so the digits may begin
/// with the tail of another string: compare by [`MarkedVersion::may_be`].
pub(crate) fn marked_version(file: &File) -> io::Result<Option<MarkedVersion>> {
    const MARK: &[u8] = b"+unknown";
    const BEFORE: usize = 16;
    let finder = memchr::memmem::Finder::new(MARK);
    let mut buffer = vec![0; crate::digest::BUFFER];
    let (mut offset, mut kept) = (0, 0);
    loop {
        interrupt::check().map_err(io::Error::other)?;
        let count = file.read_at(&mut buffer[kept..], offset)?;
        if count == 0 {
            return Ok(None);
        }
        let filled = &buffer[..kept + count];
        for found in finder.find_iter(filled) {
            let before = &filled[found.saturating_sub(BEFORE)..found];
            let start = before.iter().rposition(|c| !matches!(c, b'0'..=b'9' | b'.')).map_or(0, |i| i + 1);
            let text = String::from_utf8_lossy(&before[start..]).into_owned();
            if text.split('.').count() >= 3 && text.split('.').all(|part| !part.is_empty()) {
                return Ok(Some(MarkedVersion(text)));
            }
        }
        offset += count as u64;
        let tail = filled.len().min(BEFORE + MARK.len());
        let start = filled.len() - tail;
        buffer.copy_within(start..start + tail, 0);
        kept = tail;
    }
}

/// Version that may begin with the tail of another string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MarkedVersion(pub String);

impl MarkedVersion {
    /// Returns whether the version can be `version`.
    pub(crate) fn may_be(&self, version: &str) -> bool {
        self.0.ends_with(version)
    }
}

/// File of which at most [`MOST_READ`] bytes are read, because its headers may claim tables and sections of any
/// length. What is read again counts again, so that the time is bounded as well.
#[derive(Clone, Copy)]
struct Bounded<'data, 'file> {
    cache: &'data ReadCache<Positioned<'file>>,
    /// Bytes that may still be read; none once a read was refused.
    left: &'data Cell<Option<u64>>,
}

impl Bounded<'_, '_> {
    fn spend(self, bytes: u64) -> Result<(), ()> {
        let left = self.left.get().and_then(|left| left.checked_sub(bytes.max(EACH_READ)));
        self.left.set(left);
        left.map(drop).ok_or(())
    }
}

impl<'data> ReadRef<'data> for Bounded<'data, '_> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        self.spend(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        let found = self.cache.read_bytes_at_until(range, delimiter)?;
        self.spend(found.len() as u64)?;
        Ok(found)
    }
}

/// Reader by position, which leaves the descriptor's own offset alone and keeps the last read error.
struct Positioned<'file> {
    file: &'file File,
    offset: u64,
    failure: Rc<Cell<Option<io::Error>>>,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(buffer, self.offset) {
            Ok(count) => {
                self.offset += count as u64;
                Ok(count)
            }
            Err(error) => {
                self.failure.set(Some(io::Error::new(error.kind(), error.to_string())));
                Err(error)
            }
        }
    }
}

impl Seek for Positioned<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, delta) = match to {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::Current(delta) => (self.offset, delta),
            SeekFrom::End(delta) => {
                let metadata = self.file.metadata();
                let metadata = metadata.inspect_err(|error| {
                    self.failure.set(Some(io::Error::new(error.kind(), error.to_string())))
                })?;
                (metadata.len(), delta)
            }
        };
        let target = base.checked_add_signed(delta);
        self.offset = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{MarkedVersion, marked_version, release};

    #[test]
    fn only_real_releases_count_as_versions() {
        assert_eq!(release("v2.1.9"), Some("2.1.9".into()));
        assert_eq!(release("v2.1.9+dirty"), Some("2.1.9".into()));
        assert_eq!(release("(devel)"), None);
        assert_eq!(release("v0.0.0-20240101000000-abcdefabcdef"), None);
    }

    #[test]
    fn the_version_mark_is_found_across_buffers() {
        for shift in [0, 1, 7, 12, 30] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![b'x'; crate::digest::BUFFER - shift]).unwrap();
            file.write_all(b"missing2.1.9+unknownlen").unwrap();
            let found = marked_version(&file).unwrap();
            assert_eq!(found, Some(MarkedVersion("2.1.9".into())), "{shift}");
        }
        assert!(MarkedVersion("12.1.9".into()).may_be("2.1.9"));
    }
}
