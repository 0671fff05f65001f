//! `nodebake goss` without a root.
//!
//! This module must not write to a root: artifacts are fetched into the cache and decoded to scratch files.

use crate::bake;
use crate::cli::args::BuildArguments;
use crate::cli::input::{self, Input};
use crate::cli::job::job;
use crate::cli::output::print;
use crate::progress::Progress;
use crate::verify::goss;

/// Prints the goss file of what the spec would bake. No root decides between the static and the dynamic build.
pub(super) fn goss_of_spec(
    input: &Input,
    build: BuildArguments,
    live: bool,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let job = job(input, build, input::cache(input), progress)?;
    print(&goss::gossfile(&goss::Expected::of_plan(&bake::plan_alone(&job)?), live)?)
}
