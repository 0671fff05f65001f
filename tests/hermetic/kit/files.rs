//! Makes files, directories and links of a mode and an owner.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

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
