//! Leaves a root as it was, or as far as it got.

use std::time::Duration;

use crate::commit::recover;
use crate::error::Failure;
use crate::packages::manager::options::Options;
use crate::packages::removal::{self, Removal};
use crate::root::Root;
use crate::state::State;

/// Leaves the root as it was, or as far as it got, and passes `error` on.
pub(crate) fn abandon(root: &Root, state: Option<State>, error: anyhow::Error) -> anyhow::Error {
    let Some(state) = state else { return error };
    let undone = || -> Result<(), Failure> {
        match recover::recover(root, &state)? {
            // Packages were all that had come: they go as well.
            Some(receipt) if receipt.paths.is_empty() && !receipt.packages.is_empty() => {
                let request = Options::offline(Duration::ZERO);
                removal::remove_packages(
                    root,
                    Some(&state),
                    &receipt.packages,
                    request,
                    Removal::IfUnneeded,
                )?;
                return state.destroy(&receipt.directories);
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let created = state.intent()?.map(|intent| intent.directories).unwrap_or_default();
        state.destroy(&created)
    };
    let same = |failure: &Failure| {
        crate::error::failure(&error).is_some_and(|first| first.to_string() == failure.to_string())
    };
    match undone() {
        Ok(()) => error,
        // It is what could not be read in the first place.
        Err(failure) if same(&failure) => error,
        Err(failure) => error.context(format!(
            "cleaning up in {} failed as well ({failure}); the next run goes on from there",
            root.host().display()
        )),
    }
}

/// One failure for every root that meets it: the same message, kind and remedy.
pub(crate) fn repeat(error: &anyhow::Error) -> anyhow::Error {
    match crate::error::failure(error) {
        Some(failure) => {
            let copy = Failure::new(failure.kind, format!("{error:#}"));
            match &failure.help {
                Some(help) => copy.help(help).into(),
                None => copy.into(),
            }
        }
        None => anyhow::anyhow!("{error:#}"),
    }
}
