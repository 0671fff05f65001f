//! `nodebake lock`.

use std::io::Write;
use std::sync::Mutex;

use crate::arch::Arch;
use crate::artifact::lockfile::Lockfile;
use crate::artifact::matrix::Architectures;
use crate::cli::input::{self, Input};
use crate::cli::output::{print, write_beside};
use crate::error::Failure;
use crate::parallel::IdleProcessors;
use crate::progress::Progress;
use crate::spec::Spec;
use crate::trust::{self, Pinner};

pub(crate) fn lock(input: &Input, architectures: &[String], progress: &Progress) -> anyhow::Result<u8> {
    let (spec, folder) = input::spec(input)?;
    let architectures = choose(architectures, &spec, &Lockfile::default())?;
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

/// The architectures that are named, else the spec's, else those that are pinned.
pub(crate) fn choose(named: &[String], spec: &Spec, lock: &Lockfile) -> Result<Architectures, Failure> {
    let parsed = |name: &str| name.parse::<Arch>();
    let named = named.iter().map(|name| parsed(name)).collect::<Result<Vec<_>, _>>()?;
    let pinned = lock.artifacts.iter().map(|locked| parsed(&locked.arch)).collect::<Result<Vec<_>, _>>()?;
    Ok(match (&spec.arch, named.is_empty(), pinned.is_empty()) {
        (_, false, _) => Architectures::Asked(named),
        (Some(arch), ..) => Architectures::Asked(arch.arch().into_iter().collect()),
        (None, _, false) => Architectures::Asked(pinned),
        (None, ..) => Architectures::Common,
    })
}
