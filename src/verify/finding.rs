//! What a check comes to: something that is as it should be, what is wrong, or why it could not look.

use serde::Serialize;

use crate::path::ImagePath;
use crate::printable::printable;

/// The remedy for what a bake would put right.
pub(crate) const APPLY: &str = "run `nodebake apply` again";

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// The path in the image that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// How to mend it.
    pub help: String,
}

/// A check that found nothing wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Passed {
    /// The check.
    pub check: &'static str,
    /// What it saw.
    pub saw: String,
}

/// A check that could not run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    /// The check.
    pub check: &'static str,
    /// Why.
    pub why: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Owned paths that were compared.
    pub paths: usize,
    /// What is right.
    pub passed: Vec<Passed>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be looked at.
    pub skipped: Vec<Skipped>,
}

/// What one check came to.
#[derive(Debug)]
pub(crate) enum CheckResult {
    /// All is well: what it saw.
    Passed(String),
    /// What is wrong.
    Found(Vec<Finding>),
    /// It could not look: why.
    Skipped(String),
}

impl CheckResult {
    /// Passed with what was seen, unless there are findings.
    pub(crate) fn of(findings: Vec<Finding>, saw: impl Into<String>) -> CheckResult {
        match findings.is_empty() {
            true => CheckResult::Passed(saw.into()),
            false => CheckResult::Found(findings),
        }
    }
}

impl Finding {
    /// A finding about `path`, or about the whole node.
    pub(crate) fn new(
        check: &'static str,
        path: Option<&ImagePath>,
        problem: impl AsRef<str>,
        help: &str,
    ) -> Finding {
        Finding {
            check,
            path: path.map(ToString::to_string),
            problem: printable(problem.as_ref()),
            help: help.to_owned(),
        }
    }
}

impl Verdict {
    /// Adds what `check` came to.
    pub(crate) fn add(&mut self, check: &'static str, outcome: CheckResult) {
        match outcome {
            CheckResult::Passed(saw) => self.passed.push(Passed { check, saw: printable(&saw) }),
            CheckResult::Found(findings) => self.findings.extend(findings),
            CheckResult::Skipped(why) => self.skipped.push(Skipped { check, why: printable(&why) }),
        }
    }
}
