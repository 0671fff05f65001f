//! What was baked carries the label of the root's SELinux policy.

use crate::error::Failure;
use crate::path::ImagePath;
use crate::root::Root;
use crate::root::selinux::{Comparison, RELABEL};
use crate::state::{Before, Receipt};
use crate::verify::finding::{CheckResult, Finding};

/// The remedy for a label: a bake changes none of what is in place.
const RELABEL_HELP: &str = "run `restorecon` on it on the node, or create /.autorelabel in the root";

/// What nodebake put there carries the label that the root's SELinux policy has for it.
pub(crate) fn labels(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    if !root.labels().are_wanted() {
        return Ok(CheckResult::Passed("the root has no SELinux policy".to_owned()));
    }
    if !root.labels().are_known() {
        return Ok(CheckResult::Skipped("the root's SELinux policy can't be read".to_owned()));
    }
    if root.node(&ImagePath::fixed(RELABEL))?.is_some() {
        return Ok(CheckResult::Skipped(format!("{RELABEL} is set: the next boot labels the root")));
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
        return Ok(CheckResult::Skipped(format!("the labels of {unknown} paths can't be told here")));
    }
    Ok(CheckResult::of(findings, "as the root's SELinux policy says"))
}
