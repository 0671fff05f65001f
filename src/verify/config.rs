//! Checks config.toml and hosts.toml, and which keys containerd reads.
//!
//! This module must not ask a running containerd.

use toml_edit::Item;

use crate::arch::Arch;
use crate::error::{Failure, Kind};
use crate::format::toml::{self, compare};
use crate::interrupt;
use crate::node::Node;
use crate::path::ImagePath;
use crate::precedence::Ours;
use crate::printable::printable;
use crate::process::staged::{self, Dump};
use crate::root::Root;
use crate::runtime::{Problem, Runtime};
use crate::state::Receipt;
use crate::verify::finding::{APPLY, CheckResult, Finding};
use crate::verify::precedence::registries_beside;

/// Limit of the bytes of the files of all registries: a receipt that can be read has at most 4,000 of a few hundred.
const LONGEST_HOSTS: u64 = 2 << 20;

/// Checks that config.toml is TOML with which the installed containerd serves the CRI, to root alone, and finds the other
/// files of the image.
pub(crate) fn config(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let Some(runtime) = Runtime::configured_in(&receipt.paths) else { return Ok(CheckResult::no_runtime()) };
    let path = ImagePath::fixed(runtime.facts().config);
    let Some(text) = text(root, &path, toml::LONGEST)? else { return Ok(missing(&path)) };
    let found = |problem: String, help: &str| Finding::new("config", Some(&path), problem, help);
    let findings = match text.and_then(|text| toml::document(&text).map(|_| text)) {
        Err(why) => vec![found(why, APPLY)],
        Ok(text) => {
            let version = receipt.version_of(runtime).unwrap_or_default();
            let problems = runtime.problems(version, &text, Ours::Owned(receipt).promises());
            let mut findings: Vec<Finding> =
                problems.into_iter().map(|Problem { why, help }| found(why, &help)).collect();
            for why in missing_files(root, runtime, &text)? {
                findings.push(found(why, "install the file, or leave the key out"));
            }
            findings
        }
    };
    Ok(CheckResult::of(findings, "TOML with which the CRI is loaded, and the sockets are root's"))
}

/// Tells which files that the configuration names are missing. What is below /run is made at boot.
fn missing_files(root: &Root, runtime: Runtime, text: &str) -> Result<Vec<String>, Failure> {
    let (run, mut missing) = (ImagePath::fixed("/run"), Vec::new());
    for (key, file) in runtime.named_files(text) {
        let Ok(path) = ImagePath::new(&file) else { continue };
        if !path.is_below(&run) && root.file(&path)?.is_none() {
            let (key, file) = (printable(&key), printable(&file));
            missing
                .push(format!("`{key}` names `{file}`, which is missing: containerd does not serve the CRI"));
        }
    }
    Ok(missing)
}

/// Reads the text at `path`, `None` if there is none; the inner error says in words that follow its name why it can't be
/// read.
fn text(root: &Root, path: &ImagePath, limit: u64) -> Result<Option<Result<String, String>>, Failure> {
    match root.text(path, limit) {
        Err(failure) if failure.kind == Kind::Invalid => {
            Ok(Some(Err(format!("is no text of at most {limit} bytes"))))
        }
        text => Ok(text?.map(Ok)),
    }
}

/// Returns whether `path` is where a runtime reads the mirrors of a registry.
fn is_registry_file(path: &ImagePath) -> bool {
    Runtime::ALL.iter().any(|runtime| runtime.facts().registry_file == path.name())
}

/// Skips a check of a missing file, because the check `receipt` has a finding about it.
fn missing(path: &ImagePath) -> CheckResult {
    CheckResult::Skipped(format!("{path} is missing"))
}

/// Checks that every hosts.toml is TOML, and that the certificates in it exist.
pub(crate) fn hosts(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let (mut findings, mut count, mut left) = (Vec::new(), 0, LONGEST_HOSTS);
    let runtime = Runtime::configured_in(&receipt.paths);
    let installed = runtime.and_then(|runtime| Some((runtime, receipt.version_of(runtime)?)));
    for path in receipt.paths.keys().filter(|path| is_registry_file(path)) {
        interrupt::check()?;
        let Some(text) = text(root, path, toml::LONGEST)? else { continue };
        count += 1;
        left = left.saturating_sub(text.as_ref().map_or(0, |text| text.len() as u64));
        if left == 0 {
            let problem =
                format!("is not read: the configuration of registries has more than {LONGEST_HOSTS} bytes");
            findings.push(Finding::new("hosts", Some(path), problem, APPLY));
            break;
        }
        let document = match text.and_then(|text| toml::document(&text)) {
            Ok(document) => document,
            Err(why) => {
                let problem = match why.starts_with("is not TOML") {
                    true => "is not TOML: containerd ignores it and pulls from upstream".to_owned(),
                    false => why,
                };
                findings.push(Finding::new("hosts", Some(path), problem, APPLY));
                continue;
            }
        };
        if let Some(why) =
            installed.and_then(|(runtime, version)| runtime.unreadable_registry(version, &document))
        {
            let problem = format!("{why}: containerd ignores it and pulls from upstream");
            findings.push(Finding::new("hosts", Some(path), problem, APPLY));
        }
        let mut named = Vec::new();
        certificates(document.as_item(), &mut named);
        for certificate in named {
            let there = match ImagePath::new(&certificate) {
                Ok(certificate) => root.file(&certificate)?.is_some(),
                Err(_) => true,
            };
            if !there {
                findings.push(Finding::new(
                    "hosts",
                    Some(path),
                    format!("names `{certificate}`, which is missing"),
                    APPLY,
                ));
            }
        }
    }
    findings.extend(registries_beside(root, receipt)?);
    Ok(CheckResult::of(findings, format!("registries with mirrors: {count}")))
}

/// Adds the certificates of a hosts.toml to `named`.
fn certificates(item: &Item, named: &mut Vec<String>) {
    let Some(table) = item.as_table_like() else { return };
    for (key, item) in table.iter() {
        match key {
            "ca" | "client" => strings(item.as_value(), named),
            // A header can have one of these names.
            "header" => {}
            _ => certificates(item, named),
        }
    }
}

fn strings(value: Option<&toml_edit::Value>, named: &mut Vec<String>) {
    match value {
        Some(toml_edit::Value::String(text)) => named.push(text.value().clone()),
        Some(toml_edit::Value::Array(array)) => array.iter().for_each(|value| strings(Some(value), named)),
        _ => {}
    }
}

/// Checks that the installed containerd takes over every key of its configuration: by the keys that the catalogue has
/// of its release and, where programs of the root may run, by asking it as well.
pub(crate) fn effective_config(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let known = known_config(root, receipt)?;
    if matches!(known, CheckResult::Found(_)) || root.require_execution().is_err() {
        return Ok(known);
    }
    match (dumped_config(root, receipt)?, known) {
        (CheckResult::Skipped(_), CheckResult::Passed(saw)) => Ok(CheckResult::Passed(saw)),
        (dumped, _) => Ok(dumped),
    }
}

/// Checks the keys of config.toml by those that the catalogue has of the installed release.
fn known_config(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let runtime = Runtime::configured_in(&receipt.paths);
    let Some((runtime, version)) = runtime.and_then(|runtime| Some((runtime, receipt.version_of(runtime)?)))
    else {
        return Ok(CheckResult::no_runtime());
    };
    let path = ImagePath::fixed(runtime.facts().config);
    let Some(Ok(text)) = text(root, &path, toml::LONGEST)? else { return Ok(missing(&path)) };
    Ok(match runtime.unread_keys(version, &text) {
        Some(unread) => lost_keys(&path, unread),
        None => CheckResult::Skipped(format!(
            "the catalogue does not know the keys of containerd {}; --execute asks it",
            printable(version)
        )),
    })
}

/// Returns the result of the check for the keys of config.toml at `path` that containerd does not take over.
fn lost_keys(path: &ImagePath, keys: Vec<String>) -> CheckResult {
    let findings = keys.into_iter().map(|key| {
        Finding::new(
            "effective-config",
            Some(path),
            format!("containerd does not take over `{key}`"),
            "see containerd's documentation for this version's keys",
        )
    });
    CheckResult::of(findings.collect(), "containerd takes over every key")
}

/// Checks the same by asking the installed containerd: runs `containerd config dump` in a sandbox.
fn dumped_config(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let runtime = Runtime::configured_in(&receipt.paths).map(Runtime::facts);
    let Some((facts, binary)) = runtime.and_then(|facts| Some((facts, facts.binary.among(&receipt.paths)?)))
    else {
        return Ok(CheckResult::no_runtime());
    };
    if Arch::of_host().is_none_or(|host| host.name() != receipt.arch) {
        return Ok(CheckResult::Skipped(format!(
            "containerd for {} can't run on this host",
            printable(&receipt.arch)
        )));
    }
    let path = ImagePath::fixed(facts.config);
    let (Some(Ok(text)), Some(owned)) = (text(root, &path, toml::LONGEST)?, receipt.paths.get(&binary))
    else {
        return Ok(missing(&path));
    };
    let found = root.node(&binary)?;
    let (Some(Node::File { sha256, .. }), true) =
        (&found, matches!(owned.node, Node::Present { .. }) || found.as_ref() == Some(&owned.node))
    else {
        return Ok(CheckResult::Skipped(
            "containerd is not the one that was installed: it is not run".to_owned(),
        ));
    };
    let Some(file) = root.file(&binary)? else { return Ok(missing(&binary)) };
    Ok(match staged::config_dump(root, (&file, *sha256), &path) {
        Ok(Dump::Effective(dump, warnings)) => compare_keys(&path, &text, &dump, &warnings),
        Ok(Dump::Refused(why)) => {
            let problem = format!("containerd refuses it: {why}");
            CheckResult::Found(vec![Finding::new("effective-config", Some(&path), problem, APPLY)])
        }
        Err(why) => CheckResult::Skipped(format!("`containerd config dump` can't run: {why}")),
    })
}

/// Compares the keys of config.toml at `path` with those that containerd has read, and takes its word for those that it
/// has not (2.x names them in `warnings`).
fn compare_keys(path: &ImagePath, text: &str, dump: &str, warnings: &str) -> CheckResult {
    let (Ok(written), Ok(effective)) = (toml::document(text), toml::document(dump)) else {
        return CheckResult::Skipped("`containerd config dump` printed no TOML".to_owned());
    };
    let mut lost = Vec::new();
    // Of another version it has keys in other places than the file.
    let is_same =
        written.get("version").map(Item::to_string) == effective.get("version").map(Item::to_string);
    for (key, item) in written.iter().filter(|(key, _)| is_same || *key == "plugins") {
        match effective.get(key) {
            // It has followed the imports, and prints none.
            _ if key == "imports" => {}
            Some(effective) => compare(item, effective, key, &mut lost),
            None => lost.push(key.to_owned()),
        }
    }
    let ignored = warnings.lines().filter_map(|line| line.split_once("Ignoring unknown key in TOML"));
    let keys = ignored.filter_map(|(_, rest)| rest.split_once(" key=")?.1.split(' ').next());
    for key in keys.map(|key| printable(key.trim_matches('"'))) {
        if !lost.iter().any(|lost| lost.ends_with(&key)) {
            lost.push(key);
        }
    }
    lost_keys(path, lost)
}
