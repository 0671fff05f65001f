//! Bakes roots: begins each, decodes what is missing once, plans, stages everywhere, publishes.
//!
//! A root that fails does not stop the others. Until its first file is renamed, a failure leaves its files as they
//! were. This module must not change a root itself: `commit` and `packages` do.

mod abandon;
mod alone;
mod artifacts;
mod conflicts;
mod expected;
pub(crate) mod job;
mod prepare;
mod publish;
mod read_back;
pub(crate) mod remove;
mod root;
pub(crate) mod start;
mod versions;
mod warnings;

use std::path::PathBuf;

use crate::bake::abandon::{abandon, repeat};
use crate::bake::artifacts::decode_all;
use crate::bake::job::{Job, Outcome, Report};
use crate::bake::prepare::{Planned, prepare};
use crate::bake::publish::{publish, stage};
use crate::bake::root::{Bake, DecodedArtifacts, lock, look, needs, open_all};
use crate::interrupt;
use crate::parallel;
use crate::root::Root;
use crate::state;

pub(crate) use alone::plan_alone;
pub(crate) use expected::expected;

/// How many roots are written at once: each waits for its disk most of the time.
const ROOTS: usize = 16;

/// One result for each root, in the order given.
type Results<T> = Vec<anyhow::Result<T>>;

/// Bakes every root in `hosts`. All are staged before any is published.
pub(crate) fn apply(job: &Job, hosts: &[PathBuf]) -> Vec<Outcome> {
    let (roots, at_once) = (open_all(job, hosts), hosts.len().clamp(1, ROOTS));
    let needed = of_each(&roots, at_once, |root| needs(job, root));
    let begun = each(lock_all(job, needed, at_once), at_once, |bake| look(job, bake));
    let decoded = decode_all(job, &begun);
    let planned = prepare_all(job, begun, &decoded);
    let flushes = flushes(&decoded, hosts.len());
    let staged = each(planned, at_once, |planned| stage(job, planned, &decoded, flushes));
    let published = each(stop_if_interrupted(staged), at_once, |staged| publish(job, staged, flushes));
    outcomes(hosts, published)
}

/// Tells what [`apply`] would do; nothing is written below the roots.
pub(crate) fn plan(job: &Job, hosts: &[PathBuf]) -> Vec<Outcome> {
    let (roots, at_once) = (open_all(job, hosts), hosts.len().clamp(1, ROOTS));
    let begun = of_each(&roots, at_once, |root| needs(job, root).and_then(|bake| look(job, bake)));
    let decoded = decode_all(job, &begun);
    let planned = prepare_all(job, begun, &decoded);
    outcomes(hosts, planned.into_iter().map(|planned| planned.map(Planned::report)).collect())
}

/// Locks every root, and waits for all of them together no longer than the job says. Two runs that wait must not hold
/// what the other wants: both take their locks in the same order, in whichever order the roots were named.
fn lock_all<'a>(job: &Job, needed: Results<Bake<'a>>, at_once: usize) -> Results<Bake<'a>> {
    let deadline = state::deadline(job.lock_timeout);
    if job.lock_timeout.is_zero() {
        return each(needed, at_once, |bake| lock(bake, deadline));
    }
    let identity =
        |bake: &anyhow::Result<Bake>| bake.as_ref().ok().and_then(|bake| bake.root.identity().ok());
    let mut locked: Vec<_> = needed.into_iter().enumerate().collect();
    locked.sort_by_key(|(_, bake)| identity(bake));
    let mut locked: Vec<_> =
        locked.into_iter().map(|(place, bake)| (place, bake.and_then(|bake| lock(bake, deadline)))).collect();
    locked.sort_by_key(|(place, _)| *place);
    locked.into_iter().map(|(_, bake)| bake).collect()
}

/// Plans every root. A package manager or a daemon that is asked takes all of a machine: one root at a time then.
fn prepare_all<'a>(job: &Job, begun: Results<Bake<'a>>, decoded: &DecodedArtifacts) -> Results<Planned<'a>> {
    let packaged = job.spec.package().is_some() || begun.iter().flatten().any(Bake::has_packages);
    let at_once = if packaged || job.execute { 1 } else { begun.len().clamp(1, ROOTS) };
    each(begun, at_once, |bake| prepare(job, bake, decoded))
}

/// Returns how many files of one root are flushed at once: each root holds itself and its lock open as well.
fn flushes(decoded: &DecodedArtifacts, roots: usize) -> usize {
    let members: usize = decoded.values().flatten().map(|decoded| decoded.members.len()).sum();
    (parallel::flushes(members + 2 * roots) / roots.clamp(1, ROOTS)).max(1)
}

/// Undoes the bake of every root after a signal: no file has been renamed yet.
fn stop_if_interrupted(staged: Results<Planned>) -> Results<Planned> {
    let Err(signal) = interrupt::check() else { return staged };
    let error = anyhow::Error::from(signal);
    let stop = |planned: Planned| Err(abandon(planned.bake.root, planned.bake.state, repeat(&error)));
    staged.into_iter().map(|staged| staged.and_then(stop)).collect()
}

fn of_each<'a, T: Send>(
    roots: &'a [anyhow::Result<Root>],
    at_once: usize,
    work: impl Fn(&'a Root) -> anyhow::Result<T> + Sync,
) -> Results<T> {
    parallel::map(roots.iter().collect(), at_once, |root| root.as_ref().map_err(repeat).and_then(&work))
}

fn each<A: Send, B: Send>(
    results: Results<A>,
    at_once: usize,
    work: impl Fn(A) -> anyhow::Result<B> + Sync,
) -> Results<B> {
    parallel::map(results, at_once, |result| result.and_then(&work))
}

fn outcomes(hosts: &[PathBuf], results: Results<Report>) -> Vec<Outcome> {
    hosts.iter().cloned().zip(results).map(|(host, result)| Outcome { host, result }).collect()
}
