//! Row T19 without a fuzzer: the committed inputs of `fuzz/`, and names of members that are made up.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests set up their own host"
)]

mod kit;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::io::Write;
use std::path::Path;

use kit::tally::tally;
use kit::{Header, Tar};
use nodebake::archive;
use nodebake::path::ImagePath;
use nodebake::source::section::Extent;
use proptest::prelude::*;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 13] = [
    ("archive", targets::archive),
    ("bundle", targets::bundle),
    ("spec", targets::spec),
    ("lock", targets::lock),
    ("checksums", targets::checksums),
    ("receipt", targets::receipt),
    ("hosts", targets::hosts),
    ("config", targets::config),
    ("elf", targets::elf),
    ("root", targets::root),
    ("key", targets::key),
    ("dpkg", targets::dpkg),
    ("rpm", targets::rpm),
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
        tally("corpus", played);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is handed out is a place below its destination, whatever the archive calls it.
    #[test]
    fn t19_no_name_of_a_member_leads_out(name in "(/|\\./|\\.\\./|\\.|[a-c]|\\PC|\\x00|\\n|//){0,8}", long in 0..3usize) {
        let mut tar = Tar::new();
        match long {
            0 => {}
            1 => tar = tar.long_name(name.as_bytes()),
            _ => tar = tar.pax(&[("path", name.as_bytes())]),
        }
        let short = if long == 0 && name.len() <= 100 { name.as_bytes() } else { b"short" };
        let bytes = tar.entry(Header::new(b'0', short), b"").end();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let destination = ImagePath::fixed("/opt/cni/bin");
        let mut names = Vec::new();
        let read = archive::read(&Extent::whole(file, bytes.len() as u64), "made up", true, |member| {
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
