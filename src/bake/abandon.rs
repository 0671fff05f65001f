//! Undoes an unfinished bake of one root after a failure.
//!
//! This module must not hide the failure: it returns it.

use std::time::Duration;

use crate::commit::recover;
use crate::error::Failure;
use crate::interrupt;
use crate::packages::manager::options::Options;
use crate::packages::removal::{self, Removal};
use crate::root::Root;
use crate::state::State;

/// Undoes what the bake has done in `root`, unless files have been renamed, and returns `error`. Packages that were
/// installed beside an earlier bake's files stay, and the receipt names them.
pub(crate) fn abandon(root: &Root, state: Option<State>, error: anyhow::Error) -> anyhow::Error {
    let Some(state) = state else { return error };
    let undone = || -> Result<(), Failure> {
        match recover::recover(root, &state)?.receipt {
            // A fresh bake that has installed nothing but packages leaves none of them.
            Some(receipt) if receipt.paths.is_empty() && !receipt.packages.is_empty() => {
                let options = Options::offline(Duration::ZERO);
                removal::remove_packages(
                    root,
                    Some(&state),
                    &receipt.packages,
                    options,
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
    match interrupt::clean_up(undone) {
        Ok(()) => error,
        // The cleaning up has met the failure that is already told.
        Err(failure) if same(&failure) => error,
        Err(failure) => error.context(format!(
            "cleaning up in {} failed as well ({failure}); the next run goes on from there",
            root.host().display()
        )),
    }
}

/// Copies a failure for one more root that meets it, with message, kind and remedy.
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
