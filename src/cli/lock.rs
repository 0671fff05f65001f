//! `nodebake lock`.
//!
//! This module must not decide which digests to trust: `trust` does.

use std::io::Write;
use std::sync::Mutex;

use crate::artifact::lockfile::Lockfile;
use crate::cli::input::{self, Input};
use crate::cli::output::{print, write_beside};
use crate::cli::spec::load_spec;
use crate::parallel::IdleProcessors;
use crate::progress::Progress;
use crate::trust::{self, Pinner};

/// Pins every artifact of the spec in nodebake.lock, beside the spec.
pub(super) fn lock(input: &Input, architectures: &[String], progress: &Progress) -> anyhow::Result<u8> {
    let (spec, folder) = load_spec(input, progress)?;
    let architectures = input::architectures(architectures, &spec, &Lockfile::default())?;
    let fetcher = input::fetcher(input, &spec, input::cache(input), progress)?;
    let scratch = std::env::temp_dir();
    let pinner = Pinner { fetcher: &fetcher, scratch: &scratch, decoding: Mutex::new(IdleProcessors::all()) };
    let lock = trust::pin(&spec, &architectures, &pinner)?;
    let path = folder.join(input::LOCK);
    let text = lock.text()?;
    write_beside(&path, |mut file| Ok(file.write_all(text.as_bytes())?))?;
    progress.step(&format!("pinned {} artifacts in {}", lock.artifacts.len(), path.display()));
    print("")
}
