//! Fetches and decodes what is missing somewhere: side by side, the longest first, each once.

use std::collections::BTreeMap;

use crate::archive::decode::{self, Destination};
use crate::artifact::Artifact;
use crate::bake::job::Job;
use crate::bake::root::{Bake, DecodedArtifacts};
use crate::digest::Digest;
use crate::parallel::{self, IdleProcessors};
use crate::root::Root;

/// Fetches and decodes, side by side, every artifact that is missing somewhere; each once.
pub(crate) fn decode_all(job: &Job, bakes: &[anyhow::Result<Bake>], write: bool) -> DecodedArtifacts {
    let mut needed: BTreeMap<Digest, (Artifact, &Root)> = BTreeMap::new();
    for bake in bakes.iter().flatten() {
        for artifact in bake.artifacts.iter().filter(|artifact| !bake.in_place(artifact)) {
            let (needed, _) = needed.entry(artifact.sha256).or_insert((artifact.clone(), bake.root));
            // It was installed and is not what the receipt says: whether the lock says it right is seen now.
            if bake.knows(artifact) {
                needed.members.clear();
            }
        }
    }
    let mut needed: Vec<_> = needed.into_values().collect();
    // The longest first, so that the last to end is short.
    needed.sort_by_key(|(artifact, _)| std::cmp::Reverse(weight(artifact)));
    let threads = job.fetcher.at_once(needed.iter().map(|(artifact, _)| artifact.url.as_str()));
    let idle = IdleProcessors::all();
    let decoded = parallel::map(needed.iter().collect(), threads, |(artifact, root)| {
        // A plan writes nothing below a root; the checks are the same.
        let place =
            if write { Destination::Root(root, &job.scratch) } else { Destination::Scratch(&job.scratch) };
        let reading = (!job.fetcher.waits(&artifact.url)).then(|| idle.work());
        let fetched = job.fetcher.fetch(artifact)?;
        let _decoding = reading.unwrap_or_else(|| idle.work());
        let decoded = decode::decode(&fetched, &place, &idle)?;
        if !decoded.ignored.is_empty() {
            job.fetcher
                .progress
                .detail(&format!("{artifact}: not installed: {}", decoded.ignored.join(", ")));
        }
        Ok(decoded)
    });
    needed.iter().map(|(artifact, _)| artifact.sha256).zip(decoded).collect()
}

/// How much work an artifact is, roughly: archives before single files.
fn weight(artifact: &Artifact) -> u8 {
    match artifact.component.as_str() {
        "containerd" => 3,
        "cni-plugins" => 2,
        _ => u8::from(!artifact.catalogued().raw),
    }
}
