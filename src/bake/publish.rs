//! Stages and publishes the plan of one root.
//!
//! This module must not write anything where the root is as planned.

use crate::archive::decode::DecodedMember;
use crate::bake::abandon::abandon;
use crate::bake::job::{Job, Report};
use crate::bake::prepare::Planned;
use crate::bake::root::DecodedArtifacts;
use crate::commit::Commit;
use crate::error::Failure;

/// Writes every changed file beside its destination, and undoes that if it fails.
pub(super) fn stage<'a>(
    job: &Job,
    planned: Planned<'a>,
    decoded: &DecodedArtifacts,
    flushes: usize,
) -> anyhow::Result<Planned<'a>> {
    let members: Vec<&DecodedMember> =
        decoded.values().flatten().flat_map(|decoded| &decoded.members).collect();
    let staged = planned.commit(job, &members, flushes).and_then(|commit| {
        let Some(commit) = commit else { return Ok(()) };
        job.fetcher.progress.step(&format!("staging into {}", planned.bake.root.host().display()));
        commit.stage()
    });
    match staged {
        Ok(()) => Ok(planned),
        Err(failure) => Err(abandon(planned.bake.root, planned.bake.state, failure.into())),
    }
}

/// Renames every staged file to its destination.
pub(super) fn publish(job: &Job, planned: Planned, flushes: usize) -> anyhow::Result<Report> {
    let published = planned
        .commit(job, &[], flushes)
        .and_then(|commit| commit.map(|commit| commit.publish()).transpose());
    match published {
        Ok(kept) => Ok(Report { kept: kept.unwrap_or_default(), ..planned.report() }),
        Err(failure) => Err(abandon(planned.bake.root, planned.bake.state, failure.into())),
    }
}

impl Planned<'_> {
    /// Returns the commit that carries the plan out; none where the root is as planned.
    fn commit<'a>(
        &'a self,
        job: &Job,
        members: &'a [&'a DecodedMember],
        flushes: usize,
    ) -> Result<Option<Commit<'a>>, Failure> {
        let Planned { bake, receipt, is_first, plan, diff, .. } = self;
        let Some(state) = &bake.state else { return Ok(None) };
        let mtime = job.mtime;
        let commit = Commit { root: bake.root, state, receipt, plan, diff, members, mtime, flushes };
        let unchanged = !is_first && commit.wanted().text()? == receipt.text()?;
        Ok((!diff.is_empty() || !unchanged).then_some(commit))
    }
}
