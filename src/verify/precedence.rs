//! Checks that no other file of the root decides after those of the bake.
//!
//! This module must not know a rule of precedence: `precedence` does.

use crate::error::Failure;
use crate::precedence::{
    Conflict, Ours, Weight, drop_ins as changes, fragments, kernels, modules as modprobe, mounts as boot,
    networks as cni, parameters, registries, units,
};
use crate::root::Root;
use crate::state::Receipt;
use crate::verify::finding::{CheckResult, Finding};

/// Checks that no unit or mask hides the daemon's unit; no finding where there is no daemon.
pub(super) fn hiding(root: &Root, receipt: &Receipt) -> Result<Vec<Finding>, Failure> {
    Ok(findings("enabled", units::hiding(root, &Ours::Owned(receipt))?))
}

/// Finds directories of registries that keep images from the mirrors of `_default`.
pub(super) fn registries_beside(root: &Root, receipt: &Receipt) -> Result<Vec<Finding>, Failure> {
    Ok(findings("hosts", registries::conflicts(root, &Ours::Owned(receipt))?))
}

/// Checks that no drop-in changes the daemon's service.
pub(super) fn drop_ins(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let ours = Ours::Owned(receipt);
    if ours.daemon().is_none() {
        return Ok(CheckResult::no_runtime());
    }
    let found = findings("drop-ins", changes::conflicts(root, &ours)?);
    Ok(CheckResult::of(found, "none changes what was installed"))
}

/// Checks that no file that config.toml imports breaks what it says.
pub(super) fn imports(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let ours = Ours::Owned(receipt);
    if ours.runtime().is_none() {
        return Ok(CheckResult::no_runtime());
    }
    let found = findings("imports", fragments::conflicts(root, &ours)?);
    Ok(CheckResult::of(found, "no file that config.toml imports breaks it"))
}

/// Checks that no other file sets a kernel parameter to another value.
pub(super) fn sysctl(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let found = findings("sysctl", parameters::conflicts(root, &Ours::Owned(receipt))?);
    Ok(CheckResult::of(found, "no other file of sysctl.d decides"))
}

/// Checks that every kernel has the modules, and that nothing keeps it from loading them.
pub(super) fn modules(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let ours = Ours::Owned(receipt);
    let mut found = findings("modules", modprobe::conflicts(root, &ours)?);
    found.extend(findings("modules", kernels::conflicts(root, &ours)?));
    Ok(CheckResult::of(found, "no installed kernel lacks one, and nothing keeps them from being loaded"))
}

/// Checks that no mount of the boot hides what was installed, or brings it too late.
pub(super) fn mounts(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let found = findings("mounts", boot::conflicts(root, &Ours::Owned(receipt))?);
    Ok(CheckResult::of(found, "none of the boot hides what was installed"))
}

/// Tells which pod networks are configured. One is no finding: on a node that has joined a cluster the add-on's is right.
pub(super) fn networks(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let ours = Ours::Owned(receipt);
    if ours.runtime().is_none() {
        return Ok(CheckResult::no_runtime());
    }
    let networks: Vec<String> = cni::networks(root, &ours)?.iter().map(ToString::to_string).collect();
    Ok(CheckResult::Passed(match networks.as_slice() {
        [] => "no pod network is configured yet".to_owned(),
        [first] => format!("the pod network of {first}"),
        [first, rest @ ..] => format!("the pod network of {first}, and {} more", rest.len()),
    }))
}

/// Returns a finding of `check` for each conflict that a verified root must not have.
fn findings(check: &'static str, conflicts: impl IntoIterator<Item = Conflict>) -> Vec<Finding> {
    let wrong = conflicts.into_iter().filter(|conflict| conflict.weight != Weight::Told);
    wrong
        .map(|Conflict { path, line, problem, help, .. }| Finding {
            line,
            ..Finding::new(check, Some(&path), problem, &help)
        })
        .collect()
}
