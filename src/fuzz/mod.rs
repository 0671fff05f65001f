//! Fuzz targets: one for every reader of bytes from outside, and one for the resolver of paths inside a root.
//!
//! A target takes any bytes and panics if a promise is broken. This module must not be part of the program: it is
//! compiled for fuzzers, which the crate in `fuzz/` runs, and for tests, which run the committed inputs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs,
    reason = "fuzz targets set up their own host"
)]

#[cfg(test)]
mod corpus;
mod hostile_root;
mod hostile_state;
mod package_managers;
#[cfg(test)]
mod texts;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use toml_edit::{DocumentMut, Item};

use crate::arch::Arch;
use crate::archive;
use crate::artifact::lockfile;
use crate::format::image_name::split_registry;
use crate::format::{checksums, elf};
use crate::node::{Content, Want};
use crate::path::ImagePath;
use crate::plan::kernel;
use crate::runtime::containerd::{Release, lookup};
use crate::runtime::{Runtime, RuntimeInputs, Settings};
use crate::source::bundle::Bundle;
use crate::source::section::Section;
use crate::spec::{CertificateFile, Spec};
use crate::state::{Intent, Receipt};

pub use package_managers::{dpkg, key, rpm};

/// Fuzzes path resolution in a root that an attacker has prepared.
pub fn root(data: &[u8]) {
    hostile_root::play(data);
}

/// Fuzzes archives: as they are, with right header checksums, and compressed with right header checksums.
pub fn archive(data: &[u8]) {
    let Some((form, tar)) = data.split_first() else { return };
    let bytes = match form % 3 {
        0 => tar.to_vec(),
        1 => sealed(tar),
        _ => compressed(&sealed(tar)),
    };
    let (mut names, mut short) = (Vec::new(), false);
    let section = Section::whole(file(&bytes), bytes.len() as u64);
    let read = archive::read(&section, "fuzz", true, |member| {
        names.push(member.name.to_owned());
        short |= std::io::copy(member.content, &mut std::io::sink())? != member.size;
        Ok(())
    });
    for name in &names {
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        assert!(plain && !name.chars().any(char::is_control), "{name:?} was handed out");
        assert!(names.iter().filter(|other| *other == name).count() == 1, "{name:?} twice");
    }
    if let Ok(digest) = read {
        assert_eq!(digest, Some(crate::digest::Digest::of(&bytes)), "not all of the file was read");
        assert!(!short, "an intact archive with a member of another size than it says");
    }
}

/// Fuzzes bundles: as they are, and with right header checksums.
pub fn bundle(data: &[u8]) {
    let Some((form, tar)) = data.split_first() else { return };
    let bytes = if form % 2 == 0 { tar.to_vec() } else { sealed(tar) };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let Ok(bundle) = Bundle::open(file.path()) else { return };
    for name in bundle.names() {
        assert!(!name.is_empty() && !name.contains('/') && !name.chars().any(char::is_control), "{name:?}");
    }
    for (digest, _) in bundle.verify().into_iter().flatten() {
        let part = bundle.section(&digest).unwrap().unwrap();
        assert!(part.size() <= bytes.len() as u64 && part.digest().unwrap() == digest);
    }
}

/// Fuzzes the spec: one that is accepted gives files that their readers accept.
pub fn spec(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(spec) = Spec::parse(text, "nodebake.yaml", Path::new(".")) else { return };
    let certificates: BTreeMap<PathBuf, CertificateFile> =
        spec.certificate_paths().into_iter().map(|path| (path, CertificateFile::default())).collect();
    let runtime = Runtime::Containerd;
    let mut entries = kernel::entries(&spec.kernel);
    entries.extend(runtime.registry_files(&spec, None, &certificates).unwrap_or_default());
    // A fragment that a release refuses must not hide the other files.
    let mut without_merge = spec.clone();
    without_merge.containerd.config.merge = Default::default();
    for version in ["1.7.24", "2.1.9"] {
        let inputs = RuntimeInputs {
            version,
            arch: Arch::Amd64,
            printed_default: None,
            cni_bin: None,
            packaged_unit: None,
        };
        entries.extend(runtime.files(&spec, inputs).unwrap_or_default());
        entries.extend(runtime.files(&without_merge, inputs).unwrap());
    }
    entries.iter().for_each(|(path, want)| is_readable(path, want));
}

/// Checks that a TOML file is TOML, and that every other file has one setting a line.
fn is_readable(path: &ImagePath, want: &Want) {
    let Want::File { content: Content::Text(bytes), .. } = want else { return };
    let text = std::str::from_utf8(bytes).unwrap();
    if path.name().ends_with(".toml") {
        text.parse::<DocumentMut>().unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
    } else if path.as_str().starts_with("/etc/sysctl.d") || path.as_str().ends_with("/10-nodebake.conf") {
        let whole = |line: &str| line.starts_with(['#', '[']) || line.split_once('=').is_some();
        assert!(text.lines().all(whole), "{path}:\n{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{path}:\n{text}");
    }
}

/// Fuzzes the lock: after writing and reading it is the same.
pub fn lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(read) = lockfile::Lockfile::parse(text, "nodebake.lock") {
        assert_eq!(lockfile::Lockfile::parse(&read.text().unwrap(), "nodebake.lock").unwrap(), read);
    }
}

/// Fuzzes checksum documents: the file's name, a line break, and the document.
pub fn checksums(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (name, document) = text.split_once('\n').unwrap_or(("runc.amd64", &text));
    for alone in [false, true] {
        if let Some(digest) = checksums::checksum(document, name, alone) {
            let hex = digest.to_string();
            assert!(document.to_ascii_lowercase().contains(&hex), "{hex} is not in\n{document}");
        }
    }
}

/// Fuzzes receipts: one that is accepted reads back as it was written, and its removal touches only what it may name.
pub fn receipt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(read) = Receipt::parse(text, "receipt.json") else { return };
    let written = read.text().unwrap();
    assert_eq!(Receipt::parse(&written, "receipt.json").unwrap(), read);
    hostile_state::play(Some(text), None);
}

/// Fuzzes intents, each with a receipt after a NUL: one that is accepted reads back as it was written, and the recovery
/// from it touches only what a plan can name.
pub fn intent(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (intent, receipt) = text.split_once('\0').map_or((text, None), |(one, other)| (one, Some(other)));
    let Ok(read) = Intent::parse(intent, "pending.json") else { return };
    let written = read.text().unwrap();
    assert_eq!(Intent::parse(&written, "pending.json").unwrap(), read);
    hostile_state::play(receipt, Some(intent));
}

/// Fuzzes hosts.toml: an image reference, a line break, and the file.
pub fn hosts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (image, hosts) = text.split_once('\n').unwrap_or((&text, ""));
    let registry = split_registry(image).0;
    assert!(!lookup::directories(registry).is_empty());
    let asked = lookup::candidates(registry, Some(hosts));
    assert!(!asked.is_empty(), "nobody is asked");
    assert_eq!(lookup::candidates(registry, None).len(), 1);
}

/// Fuzzes config.toml: a base configuration, a NUL, and a fragment that is merged into it.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (base, fragment) = text.split_once('\0').unwrap_or((text, ""));
    if let Ok(document) = base.parse::<DocumentMut>() {
        let settings = Settings::of_file(document.as_item());
        let equal = settings.beside(&settings);
        assert!(equal.iter().all(|(_, ours, theirs)| ours == theirs));
    }
    if let Ok(status) = serde_json::from_str(base) {
        Settings::of_status(&status);
    }
    let Ok(merge) = fragment.to_owned().try_into() else { return };
    for (version, base_is) in [("1.7.24", crate::spec::Base::Default), ("2.1.9", crate::spec::Base::Minimal)]
    {
        let mut spec = Spec::parse("{}", "nodebake.yaml", Path::new(".")).unwrap();
        spec.containerd.config =
            crate::spec::Config { base: base_is, merge: Clone::clone(&merge), ..Default::default() };
        let inputs = RuntimeInputs {
            version,
            arch: Arch::Amd64,
            printed_default: Some(base),
            cni_bin: None,
            packaged_unit: None,
        };
        let Ok(files) = Runtime::Containerd.files(&spec, inputs) else { continue };
        let path = Runtime::Containerd.facts().config;
        let (_, config) = files.iter().find(|(found, _)| found.as_str() == path).unwrap();
        let Want::File { content: Content::Text(text), .. } = config else { panic!("{config:?}") };
        let text = std::str::from_utf8(text).unwrap();
        let document: DocumentMut = text.parse().unwrap();
        assert_eq!(
            document.get("version").and_then(Item::as_integer),
            Some(Release::parse(version).unwrap().config_version())
        );
    }
}

/// ELF files, whole and from the disk.
pub fn elf(data: &[u8]) {
    let file = file(data);
    let _ = elf::read(&file);
    if let Ok(Some(marked)) = elf::marked_version(&file) {
        assert!(marked.may_be(&marked.0));
    }
    let mut whole = Vec::new();
    std::io::Seek::rewind(&mut &file).unwrap();
    (&file).read_to_end(&mut whole).unwrap();
    assert_eq!(whole, data, "reading has changed it");
}

/// Puts right header checksums into an archive, so that a fuzzer gets beyond them.
fn sealed(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    let mut offset = 0;
    while let Some(header) = tar.get_mut(offset..offset + 512) {
        if header.iter().all(|byte| *byte == 0) {
            offset += 512;
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok().and_then(|t| u64::from_str_radix(t, 8).ok());
        let size = size.unwrap_or(0).min(1 << 20) as usize;
        offset += 512 + size.next_multiple_of(512);
    }
    tar
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}
