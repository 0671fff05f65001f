//! The service starts at boot, and nothing hides it or turns it off.

use crate::error::Failure;
use crate::format::systemd::glob;
use crate::node::Node;
use crate::path::ImagePath;
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::containerd::{self, unit};
use crate::state::Receipt;
use crate::verify::finding::{APPLY, CheckResult, Finding};

/// Where systemd looks for presets, in the order in which a name hides the same name later.
const PRESETS: [&str; 4] = [
    "/etc/systemd/system-preset",
    "/run/systemd/system-preset",
    "/usr/local/lib/systemd/system-preset",
    "/usr/lib/systemd/system-preset",
];

/// The service starts at boot: the link leads to a unit, the unit to a binary, and nothing hides it.
pub(crate) fn enabled(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let (Some(_), Some(binary)) = (unit::unit_of(&receipt.paths), containerd::binary(&receipt.paths)) else {
        return Ok(CheckResult::Skipped("containerd is not one of the components".to_owned()));
    };
    let mut findings = Vec::new();
    let wants = ImagePath::fixed(unit::WANTS);
    for (path, what) in [(wants, "leads to no unit"), (binary, "is missing or no regular file")] {
        if root.file(&path)?.is_none() {
            findings.push(Finding::new("enabled", Some(&path), what, APPLY));
        }
    }
    let hiding = ImagePath::fixed(unit::OVERRIDE);
    if let Some(node) = root.node(&hiding)? {
        let problem = match node {
            Node::Link { target } if target == "/dev/null" => {
                "containerd.service is masked: it will not start"
            }
            _ => "hides the unit that was installed",
        };
        findings.push(Finding::new(
            "enabled",
            Some(&hiding),
            problem,
            "remove it, for example with systemctl --root=DIR unmask containerd.service",
        ));
    }
    Ok(CheckResult::of(findings, "the link leads to the unit, the unit to the binary"))
}

/// No preset before ours turns the service off.
pub(crate) fn preset(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    if !receipt.paths.contains_key(unit::PRESET) {
        return Ok(CheckResult::Skipped("containerd is not one of the components".to_owned()));
    }
    let mut files: std::collections::BTreeMap<String, ImagePath> = std::collections::BTreeMap::new();
    for directory in PRESETS {
        let directory = ImagePath::fixed(directory);
        for name in
            root.names(&directory)?.unwrap_or_default().into_iter().filter(|name| name.ends_with(".preset"))
        {
            if let Ok(path) = directory.join(&name) {
                files.entry(name).or_insert(path);
            }
        }
    }
    for path in files.values() {
        let Some(text) = root.text(path, LONGEST_TEXT).unwrap_or(None) else { continue };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let verb = words.next().unwrap_or_default();
            let matches = words.next().is_some_and(|pattern| glob(pattern, "containerd.service"));
            match verb {
                "enable" if matches => return Ok(CheckResult::Passed(format!("decided by {path}"))),
                "disable" | "ignore" if matches => {
                    let problem = format!("`{}` stands before ours and decides", line.trim());
                    return Ok(CheckResult::Found(vec![Finding::new(
                        "preset",
                        Some(path),
                        problem,
                        "remove the line, or enable containerd.service before it",
                    )]));
                }
                _ => {}
            }
        }
    }
    Ok(CheckResult::Passed("none names the service".to_owned()))
}
