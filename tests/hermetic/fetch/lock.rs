//! `lock`: what is pinned, by which of upstream's checksum files.

use std::collections::BTreeMap;
use std::fs;

use serde_yaml::Value;

use super::{
    ONE_RETRY, RELEASES, answer, apply, assert_refused, cache, lock, lock_path, lock_text, mirror, releases,
    served,
};
use crate::kit;
use crate::kit::http::{Reply, Server};
use crate::kit::{CNI, CONTAINERD, Lab, Machine, RUNC, elf, sha256};

#[test]
fn lock_reads_every_checksum_grammar() {
    let lab = unpinned();
    let server = upstream(|_| {});
    lock(&lab, &server.url(), &["amd64", "arm64"]).exits(0);
    let entries = lock_entries(&lab);
    assert_eq!(entries.len(), 2 * RELEASES.len(), "{}", lock_text(&lab));
    for (release, arch) in releases() {
        let entry = entry_of(&entries, release.component, arch);
        let bytes = release.bytes(arch);
        assert_eq!(entry["version"], Value::from(release.version));
        assert_eq!(entry["sha256"], Value::from(sha256(&bytes)), "{}", release.component);
        assert_eq!(entry["size"], Value::from(bytes.len()), "{}", release.component);
        let url = entry["url"].as_str().unwrap();
        assert!(url.ends_with(&release.path(arch)), "{url}");
        let how = serde_yaml::to_string(entry).unwrap();
        assert!(how.contains(&release.checksums(arch)), "not said from where:\n{how}");
    }
}

#[test]
fn lock_says_where_the_digest_came_from() {
    let lab = Lab::new();
    let server = mirror(&lab);
    lock(&lab, &server.url(), &["amd64"]).exits(0);
    let entries = lock_entries(&lab);
    for component in [CONTAINERD, RUNC, CNI] {
        let bytes = fs::read(lab.artifacts.join(component.file)).unwrap();
        let entry = entry_of(&entries, component.name, "amd64");
        assert_eq!(entry["sha256"], Value::from(sha256(&bytes)));
        let how: Vec<_> = entry.as_mapping().unwrap().values().filter(|value| *value == "spec").collect();
        assert_eq!(how.len(), 1, "not said that the spec had it: {entry:?}");
    }
}

#[test]
fn lock_is_the_same_twice() {
    let lab = unpinned();
    let server = upstream(|_| {});
    lock(&lab, &server.url(), &["amd64", "arm64"]).exits(0);
    let first = lock_text(&lab);
    lock(&lab, &server.url(), &["arm64", "amd64"]).exits(0);
    assert_eq!(first, lock_text(&lab));
}

#[test]
fn lock_pins_a_spec_without_digests() {
    let lab = unpinned();
    let before = lab.tree();
    let server = upstream(|_| {});
    let run = apply(&lab, &server.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 5, &["2.1.99"]);

    lock(&lab, &server.url(), &["amd64", "arm64"]).exits(0);
    apply(&lab, &server.url(), &ONE_RETRY).exits(0);
    for (inside, release, member) in [("usr/local/sbin/runc", 1, ""), ("usr/local/bin/crictl", 3, "crictl")] {
        let expected = RELEASES[release].elf("amd64", member);
        assert_eq!(lab.read(inside), expected, "{inside}");
    }
    lab.has_no_leftovers();
}

#[test]
fn lock_is_believed_more_than_the_mirror() {
    let lab = unpinned();
    let before = lab.tree();
    lock(&lab, &upstream(|_| {}).url(), &["amd64"]).exits(0);
    fs::remove_dir_all(cache(&lab)).unwrap();
    // A mirror that replaces a file and its checksum file alike.
    let forged = upstream(|files| {
        let runc = elf(Machine::X86_64, b"forged");
        files.insert(RELEASES[1].path("amd64"), runc.clone());
        files.insert(RELEASES[1].checksums("amd64"), format!("{}  runc.amd64\n", sha256(&runc)).into_bytes());
    });
    let run = apply(&lab, &forged.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 5, &["runc"]);
}

#[test]
fn lock_without_a_matching_digest_is_not_written() {
    let wrong = "0".repeat(64);
    let lies = [
        ("containerd", format!("{wrong}  containerd-2.1.99-linux-amd64.tar.gz\n")),
        ("containerd", format!("{wrong}  containerd-2.1.98-linux-amd64.tar.gz\n")),
        ("containerd", String::new()),
        ("containerd", format!("{}  containerd-2.1.99-linux-amd64.tar.gz\n", "0".repeat(63))),
        ("containerd", "<!DOCTYPE html><html><body>Sign in</body></html>\n".to_owned()),
        (
            "runc",
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{wrong}  runc.arm64\n-----BEGIN PGP SIGNATURE-----\n\niQ\n-----END PGP SIGNATURE-----\n"
            ),
        ),
        ("crictl", format!("{wrong}\n")),
        ("crictl", "no digest here\n".to_owned()),
        ("nerdctl", format!("{wrong}  nerdctl-full-2.99.0-linux-amd64.tar.gz\n")),
    ];
    for (component, checksums) in lies {
        let lab = unpinned();
        let release = RELEASES.iter().find(|release| release.component == component).unwrap();
        let text = checksums.clone();
        let server = upstream(move |files| {
            files.insert(release.checksums("amd64"), text.into_bytes());
        });
        let run = lock(&lab, &server.url(), &["amd64"]);
        run.exits(5).says(component);
        assert!(!lock_path(&lab).exists(), "locked in spite of {checksums:?}");
    }
}

#[test]
fn lock_without_a_checksum_file_names_it() {
    let lab = unpinned();
    let server = upstream(|files| drop(files.remove(&RELEASES[0].checksums("amd64"))));
    let run = lock(&lab, &server.url(), &["amd64"]);
    run.exits(5).says("containerd-2.1.99-linux-amd64.tar.gz.sha256sum").says("sha256");
    assert!(!lock_path(&lab).exists());
}

#[test]
fn lock_that_fails_keeps_the_old_one() {
    let lab = unpinned();
    lock(&lab, &upstream(|_| {}).url(), &["amd64"]).exits(0);
    let before = lock_text(&lab);
    let files = kit::paths(&lab.dir).len();
    let down = Server::http(|_, _| Reply::error(503));
    lock(&lab, &down.url(), &["amd64"]).exits(4).says("503");
    assert_eq!(lock_text(&lab), before);
    assert_eq!(kit::paths(&lab.dir).len(), files, "a temporary file is left");
}

#[test]
fn lock_checks_what_the_catalogue_knows() {
    let mut lab = Lab::new();
    lab.spec_also("");
    fs::write(
        &lab.spec,
        "components:\n  containerd: {version: 2.1.9}\n  runc: false\n  cni-plugins: false\n",
    )
    .unwrap();
    // The laboratory's containerd is not upstream's, and a checksum file that says it is changes nothing.
    let mut files = served(&lab);
    let sums =
        format!("{}  {}\n", sha256(&fs::read(lab.artifacts.join(CONTAINERD.file)).unwrap()), CONTAINERD.file);
    let path = files.keys().find(|path| path.ends_with(CONTAINERD.file)).unwrap().clone();
    files.insert(format!("{path}.sha256sum"), sums.into_bytes());
    let server = Server::http(move |request, _| answer(&files, request));
    lock(&lab, &server.url(), &["amd64"]).exits(5).says("containerd");
    assert!(!lock_path(&lab).exists());
}

#[test]
fn v7_lock_of_an_unknown_version_or_form_is_refused() {
    let lab = unpinned();
    lock(&lab, &upstream(|_| {}).url(), &["amd64"]).exits(0);
    let good = lock_text(&lab);
    let digest = sha256(&RELEASES[1].bytes("amd64"));
    assert!(good.contains("\nversion: 1\n") || good.starts_with("version: 1\n"), "{good}");
    let before = lab.tree();
    let bad = [
        good.replace("version: 1\n", "version: 99\n"),
        good.replace(&digest, &digest[1..]),
        good.replace(&digest, &digest.replace(|c: char| c.is_ascii_hexdigit(), "g")),
        good.replace("size:", "sise:"),
        good.replace("sha256:", "sha257:"),
        format!("{good}{good}"),
        good[..good.len() / 2].to_owned() + "\n\"",
        "{".to_owned(),
        "- a list\n".to_owned(),
        String::new(),
    ];
    for text in bad {
        assert_ne!(text, good);
        fs::write(lock_path(&lab), &text).unwrap();
        let run = lab.apply();
        assert_refused(&lab, &before, &run, 3, &["nodebake.lock"]);
    }
}

#[test]
fn lock_needs_no_root_and_touches_none() {
    let lab = unpinned();
    let before = lab.tree();
    lock(&lab, &upstream(|_| {}).url(), &["amd64"]).exits(0);
    kit::assert_same("the root", &before, &lab.tree());
}

/// Upstream with every release for two architectures, after `change`.
fn upstream(change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Server {
    let mut files = BTreeMap::new();
    for (release, arch) in releases() {
        files.insert(release.path(arch), release.bytes(arch));
        files.insert(release.checksums(arch), release.sums(arch).into_bytes());
    }
    change(&mut files);
    Server::http(move |request, _| answer(&files, request))
}

/// A laboratory whose spec names versions and no digest.
fn unpinned() -> Lab {
    let lab = Lab::new();
    let mut spec = String::from("components:\n");
    for release in &RELEASES {
        spec += &format!("  {}: {{version: {}}}\n", release.component, release.version);
    }
    fs::write(&lab.spec, spec).unwrap();
    lab
}

/// Every mapping in the lock that has a digest, wherever it stands.
fn lock_entries(lab: &Lab) -> Vec<Value> {
    fn collect(value: &Value, into: &mut Vec<Value>) {
        match value {
            Value::Mapping(map) if map.contains_key("sha256") => into.push(value.clone()),
            Value::Mapping(map) => map.values().for_each(|value| collect(value, into)),
            Value::Sequence(list) => list.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut entries = Vec::new();
    collect(&serde_yaml::from_str(&lock_text(lab)).unwrap(), &mut entries);
    entries
}

#[track_caller]
fn entry_of<'a>(entries: &'a [Value], component: &str, arch: &str) -> &'a Value {
    let of = |entry: &&Value| entry["component"] == component && entry["arch"] == arch;
    let found: Vec<_> = entries.iter().filter(of).collect();
    assert_eq!(found.len(), 1, "{component} for {arch} in {entries:?}");
    found[0]
}
