//! Row T19 without a fuzzer: the committed inputs of `fuzz/corpus`, and archives with random names of members.
//!
//! This module must not pass if a target has no inputs.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::{
    archive as archive_target, bundle, checksums, config, dpkg, elf, file, hosts, intent, key, lock, receipt,
    root, rpm, sealed, spec,
};
use crate::archive;
use crate::path::ImagePath;
use crate::source::section::Section;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 14] = [
    ("archive", archive_target),
    ("bundle", bundle),
    ("spec", spec),
    ("lock", lock),
    ("checksums", checksums),
    ("receipt", receipt),
    ("intent", intent),
    ("hosts", hosts),
    ("config", config),
    ("elf", elf),
    ("root", root),
    ("key", key),
    ("dpkg", dpkg),
    ("rpm", rpm),
];

#[test]
fn t19_every_committed_input_is_survived() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len(), "a target is not played here");
    for (name, target) in TARGETS {
        let inputs = fs::read_dir(fuzz.join("corpus").join(name)).unwrap();
        let mut played = 0;
        for input in inputs {
            target(&fs::read(input.unwrap().path()).unwrap());
            played += 1;
        }
        assert!(played >= 4, "{name} has {played} inputs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Checks that a member's path is below its destination, whatever the archive calls the member.
    #[test]
    fn t19_no_name_of_a_member_leads_out(name in "(/|\\./|\\.\\./|\\.|[a-c]|\\PC|\\x00|\\n|//){0,8}", long in 0..3usize) {
        let mut tar = Vec::new();
        match long {
            0 => {}
            1 => tar.extend(entry(b'L', b"././@LongLink", name.as_bytes())),
            _ => tar.extend(entry(b'x', b"pax", &pax("path", &name))),
        }
        let short = if long == 0 && name.len() <= 100 { name.as_bytes() } else { b"short" };
        tar.extend(entry(b'0', short, b""));
        tar.extend([0; 1024]);
        let bytes = sealed(&tar);
        let destination = ImagePath::fixed("/opt/cni/bin");
        let mut names = Vec::new();
        let read = archive::read(&Section::whole(file(&bytes), bytes.len() as u64), "made up", true, |member| {
            names.push(member.name.to_owned());
            Ok(())
        });
        for name in &names {
            let path = destination.join(name).unwrap();
            prop_assert!(path.is_below(&destination) && !name.starts_with('/'));
        }
        let plain = !name.is_empty() && name.chars().all(|c| matches!(c, 'a'..='c')) && long == 0;
        prop_assert!(!plain || (read.is_ok() && names == [name.clone()]), "{name:?}: {read:?} {names:?}");
    }
}

/// Makes one ustar entry without its checksum, which [`sealed`] adds.
fn entry(kind: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header.extend_from_slice(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

/// Makes a PAX record, which begins with its own length.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..6).map(|digits| digits + rest).find(|length| length.to_string().len() + rest == *length);
    let length = length.unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}
