//! Fuzz targets for package managers: keys of repositories, dpkg's database, the output of rpm and dnf.
//!
//! This module must not start a package manager.

use std::fs;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::format::openpgp;
use crate::packages::manager::options::Options;
use crate::packages::manager::transaction::Transaction;
use crate::packages::manager::{apt, dnf, dpkg as dpkg_files, rpm as rpm_database};
use crate::path::ImagePath;
use crate::printable::steers;
use crate::process::protocol::Answer;
use crate::root::Root;

const NAME: &str = "containerd.io";
const PATH: &str = "/usr/bin/containerd";

/// Fuzzes keys: one is the same with armour and without, and no key that apt would trust is missed.
pub fn key(data: &[u8]) {
    let Ok(found) = openpgp::fingerprints(data) else { return };
    assert!(!found.is_empty());
    assert!(found.iter().all(|found| found.to_string().parse() == Ok(*found)));
    if openpgp::is_armoured(data) {
        let apts = apt_decodes(data).and_then(|binary| openpgp::fingerprints(&binary).ok());
        assert!(apts.into_iter().flatten().all(|key| found.contains(&key)), "apt sees another key");
    } else {
        let (begin, end) = ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----");
        let armoured = format!("{begin}\n\n{}\n{end}\n", STANDARD.encode(data));
        assert_eq!(openpgp::fingerprints(armoured.as_bytes()), Ok(found.clone()));
        let twice = [data, data].concat();
        assert_eq!(openpgp::fingerprints(&twice), Ok([&found[..], &found].concat()));
    }
}

/// Decodes a key as apt-key of apt 2.6 does, with awk and base64.
fn apt_decodes(file: &[u8]) -> Option<Vec<u8>> {
    let (mut stage, mut base64) = (0, Vec::new());
    for line in file.split(|byte| *byte == b'\n') {
        match line {
            _ if line.starts_with(b"-----BEGIN") => stage = 1,
            _ if line.starts_with(b"-----END") => stage = 0,
            [] if stage == 1 => stage = 2,
            [b'=' | b'-', ..] => {}
            _ if stage == 2 => base64.extend_from_slice(line),
            _ => {}
        }
    }
    STANDARD.decode(base64).ok()
}

/// Fuzzes dpkg's database: status, an update to it, a package's list of files and their digests, a NUL between each.
pub fn dpkg(data: &[u8]) {
    let [status, update, list, digests] = parts(data);
    let root = root(&[
        ("var/lib/dpkg/status", status),
        ("var/lib/dpkg/updates/0000", update),
        ("var/lib/dpkg/info/containerd.io.list", list),
        ("var/lib/dpkg/info/containerd.io:amd64.md5sums", digests),
    ]);
    if let Ok(database) = dpkg_files::database(&root, &[NAME]) {
        assert!(database.records.iter().all(|(name, record)| name == NAME || record.files.is_empty()));
        let path = ImagePath::fixed(PATH);
        let owner = dpkg_files::owner(&root, &[NAME], &path).unwrap();
        let record = database.get(NAME);
        assert_eq!(owner.is_some(), record.is_some_and(|record| record.files.contains(&path)));
        let _ = record.map(|record| record.differing(&root));
    }
    let answer = answer(status, update);
    is_sound(&apt::read_transaction(&answer));
    apt::read_versions(&answer);
    is_harmless(&apt::failure("installing", &answer));
}

/// Fuzzes rpm and dnf: rpm's list of packages and its dump of one, dnf's lock list and its table, a NUL between each.
pub fn rpm(data: &[u8]) {
    let [all, dump, locked, table] = parts(data);
    let root = root(&[("etc/dnf/plugins/versionlock.list", locked), ("etc/dnf/versionlock.toml", table)]);
    let questions = rpm_database::questions(&Options::offline(std::time::Duration::ZERO), &[NAME]);
    assert_eq!(questions.len(), 2);
    if let Ok(database) = rpm_database::database(&root, &[NAME], &[answer(all, b""), answer(dump, b"")]) {
        assert!(database.records.iter().all(|(name, record)| name == NAME || record.files.is_empty()));
        let _ = database.get(NAME).map(|record| record.differing(&root));
    }
    let answer = answer(table, dump);
    is_sound(&dnf::read_transaction(&answer));
    dnf::read_versions(&answer, NAME);
    is_harmless(&dnf::failure("installing", &answer));
}

fn parts(data: &[u8]) -> [&[u8]; 4] {
    let mut parts = data.splitn(4, |byte| *byte == 0);
    [(); 4].map(|()| parts.next().unwrap_or_default())
}

/// Opens a root with these files.
fn root(files: &[(&str, &[u8])]) -> Root {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
        let memory = std::path::Path::new("/dev/shm");
        tempfile::tempdir_in(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }).unwrap()
    });
    for (path, bytes) in files {
        let path = FOLDER.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    Root::open(FOLDER.path()).unwrap()
}

fn answer(output: &[u8], stderr: &[u8]) -> Answer {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer { code: Some(0), stdout: text(output), stderr: text(stderr) }
}

fn is_sound(transaction: &Transaction) {
    let names = transaction.installed.iter().map(|package| &package.name).chain(&transaction.removed);
    names.for_each(|name| assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{name:?}"));
}

fn is_harmless(failure: &crate::error::Failure) {
    assert!(!failure.to_string().chars().any(steers), "{failure}");
}
