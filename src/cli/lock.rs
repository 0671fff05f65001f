//! `nodebake lock`.
//!
//! This module must not decide which digests to trust: `trust` does.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

use crate::artifact::doubt;
use crate::artifact::lockfile::Lockfile;
use crate::catalog;
use crate::cli::input::{self, Input};
use crate::cli::output::{Output, print};
use crate::cli::spec::load_spec;
use crate::cli::time;
use crate::parallel::IdleProcessors;
use crate::progress::Progress;
use crate::trust::{self, Pinner};

/// Pins every artifact of the spec in nodebake.lock, beside the spec.
pub(super) fn lock(input: &Input, architectures: &[String], progress: &Progress) -> anyhow::Result<u8> {
    let (spec, folder) = load_spec(input, progress)?;
    spec.without_effect().iter().for_each(|told| progress.warn(told));
    let output = Output::prepare(&folder.join(input::LOCK))?;
    let architectures = input::architectures(architectures, &spec, &Lockfile::default())?;
    let fetcher = input::fetcher(input, &spec, input::cache(input), progress)?;
    let scratch = std::env::temp_dir();
    let pinner = Pinner { fetcher: &fetcher, scratch: &scratch, decoding: Mutex::new(IdleProcessors::all()) };
    let lock = trust::pin(&spec, &architectures, &pinner)?;
    let text = lock.text()?;
    output.replace(|mut file| Ok(file.write_all(text.as_bytes())?))?;
    warn(&lock, progress)?;
    progress.step(&format!("pinned {} in {}", pinned(&lock), folder.join(input::LOCK).display()));
    print("")
}

/// Warns of releases past their end of life.
fn warn(lock: &Lockfile, progress: &Progress) -> anyhow::Result<()> {
    let today = time::today()?;
    let told = lock.artifacts.iter().filter_map(|artifact| {
        doubt::of_release(catalog::component_of(&artifact.component), &artifact.version, &today)
    });
    told.collect::<BTreeSet<String>>().iter().for_each(|told| progress.warn(told));
    Ok(())
}

/// Says how many artifacts and package files the lock has.
fn pinned(lock: &Lockfile) -> String {
    let artifacts = counted(lock.artifacts.len(), "artifact");
    match lock.packages.len() {
        0 => artifacts,
        files => format!("{artifacts} and {}", counted(files, "package file")),
    }
}

/// Returns the number with its noun, which is plural where it is not one.
pub(super) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
