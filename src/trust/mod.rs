//! `nodebake lock`: finds the digest of every artifact, fetches it once, and writes both down.
//!
//! A digest comes from the spec, from the catalogue, or from the checksum file that upstream
//! publishes; which one it was stands in the lock. It is the only command that believes a
//! checksum file. Archives are decoded as a bake would, and the digests of their members go in as
//! well: then they are hashed here once, and not on every node.

mod published;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::archive::decode::{self, Destination};
use crate::artifact::Artifact;
use crate::artifact::lockfile::{Lockfile, Pinned};
use crate::artifact::matrix::{Architectures, Matrix};
use crate::artifact::resolve::Unpinned;
use crate::digest::Digest;
use crate::error::Kind;
use crate::packages::files::packages;
use crate::parallel::IdleProcessors;
use crate::printable;
use crate::source::fetch::{Fetched, Fetcher};
use crate::spec::Spec;
use crate::trust::published::digest;

/// Finds out what is pinned.
pub(crate) struct Pinner<'a> {
    /// How artifacts are fetched.
    pub fetcher: &'a Fetcher,
    /// Where archives are decoded, one at a time: a whole one has to fit.
    pub scratch: &'a Path,
    /// Held while one is.
    pub decoding: Mutex<IdleProcessors>,
}

/// Pins everything that `spec` asks for.
pub(crate) fn pin(spec: &Spec, architectures: &Architectures, pinner: &Pinner) -> anyhow::Result<Lockfile> {
    // Nothing is open but what the spec leaves open: an older lock has no say.
    let selected = Matrix::new(spec, &Lockfile::default(), architectures)?;
    let at_once = pinner.fetcher.at_once(selected.values().map(|candidate| candidate.url.as_str()));
    let locked =
        selected.map(at_once, &pinner.fetcher.progress, "pinned", |candidate| lock_one(candidate, pinner))?;
    Ok(Lockfile::new(locked.into_values(), packages(spec)?))
}

fn lock_one(candidate: Unpinned, pinner: &Pinner) -> anyhow::Result<Pinned> {
    let (sha256, verified) = digest(&candidate, pinner.fetcher)?;
    let Unpinned { component, build, version, arch, url, .. } = candidate;
    let (component, build, arch) = (component.to_owned(), build.to_owned(), arch.to_string());
    let artifact =
        Artifact { component, build, version, arch, url, sha256, size: None, members: BTreeMap::new() };
    let fetched = pinner.fetcher.fetch(&artifact)?;
    let members = members(&fetched, pinner)?;
    let Artifact { build, version, arch, url, sha256, .. } = artifact;
    let url = printable::redacted(&url);
    Ok(Pinned { component: build, version, arch, url, size: fetched.bytes.size(), sha256, verified, members })
}

/// The digests of what is installed of an archive. An artifact that a bake would refuse is pinned all
/// the same, with a warning: the lock says what the source has.
fn members(fetched: &Fetched, pinner: &Pinner) -> anyhow::Result<BTreeMap<String, Digest>> {
    let idle = pinner.decoding.lock().unwrap_or_else(PoisonError::into_inner);
    let _decoding = idle.work();
    let decoded = match decode::decode(fetched, &Destination::Scratch(pinner.scratch), &idle) {
        Ok(decoded) => decoded,
        Err(error) => {
            let artifact = &fetched.artifact;
            // What somebody is writing to is no release.
            let found = fetched.bytes.digest()?;
            if found != artifact.sha256 {
                return Err(fetched.changed(found).into());
            }
            let warning = match crate::error::kind(&error) {
                Some(Kind::Unverified | Kind::Unsafe | Kind::Invalid) => {
                    format!("{artifact} is pinned, but no root will get it: {error:#}")
                }
                Some(Kind::Filesystem) => format!(
                    "{artifact} is pinned without a look into it, for which `{}` has no room: {error:#}",
                    pinner.scratch.display()
                ),
                _ => return Err(error),
            };
            pinner.fetcher.progress.warn(&warning);
            return Ok(BTreeMap::new());
        }
    };
    // What is no archive is its own and only member.
    let members = decoded.members.into_iter().filter(|_| !fetched.artifact.catalogued().raw);
    Ok(members.map(|member| (member.name, member.sha256)).collect())
}
