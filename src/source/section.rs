//! A section of a file: all of it, or one artifact of a bundle.
//!
//! This module must not move the descriptor's own offset.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crate::digest::{BUFFER, Digest};

/// Section of an open file, read by position.
pub(crate) struct Section {
    file: File,
    start: u64,
    size: u64,
    /// Position at which reading ends; a little beyond the end of a whole file.
    end: u64,
}

impl Section {
    /// Makes a section of `size` bytes from `start` on.
    pub(super) fn part(file: File, start: u64, size: u64) -> Self {
        Section { file, start, size, end: start.saturating_add(size) }
    }

    /// Makes a section of a whole file that has `size` bytes now. Bytes that are added to the file are read as well,
    /// so that its digest changes, but not without an end.
    pub(crate) fn whole(file: File, size: u64) -> Self {
        Section { file, start: 0, size, end: size.saturating_add(BUFFER as u64) }
    }

    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Reads from `offset` on; 0 at the end of the section, or of the file if that comes first.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = self.start.saturating_add(offset);
        let left = usize::try_from(self.end.saturating_sub(from)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        self.file.read_at(&mut buffer[..most], from)
    }

    /// Makes a reader from the section's beginning.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { section: self, offset: 0 }
    }

    /// Hashes the whole section.
    pub(crate) fn digest(&self) -> anyhow::Result<Digest> {
        Digest::by_position(|buffer, offset| self.read_at(buffer, offset))
    }
}

/// Reader of a section.
pub(crate) struct Reader<'section> {
    section: &'section Section,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.section.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Digest, Read, Section};

    #[test]
    fn a_stretch_ends_where_it_is_said_to_or_where_the_file_does() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before, inside, after").unwrap();
        let read = |section: Section| {
            let mut text = String::new();
            section.reader().read_to_string(&mut text).unwrap();
            assert_eq!(section.digest().unwrap(), Digest::of(text.as_bytes()));
            text
        };
        let part = |start, size| read(Section::part(file.try_clone().unwrap(), start, size));
        assert_eq!(part(8, 6), "inside");
        assert_eq!(part(16, 100), "after");
        assert_eq!(part(100, 1), "");
        let whole = Section::whole(file.try_clone().unwrap(), 21);
        (&file).write_all(b", more").unwrap();
        assert_eq!((whole.size(), read(whole).as_str()), (21, "before, inside, after, more"));
    }
}
