//! SHA-256 digests, and the hashing of files and streams.
//!
//! This module must not judge a digest: the caller compares it with the pinned one.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use crate::checked::Checked;
use crate::error::{Failure, Kind};
use crate::interrupt;

/// Size of a read buffer: smaller ones cost time, larger ones gain none.
pub(crate) const BUFFER: usize = 256 * 1024;

/// SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// Hashes a whole file by position: the descriptor's offset stays as it is. A signal ends it.
    pub fn of_file(file: &File) -> anyhow::Result<Self> {
        Digest::by_position(|buffer, offset| file.read_at(buffer, offset))
    }

    /// Hashes everything that `read_at` gives for rising offsets. A signal ends it.
    pub fn by_position(read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>) -> anyhow::Result<Self> {
        let mut hasher = Hasher::default();
        let read_at = |buffer: &mut [u8], offset| Ok(read_at(buffer, offset)?);
        each_chunk(read_at, |chunk| {
            hasher.update(chunk);
            Ok(())
        })?;
        Ok(hasher.finish())
    }
}

/// Calls `each` with the chunks that `read_at` gives for rising offsets, until it gives none or a signal arrives.
/// Returns how many bytes they have.
pub(crate) fn each_chunk(
    read_at: impl Fn(&mut [u8], u64) -> anyhow::Result<usize>,
    mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut offset = 0;
    loop {
        interrupt::check()?;
        match read_at(&mut buffer, offset)? {
            0 => return Ok(offset),
            count => {
                each(&buffer[..count])?;
                offset += count as u64;
            }
        }
    }
}

/// Hasher that takes bytes as they come.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes added.
    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Reader that hashes what is read through it, if a digest is wanted.
pub(crate) struct Hashing<R> {
    source: R,
    hasher: Option<Hasher>,
}

impl<R> Hashing<R> {
    /// Makes a reader of `source`; it hashes only if `wanted`.
    pub(crate) fn new(source: R, wanted: bool) -> Self {
        Hashing { source, hasher: wanted.then(Hasher::default) }
    }

    /// Returns the digest of what has been read; none if none was wanted.
    pub(crate) fn finish(self) -> Option<Digest> {
        self.hasher.map(Hasher::finish)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

impl FromStr for Digest {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        let mut bytes = [0; 32];
        let well_formed = hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit);
        if !well_formed {
            return Err(Failure::new(
                Kind::Invalid,
                format!("`{text}` is not a SHA-256 digest of 64 hexadecimal digits"),
            ));
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks(2)) {
            let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Digest(bytes))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Checked(|text: &str| {
            text.parse().map_err(|failure: Failure| failure.to_string())
        }))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
