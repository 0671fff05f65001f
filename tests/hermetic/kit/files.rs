//! Makes files, directories and links of a mode and an owner.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn write(path: &Path, bytes: &[u8]) {
    make_dir(path.parent().unwrap());
    fs::write(path, bytes).unwrap();
    mode(path, 0o644);
}

pub fn executable(path: &Path, bytes: &[u8]) {
    write(path, bytes);
    mode(path, 0o755);
}

pub fn make_dir(path: &Path) {
    if !path.exists() {
        make_dir(path.parent().unwrap());
        fs::create_dir(path).unwrap();
        mode(path, 0o755);
    }
}

/// Replaces whatever stands at `path` by a link.
pub fn link(target: impl AsRef<Path>, path: &Path) {
    make_dir(path.parent().unwrap());
    if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
    symlink(target, path).unwrap();
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn own(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).unwrap();
}

/// A copy of a file or a tree.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "copying {}", from.display());
}

/// `u:: u:1234: g:: m::` with these bits and `o::---`, as the kernel keeps it.
pub fn acl([owner, user, group, mask]: [u16; 4]) -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries = [
        entry(1, owner, none),
        entry(2, user, 1234),
        entry(4, group, none),
        entry(16, mask, none),
        entry(32, 0, none),
    ];
    [2u32.to_le_bytes().to_vec(), entries.concat()].concat()
}

/// The path as the shell and nodebake's own messages would need it.
pub fn text(path: impl AsRef<OsStr>) -> String {
    String::from_utf8(path.as_ref().as_bytes().to_vec()).unwrap()
}

/// Every Rust source below a folder of this repository.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    files.chain(folders.iter().flat_map(|folder| rust_files(folder))).collect()
}
