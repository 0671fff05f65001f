//! SHA-256 digests, and hashing of files by descriptor.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use crate::checked::Checked;
use crate::error::{Failure, Kind};

/// How much is read at once; smaller buffers cost time, larger ones gain none.
pub(crate) const BUFFER: usize = 256 * 1024;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest of a whole file, read by position: the descriptor's offset stays as it is.
    pub fn of_file(file: &File) -> anyhow::Result<Self> {
        Digest::by_position(|buffer, offset| file.read_at(buffer, offset))
    }

    /// The digest of what `read_at` gives until it gives nothing.
    pub fn by_position(read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>) -> anyhow::Result<Self> {
        let mut buffer = vec![0; BUFFER];
        let (mut hasher, mut offset) = (Hasher::default(), 0);
        loop {
            match read_at(&mut buffer, offset)? {
                0 => return Ok(hasher.finish()),
                count => {
                    hasher.update(&buffer[..count]);
                    offset += count as u64;
                }
            }
        }
    }
}

/// A digest in the making.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// Takes in more bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken in.
    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Hashes what is read through it, where that is wanted.
pub(crate) struct Hashing<R> {
    source: R,
    hasher: Option<Hasher>,
}

impl<R> Hashing<R> {
    /// Reads `source`.
    pub(crate) fn new(source: R, wanted: bool) -> Self {
        Hashing { source, hasher: wanted.then(Hasher::default) }
    }

    /// The digest of what has been read; none where none was wanted.
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
