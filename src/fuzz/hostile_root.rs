//! A root that an attacker has prepared, and everything that nodebake does in a root: nothing beside the root may
//! change, be read or be created.
//!
//! This module must not prepare anything outside its own temporary directory.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::node::{Octal, Owner};
use crate::path::ImagePath;
use crate::root::Root;

/// Paths that overlap in all ways: parents, children and the names that nodebake itself makes.
const PATHS: [&str; 16] = [
    "/etc",
    "/etc/containerd",
    "/etc/containerd/config.toml",
    "/etc/systemd/system",
    "/usr",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/bin/ctr",
    "/opt/cni/bin",
    "/opt/cni/bin/.nodebake-bridge.tmp",
    "/var",
    "/var/lib",
    "/var/lib/nodebake",
    "/var/lib/nodebake/receipt.json",
    "/loop",
    "/a",
];

const SECRET: &str = "the host's own";

/// Targets of the root's links; HOST stands for the directory beside the root.
const TARGETS: [&str; 16] = [
    "HOST",
    "HOST/etc",
    "HOST/etc/passwd",
    "../host",
    "../../host",
    "../../../host/etc",
    "HOST/../host",
    "/a",
    "/usr",
    "loop",
    ".",
    "..",
    "/proc/self/root",
    "/proc/self/cwd/../host",
    "/nowhere",
    "/var/usrlocal",
];

/// Prepares a root by the first half of the bytes, two for each step, and acts in it by the second half.
pub(super) fn play(data: &[u8]) {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let scratch = tempfile::tempdir_in(fs::canonicalize(place).unwrap()).unwrap();
    let (inside, host) = (scratch.path().join("root"), scratch.path().join("host"));
    fs::create_dir_all(host.join("etc")).unwrap();
    fs::write(host.join("etc/passwd"), SECRET).unwrap();
    fs::write(host.join("etc/linked"), "one file of the host and the root").unwrap();
    fs::create_dir(&inside).unwrap();
    let data = &data[..data.len().min(128)];
    let (preparing, acting) = data.split_at(data.len() / 2);
    for step in preparing.chunks_exact(2) {
        prepare(&inside, &host, step[0], step[1]);
    }
    let before = listing(&host);
    let opened = Root::open(&inside).unwrap();
    for step in acting.chunks_exact(2) {
        act(&opened, step[0], step[1]);
    }
    assert_eq!(before, listing(&host), "the host has changed");
    let beside = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(beside, 2, "something came into being beside the root");
}

/// Makes a directory, a file, a link or a hard link to a file of the host, by std::fs.
fn prepare(root: &Path, host: &Path, what: u8, argument: u8) {
    let path = root.join(PATHS[usize::from(what % 16)].trim_start_matches('/'));
    // A path that exists stays. std::fs follows links, so nothing is prepared behind one.
    let nearest = path.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok()).unwrap();
    if path.symlink_metadata().is_ok() || fs::canonicalize(nearest).ok().as_deref() != Some(nearest) {
        return;
    }
    let target = TARGETS[usize::from(argument % 16)].replace("HOST", &host.display().to_string());
    let parent = path.parent().unwrap();
    let _ = match what / 16 % 4 {
        0 => fs::create_dir_all(&path),
        1 => fs::create_dir_all(parent).and_then(|()| fs::write(&path, "root's own")),
        2 => fs::create_dir_all(parent).and_then(|()| symlink(target, &path)),
        _ => fs::create_dir_all(parent).and_then(|()| fs::hard_link(host.join("etc/linked"), &path)),
    };
}

/// Makes one of the calls by which nodebake reads and changes a root. Errors are allowed.
fn act(root: &Root, what: u8, argument: u8) {
    let path = ImagePath::fixed(PATHS[usize::from(what % 16)]);
    let other = ImagePath::fixed(PATHS[usize::from(argument % 16)]);
    match what / 16 {
        0 => drop(root.make_directory(&path, 0o755)),
        1 => drop(root.write_new(&path, 0o644, b"nodebake's", 0)),
        2 => drop(root.link_new(&path, "/usr/local", 0)),
        3 => drop(root.remove_file(&path)),
        4 => drop(root.remove_empty_directory(&path)),
        5 => drop(root.set_directory(&path, Octal(0o711), Owner(1, 1))),
        6 => drop(root.duplicate(&path, &other)),
        7 => drop(root.rename(&path.temporary(), &path)),
        8 => drop(root.write_new(&path.temporary(), 0o755, b"nodebake's", 0)),
        9 => drop(root.missing_directories(&path)),
        10 => drop(root.names(&path, |_| true)),
        11 => drop(root.lock_file(&path)),
        12 => look(root, &path),
        13 => drop(root.sync_directory(Some(&path))),
        14 => drop(root.rename_beside(&path, &other)),
        _ => install(root, &path),
    }
}

/// Stages and installs a file as a commit does.
fn install(root: &Root, path: &ImagePath) {
    let Ok(Some(file)) = root.anonymous(path) else { return };
    let _ = root.link_anonymous(&file, &path.temporary());
    let _ = root.rename(&path.temporary(), path);
    let _ = root.node(path);
}

/// Checks that no link of the root shows a file of the host.
fn look(root: &Root, path: &ImagePath) {
    let itself = root.text(path, 1 << 20).ok().flatten();
    let through_links = root.file(path).ok().flatten().map(|file| io::read_to_string(file).unwrap());
    for text in [itself, through_links].into_iter().flatten() {
        assert!(!text.contains(SECRET), "{path} shows what is on the host");
    }
}

/// Lists everything below `directory`: type, mode, owner, time and content.
fn listing(directory: &Path) -> String {
    let mut lines = String::new();
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let meta = path.symlink_metadata().unwrap();
        let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
        let times = (meta.mtime(), meta.mtime_nsec());
        writeln!(lines, "{} {mode:o} {uid}:{gid} {times:?}", path.display()).unwrap();
        if meta.is_dir() {
            lines.push_str(&listing(&path));
        } else if meta.is_file() {
            lines.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    lines
}
