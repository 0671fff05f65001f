//! The named checks of a root filesystem: what makes a node come up, read from its files.
//!
//! A check is a plain function that gives findings, or says why it could not run. Nothing is
//! written. To add a check: a function here and its line in [`CHECKS`].

use toml_edit::{DocumentMut, Item};

use crate::arch::Arch;
use crate::containerd::{self, CONFIG};
use crate::diff;
use crate::distribution::Distribution;
use crate::elf;
use crate::error::{Failure, Kind, printable};
use crate::finding::{APPLY, Finding, Outcome};
use crate::labels::{Comparison, RELABEL};
use crate::path::ImagePath;
use crate::receipt::{Before, Node, Receipt};
use crate::root::{LONGEST_TEXT, Root};
use crate::session::Session;
use crate::settings::Settings;
use crate::staged;
use crate::systemd;
use crate::target;

/// Where systemd looks for presets, in the order in which a name hides the same name later.
const PRESETS: [&str; 4] = [
    "/etc/systemd/system-preset",
    "/run/systemd/system-preset",
    "/usr/local/lib/systemd/system-preset",
    "/usr/lib/systemd/system-preset",
];

/// The remedy for a label: a bake changes none of what is in place.
const RELABEL_HELP: &str = "run `restorecon` on it on the node, or create /.autorelabel in the root";

/// A check of `root`, of which the receipt owns something.
pub type Check = fn(&Root, &Receipt) -> Result<Outcome, Failure>;

/// Every check, in the order in which they run.
pub const CHECKS: [(&str, Check); 9] = [
    ("receipt", drift),
    ("packages", packages),
    ("labels", labels),
    ("enabled", enabled),
    ("preset", preset),
    ("executable", executable),
    ("config", config),
    ("hosts", hosts),
    ("effective-config", effective_config),
];

/// Every owned path is as it was put there.
fn drift(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    let found = diff::survey(root, receipt)?;
    let differing = receipt.paths.iter().filter_map(|(path, owned)| {
        let node = found.get(path).cloned().flatten();
        let problem = difference(&owned.node, node.as_ref())?;
        Some(Finding::new("receipt", Some(path), problem, APPLY))
    });
    Ok(Outcome::of(differing.collect(), format!("{} paths as they were baked", receipt.paths.len())))
}

/// What `found` has else than `wanted`.
fn difference(wanted: &Node, found: Option<&Node>) -> Option<String> {
    let Some(found) = found else { return Some("is missing".to_owned()) };
    match (wanted, found) {
        (a, b) if a == b => None,
        // Its content is the check of packages' business.
        (Node::Present { .. }, Node::File { .. } | Node::Link { .. }) => None,
        (Node::File { sha256: a, .. }, Node::File { sha256: b, .. }) if a != b => {
            Some(format!("content differs: sha256 {b}, expected {a}"))
        }
        (Node::File { mode: a, owner: x, .. }, Node::File { mode: b, owner: y, .. })
        | (Node::Directory { mode: a, owner: x }, Node::Directory { mode: b, owner: y }) => {
            Some(format!("mode {:04o} {}:{}, expected {:04o} {}:{}", b.0, y.0, y.1, a.0, x.0, x.1))
        }
        (Node::Link { target: a }, Node::Link { target: b }) => {
            Some(format!("links to `{b}`, expected `{a}`"))
        }
        (a, b) => Some(format!("is {}, expected {}", kind(b), kind(a))),
    }
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Directory { .. } => "a directory",
        Node::File { .. } => "a file",
        Node::Present { .. } => "a package's file",
        Node::Link { .. } => "a symlink",
        Node::Other => "a FIFO, a socket or a device",
    }
}

/// What nodebake put there carries the label that the root's SELinux policy has for it.
fn labels(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    if !root.labels().are_wanted() {
        return Ok(Outcome::Passed("the root has no SELinux policy".to_owned()));
    }
    if !root.labels().are_known() {
        return Ok(Outcome::Skipped("the root's SELinux policy can't be read".to_owned()));
    }
    if root.node(&ImagePath::fixed(RELABEL))?.is_some() {
        return Ok(Outcome::Skipped(format!("{RELABEL} is set: the next boot labels the root")));
    }
    let (mut findings, mut unknown) = (Vec::new(), 0);
    // A directory that was there before belongs to somebody else, and so does its label.
    let ours = receipt.paths.iter().filter(|(_, owned)| !matches!(owned.before, Before::Directory(..)));
    for path in ours.map(|(path, _)| path).chain(&receipt.directories) {
        match root.compare_label(path)? {
            Some(Comparison::Differs(found, wanted)) => {
                let found = found.map_or("has no label".to_owned(), |label| format!("is labelled `{label}`"));
                let problem = format!("{found}, the policy says `{wanted}`");
                findings.push(Finding::new("labels", Some(path), problem, RELABEL_HELP));
            }
            Some(Comparison::Unknown) => unknown += 1,
            Some(Comparison::Same) | None => {}
        }
    }
    if findings.is_empty() && unknown > 0 {
        return Ok(Outcome::Skipped(format!("the labels of {unknown} paths can't be told here")));
    }
    Ok(Outcome::of(findings, "as the root's SELinux policy says"))
}

fn owns(receipt: &Receipt, path: &'static str) -> bool {
    receipt.paths.contains_key(path)
}

/// The packages that containerd came with are in the package manager's database as they came, and their
/// files as they shipped them.
fn packages(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    if receipt.packages.is_empty() {
        return Ok(Outcome::Passed("containerd came from no package".to_owned()));
    }
    let names: Vec<&str> = receipt.packages.iter().map(|package| package.name.as_str()).collect();
    let manager = Distribution::of(root)?.manager;
    let database = match Session::look(root, manager, &names) {
        Ok(database) => database,
        Err(failure) if failure.kind == Kind::Unsupported => {
            return Ok(Outcome::Skipped(failure.to_string()));
        }
        Err(failure) => return Err(failure),
    };
    let mut findings = Vec::new();
    for package in &receipt.packages {
        let mut report = |path: Option<&ImagePath>, problem: String| {
            findings.push(Finding::new("packages", path, problem, APPLY));
        };
        let Some(record) = database.get(&package.name) else {
            report(None, format!("{package} is not installed any more"));
            continue;
        };
        if (&record.version, &record.architecture) != (&package.version, &package.architecture) {
            report(None, format!("{package} is there as {} ({})", record.version, record.architecture));
        }
        if !record.is_whole {
            report(None, format!("{package} is not completely installed"));
        }
        if package.held && !record.is_held {
            report(None, format!("{package} is not held any more"));
        }
        for path in record.differing(root)? {
            report(Some(&path), format!("is not as package {} has it", package.name));
        }
    }
    let saw: Vec<String> = receipt.packages.iter().map(ToString::to_string).collect();
    Ok(Outcome::of(findings, saw.join(", ")))
}

/// The service starts at boot: the link leads to a unit, the unit to a binary, and nothing hides it.
fn enabled(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    let (Some(_), Some(binary)) = (systemd::unit_of(&receipt.paths), containerd::binary(&receipt.paths))
    else {
        return Ok(Outcome::Skipped("containerd is not one of the components".to_owned()));
    };
    let mut findings = Vec::new();
    let wants = ImagePath::fixed(systemd::WANTS);
    for (path, what) in [(wants, "leads to no unit"), (binary, "is missing or no regular file")] {
        if root.file(&path)?.is_none() {
            findings.push(Finding::new("enabled", Some(&path), what, APPLY));
        }
    }
    let hiding = ImagePath::fixed(systemd::OVERRIDE);
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
    Ok(Outcome::of(findings, "the link leads to the unit, the unit to the binary"))
}

/// No preset before ours turns the service off.
fn preset(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    if !owns(receipt, systemd::PRESET) {
        return Ok(Outcome::Skipped("containerd is not one of the components".to_owned()));
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
                "enable" if matches => return Ok(Outcome::Passed(format!("decided by {path}"))),
                "disable" | "ignore" if matches => {
                    let problem = format!("`{}` stands before ours and decides", line.trim());
                    return Ok(Outcome::Found(vec![Finding::new(
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
    Ok(Outcome::Passed("none names the service".to_owned()))
}

/// `*` and `?` as in fnmatch(3); presets use little else.
fn glob(pattern: &str, name: &str) -> bool {
    match (pattern.as_bytes(), name.as_bytes()) {
        ([], []) => true,
        ([b'*', ..], _) if glob(&pattern[1..], name) => true,
        ([b'*', ..], [_, ..]) => glob(pattern, &name[1..]),
        ([b'?', ..], [_, ..]) => glob(&pattern[1..], &name[1..]),
        ([a, ..], [b, ..]) if a == b => glob(&pattern[1..], &name[1..]),
        _ => false,
    }
}

/// Every executable is for the root's architecture and finds a C library that is new enough.
fn executable(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    let Ok(arch) = receipt.arch.parse::<Arch>() else {
        return Ok(Outcome::Skipped(format!(
            "unknown architecture `{}` in the receipt",
            printable(&receipt.arch)
        )));
    };
    let glibc = target::glibc(root, arch)?;
    let (mut findings, mut count) = (Vec::new(), 0);
    for (path, _) in receipt.paths.iter().filter(|(_, owned)| owned.artifact.is_some()) {
        count += 1;
        let Some(file) = root.file(path)? else { continue };
        let mut report =
            |problem: String| findings.push(Finding::new("executable", Some(path), problem, APPLY));
        match elf::read(&file) {
            Err(why) => report(format!("is a {why}")),
            Ok(None) => {}
            Ok(Some(elf)) if elf.arch != Some(arch) => report(format!("is not for {arch}")),
            Ok(Some(elf)) => match (elf.needs_glibc, glibc) {
                (Some(needs), Some(gives)) if gives < needs => {
                    report(format!(
                        "needs glibc {}.{}, the root has {}.{}",
                        needs.0, needs.1, gives.0, gives.1
                    ));
                }
                _ => {}
            },
        }
    }
    Ok(Outcome::of(findings, format!("{count} executables for {arch}")))
}

/// config.toml is TOML and names one directory for registries.
fn config(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    let path = ImagePath::fixed(CONFIG);
    if !owns(receipt, CONFIG) {
        return Ok(Outcome::Skipped("containerd is not one of the components".to_owned()));
    }
    let Some(text) = root.text(&path, LONGEST_TEXT)? else { return Ok(missing(&path)) };
    let problem = match text.parse::<DocumentMut>() {
        Err(error) => Some(format!("is not TOML: {}", error.message())),
        Ok(document) => {
            let path = Settings::of_file(document.as_item()).registry_config_path;
            path.filter(|path| path.contains(':')).map(|path| {
                format!("config_path `{path}` is more than one directory: containerd 2.1 and later then find no hosts.toml")
            })
        }
    };
    let findings = problem.map(|problem| Finding::new("config", Some(&path), problem, APPLY));
    Ok(Outcome::of(findings.into_iter().collect(), "TOML, with one registry directory"))
}

/// The check of the receipt says so.
fn missing(path: &ImagePath) -> Outcome {
    Outcome::Skipped(format!("{path} is missing"))
}

/// Every hosts.toml is TOML, and every certificate that it names is there.
fn hosts(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    let (mut findings, mut count) = (Vec::new(), 0);
    for path in receipt.paths.keys().filter(|path| path.name() == "hosts.toml") {
        let Some(text) = root.text(path, LONGEST_TEXT)? else { continue };
        count += 1;
        let Ok(document) = text.parse::<DocumentMut>() else {
            findings.push(Finding::new(
                "hosts",
                Some(path),
                "is not TOML: containerd ignores it and pulls from upstream",
                APPLY,
            ));
            continue;
        };
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
    Ok(Outcome::of(findings, format!("registries with mirrors: {count}")))
}

fn certificates(item: &Item, named: &mut Vec<String>) {
    let Some(table) = item.as_table_like() else { return };
    for (key, item) in table.iter() {
        match key {
            "ca" | "client" => strings(item.as_value(), named),
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

/// What the staged containerd itself makes of its configuration, asked in a chroot as nobody.
fn effective_config(root: &Root, receipt: &Receipt) -> Result<Outcome, Failure> {
    let binary = containerd::binary(&receipt.paths).filter(|_| owns(receipt, CONFIG));
    let Some(binary) = binary else {
        return Ok(Outcome::Skipped("containerd is not one of the components".to_owned()));
    };
    if Arch::of_host().is_none_or(|host| host.name() != receipt.arch) {
        return Ok(Outcome::Skipped(format!(
            "containerd for {} can't run on this host",
            printable(&receipt.arch)
        )));
    }
    let path = ImagePath::fixed(CONFIG);
    let (Some(text), Some(owned)) = (root.text(&path, LONGEST_TEXT)?, receipt.paths.get(&binary)) else {
        return Ok(missing(&path));
    };
    let is_packages = matches!(owned.node, Node::Present { .. });
    if !is_packages && root.node(&binary)?.as_ref() != Some(&owned.node) {
        return Ok(Outcome::Skipped(
            "containerd is not the one that was installed: it is not run".to_owned(),
        ));
    }
    let dump = match staged::config_dump(root.host(), &binary) {
        Ok(dump) => dump,
        Err(why) => return Ok(Outcome::Skipped(format!("`containerd config dump` can't run: {why}"))),
    };
    let (Ok(written), Ok(effective)) = (text.parse::<DocumentMut>(), dump.parse::<DocumentMut>()) else {
        return Ok(Outcome::Skipped("`containerd config dump` printed no TOML".to_owned()));
    };
    let mut lost = Vec::new();
    if let (Some(written), Some(effective)) = (written.get("plugins"), effective.get("plugins")) {
        compare(written, effective, "plugins", &mut lost);
    }
    let findings = lost.into_iter().map(|key| {
        Finding::new(
            "effective-config",
            Some(&path),
            format!("containerd does not take over `{key}`"),
            "see containerd's documentation for this version's keys",
        )
    });
    Ok(Outcome::of(findings.collect(), "containerd takes over every key"))
}

/// Settings of `written` that `effective` has not, or has otherwise.
fn compare(written: &Item, effective: &Item, key: &str, lost: &mut Vec<String>) {
    let Some(table) = written.as_table_like() else {
        let plain = |item: &Item| {
            item.as_value().map(|value| {
                let mut value = value.clone();
                value.decor_mut().clear();
                normal(&value)
            })
        };
        if plain(written) != plain(effective) {
            lost.push(key.to_owned());
        }
        return;
    };
    for (name, item) in table.iter() {
        match effective.get(name) {
            Some(effective) => compare(item, effective, &format!("{key}.{name}"), lost),
            None => lost.push(format!("{key}.{name}")),
        }
    }
}

/// A value without its quoting and spacing.
fn normal(value: &toml_edit::Value) -> String {
    match value {
        toml_edit::Value::String(text) => text.value().clone(),
        toml_edit::Value::Array(array) => array.iter().map(normal).collect::<Vec<_>>().join("\u{1f}"),
        other => other.to_string().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn presets_match_as_systemd_matches_them() {
        for pattern in ["*", "containerd.service", "container*", "*.service", "containerd?service"] {
            assert!(glob(pattern, "containerd.service"), "{pattern}");
        }
        for pattern in ["docker.service", "containerd", "*.socket", ""] {
            assert!(!glob(pattern, "containerd.service"), "{pattern}");
        }
    }
}
