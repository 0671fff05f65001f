//! `nodebake bundle create`: fetches and verifies all that is pinned, and writes it to one file, as
//! `source/bundle.rs` reads it.

use std::fs::File;
use std::io::{Read, Write};

use tar::{EntryType, Header};

use crate::artifact::lockfile::Lockfile;
use crate::artifact::matrix::{Architectures, Matrix};
use crate::artifact::{Artifact, resolve};
use crate::digest::{BUFFER, Hashing};
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::printable::printable;
use crate::source::bundle::{BLOCK, ZEROS, parted};
use crate::source::fetch::{Fetched, Fetcher};
use crate::spec::Spec;

/// Fetches and verifies what goes into a bundle: all that `spec` asks for, as it is pinned.
pub(crate) fn gather(
    spec: &Spec,
    lock: &Lockfile,
    architectures: &Architectures,
    fetcher: &Fetcher,
) -> anyhow::Result<Vec<Fetched>> {
    const DONE: &str = "in the bundle";
    let selected = Matrix::new(spec, lock, architectures)?;
    // Before anything is fetched: what has no digest, and what could not be found again.
    let pinned = selected.map(1, &fetcher.progress, DONE, |candidate| {
        let artifact = resolve::pin(candidate, lock)?;
        match parted(&name(&artifact)).is_some() {
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
    // Two builds may be the same file.
    artifacts.dedup_by_key(|fetched| fetched.artifact.sha256);
    Ok(artifacts)
}

fn name(artifact: &Artifact) -> String {
    format!("{}/{}", artifact.sha256, artifact.file_name())
}

fn unnamed(artifact: &Artifact) -> Failure {
    let message = format!("{artifact}: `{}` is no name in a bundle", printable(artifact.file_name()));
    Failure::new(Kind::Invalid, message).help("let the `url` of the component end in a plain, short name")
}

/// Writes what has been gathered to `into`, which is empty. What has changed since it was verified is
/// [`Kind::Unverified`]; an [`std::io::Error`] is one of `into`.
pub(crate) fn write(artifacts: &[Fetched], mut into: &File) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER];
    for fetched in artifacts {
        let Fetched { artifact, bytes, private } = fetched;
        let mut header = Header::new_ustar();
        header.set_path(name(artifact)).map_err(|_| unnamed(artifact))?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.size());
        header.set_mode(0o644);
        header.set_cksum();
        into.write_all(header.as_bytes())?;
        let (mut source, mut written) = (Hashing::new(bytes.reader(), !private), 0);
        loop {
            interrupt::check()?;
            let count = source.read(&mut buffer).map_err(|error| {
                Failure::new(Kind::Fetch, format!("reading {artifact} once more: {error}"))
            })?;
            if count == 0 {
                break;
            }
            into.write_all(&buffer[..count])?;
            written += count as u64;
        }
        if let Some(found) = source.finish().filter(|found| *found != artifact.sha256) {
            return Err(fetched.changed(found).into());
        }
        let padding = written.next_multiple_of(BLOCK) - written;
        into.write_all(&ZEROS[..usize::try_from(padding)?])?;
    }
    Ok(into.write_all(&ZEROS)?)
}
