//! Checks the packages that containerd was installed from.
//!
//! This module must not change one.

use crate::error::{Failure, Kind};
use crate::packages::manager::Session;
use crate::packages::manager::distribution::Distribution;
use crate::path::ImagePath;
use crate::root::Root;
use crate::state::Receipt;
use crate::verify::finding::{APPLY, CheckResult, Finding};

/// Limit of the differing files of one package that are named.
const MOST_SHOWN: usize = 100;

/// Checks that the packages in the receipt are installed in the same versions, and that their files are unmodified.
pub(crate) fn packages(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    if receipt.packages.is_empty() {
        return Ok(CheckResult::Passed("containerd came from no package".to_owned()));
    }
    let names: Vec<&str> = receipt.packages.iter().map(|package| package.name.as_str()).collect();
    let manager = Distribution::of(root)?.manager;
    let database = match Session::look(root, manager, &names) {
        Ok(database) => database,
        Err(failure) if failure.kind == Kind::Unsupported => {
            return Ok(CheckResult::Skipped(with_remedy(&failure)));
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
        let differing = record.differing(root)?;
        for path in differing.iter().take(MOST_SHOWN) {
            report(Some(path), format!("is not as package {} has it", package.name));
        }
        if let Some(more) = differing.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
            report(None, format!("{more} more files are not as package {} has them", package.name));
        }
    }
    let saw: Vec<String> = receipt.packages.iter().map(ToString::to_string).collect();
    Ok(CheckResult::of(findings, saw.join(", ")))
}

/// Returns a failure with its remedy, in one line.
fn with_remedy(failure: &Failure) -> String {
    match &failure.help {
        Some(help) => format!("{failure}: {help}"),
        None => failure.to_string(),
    }
}
