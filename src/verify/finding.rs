//! Results of checks: passed, findings, or the reason why a check could not run.
//!
//! This module must not check anything itself.

use serde::Serialize;

use crate::path::ImagePath;
use crate::printable::printable;

/// Remedy for a finding that the next bake repairs.
pub(crate) const APPLY: &str = "run `nodebake apply` again";

/// Reason why a check of the runtime could not run.
pub(super) const NO_RUNTIME: &str = "containerd is not one of the components";

/// Problem that a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// Path in the image; none where the problem is about the whole node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Number of the line in the file at the path, from 1; none where the problem is about the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Problem in one line.
    pub problem: String,
    /// Remedy.
    pub help: String,
}

/// Check that found no problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Passed {
    /// Name of the check.
    pub check: &'static str,
    /// State that the check has seen.
    pub saw: String,
}

/// Check that could not run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    /// Name of the check.
    pub check: &'static str,
    /// Reason.
    pub why: String,
}

/// Results of all checks of one root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Number of owned paths that were compared.
    pub paths: usize,
    /// Checks that found no problem.
    pub passed: Vec<Passed>,
    /// Problems of all checks.
    pub findings: Vec<Finding>,
    /// Checks that could not run.
    pub skipped: Vec<Skipped>,
}

/// Result of one check.
#[derive(Debug)]
pub(crate) enum CheckResult {
    /// No problem; the state that the check has seen.
    Passed(String),
    /// Problems.
    Found(Vec<Finding>),
    /// The check could not run; the reason.
    Skipped(String),
}

impl CheckResult {
    /// Returns the result of a check of the runtime in a root without one.
    pub(super) fn no_runtime() -> CheckResult {
        CheckResult::Skipped(NO_RUNTIME.to_owned())
    }

    /// Returns `findings`, or, if there are none, a pass with the state that was seen.
    pub(crate) fn of(findings: Vec<Finding>, saw: impl Into<String>) -> CheckResult {
        match findings.is_empty() {
            true => CheckResult::Passed(saw.into()),
            false => CheckResult::Found(findings),
        }
    }
}

impl Finding {
    /// Returns a finding about `path`, or about the whole node.
    pub(crate) fn new(
        check: &'static str,
        path: Option<&ImagePath>,
        problem: impl AsRef<str>,
        help: &str,
    ) -> Finding {
        Finding {
            check,
            path: path.map(ToString::to_string),
            line: None,
            problem: printable(problem.as_ref()),
            help: help.to_owned(),
        }
    }
}

impl Verdict {
    /// Adds the result of `check`.
    pub(super) fn add(&mut self, check: &'static str, result: CheckResult) {
        match result {
            CheckResult::Passed(saw) => self.passed.push(Passed { check, saw: printable(&saw) }),
            CheckResult::Found(findings) => self.findings.extend(findings),
            CheckResult::Skipped(why) => self.skipped.push(Skipped { check, why: printable(&why) }),
        }
    }
}
