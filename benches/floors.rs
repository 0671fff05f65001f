//! What a bake can't be faster than on this machine: inflating, hashing and writing by themselves, with
//! nodebake's decoder and hasher, a thread for each processor. `benches/run` calls it.
//!
//! ```text
//! floors inflate ARCHIVE…      inflates gzip files and throws the result away
//! floors hash FILE…            SHA-256
//! floors write DIRECTORY FILE… as many bytes as each file has, flushed
//! ```

#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

const INPUT: usize = 128 * 1024;

/// As large as nodebake's own.
const BUFFER: usize = 256 * 1024;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let floor = arguments.next().unwrap();
    let mut files: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let into = if floor == "write" { files.remove(0) } else { PathBuf::new() };
    // The longest first, so that the last to end is short.
    files.sort_by_key(|file| std::cmp::Reverse(file.metadata().unwrap().len()));
    let work: &(dyn Fn(&Path) + Sync) = match floor.as_str() {
        "inflate" => &inflate,
        "hash" => &hash,
        "write" => &|file| write(file, &into),
        other => panic!("no floor {other}"),
    };
    let queue = Mutex::new(files.iter());
    let next = || queue.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| std::iter::from_fn(next).for_each(|file| work(file)));
        }
    });
}

fn inflate(archive: &Path) {
    let input = std::io::BufReader::with_capacity(INPUT, File::open(archive).unwrap());
    let (mut decoder, mut buffer) = (MultiGzDecoder::new(input), vec![0; BUFFER]);
    while decoder.read(&mut buffer).unwrap() > 0 {}
}

fn hash(file: &Path) {
    let (mut file, mut hash, mut buffer) = (File::open(file).unwrap(), Sha256::new(), vec![0; BUFFER]);
    while let read @ 1.. = file.read(&mut buffer).unwrap() {
        hash.update(&buffer[..read]);
    }
    std::hint::black_box(hash.finalize());
}

fn write(like: &Path, into: &Path) {
    let mut left = usize::try_from(like.metadata().unwrap().len()).unwrap();
    let (mut file, buffer) = (File::create(into.join(like.file_name().unwrap())).unwrap(), vec![1; BUFFER]);
    while left > 0 {
        left -= file.write(&buffer[..left.min(BUFFER)]).unwrap();
    }
    file.sync_all().unwrap();
}
