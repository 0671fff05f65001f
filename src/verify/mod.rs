//! Verifies a root with named checks: of its files, and, where asked, of the running system.
//!
//! This module must not change the root. To add a check: a function in a file of this folder and its line in
//! [`CHECKS`].

mod boot;
mod config;
mod files;
pub(crate) mod finding;
pub(crate) mod goss;
mod labels;
pub(crate) mod live;
mod packages;
mod pod;
mod pull;

use crate::error::Failure;
use crate::live::service;
use crate::root::Root;
use crate::state::{self, Receipt};
use crate::verify::boot::{enabled, preset};
use crate::verify::config::{config, effective_config, hosts};
use crate::verify::files::{drift, executable};
use crate::verify::finding::{CheckResult, Finding, Verdict};
use crate::verify::labels::labels;
use crate::verify::live::Live;
use crate::verify::packages::packages;

/// Check of a root with a receipt.
type Check = fn(&Root, &Receipt) -> Result<CheckResult, Failure>;

/// Checks by name, in the order in which they run.
const CHECKS: [(&str, Check); 9] = [
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

/// Verifies `root`; with `live` also the running system, whose root it must be.
pub(crate) fn verify(root: &Root, live: Option<&Live>) -> Result<Verdict, Failure> {
    if let Some(live) = live {
        let help = format!("leave out `{}`: the files of the root can be verified anywhere", live.flag());
        service::require_running_system(root, live.flag(), &help)?;
    }
    let mut verdict = Verdict::default();
    if state::intent(root)?.is_some() {
        let interrupted =
            Finding::new("receipt", None, "a run was interrupted", "run `nodebake apply` again");
        verdict.findings.push(interrupted);
    }
    let Some(receipt) = state::receipt(root)? else {
        let problem = format!("root `{}` has no receipt: nodebake has not baked it", root.host().display());
        verdict.add(
            "receipt",
            CheckResult::Found(vec![Finding::new("receipt", None, problem, "run `nodebake apply`")]),
        );
        return Ok(verdict);
    };
    verdict.paths = receipt.paths.len();
    for (name, check) in CHECKS {
        verdict.add(name, check(root, &receipt)?);
    }
    if let Some(live) = live {
        live::check(root, &receipt, live, &mut verdict)?;
    }
    Ok(verdict)
}
