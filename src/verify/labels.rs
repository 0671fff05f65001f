//! Checks the SELinux labels of what was baked.
//!
//! This module must not set one: `root/label.rs` does.

use crate::error::Failure;
use crate::interrupt;
use crate::path::ImagePath;
use crate::root::Root;
use crate::root::selinux::{Comparison, RELABEL};
use crate::state::{Before, Receipt};
use crate::verify::finding::{CheckResult, Finding};

/// Remedy for a wrong label. A bake does not change the label of a file that is in place already.
const RELABEL_HELP: &str = "run `restorecon` on it on the node, or create /.autorelabel in the root";

/// Checks that every path that nodebake has created has the label of the root's SELinux policy.
pub(crate) fn labels(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    if !root.labels().are_wanted() {
        return Ok(CheckResult::Passed("the root has no SELinux policy".to_owned()));
    }
    if !root.labels().are_known() {
        return Ok(CheckResult::Skipped("the root's SELinux policy can't be read".to_owned()));
    }
    if root.has(&ImagePath::fixed(RELABEL))? {
        return Ok(CheckResult::Skipped(format!("{RELABEL} is set: the next boot labels the root")));
    }
    let (mut findings, mut unknown) = (Vec::new(), 0);
    // The label of a directory that was there before the first bake is not nodebake's.
    let ours = receipt.paths.iter().filter(|(_, owned)| !matches!(owned.before, Before::Directory(..)));
    for path in ours.map(|(path, _)| path).chain(&receipt.directories) {
        interrupt::check()?;
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
        return Ok(CheckResult::Skipped(format!("the labels of {unknown} paths can't be told here")));
    }
    Ok(CheckResult::of(findings, "as the root's SELinux policy says"))
}
