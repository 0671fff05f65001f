//! `nodebake remove`.
//!
//! This module must not change the root itself: `bake` does.

use std::time::Duration;

use crate::bake::remove;
use crate::cli::args::RemoveArguments;
use crate::cli::output::print;
use crate::cli::{json, report};
use crate::progress::Progress;
use crate::reserved::STATE;
use crate::root::Root;
use crate::root::mounts::ON_UNUSED_MOUNT;
use crate::state::{self, Before};

/// Removes what nodebake owns in a root, and prints the changes.
pub(super) fn remove(
    RemoveArguments { root: host, json, execute, wait }: &RemoveArguments,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let diff = remove::remove(host, execute.execute, Duration::from_secs(wait.lock_timeout), progress)?;
    if diff.is_none() {
        progress.step(&format!("nothing to remove: nodebake owns nothing in {}", host.display()));
    }
    for change in
        diff.iter().flat_map(|diff| &diff.changes).filter(|change| change.edited && !change.unreachable)
    {
        let original = change.old.as_ref().is_some_and(|old| old.before == Before::Saved);
        let before =
            if original { "; what was there before is kept below /var/lib/nodebake/original" } else { "" };
        progress.warn(&format!("{} was edited and is kept{before}", change.path));
    }
    for change in diff.iter().flat_map(|diff| &diff.changes).filter(|change| change.unreachable) {
        progress.warn(&format!("{} {ON_UNUSED_MOUNT}, and is kept", change.path));
    }
    let permanent = || state::permanent(&Root::open(host)?);
    if let (Some(_), Some(what)) = (&diff, permanent().unwrap_or(None)) {
        progress.warn(&format!("{STATE} is {what} and stays"));
    }
    print(&match (json, &diff) {
        (true, diff) => json::json(&json::removed(host, diff.as_ref()))?,
        (false, Some(diff)) if !progress.is_quiet() => report::changes(diff, false),
        (false, _) => String::new(),
    })
}
