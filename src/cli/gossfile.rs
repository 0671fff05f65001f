//! `nodebake goss`.

use crate::bake;
use crate::cli::apply::job;
use crate::cli::args::BuildArguments;
use crate::cli::input::{self, Input};
use crate::cli::output::print;
use crate::progress::Progress;
use crate::verify::goss;

/// What the spec would bake, by itself: no root decides on the build, and nothing is written.
pub(crate) fn goss_of_spec(
    input: &Input,
    build: BuildArguments,
    live: bool,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let job = job(input, build, input::cache(input), progress)?;
    print(&goss::gossfile(&goss::Expected::of_plan(&bake::plan_alone(&job)?), live)?)
}
