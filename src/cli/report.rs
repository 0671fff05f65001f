//! Results as text for people and as JSON for programs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::diff::{Action, Change, Diff};
use crate::error::{Kind, failure, kind, printable};
use crate::finding::{Finding, Passed, Skipped, Verdict};
use crate::receipt::{Installed, Node};
use crate::supply;
use crate::want::{Content, Want};

/// One line a changed path, with a diff for text where it is only planned, and a closing count.
pub fn changes(diff: &Diff, planned: bool) -> String {
    let mut text = String::new();
    for change in &diff.packages {
        let _ = writeln!(text, "{}", package_line(change));
    }
    for change in diff.changes.iter().filter(|change| change.acts()) {
        let _ = writeln!(text, "{} {}{}", sign(change.action), change.path, detail(change));
        if planned {
            text += &hunk(change);
        }
    }
    let count =
        |actions: &[Action]| diff.changes.iter().filter(|change| actions.contains(&change.action)).count();
    let (created, changed, removed) = (
        count(&[Action::Create]),
        count(&[Action::Replace, Action::Update]),
        count(&[Action::Remove, Action::Restore]),
    );
    let verb = if planned { "to " } else { "" };
    let words = if planned { ["create", "change", "remove"] } else { ["created", "changed", "removed"] };
    let _ = writeln!(
        text,
        "{created} {verb}{}, {changed} {verb}{}, {removed} {verb}{}, {} unchanged",
        words[0],
        words[1],
        words[2],
        count(&[Action::Keep])
    );
    lines(&text)
}

fn package_line(change: &supply::Change) -> String {
    match change {
        supply::Change::Install(package) => format!("+ package {package}"),
        supply::Change::Upgrade(package, from) => format!("~ package {package} was {}", printable(from)),
        supply::Change::Remove(package) => format!("- package {package}"),
        supply::Change::Leave(package) => format!("  package {package} stays: other packages need it"),
        supply::Change::Hold(package) => format!("~ package {package} hold changed"),
    }
}

fn sign(action: Action) -> char {
    match action {
        Action::Create => '+',
        Action::Replace | Action::Update => '~',
        Action::Remove | Action::Restore => '-',
        Action::Keep | Action::Release => ' ',
    }
}

fn detail(change: &Change) -> String {
    let mut text = match &change.want {
        Some(Want::Directory { mode }) => format!(" directory {mode:04o}"),
        Some(Want::File { mode, .. }) => format!(" {mode:04o}"),
        Some(Want::Link { target }) => format!(" -> {target}"),
        Some(Want::Present { .. }) | None => String::new(),
    };
    if let Some(owned) = change.new.as_ref().or(change.old.as_ref()) {
        let _ = write!(text, " ({})", printable(&owned.component));
    }
    match change.action {
        Action::Replace => text += " the original is kept",
        Action::Restore => text += " the original is put back",
        Action::Update if change.edited => text += " the edit is kept",
        _ => {}
    }
    text
}

/// What stands in a new or changed text file. Secrets are not shown: they are readable by root alone.
fn hunk(change: &Change) -> String {
    let Some(Want::File { mode, content: Content::Text(new) }) = &change.want else { return String::new() };
    let was_secret = matches!(&change.found, Some(Node::File { mode, .. }) if mode.0 & 0o077 == 0);
    if mode & 0o077 == 0 || was_secret {
        return "    (content not shown: it may hold secrets)\n".to_owned();
    }
    let old = change.text.as_deref().unwrap_or_default();
    let new = String::from_utf8_lossy(new);
    let diff = similar::TextDiff::from_lines(old, new.as_ref());
    let mut text = String::new();
    for change in diff.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal) {
        let sign = if change.tag() == similar::ChangeTag::Insert { '+' } else { '-' };
        let _ = writeln!(text, "    {sign} {}", printable(change.value().trim_end_matches('\n')));
    }
    text
}

/// A verdict for people: one line a check, what is wrong last and with its remedy, and a closing line.
pub fn verdict(host: &Path, verdict: &Verdict) -> String {
    let mut text = String::new();
    let mut row = |check: &str, state: &str, what: &str| {
        let _ = writeln!(text, "{check:<17} {state:<12} {what}");
    };
    for Passed { check, saw } in &verdict.passed {
        row(check, "ok", saw);
    }
    for Skipped { check, why } in &verdict.skipped {
        row(check, "not checked", why);
    }
    for Finding { check, path, problem, help } in &verdict.findings {
        let place = path.as_deref().map(|path| format!("{path}: ")).unwrap_or_default();
        row(check, "FAILED", &format!("{place}{problem}\n  help: {help}"));
    }
    let _ = match verdict.findings.len() {
        0 => writeln!(text, "{}: verified", host.display()),
        1 => writeln!(text, "{}: 1 finding", host.display()),
        count => writeln!(text, "{}: {count} findings", host.display()),
    };
    lines(&text)
}

/// `--json` of plan and apply.
#[derive(Debug, Serialize)]
pub struct Roots {
    /// One for each --root.
    pub roots: Vec<Baked>,
}

/// What came of one root.
#[derive(Debug, Default, Serialize)]
pub struct Baked {
    root: String,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failed>,
    /// What `apply --start` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// What the package manager did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    packages: Vec<ChangedPackage>,
    changes: Vec<Changed>,
}

#[derive(Debug, Serialize)]
struct ChangedPackage {
    action: &'static str,
    #[serde(flatten)]
    package: Installed,
}

#[derive(Debug, Serialize)]
struct Failed {
    message: String,
    exit_code: u8,
}

#[derive(Debug, Serialize)]
struct Changed {
    path: String,
    action: &'static str,
    #[serde(flatten)]
    node: Option<Node>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    edited: bool,
}

/// One root's changes.
pub fn baked(host: &Path, diff: &Diff) -> Baked {
    let changes = diff.changes.iter().filter(|change| change.acts()).map(changed).collect();
    let packages = diff.packages.iter().map(changed_package).collect();
    Baked {
        root: host.display().to_string(),
        changed: !diff.is_empty(),
        packages,
        changes,
        ..Baked::default()
    }
}

impl Baked {
    /// With what came of `--start`.
    pub fn started(mut self, started: &anyhow::Result<String>) -> Baked {
        match started {
            Ok(service) => self.service = Some(service.clone()),
            Err(error) => self.error = Some(Failed::of(error)),
        }
        self
    }
}

/// One root's failure.
pub fn failed(host: &Path, error: &anyhow::Error) -> Baked {
    Baked { root: host.display().to_string(), error: Some(Failed::of(error)), ..Baked::default() }
}

impl Failed {
    fn of(error: &anyhow::Error) -> Failed {
        let exit_code = kind(error).map_or(1, Kind::exit_code);
        Failed { message: escape(&format!("{error:#}")), exit_code }
    }
}

/// `--json` of remove.
pub fn removed(host: &Path, diff: Option<&Diff>) -> Baked {
    let mut baked = Baked { root: host.display().to_string(), ..Baked::default() };
    if let Some(diff) = diff {
        baked.changed = !diff.is_empty();
        baked.packages = diff.packages.iter().map(changed_package).collect();
        baked.changes = crate::remove::visible(diff).map(changed).collect();
    }
    baked
}

fn changed_package(change: &supply::Change) -> ChangedPackage {
    let (action, package) = match change {
        supply::Change::Install(package) => ("install", package),
        supply::Change::Upgrade(package, _) => ("upgrade", package),
        supply::Change::Remove(package) => ("remove", package),
        supply::Change::Leave(package) => ("leave", package),
        supply::Change::Hold(package) => ("hold", package),
    };
    ChangedPackage { action, package: package.clone() }
}

fn changed(change: &Change) -> Changed {
    let action = match change.action {
        Action::Keep => "keep",
        Action::Create => "create",
        Action::Replace => "replace",
        Action::Update => "update",
        Action::Remove => "remove",
        Action::Restore => "restore",
        Action::Release => "release",
    };
    let owned = change.new.as_ref().or(change.old.as_ref());
    Changed {
        path: change.path.to_string(),
        action,
        node: change.new.as_ref().map(|new| new.node.clone()),
        component: owned.map(|owned| owned.component.clone()),
        edited: change.edited,
    }
}

/// One JSON document.
pub fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Prints an error to stderr: what, and on its own line what to do.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("nodebake: error: {}\n", escape(&format!("{error:#}")));
    if let Some(help) = failure(error).and_then(|failure| failure.help.as_ref()) {
        text += &format!("  help: {}\n", printable(help));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Text for people, whatever names stand in it: from roots, receipts and archives.
fn lines(text: &str) -> String {
    text.lines().flat_map(|line| [printable(line), "\n".to_owned()]).collect()
}

/// Line breaks stay: a TOML error shows the line that it is about.
fn escape(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}
