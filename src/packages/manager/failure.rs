//! Turns a package manager's messages into a failure with an exit code and a remedy.
//!
//! This module must not know the messages of one package manager: `apt.rs` and `dnf.rs` list them.

use std::collections::BTreeSet;

use crate::error::{Failure, Kind};
use crate::printable::printable;
use crate::process::protocol::Answer;

/// Remedy for a wrong signature or digest.
pub(super) const DISTRUST: &str =
    "the key does not belong to this repository, or somebody changed what it serves";

/// Remedy where the solver finds no solution.
pub(super) const CHOOSE: &str = "choose another `containerd.package.version` or `repository`";

/// Remedy for a full filesystem.
pub(super) const SPACE: &str = "free some space in the root filesystem and run again";

/// Number of the package manager's lines that a message has at most.
const LINES: usize = 6;

/// Meaning of a package manager's messages.
pub(super) struct Meaning {
    /// Kind of the failure, which is the exit code.
    pub kind: Kind,
    /// Remedy.
    pub help: &'static str,
    /// Texts; the meaning applies where the output has one of them.
    pub said: &'static [&'static str],
}

/// Returns the failure with the kind and remedy of the first of `meanings` that applies, else
/// [`Kind::Unsupported`]. Its message has the output's lines that begin with one of `starts`, or contain one of
/// `words`.
pub(super) fn failure(
    doing: &str,
    answer: &Answer,
    meanings: &[Meaning],
    [starts, words]: [&[&str]; 2],
) -> Failure {
    let all = format!("{}\n{}", answer.stderr, answer.stdout);
    let meaning = meanings.iter().find(|meaning| meaning.said.iter().any(|text| all.contains(text)));
    let (kind, help) = meaning.map_or(
        (Kind::Unsupported, "see what the package manager says above, and its log in the root"),
        |meaning| (meaning.kind, meaning.help),
    );
    let telling = |line: &&str| {
        let line = line.trim_start();
        starts.iter().any(|start| line.starts_with(start)) || words.iter().any(|word| line.contains(word))
    };
    let mut lines: Vec<String> = all.lines().filter(telling).map(|line| printable(line.trim())).collect();
    if lines.is_empty() {
        lines = all.lines().rev().filter(|line| !line.is_empty()).take(3).map(printable).collect();
    }
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines.truncate(LINES);
    Failure::new(kind, format!("{doing}: {}", lines.join("; "))).help(help)
}
