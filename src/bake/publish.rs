//! Stages and publishes one root.

use crate::archive::decode::DecodedMember;
use crate::bake::abandon::abandon;
use crate::bake::job::{Job, Report};
use crate::bake::prepare::Planned;
use crate::bake::root::DecodedArtifacts;
use crate::commit::Commit;
use crate::error::Failure;
use crate::state::Receipt;

/// Writes everything beside its place.
pub(crate) fn stage<'a>(
    job: &Job,
    planned: Planned<'a>,
    decoded: &DecodedArtifacts,
    flushes: usize,
) -> anyhow::Result<Planned<'a>> {
    let members: Vec<&DecodedMember> =
        decoded.values().flatten().flat_map(|decoded| &decoded.members).collect();
    let staged = with_commit(job, &planned, &members, flushes, |commit| {
        job.fetcher.progress.step(&format!("staging into {}", planned.bake.root.host().display()));
        commit.stage()
    });
    match staged {
        Ok(_) => Ok(planned),
        Err(failure) => Err(abandon(planned.bake.root, planned.bake.state, failure.into())),
    }
}

/// Renames everything into place.
pub(crate) fn publish(job: &Job, planned: Planned, flushes: usize) -> anyhow::Result<Report> {
    match with_commit(job, &planned, &[], flushes, |commit| commit.publish()) {
        Ok(kept) => Ok(Report { kept: kept.unwrap_or_default(), ..planned.report() }),
        Err(failure) => Err(abandon(planned.bake.root, planned.bake.state, failure.into())),
    }
}

/// Calls `work` unless there is nothing to do: then nothing at all is written.
fn with_commit<T>(
    job: &Job,
    planned: &Planned,
    members: &[&DecodedMember],
    flushes: usize,
    work: impl FnOnce(&Commit) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let Planned { bake, plan, diff, .. } = planned;
    let Some(state) = &bake.state else { return Ok(None) };
    let nothing = Receipt::new(plan.arch.as_str(), Vec::new());
    let receipt = bake.receipt.as_ref().unwrap_or(&nothing);
    let mtime = job.mtime;
    let commit = Commit { root: bake.root, state, receipt, plan, diff, members, mtime, flushes };
    let unchanged = bake.receipt.is_some() && commit.wanted().text()? == receipt.text()?;
    if diff.is_empty() && unchanged {
        return Ok(None);
    }
    work(&commit).map(Some)
}
