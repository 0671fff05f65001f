//! `nodebake plan` and `nodebake apply`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bake::job::{Job, Outcome, Report};
use crate::bake::{self, start};
use crate::cli::args::{BakeArguments, BuildArguments, Static};
use crate::cli::input::{self, Input, UserInput};
use crate::cli::output::print;
use crate::cli::{json, report};
use crate::error::{self, Failure, Kind};
use crate::live::service;
use crate::printable;
use crate::progress::Progress;
use crate::root::Root;
use crate::root::selinux::RELABEL;

pub(crate) fn plan(bake: &BakeArguments, detailed_exitcode: bool, progress: &Progress) -> anyhow::Result<u8> {
    let job = bake_job(bake, progress)?;
    let outcomes = bake::plan(&job, &bake.root);
    let changes =
        outcomes.iter().filter_map(|o| o.result.as_ref().ok()).any(|report| !report.diff.is_empty());
    let code = report(outcomes, bake.json, true, progress)?;
    Ok(if code == 0 && changes && detailed_exitcode { Kind::Drift.exit_code() } else { code })
}

pub(crate) fn apply(bake: &BakeArguments, start: bool, progress: &Progress) -> anyhow::Result<u8> {
    let running = if start { Some(running_root(&bake.root)?) } else { None };
    let job = bake_job(bake, progress)?;
    if start && !["containerd", "containerd-static"].iter().any(|name| job.spec.wants(name)) {
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
    report(outcomes, bake.json, false, progress)
}

/// The one root that `--start` is for, before anything is written to it.
fn running_root(hosts: &[PathBuf]) -> anyhow::Result<Root> {
    let [host] = hosts else {
        return Err(Failure::new(Kind::Usage, "`--start` goes with one --root, the running system's").into());
    };
    let root = Root::open(host)?;
    let help = "leave out `--start`: the service is enabled and comes up at the next boot";
    service::require_running_system(&root, "--start", help)?;
    Ok(root)
}

fn bake_job(bake: &BakeArguments, progress: &Progress) -> anyhow::Result<Job> {
    let cache = input::cache_outside(&bake.input, &bake.root)?;
    let lock_timeout = Duration::from_secs(bake.wait.lock_timeout);
    Ok(Job { lock_timeout, ..job(&bake.input, bake.build, cache, progress)? })
}

pub(crate) fn job(
    input: &Input,
    build: BuildArguments,
    cache: Option<PathBuf>,
    progress: &Progress,
) -> anyhow::Result<Job> {
    let UserInput { mut spec, lock, certificates } = UserInput::load(input)?;
    match build.static_build {
        Static::Auto => {}
        Static::Always => spec.choose_static(true),
        Static::Never => spec.choose_static(false),
    }
    Ok(Job {
        fetcher: input::fetcher(input, &spec, cache, progress)?,
        spec,
        lock,
        certificates,
        scratch: std::env::temp_dir(),
        lock_timeout: Duration::ZERO,
        mtime: input::source_date_epoch()?,
    })
}

/// Prints what came of every root; gives the exit code of the first failure.
fn report(outcomes: Vec<Outcome>, json: bool, planned: bool, progress: &Progress) -> anyhow::Result<u8> {
    let mut text = String::new();
    let mut document = Vec::new();
    let mut first = None;
    let several = outcomes.len() > 1;
    for Outcome { host, result } in outcomes {
        match result {
            Ok(report) => {
                tell(&host, &report, progress);
                if several && !json {
                    text += &format!("{}:\n", printable::printable(&host.display().to_string()));
                }
                let baked = json::baked(&host, &report.diff);
                document.push(report.started.iter().fold(baked, json::Baked::started));
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

fn tell(host: &Path, report: &Report, progress: &Progress) {
    for warning in &report.warnings {
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
    for change in report.diff.changes.iter().filter(|change| change.edited && change.new.is_none()) {
        progress.warn(&format!("{} is not wanted any more; it was edited and is kept", change.path));
    }
}
