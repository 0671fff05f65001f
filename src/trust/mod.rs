//! The work of `nodebake lock`: finding the digest of every artifact, fetching the artifact, making the lock.
//!
//! This module must not be used by a bake, which believes no checksum file. A digest comes from the spec, the
//! catalogue or the checksum file that upstream publishes; the lock records which. Archives are decoded as in a
//! bake, so that the lock has the digests of their members and a bake need not hash these.

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
use crate::redacted;
use crate::source::fetch::{Fetched, Fetcher};
use crate::spec::Spec;
use crate::trust::published::digest;

/// Pinner of artifacts.
pub(crate) struct Pinner<'a> {
    /// Fetcher of the artifacts.
    pub fetcher: &'a Fetcher,
    /// Directory in which archives are decoded, one at a time, so that the largest has to fit.
    pub scratch: &'a Path,
    /// Held while an archive is decoded.
    pub decoding: Mutex<IdleProcessors>,
}

/// Pins everything that `spec` asks for.
pub(crate) fn pin(spec: &Spec, architectures: &Architectures, pinner: &Pinner) -> anyhow::Result<Lockfile> {
    // An older lock has no influence: what the spec leaves open is resolved anew.
    let selected = Matrix::new(spec, &Lockfile::default(), architectures)?;
    let at_once = pinner.fetcher.at_once(selected.values().map(|candidate| candidate.url.as_str()));
    let locked =
        selected.map(at_once, &pinner.fetcher.progress, "pinned", |candidate| lock_one(candidate, pinner))?;
    Ok(Lockfile::new(locked.into_values(), packages(spec)?))
}

/// Fetches one artifact, which verifies its digest, and decodes it.
fn lock_one(candidate: Unpinned, pinner: &Pinner) -> anyhow::Result<Pinned> {
    let (sha256, verified) = digest(&candidate, pinner.fetcher)?;
    let Unpinned { component, build, version, arch, url, .. } = candidate;
    let (component, build, arch) = (component.to_owned(), build.to_owned(), arch.to_string());
    let artifact =
        Artifact { component, build, version, arch, url, sha256, size: None, members: BTreeMap::new() };
    let fetched = pinner.fetcher.fetch(&artifact)?;
    let members = members(&fetched, pinner)?;
    let Artifact { build, version, arch, url, sha256, .. } = artifact;
    let url = redacted::redacted(&url);
    Ok(Pinned { component: build, version, arch, url, size: fetched.bytes.size(), sha256, verified, members })
}

/// Returns the digests of an archive's members that are installed. An artifact that a bake would refuse is pinned
/// all the same, with a warning: the lock records what the source has.
fn members(fetched: &Fetched, pinner: &Pinner) -> anyhow::Result<BTreeMap<String, Digest>> {
    let idle = pinner.decoding.lock().unwrap_or_else(PoisonError::into_inner);
    let _decoding = idle.work();
    let decoded = match decode::decode(fetched, &Destination::Scratch(pinner.scratch), &idle) {
        Ok(decoded) => decoded,
        Err(error) => {
            let artifact = &fetched.artifact;
            // A file that changes while it is read must not be pinned.
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
    // A raw executable has no members beside itself.
    let members = decoded.members.into_iter().filter(|_| !fetched.artifact.catalogued().raw);
    Ok(members.map(|member| (member.name, member.sha256)).collect())
}
