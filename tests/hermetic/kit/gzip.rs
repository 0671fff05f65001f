//! gzip streams, honest and hostile.

use std::io::Write as _;
use std::sync::OnceLock;

/// One gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Several members, cut where the pieces are cut: what pigz or `cat a.gz b.gz` writes.
pub fn gzip_members(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| gzip(piece)).collect()
}

/// A good stream whose checksum was flipped.
pub fn gzip_bad_crc(bytes: &[u8]) -> Vec<u8> {
    let mut stream = gzip(bytes);
    let crc = stream.len() - 8;
    stream[crc] ^= 0xff;
    stream
}

/// A good stream whose length field was flipped.
pub fn gzip_bad_length(bytes: &[u8]) -> Vec<u8> {
    let mut stream = gzip(bytes);
    let length = stream.len() - 4;
    stream[length] ^= 0xff;
    stream
}

/// All of the data and none of the eight bytes that prove it.
pub fn gzip_no_trailer(bytes: &[u8]) -> Vec<u8> {
    let mut stream = gzip(bytes);
    stream.truncate(stream.len() - 8);
    stream
}

pub fn gzip_trailing_junk(bytes: &[u8]) -> Vec<u8> {
    [gzip(bytes), b"junk after the stream".to_vec()].concat()
}

/// One member that inflates to `before`, `mib` MiB of zeros and `after`, made without ever
/// holding or deflating the zeros: one flushed block of them is repeated.
pub fn gzip_bomb(before: &[u8], mib: usize, after: &[u8]) -> Vec<u8> {
    // Once in each process: a debug build deflates slowly.
    static CHUNK: OnceLock<Vec<u8>> = OnceLock::new();
    let chunk = CHUNK.get_or_init(|| deflated(&vec![0; MIB], flate2::FlushCompress::Full));
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    stream.extend(deflated(before, flate2::FlushCompress::Full));
    (0..mib).for_each(|_| stream.extend(chunk));
    stream.extend(deflated(after, flate2::FlushCompress::Finish));

    let mut crc = crc_of(before);
    append_zeros(&mut crc, mib);
    crc.combine(&crc_of(after));
    stream.extend(crc.sum().to_le_bytes());
    let length = before.len() + mib * MIB + after.len();
    stream.extend((length as u32).to_le_bytes());
    stream
}

const MIB: usize = 1 << 20;

/// Appends `mib` MiB of zeros by doubling what is appended.
fn append_zeros(crc: &mut flate2::Crc, mib: usize) {
    static ONE: OnceLock<flate2::Crc> = OnceLock::new();
    let mut zeros = flate2::Crc::new();
    zeros.combine(ONE.get_or_init(|| crc_of(&vec![0; MIB])));
    let mut left = mib;
    while left > 0 {
        if left & 1 == 1 {
            crc.combine(&zeros);
        }
        let mut twice = flate2::Crc::new();
        twice.combine(&zeros);
        twice.combine(&zeros);
        (zeros, left) = (twice, left >> 1);
    }
}

fn deflated(bytes: &[u8], flush: flate2::FlushCompress) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 1024);
    flate2::Compress::new(flate2::Compression::fast(), false).compress_vec(bytes, &mut out, flush).unwrap();
    out
}

fn crc_of(bytes: &[u8]) -> flate2::Crc {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc
}
