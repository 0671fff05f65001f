//! `nodebake bundle create` and `nodebake bundle verify`.
//!
//! This module must not know the bundle's format.

use std::path::Path;

use crate::artifact::doubt;
use crate::cli::input::{self, Input, UserInput};
use crate::cli::lock::counted;
use crate::cli::output::{Output, print};
use crate::progress::Progress;
use crate::source::bundle::Bundle;
use crate::source::pack;

/// Fetches what is pinned for the architectures `named`, and writes it to `output`.
pub(super) fn create_bundle(
    input: &Input,
    named: &[String],
    output: &Path,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let file = Output::prepare(output)?;
    let UserInput { spec, lock, .. } = UserInput::load(input, progress)?;
    spec.without_effect().iter().for_each(|told| progress.warn(told));
    let fetcher = input::fetcher(input, &spec, input::cache(input), progress)?;
    let gathered = pack::gather(&spec, &lock, &input::architectures(named, &spec, &lock)?, &fetcher)?;
    let unused = gathered.iter().filter_map(|fetched| doubt::of_lock(&lock, &fetched.artifact));
    unused.for_each(|told| progress.warn(&told));
    if spec.package().is_some() {
        progress.warn("packages are not in a bundle: give them by `containerd.package.repository.path`");
    }
    file.replace(|file| pack::write(&gathered, file))?;
    progress.step(&format!("packed {} into {}", counted(gathered.len(), "artifact"), output.display()));
    print("")
}

/// Verifies the bundle at `path` and prints its artifacts with their digests.
pub(super) fn verify_bundle(path: &Path) -> anyhow::Result<u8> {
    let bundle = Bundle::open(path)?;
    let lines = bundle.verify()?.into_iter().map(|(digest, name)| format!("{digest}  {name}\n"));
    print(&lines.collect::<String>())
}
