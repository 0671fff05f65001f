//! `nodebake verify`.
//!
//! This module must not check anything itself: `verify` does.

use std::path::Path;

use crate::bake;
use crate::cli::args::{BuildArguments, VerifyArguments};
use crate::cli::input::Input;
use crate::cli::job::job;
use crate::cli::output::print;
use crate::cli::{json, report};
use crate::error::Kind;
use crate::live::service;
use crate::progress::Progress;
use crate::root::Root;
use crate::verify::live::Live;
use crate::verify::{self, Expected};

/// Verifies the root at `host` and prints the verdict; the exit code is [`Kind::Drift`]'s where it has findings.
pub(super) fn verify(
    host: &Path,
    VerifyArguments { spec, build, live, pod, execute, foreign, pull }: VerifyArguments,
    json: bool,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let root = Root::open(host)?;
    // The programs of the running system have root's rights on this host already.
    let may_execute = execute.execute || service::is_running_system(&root)?;
    let root = root.executing(may_execute).foreign(foreign.foreign);
    let expected = spec.map(|spec| expected(&spec, build, &root, progress)).transpose()?;
    let live = (live || pod || pull.is_some()).then_some(Live { pod, pull });
    let verdict = verify::verify(&root, live.as_ref(), expected.as_ref())?;
    print(&if json { json::json(&verdict)? } else { report::verdict(host, &verdict) })?;
    Ok(if verdict.findings.is_empty() { 0 } else { Kind::Drift.exit_code() })
}

/// Returns what the spec at `spec` and the lock beside it want in `root`.
fn expected(
    spec: &Path,
    build: BuildArguments,
    root: &Root,
    progress: &Progress,
) -> anyhow::Result<Expected> {
    let job = job(&Input::of_spec(spec), build, None, progress)?;
    bake::expected(&job, root)
}
