//! Verifies a root with named checks: of its files, and, where asked, of the running system.
//!
//! This module must not change the root. To add a check: a function in a file of this folder and its line in
//! [`CHECKS`].

mod boot;
mod config;
mod expected;
mod files;
pub(crate) mod finding;
pub(crate) mod goss;
mod labels;
pub(crate) mod live;
mod packages;
mod pod;
mod precedence;
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
use crate::verify::precedence::{drop_ins, imports, modules, mounts, networks, sysctl};

pub(crate) use crate::verify::expected::Expected;

/// Check of a root with a receipt.
type Check = fn(&Root, &Receipt) -> Result<CheckResult, Failure>;

/// Checks of the root's own word, in the order in which they run.
const OF_RECEIPT: [(&str, Check); 2] = [("receipt", drift), ("packages", packages)];

/// Checks of everything that should be in the root by its receipt, or by the caller's word.
const CHECKS: [(&str, Check); 13] = [
    ("labels", labels),
    ("enabled", enabled),
    ("preset", preset),
    ("drop-ins", drop_ins),
    ("mounts", mounts),
    ("sysctl", sysctl),
    ("modules", modules),
    ("cni", networks),
    ("executable", executable),
    ("config", config),
    ("imports", imports),
    ("hosts", hosts),
    ("effective-config", effective_config),
];

/// Verifies `root`: by its receipt and, if there is an `expected` state, by that; with `live` also the running system,
/// whose root it must be.
pub(crate) fn verify(
    root: &Root,
    live: Option<&Live>,
    expected: Option<&Expected>,
) -> Result<Verdict, Failure> {
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
    let receipt = state::receipt(root)?;
    match &receipt {
        Some(receipt) => run(&OF_RECEIPT, root, receipt, &mut verdict)?,
        None => verdict.findings.push(without_receipt(root)),
    }
    let wanted = expected.map(|expected| expected.receipt(root)).transpose()?;
    if let (Some(expected), Some(wanted)) = (expected, &wanted) {
        expected.compare(root, wanted, &mut verdict)?;
    }
    let Some(judged) = wanted.as_ref().or(receipt.as_ref()) else { return Ok(verdict) };
    verdict.paths = judged.paths.len();
    run(&CHECKS, root, judged, &mut verdict)?;
    let Some(receipt) = &receipt else { return Ok(verdict) };
    if let Some(live) = live {
        live::check(root, receipt, live, &mut verdict)?;
    }
    Ok(verdict)
}

/// Runs `checks` on what `receipt` owns.
fn run(
    checks: &[(&'static str, Check)],
    root: &Root,
    receipt: &Receipt,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    checks.iter().try_for_each(|(name, check)| {
        verdict.add(name, check(root, receipt)?);
        Ok(())
    })
}

fn without_receipt(root: &Root) -> Finding {
    let problem = format!("root `{}` has no receipt: nodebake has not baked it", root.host().display());
    Finding::new("receipt", None, problem, "run `nodebake apply`")
}
