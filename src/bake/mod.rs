//! Bakes roots: resolve, lock, fetch, decode once, plan, compare, stage everywhere, publish.
//!
//! A root that fails does not stop the others; what it had is as before.

mod abandon;
mod alone;
mod artifacts;
pub(crate) mod job;
mod prepare;
mod publish;
pub(crate) mod remove;
mod root;
pub(crate) mod start;
mod warnings;

use std::path::PathBuf;

use crate::bake::abandon::{abandon, repeat};
use crate::bake::artifacts::decode_all;
use crate::bake::job::{Job, Outcome};
use crate::bake::prepare::{Planned, prepare};
use crate::bake::publish::{publish, stage};
use crate::bake::root::{begin, open_all};
use crate::interrupt;
use crate::parallel;
use crate::spec::Base;

pub(crate) use alone::plan_alone;

/// How many roots are written at once: each waits for its disk most of the time.
const ROOTS: usize = 16;

/// Bakes every root in `hosts`.
pub(crate) fn apply(job: &Job, hosts: &[PathBuf]) -> Vec<Outcome> {
    run_all(job, hosts, true)
}

/// What [`apply`] would do; nothing is written below the roots.
pub(crate) fn plan(job: &Job, hosts: &[PathBuf]) -> Vec<Outcome> {
    run_all(job, hosts, false)
}

fn run_all(job: &Job, hosts: &[PathBuf], write: bool) -> Vec<Outcome> {
    let roots = open_all(hosts);
    let at_once = roots.len().clamp(1, ROOTS);
    // Who waits for locks takes them in the order given: two runs would each hold what the other wants.
    let locking = if job.lock_timeout.is_zero() { at_once } else { 1 };
    let begun = parallel::map(roots.iter().collect(), locking, |root| match root {
        Ok(root) => begin(job, root, write),
        Err(error) => Err(repeat(error)),
    });
    let decoded = decode_all(job, &begun, write);
    // A package manager or a containerd to ask takes all of a machine: one at a time.
    let packaged = begun
        .iter()
        .flatten()
        .any(|bake| bake.receipt.as_ref().is_some_and(|receipt| !receipt.packages.is_empty()));
    let asking = packaged || job.spec.package().is_some() || job.spec.containerd.config.base == Base::Default;
    let managed = if asking { 1 } else { at_once };
    let planned: Vec<anyhow::Result<Planned>> =
        parallel::map(begun, managed, |bake| bake.and_then(|bake| prepare(job, bake, &decoded)));
    let published = match write {
        true => {
            let members: usize = decoded.values().flatten().map(|decoded| decoded.members.len()).sum();
            // Each root holds itself and its lock open.
            let flushes = (parallel::flushes(members + 2 * hosts.len()) / at_once).max(1);
            // All are staged before any is published.
            let staged = parallel::map(planned, at_once, |planned| {
                planned.and_then(|planned| stage(job, planned, &decoded, flushes))
            });
            parallel::map(stop_before_publishing(staged), at_once, |staged| {
                staged.and_then(|staged| publish(job, staged, flushes))
            })
        }
        false => planned.into_iter().map(|planned| planned.map(Planned::report)).collect(),
    };
    hosts.iter().cloned().zip(published).map(|(host, result)| Outcome { host, result }).collect()
}

/// A signal that came while one root was staged stops all: until here nothing is visible anywhere.
fn stop_before_publishing(staged: Vec<anyhow::Result<Planned>>) -> Vec<anyhow::Result<Planned>> {
    let Err(signal) = interrupt::check() else { return staged };
    let error = anyhow::Error::from(signal);
    let stop = |planned: Planned| Err(abandon(planned.bake.root, planned.bake.state, repeat(&error)));
    staged.into_iter().map(|staged| staged.and_then(stop)).collect()
}
