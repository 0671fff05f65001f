//! Checks that containerd's service starts at boot.
//!
//! This module must not ask systemd: `live.rs` does.

use std::collections::BTreeMap;

use crate::error::Failure;
use crate::format::systemd::glob;
use crate::node::Node;
use crate::path::ImagePath;
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::{Daemon, Runtime};
use crate::state::Receipt;
use crate::verify::finding::{APPLY, CheckResult, Finding};

/// Directories of systemd's presets. A file hides files of the same name in later directories, systemd.preset(5).
const PRESETS: [&str; 4] = [
    "/etc/systemd/system-preset",
    "/run/systemd/system-preset",
    "/usr/local/lib/systemd/system-preset",
    "/usr/lib/systemd/system-preset",
];

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
    let hiding = ImagePath::fixed(facts.override_unit);
    if let Some(node) = root.node(&hiding)? {
        let problem = match node {
            Node::Link { target } if target == "/dev/null" => {
                format!("{} is masked: it will not start", facts.service)
            }
            _ => "hides the unit that was installed".to_owned(),
        };
        findings.push(Finding::new(
            "enabled",
            Some(&hiding),
            problem,
            &format!("remove it, for example with systemctl --root=DIR unmask {}", facts.service),
        ));
    }
    Ok(CheckResult::of(findings, "the link leads to the unit, the unit to the binary"))
}

/// Checks that no preset before ours turns the service off.
pub(crate) fn preset(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let enabled_by_us = |runtime: &Runtime| receipt.paths.contains_key(runtime.facts().preset);
    let Some(runtime) = Runtime::ALL.into_iter().find(enabled_by_us) else {
        return Ok(CheckResult::no_runtime());
    };
    let service = runtime.facts().service;
    for path in preset_files(root)?.values() {
        let Some(text) = root.text(path, LONGEST_TEXT).unwrap_or(None) else { continue };
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
        let names = root.names(&directory)?.unwrap_or_default();
        for name in names.into_iter().filter(|name| name.ends_with(".preset")) {
            if let Ok(path) = directory.join(&name) {
                files.entry(name).or_insert(path);
            }
        }
    }
    Ok(files)
}
