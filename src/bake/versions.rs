//! Warnings about the versions that roots get.
//!
//! This module must not stop a bake.

use std::collections::BTreeSet;

use crate::artifact::{Artifact, doubt};
use crate::bake::job::Job;
use crate::bake::root::Bake;

/// Warns, once for all roots, of releases past their end of life and of a lock that is not used. This comes before anything
/// is fetched: what is fetched may be wrong because of it.
pub(super) fn warn<'a>(job: &Job, artifacts: impl IntoIterator<Item = &'a Artifact>) {
    let told = artifacts.into_iter().flat_map(|artifact| {
        let of_release = doubt::of_release(&artifact.component, &artifact.version, &job.today);
        doubt::of_lock(&job.lock, artifact).into_iter().chain(of_release)
    });
    let told: BTreeSet<String> = told.collect();
    told.iter().for_each(|told| job.fetcher.progress.warn(told));
}

/// Returns a warning about the version that a package has brought, which the distribution maintains.
pub(super) fn of_package(job: &Job, bake: &Bake) -> Option<String> {
    let packaged = bake.from_packages.as_ref()?.runtime.as_ref()?;
    doubt::of_kubernetes(job.spec.runtime().unwrap_or_default().component(), &packaged.version)
}
