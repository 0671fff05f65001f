//! Formats results as text for people.
//!
//! This module must not print control characters from roots, receipts or archives.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::commit::diff::{Action, Change, Diff};
use crate::error::failure;
use crate::node::{Content, Node, Want};
use crate::plan::from_packages::PackageChange;
use crate::printable::printable;
use crate::redacted;
use crate::secret;
use crate::verify::finding::{Finding, Passed, Skipped, Verdict};

/// Formats the changes of a root: one line a path, for a plan with a diff of its text, and the counts at the end.
pub(super) fn changes(diff: &Diff, planned: bool) -> String {
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

/// Formats the change of a package.
fn package_line(change: &PackageChange) -> String {
    match change {
        PackageChange::Install(package) => format!("+ package {package}"),
        PackageChange::Upgrade(package, from) => format!("~ package {package} was {}", printable(from)),
        PackageChange::Remove(package) => format!("- package {package}"),
        PackageChange::Leave(package) => format!("  package {package} stays: other packages need it"),
        PackageChange::Hold(package) => format!("~ package {package} hold changed"),
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

/// Formats mode or target, component and fate of the file that was there.
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

/// Formats the changed lines of a text file. A file that only root may read can hold secrets, and so can an older text
/// at its path: neither is shown.
fn hunk(change: &Change) -> String {
    let Some(Want::File { mode, content: Content::Text(new) }) = &change.want else { return String::new() };
    let was_secret = matches!(&change.found, Some(Node::File { mode, .. }) if mode.0 & 0o077 == 0);
    let old = change.text.as_deref().unwrap_or_default();
    if mode & 0o077 == 0 || was_secret || secret::is_in(old) {
        return "    (content not shown: it may hold secrets)\n".to_owned();
    }
    let new = String::from_utf8_lossy(new);
    let diff = similar::TextDiff::from_lines(old, new.as_ref());
    let mut text = String::new();
    for change in diff.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal) {
        let sign = if change.tag() == similar::ChangeTag::Insert { '+' } else { '-' };
        let _ = writeln!(text, "    {sign} {}", printable(change.value().trim_end_matches('\n')));
    }
    text
}

/// Formats a verdict: one line a check, findings last and with their remedies, and the number of findings at the end.
pub(super) fn verdict(host: &Path, verdict: &Verdict) -> String {
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
    for Finding { check, path, line, problem, help } in &verdict.findings {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let place = path.as_deref().map(|path| format!("{path}{line}: ")).unwrap_or_default();
        row(check, "FAILED", &format!("{place}{problem}\n  help: {help}"));
    }
    let _ = match verdict.findings.len() {
        0 => writeln!(text, "{}: verified", host.display()),
        1 => writeln!(text, "{}: 1 finding", host.display()),
        count => writeln!(text, "{}: {count} findings", host.display()),
    };
    lines(&text)
}

/// Prints an error to stderr, with its remedy on a line of its own.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("nodebake: error: {}\n", escape(&format!("{error:#}")));
    if let Some(help) = failure(error).and_then(|failure| failure.help.as_ref()) {
        text += &format!("  help: {}\n", escape(help));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Makes every line printable, because names in it come from roots, receipts and archives.
fn lines(text: &str) -> String {
    text.lines().flat_map(|line| [printable(line), "\n".to_owned()]).collect()
}

/// Makes a message fit to be shown, but keeps line breaks: a package manager's log has several lines.
pub(super) fn escape(text: &str) -> String {
    redacted::without_credentials(text).lines().map(printable).collect::<Vec<_>>().join("\n")
}
