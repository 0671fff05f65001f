//! What a package manager's complaint means: which exit code, and what to do.
//!
//! The words are apt's and dnf's own; they stand with them.

use std::collections::BTreeSet;

use crate::error::{Failure, Kind};
use crate::printable::printable;
use crate::process::protocol::Answer;

/// The remedy for a wrong signature or digest.
pub(super) const DISTRUST: &str =
    "the key does not belong to this repository, or somebody changed what it serves";

/// The remedy where the solver finds no way.
pub(super) const CHOOSE: &str = "choose another `containerd.package.version` or `repository`";

/// The remedy for a full filesystem.
pub(super) const SPACE: &str = "free some space in the root filesystem and run again";

/// As many lines of a complaint tell enough.
const LINES: usize = 6;

/// A meaning, and what is said where it applies.
pub(super) struct Meaning {
    /// The exit code.
    pub kind: Kind,
    /// The remedy.
    pub help: &'static str,
    /// Any of these.
    pub said: &'static [&'static str],
}

/// The failure that `answer` comes to, by the first of `meanings` that applies; else by `otherwise`. Its
/// message has the lines that begin with one of `starts`, or hold one of `words`.
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
