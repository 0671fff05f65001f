//! The fetching and writing of a bundle for `nodebake bundle create`.
//!
//! This module must not pin anything: an artifact without a digest is an error. `source/bundle.rs` reads what is
//! written here.

use std::fs::File;
use std::io::Write;

use tar::{EntryType, Header};

use crate::artifact::lockfile::Lockfile;
use crate::artifact::matrix::{Architectures, Matrix};
use crate::artifact::{Artifact, resolve};
use crate::digest::{Hasher, each_chunk};
use crate::error::{Failure, Kind};
use crate::printable::printable;
use crate::source::bundle::{BLOCK, ZEROS, parse_name};
use crate::source::fetch::{Fetched, Fetcher};
use crate::spec::Spec;

/// Fetches and verifies the artifacts of a bundle: all that `spec` asks for, as they are pinned.
pub(crate) fn gather(
    spec: &Spec,
    lock: &Lockfile,
    architectures: &Architectures,
    fetcher: &Fetcher,
) -> anyhow::Result<Vec<Fetched>> {
    const DONE: &str = "in the bundle";
    let selected = Matrix::new(spec, lock, architectures)?;
    // Before anything is fetched: an artifact without a digest, or with a name that could not be found again.
    let pinned = selected.map(1, &fetcher.progress, DONE, |candidate| {
        let artifact = resolve::pin(candidate, lock)?;
        match parse_name(&name(&artifact)).is_some() {
            true => Ok(artifact),
            false => Err(unnamed(&artifact).into()),
        }
    })?;
    let at_once = fetcher.at_once(pinned.values().map(|artifact| artifact.url.as_str()));
    let fetched = pinned.map(at_once, &fetcher.progress, DONE, |artifact| fetcher.fetch(&artifact))?;
    let mut artifacts = fetched.into_values();
    if artifacts.is_empty() {
        let message = "the spec asks for no artifact: there is nothing to pack";
        return Err(Failure::new(Kind::Invalid, message).help("packages need no bundle").into());
    }
    artifacts.sort_by_key(|fetched| fetched.artifact.sha256);
    // Two builds may be the same file, which is packed once.
    artifacts.dedup_by_key(|fetched| fetched.artifact.sha256);
    Ok(artifacts)
}

/// Returns the name of an artifact's entry in the bundle.
fn name(artifact: &Artifact) -> String {
    format!("{}/{}", artifact.sha256, artifact.file_name())
}

fn unnamed(artifact: &Artifact) -> Failure {
    let message = format!("{artifact}: `{}` is no name in a bundle", printable(artifact.file_name()));
    Failure::new(Kind::Invalid, message).help("let the `url` of the component end in a plain, short name")
}

/// Writes the artifacts to `into`, which is empty. An artifact that has changed since it was verified is
/// [`Kind::Unverified`]; an [`std::io::Error`] is one of `into`.
pub(crate) fn write(artifacts: &[Fetched], mut into: &File) -> anyhow::Result<()> {
    for fetched in artifacts {
        let Fetched { artifact, bytes, private } = fetched;
        let mut header = Header::new_ustar();
        header.set_path(name(artifact)).map_err(|_| unnamed(artifact))?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.size());
        header.set_mode(0o644);
        header.set_cksum();
        into.write_all(header.as_bytes())?;
        let mut hasher = (!private).then(Hasher::default);
        let read_at = |buffer: &mut [u8], offset| {
            bytes.read_at(buffer, offset).map_err(|error| {
                Failure::new(Kind::Fetch, format!("reading {artifact} once more: {error}")).into()
            })
        };
        let written = each_chunk(read_at, |chunk| {
            if let Some(hasher) = &mut hasher {
                hasher.update(chunk);
            }
            Ok(into.write_all(chunk)?)
        })?;
        if let Some(found) = hasher.map(Hasher::finish).filter(|found| *found != artifact.sha256) {
            return Err(fetched.changed(found).into());
        }
        let padding = written.next_multiple_of(BLOCK) - written;
        into.write_all(&ZEROS[..usize::try_from(padding)?])?;
    }
    Ok(into.write_all(&ZEROS)?)
}
