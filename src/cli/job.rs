//! Makes the job of a bake from the command line and the user's input.
//!
//! This module must not start it.

use std::path::PathBuf;
use std::time::Duration;

use crate::bake::job::Job;
use crate::cli::args::{BakeArguments, BuildArguments, Static};
use crate::cli::expiry;
use crate::cli::input::{self, Input, UserInput};
use crate::cli::spec::require_spec_for_baked;
use crate::cli::time;
use crate::progress::Progress;
use crate::spec::Spec;

/// Reads the job of `plan` and `apply`.
pub(super) fn bake_job(bake: &BakeArguments, progress: &Progress) -> anyhow::Result<Job> {
    require_spec_for_baked(&bake.input, &bake.root)?;
    let cache = input::cache_outside(&bake.input, &bake.root)?;
    let lock_timeout = Duration::from_secs(bake.wait.lock_timeout);
    let (execute, foreign) = (bake.execute.execute, bake.foreign.foreign);
    Ok(Job { lock_timeout, execute, foreign, ..job(&bake.input, bake.build, cache, progress)? })
}

/// Reads the job that the flags and the spec describe, with `cache` as the folder of downloads.
pub(super) fn job(
    input: &Input,
    build: BuildArguments,
    cache: Option<PathBuf>,
    progress: &Progress,
) -> anyhow::Result<Job> {
    let UserInput { mut spec, lock, certificates, dates } = UserInput::load(input, progress)?;
    let today = time::today()?;
    expiry::warn_of_dates(&dates, &today, progress);
    spec.without_effect().iter().for_each(|told| progress.warn(told));
    choose_build(&mut spec, build.static_build, progress);
    Ok(Job {
        fetcher: input::fetcher(input, &spec, cache, progress)?,
        spec,
        lock,
        certificates,
        scratch: std::env::temp_dir(),
        lock_timeout: Duration::ZERO,
        execute: false,
        foreign: false,
        mtime: time::source_date_epoch()?.unwrap_or(0),
        today,
    })
}

/// Sets which build of the runtime is used, if the flag says it.
fn choose_build(spec: &mut Spec, static_build: Static, progress: &Progress) {
    if static_build != Static::Auto && (spec.package().is_some() || spec.runtime().is_none()) {
        progress.warn("`--static` has no effect: containerd does not come from an archive");
    }
    match static_build {
        Static::Auto => {}
        Static::Always => spec.choose_static(true),
        Static::Never => spec.choose_static(false),
    }
}
