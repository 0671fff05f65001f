//! Checks that containerd's service starts at boot.
//!
//! This module must not ask systemd: `live.rs` does.

use std::collections::BTreeMap;

use crate::error::{Failure, Kind};
use crate::format::systemd::glob;
use crate::path::ImagePath;
use crate::root::Root;
use crate::runtime::{Daemon, Runtime};
use crate::state::Receipt;
use crate::verify::finding::{APPLY, CheckResult, Finding};
use crate::verify::precedence::hiding;

/// Directories of systemd's presets. A file hides files of the same name in later directories, systemd.preset(5).
const PRESETS: [&str; 4] = [
    "/etc/systemd/system-preset",
    "/run/systemd/system-preset",
    "/usr/local/lib/systemd/system-preset",
    "/usr/lib/systemd/system-preset",
];

/// Limit of presets; a distribution has a dozen.
const MOST_PRESETS: usize = 10_000;

/// Limit of the bytes of all presets.
const LONGEST_PRESETS: u64 = 4 << 20;

/// Checks that the link leads to a unit, the unit to a binary, and that no other unit or mask hides ours.
pub(crate) fn enabled(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let Some(Daemon { runtime, binary, .. }) = Daemon::of(&receipt.paths) else {
        return Ok(CheckResult::no_runtime());
    };
    let facts = runtime.facts();
    let mut findings = Vec::new();
    let wants = ImagePath::fixed(facts.wants);
    for (path, what) in [(wants, "leads to no unit"), (binary, "is missing or no regular file")] {
        if root.file(&path)?.is_none() {
            findings.push(Finding::new("enabled", Some(&path), what, APPLY));
        }
    }
    findings.extend(hiding(root, receipt)?);
    Ok(CheckResult::of(findings, "the link leads to the unit, the unit to the binary"))
}

/// Checks that no preset before ours turns the service off.
pub(crate) fn preset(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let enabled_by_us = |runtime: &Runtime| receipt.paths.contains_key(runtime.facts().preset);
    let Some(runtime) = Runtime::ALL.into_iter().find(enabled_by_us) else {
        return Ok(CheckResult::no_runtime());
    };
    let service = runtime.facts().service;
    let mut left = LONGEST_PRESETS;
    for path in preset_files(root)?.values() {
        let text = match root.text(path, left) {
            Ok(text) => text.unwrap_or_default(),
            Err(failure) if failure.kind == Kind::Invalid => {
                let problem = format!("is no text, or the presets have more than {LONGEST_PRESETS} bytes");
                let help = "see whether systemd reads it, or remove it";
                return Ok(CheckResult::Found(vec![Finding::new("preset", Some(path), problem, help)]));
            }
            Err(failure) => return Err(failure),
        };
        left -= text.len() as u64;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let verb = words.next().unwrap_or_default();
            let matches = words.next().is_some_and(|pattern| glob(pattern, service));
            match verb {
                "enable" if matches => return Ok(CheckResult::Passed(format!("decided by {path}"))),
                "disable" | "ignore" if matches => {
                    let problem = format!("`{}` stands before ours and decides", line.trim());
                    return Ok(CheckResult::Found(vec![Finding::new(
                        "preset",
                        Some(path),
                        problem,
                        &format!("remove the line, or enable {service} before it"),
                    )]));
                }
                _ => {}
            }
        }
    }
    Ok(CheckResult::Passed("none names the service".to_owned()))
}

/// Returns the presets that systemd reads, by name and so in its order.
fn preset_files(root: &Root) -> Result<BTreeMap<String, ImagePath>, Failure> {
    let mut files = BTreeMap::new();
    for directory in PRESETS.map(ImagePath::fixed) {
        for name in root.names(&directory, |name| name.ends_with(".preset"))? {
            if let Ok(path) = directory.join(&name) {
                files.entry(name).or_insert(path);
            }
        }
        if files.len() > MOST_PRESETS {
            let message = format!("`{}` has more than {MOST_PRESETS} presets", root.shown(&directory));
            return Err(Failure::new(Kind::Unsafe, message).help("remove what does not belong there"));
        }
    }
    Ok(files)
}
