//! What a directory looks like: one line per path, nothing left out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// One line per path below `root` and for `root` itself, sorted by path, nothing left out:
/// `-rwxr-xr-x root:root usr/local/sbin/runc sha256:…`, `lrwxrwxrwx root:root bin -> usr/bin`.
pub fn tree(root: &Path) -> String {
    let mut lines = String::new();
    for path in paths(root) {
        let meta = path.symlink_metadata().unwrap();
        let inside = path.strip_prefix(root).unwrap();
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        writeln!(
            lines,
            "{} {} {}{}",
            permissions(&meta),
            owner(&meta),
            inside.display(),
            contents(&path, &meta)
        )
        .unwrap();
    }
    lines
}

/// Every path below `root` with the inode and the times that a rewrite, even an identical one,
/// would change.
pub fn times(root: &Path) -> BTreeMap<PathBuf, [i64; 5]> {
    let stamp = |path: PathBuf| {
        let meta = path.symlink_metadata().unwrap();
        let times = [meta.ino() as i64, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        (path, times)
    };
    paths(root).into_iter().map(stamp).collect()
}

/// Every path, sorted, no link followed.
pub fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    if root.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        let mut names: Vec<OsString> =
            fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        found.extend(names.iter().flat_map(|name| paths(&root.join(name))));
    }
    found
}

/// Equality of two trees, told as the lines that differ.
#[track_caller]
pub fn assert_same(what: &str, before: &str, after: &str) {
    if before == after {
        return;
    }
    let gone = before
        .lines()
        .filter(|line| !after.lines().any(|other| other == *line))
        .map(|line| format!("- {line}\n"));
    let new = after
        .lines()
        .filter(|line| !before.lines().any(|other| other == *line))
        .map(|line| format!("+ {line}\n"));
    panic!("{what} differs:\n{}", gone.chain(new).collect::<String>());
}

fn permissions(meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    let kinds = [
        (kind.is_dir(), 'd'),
        (kind.is_symlink(), 'l'),
        (kind.is_fifo(), 'p'),
        (kind.is_socket(), 's'),
        (kind.is_char_device(), 'c'),
        (kind.is_block_device(), 'b'),
    ];
    let mut text = String::from(kinds.iter().find(|(is, _)| *is).map_or('-', |(_, letter)| *letter));
    let bits = meta.mode();
    for (shift, special, plain) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let on = |bit: u32, letter: char| if bits >> shift & bit != 0 { letter } else { '-' };
        text.push(on(4, 'r'));
        text.push(on(2, 'w'));
        text.push(match (bits & special != 0, bits >> shift & 1 != 0) {
            (true, true) => plain,
            (true, false) => plain.to_ascii_uppercase(),
            (false, _) => on(1, 'x'),
        });
    }
    text
}

fn owner(meta: &fs::Metadata) -> String {
    let name = |id: u32| if id == 0 { "root".to_owned() } else { id.to_string() };
    format!("{}:{}", name(meta.uid()), name(meta.gid()))
}

fn contents(path: &Path, meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_symlink() {
        format!(" -> {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        format!(" sha256:{}", sha256(&fs::read(path).unwrap()))
    } else if kind.is_char_device() || kind.is_block_device() {
        format!(" device {:#x}", meta.rdev())
    } else {
        String::new()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
