//! Fetches and decodes every artifact that is missing in a root: each once, for all roots.
//!
//! This module must not give a decoded file a name: `commit` does.

use std::collections::BTreeMap;

use crate::archive::decode::{self, Decoded, DecodedMember, Destination};
use crate::artifact::Artifact;
use crate::bake::job::Job;
use crate::bake::root::{Bake, DecodedArtifacts};
use crate::bake::versions;
use crate::digest::Digest;
use crate::parallel::{self, IdleProcessors};
use crate::printable::printable;

/// Artifact that is missing in some root.
struct Needed<'a> {
    artifact: Artifact,
    destination: Destination<'a>,
    /// Digests of its members in the lock.
    locked: &'a BTreeMap<String, Digest>,
}

/// Fetches and decodes every artifact that is missing in one of the roots, several at the same time.
pub(super) fn decode_all<'a>(job: &'a Job, bakes: &'a [anyhow::Result<Bake<'a>>]) -> DecodedArtifacts {
    versions::warn(job, bakes.iter().flatten().flat_map(|bake| &bake.artifacts));
    let mut needed: BTreeMap<Digest, Needed> = BTreeMap::new();
    for bake in bakes.iter().flatten() {
        for artifact in bake.artifacts.iter().filter(|artifact| !bake.in_place(artifact)) {
            let needed = needed.entry(artifact.sha256).or_insert_with(|| Needed {
                artifact: artifact.clone(),
                destination: destination(job, bake),
                locked: &artifact.members,
            });
            // A file of it differs from the receipt or the lock. The lock may be wrong: the members are hashed.
            if bake.knows(artifact) {
                needed.artifact.members.clear();
            }
        }
    }
    let mut needed: Vec<_> = needed.into_values().collect();
    // Longest first: the last one to finish should be short.
    needed.sort_by_key(|needed| std::cmp::Reverse(needed.artifact.catalogued().decoding));
    let threads = job.fetcher.at_once(needed.iter().map(|needed| needed.artifact.url.as_str()));
    let idle = IdleProcessors::all();
    let decoded = parallel::map(
        needed.iter().collect(),
        threads,
        |Needed { artifact, destination, locked }| {
            let reading = (!job.fetcher.waits(&artifact.url)).then(|| idle.work());
            let fetched = job.fetcher.fetch(artifact)?;
            let _decoding = reading.unwrap_or_else(|| idle.work());
            let decoded = decode::decode(&fetched, destination, &idle)?;
            if let Some(name) = wrong_in_lock(&decoded, locked) {
                job.fetcher.progress.warn(&format!(
                "nodebake.lock has another `{}` than {artifact}, whose own digest it has as well: write it anew with \
                 `nodebake lock`",
                printable(name)
            ));
            }
            if !decoded.ignored.is_empty() {
                job.fetcher
                    .progress
                    .detail(&format!("{artifact}: not installed: {}", decoded.ignored.join(", ")));
            }
            Ok(decoded)
        },
    );
    needed.iter().map(|needed| needed.artifact.sha256).zip(decoded).collect()
}

/// Returns a member for which the lock has another digest than the archive, or that only one of them has; none if the
/// lock has no members of it. The archive's own digest has matched, so the lock contradicts itself: the archive decides,
/// and is read at every bake.
fn wrong_in_lock<'a>(decoded: &'a Decoded, locked: &'a BTreeMap<String, Digest>) -> Option<&'a str> {
    if locked.is_empty() {
        return None;
    }
    let differs = |member: &&DecodedMember| locked.get(&member.name) != Some(&member.sha256);
    let wrong = decoded.members.iter().find(differs).map(|member| member.name.as_str());
    let left = || locked.keys().find(|name| !decoded.members.iter().any(|member| member.name == **name));
    wrong.or_else(|| left().map(String::as_str))
}

/// Returns where decoded members go: below a root only where it is baked. A plan writes nothing there, and checks
/// the same.
fn destination<'a>(job: &'a Job, bake: &Bake<'a>) -> Destination<'a> {
    match bake.state {
        Some(_) => Destination::Root(bake.root, &job.scratch),
        None => Destination::Scratch(&job.scratch),
    }
}
