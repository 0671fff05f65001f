//! The state of a root as an attacker has written it: recovery and removal touch only what a plan can name.
//!
//! This module must not prepare anything outside its own temporary directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bake::remove;
use crate::path::ImagePath;
use crate::progress::Progress;
use crate::state::{Intent, Receipt};

/// Content of every file that a receipt or an intent names; inputs have its digest.
const OWNED: &str = "owned";

/// Files that no plan can name, with the content of a named one: an attacker knows what is in a root.
const SENTINELS: [&str; 16] = [
    "/boot/vmlinuz",
    "/dev/.nodebake-null.tmp",
    "/dev/null",
    "/etc/.nodebake-passwd.tmp",
    "/etc/apt/sources.list",
    "/etc/cron.d/job",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/shadow",
    "/etc/systemd/system/other.service",
    "/root/.ssh/authorized_keys",
    "/run/lock/file",
    "/usr/bin/.nodebake-sh.tmp",
    "/usr/bin/sh",
    "/usr/lib/systemd/systemd",
    "/usr/local/lib/file",
];

/// Empty directories that no plan can name.
const EMPTY: [&str; 4] = ["/dev/shm", "/run/empty", "/usr/bin/empty", "/tmp/empty"];

/// Links to the root itself in one of the prepared roots: what is kept at a path is that path then.
const LINKS: [&str; 2] = ["/var/lib/nodebake/original", "/var/lib/nodebake/edited"];

/// Recovers a root with this state and removes what it owns, once in a plain root and once in one with links.
pub(super) fn play(receipt: Option<&str>, intent: Option<&str>) {
    for linked in [false, true] {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let scratch = tempfile::tempdir_in(fs::canonicalize(place).unwrap()).unwrap();
        let root = scratch.path().join("root");
        prepare(&root, linked);
        for (name, text) in [("receipt.json", receipt), ("pending.json", intent)] {
            if let Some(text) = text {
                write(&root, &format!("/var/lib/nodebake/{name}"), text);
            }
        }
        let named = named(receipt, intent);
        for path in &named {
            place_named(&root, path);
        }
        let before = listing(&root);
        // Refusals are as good as successes.
        let _ = remove::remove(&root, false, Duration::ZERO, &Progress::new(true, false));
        let after = listing(&root);
        for sentinel in SENTINELS.iter().chain(&EMPTY) {
            assert_eq!(
                before.get(*sentinel),
                after.get(*sentinel),
                "{sentinel} has changed, linked: {linked}"
            );
        }
        let changed = before.iter().filter(|(path, node)| after.get(*path) != Some(node));
        for (path, _) in changed.filter(|(path, _)| !path.starts_with("/var/lib/nodebake")) {
            let is_named = named.iter().any(|named| named == path || is_above(path, named));
            assert!(is_named, "{path} has changed, and the state does not name it");
        }
        assert_eq!(
            fs::read_dir(scratch.path()).unwrap().count(),
            1,
            "something came into being beside the root"
        );
    }
}

/// Returns every path that the documents name, with its temporary name and where its original is kept.
fn named(receipt: Option<&str>, intent: Option<&str>) -> Vec<String> {
    let receipt = receipt.and_then(|text| Receipt::parse(text, "receipt.json").ok());
    let intent = intent.and_then(|text| Intent::parse(text, "pending.json").ok());
    let mut named: Vec<String> = Vec::new();
    let owned = receipt.iter().flat_map(|receipt| receipt.paths.keys());
    for path in owned.chain(intent.iter().flat_map(|intent| intent.paths.keys())) {
        named.extend([path, &path.temporary()].map(ImagePath::to_string));
        named.push(format!("/var/lib/nodebake/original{path}"));
    }
    named.extend(receipt.iter().flat_map(|receipt| &receipt.directories).map(ImagePath::to_string));
    named.extend(intent.iter().flat_map(|intent| &intent.directories).map(ImagePath::to_string));
    named
}

fn is_above(path: &str, below: &str) -> bool {
    below.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

fn prepare(root: &Path, linked: bool) {
    for sentinel in SENTINELS {
        write(root, sentinel, OWNED);
    }
    for directory in EMPTY.into_iter().chain(["/var/lib/nodebake"]) {
        fs::create_dir_all(within(root, directory)).unwrap();
    }
    for path in LINKS.iter().filter(|_| linked) {
        symlink("../../..", within(root, path)).unwrap();
    }
    write(root, "/var/lib/nodebake/.lock", "");
}

/// Puts a file of a known content at a path that the state names, unless std::fs would follow a link to it.
fn place_named(root: &Path, path: &str) {
    let host = within(root, path);
    let nearest = host.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok()).unwrap();
    if host.symlink_metadata().is_ok() || fs::canonicalize(nearest).ok().as_deref() != Some(nearest) {
        return;
    }
    if fs::create_dir_all(host.parent().unwrap()).is_ok() && fs::write(&host, OWNED).is_ok() {
        let mode = if path.contains("/bin/") || path.contains("/sbin/") { 0o755 } else { 0o644 };
        fs::set_permissions(&host, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let host = within(root, path);
    fs::create_dir_all(host.parent().unwrap()).unwrap();
    fs::write(&host, text).unwrap();
    fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).unwrap();
}

fn within(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Returns mode, owner and content of everything below `root`, no link followed.
fn listing(root: &Path) -> BTreeMap<String, (u32, u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let shown = format!("/{}", path.strip_prefix(root).unwrap().display());
            all.insert(shown, (meta.mode(), meta.uid(), content));
            if meta.is_dir() {
                left.push(path);
            }
        }
    }
    all
}

/// The other inputs are refused, and would show nothing if these were.
#[test]
fn t19_committed_states_of_nodebakes_own_are_believed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let read = |name: &str| fs::read_to_string(corpus.join(name)).unwrap();
    for name in ["receipt/receipt", "receipt/linked", "receipt/packages", "receipt/empty"] {
        Receipt::parse(&read(name), name).unwrap();
    }
    for name in ["fresh", "upgrade", "remove", "placeholder", "linked", "created"] {
        let text = read(&format!("intent/{name}"));
        Intent::parse(text.split('\0').next().unwrap(), name).unwrap();
    }
    for name in ["receipt/escape", "receipt/password", "receipt/sentinels"] {
        Receipt::parse(&read(name), name).unwrap_err();
    }
    Intent::parse(&read("intent/device"), "device").unwrap_err();
}
