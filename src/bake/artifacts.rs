//! Fetches and decodes every artifact that is missing in a root: each once, for all roots.
//!
//! This module must not give a decoded file a name: `commit` does.

use std::collections::BTreeMap;

use crate::archive::decode::{self, Destination};
use crate::artifact::Artifact;
use crate::bake::job::Job;
use crate::bake::root::{Bake, DecodedArtifacts};
use crate::digest::Digest;
use crate::parallel::{self, IdleProcessors};

/// Fetches and decodes every artifact that is missing in one of the roots, several at the same time.
pub(super) fn decode_all(job: &Job, bakes: &[anyhow::Result<Bake>]) -> DecodedArtifacts {
    let mut needed: BTreeMap<Digest, (Artifact, Destination)> = BTreeMap::new();
    for bake in bakes.iter().flatten() {
        for artifact in bake.artifacts.iter().filter(|artifact| !bake.in_place(artifact)) {
            let (needed, _) =
                needed.entry(artifact.sha256).or_insert((artifact.clone(), destination(job, bake)));
            // A file of it differs from the receipt: the digests in the lock may be wrong and are not used.
            if bake.knows(artifact) {
                needed.members.clear();
            }
        }
    }
    let mut needed: Vec<_> = needed.into_values().collect();
    // Longest first: the last one to finish should be short.
    needed.sort_by_key(|(artifact, _)| std::cmp::Reverse(artifact.catalogued().decoding));
    let threads = job.fetcher.at_once(needed.iter().map(|(artifact, _)| artifact.url.as_str()));
    let idle = IdleProcessors::all();
    let decoded = parallel::map(needed.iter().collect(), threads, |(artifact, destination)| {
        let reading = (!job.fetcher.waits(&artifact.url)).then(|| idle.work());
        let fetched = job.fetcher.fetch(artifact)?;
        let _decoding = reading.unwrap_or_else(|| idle.work());
        let decoded = decode::decode(&fetched, destination, &idle)?;
        if !decoded.ignored.is_empty() {
            job.fetcher
                .progress
                .detail(&format!("{artifact}: not installed: {}", decoded.ignored.join(", ")));
        }
        Ok(decoded)
    });
    needed.iter().map(|(artifact, _)| artifact.sha256).zip(decoded).collect()
}

/// Returns where decoded members go: below a root only where it is baked. A plan writes nothing there, and checks
/// the same.
fn destination<'a>(job: &'a Job, bake: &Bake<'a>) -> Destination<'a> {
    match bake.state {
        Some(_) => Destination::Root(bake.root, &job.scratch),
        None => Destination::Scratch(&job.scratch),
    }
}
