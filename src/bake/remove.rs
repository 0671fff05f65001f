//! Removes what nodebake owns in a root and puts back what was there: the commit of an empty plan.
//!
//! This module must not remove a file that somebody has edited.

use std::path::Path;
use std::time::Duration;

use crate::commit::diff::{self, Diff};
use crate::commit::{Commit, recover};
use crate::interrupt;
use crate::packages::manager::options::Options;
use crate::packages::removal::{self, Removal};
use crate::parallel;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::root::Root;
use crate::state::{self, State};

/// Removes everything that nodebake owns in the root at `host`; with `execute` its package manager may run. Returns none
/// if it owns nothing there.
pub(crate) fn remove(
    host: &Path,
    execute: bool,
    lock_timeout: Duration,
    progress: &Progress,
) -> anyhow::Result<Option<Diff>> {
    let root = Root::open(host)?.executing(execute);
    let Some(state) = State::open_existing(&root, lock_timeout)? else { return Ok(None) };
    let Some(receipt) = recover::recover(&root, &state)?.reported(&root, progress) else {
        let created = state.intent()?.map(|intent| intent.directories).unwrap_or_default();
        state.destroy(&created)?;
        return Ok(None);
    };
    if removal::is_needed(&receipt.packages) {
        // Before the first change.
        root.require_execution()?;
    }
    // Packages are removed last: the commit still has to tell their files from edited ones.
    let plan = Plan { packages: receipt.packages.clone(), ..Plan::empty(&receipt.arch) };
    let found = state::survey(&root, &receipt)?;
    let mut diff = diff::diff(&plan, &receipt, &found, &root)?;
    let commit = Commit {
        root: &root,
        state: &state,
        receipt: &receipt,
        plan: &plan,
        diff: &diff,
        members: &[],
        mtime: 0,
        flushes: parallel::flushes(0),
    };
    commit.stage().and_then(|()| commit.publish()).map_err(|failure| {
        let recovered = interrupt::clean_up(|| recover::recover(&root, &state)).err();
        let error = anyhow::Error::from(failure);
        match recovered {
            Some(second) => error.context(format!("cleaning up failed as well: {second}")),
            None => error,
        }
    })?;
    let options = Options::offline(lock_timeout);
    diff.packages =
        removal::remove_packages(&root, Some(&state), &receipt.packages, options, Removal::IfUnneeded)?;
    let created = state.receipt()?.map(|receipt| receipt.directories).unwrap_or_default();
    state.destroy(&created)?;
    Ok(Some(diff))
}
