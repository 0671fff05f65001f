//! `nodebake verify`.
//!
//! This module must not check anything itself: `verify` does.

use std::path::Path;

use crate::cli::args::VerifyArguments;
use crate::cli::output::print;
use crate::cli::{json, report};
use crate::error::Kind;
use crate::live::service;
use crate::root::Root;
use crate::verify;
use crate::verify::live::Live;

/// Verifies the root at `host` and prints the verdict; the exit code is [`Kind::Drift`]'s where it has findings.
pub(super) fn verify(
    host: &Path,
    VerifyArguments { live, pod, execute, pull }: VerifyArguments,
    json: bool,
) -> anyhow::Result<u8> {
    let root = Root::open(host)?;
    // The programs of the running system have root's rights on this host already.
    let may_execute = execute.execute || service::is_running_system(&root)?;
    let root = root.executing(may_execute);
    let live = (live || pod || pull.is_some()).then_some(Live { pod, pull });
    let verdict = verify::verify(&root, live.as_ref())?;
    print(&if json { json::json(&verdict)? } else { report::verdict(host, &verdict) })?;
    Ok(if verdict.findings.is_empty() { 0 } else { Kind::Drift.exit_code() })
}
