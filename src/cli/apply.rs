//! `nodebake plan` and `nodebake apply`.
//!
//! This module must not change a root itself: `bake` does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::bake::job::{Outcome, Report};
use crate::bake::{self, start};
use crate::cli::args::BakeArguments;
use crate::cli::job::bake_job;
use crate::cli::output::print;
use crate::cli::{json, report};
use crate::commit::diff::Change;
use crate::error::{self, Failure, Kind};
use crate::live::service;
use crate::printable::printable;
use crate::progress::Progress;
use crate::root::Root;
use crate::root::mounts::ON_UNUSED_MOUNT;
use crate::root::selinux::RELABEL;

/// Prints what `apply` would change. With `detailed_exitcode` the exit code says whether anything would.
pub(super) fn plan(bake: &BakeArguments, detailed_exitcode: bool, progress: &Progress) -> anyhow::Result<u8> {
    let job = bake_job(bake, progress)?;
    let outcomes = bake::plan(&job, &bake.root);
    let changes = outcomes
        .iter()
        .filter_map(|outcome| outcome.result.as_ref().ok())
        .any(|report| !report.diff.is_empty());
    let code = print_outcomes(outcomes, bake.json, true, progress)?;
    Ok(if code == 0 && changes && detailed_exitcode { Kind::Drift.exit_code() } else { code })
}

/// Bakes the roots, prints the changes, and with `start` (re)starts containerd.
pub(super) fn apply(bake: &BakeArguments, start: bool, progress: &Progress) -> anyhow::Result<u8> {
    let running = if start { Some(running_root(&bake.root)?) } else { None };
    let job = bake_job(bake, progress)?;
    if start && job.spec.runtime().is_none() {
        let message = "`--start`: containerd is not one of the components";
        return Err(Failure::new(Kind::Usage, message).help("leave out `--start`").into());
    }
    let mut outcomes = bake::apply(&job, &bake.root);
    if let (Some(root), Some(Outcome { result: Ok(report), .. })) = (&running, outcomes.first_mut()) {
        let started = start::start(root, &job.spec, &report.diff, progress).map_err(Into::into);
        if let Ok(done) = &started {
            progress.step(done);
        }
        report.started = Some(started);
    }
    print_outcomes(outcomes, bake.json, false, progress)
}

/// Opens the one root that `--start` allows, and refuses one that is not the running system's.
fn running_root(hosts: &[PathBuf]) -> anyhow::Result<Root> {
    let [host] = hosts else {
        return Err(Failure::new(Kind::Usage, "`--start` goes with one --root, the running system's").into());
    };
    let root = Root::open(host)?;
    let help = "leave out `--start`: the service is enabled and comes up at the next boot";
    service::require_running_system(&root, "--start", help)?;
    Ok(root)
}

/// Prints the result of every root. Returns the exit code of the first failure.
fn print_outcomes(
    outcomes: Vec<Outcome>,
    json: bool,
    planned: bool,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let (mut text, mut document, mut first) = (String::new(), Vec::new(), None);
    let several = outcomes.len() > 1;
    let mut said = BTreeSet::new();
    for Outcome { host, result } in outcomes {
        match result {
            Ok(report) => {
                warn(&host, &report, &mut said, progress);
                if several && !json {
                    text += &format!("{}:\n", printable(&host.display().to_string()));
                }
                document.push(json::baked(&host, &report));
                if planned || !progress.is_quiet() {
                    text += &report::changes(&report.diff, planned);
                }
                if let Some(Err(error)) = report.started {
                    first.get_or_insert(error);
                }
            }
            Err(error) => {
                document.push(json::failed(&host, &error));
                if several {
                    report::error(&error);
                }
                first.get_or_insert(error);
            }
        }
    }
    let code = print(&if json { json::json(&json::Roots { roots: document })? } else { text });
    match first {
        Some(error) if several => Ok(error::kind(&error).map_or(1, Kind::exit_code)),
        Some(error) => Err(error),
        None => code,
    }
}

/// Prints the warnings about a baked root, but for those in `said`: what is true of several roots is said once.
fn warn(host: &Path, report: &Report, said: &mut BTreeSet<String>, progress: &Progress) {
    for warning in report.warnings.iter().filter(|warning| said.insert((*warning).clone())) {
        progress.warn(warning);
    }
    if report.kept.unlabelled {
        progress.warn(&format!(
            "SELinux labels can't be set in root `{}`: {RELABEL} is set, and the next boot labels the root",
            host.display()
        ));
    }
    for (path, kept) in &report.kept.edits {
        progress.warn(&format!("{path} was edited; the edit is kept as {kept}"));
    }
    for change in report.diff.changes.iter().filter(|change| change.unreachable) {
        progress.warn(&format!("{} is not wanted any more; it {ON_UNUSED_MOUNT}, and is kept", change.path));
    }
    let edited = |change: &&Change| change.edited && change.new.is_none() && !change.unreachable;
    for change in report.diff.changes.iter().filter(edited) {
        progress.warn(&format!("{} is not wanted any more; it was edited and is kept", change.path));
    }
}
