//! `nodebake remove`.
//!
//! This module must not change the root itself: `bake` does.

use std::time::Duration;

use crate::bake::remove;
use crate::cli::args::RemoveArguments;
use crate::cli::output::print;
use crate::cli::{json, report};
use crate::progress::Progress;
use crate::root::Root;
use crate::state::{self, Before};

/// Removes what nodebake owns in a root, and prints the changes.
pub(super) fn remove(
    RemoveArguments { root: host, json, execute, wait }: &RemoveArguments,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let diff = remove::remove(host, execute.execute, Duration::from_secs(wait.lock_timeout))?;
    if diff.is_none() {
        progress.step(&format!("nothing to remove: nodebake owns nothing in {}", host.display()));
    }
    for change in diff.iter().flat_map(|diff| &diff.changes).filter(|change| change.edited) {
        let original = change.old.as_ref().is_some_and(|old| old.before == Before::Saved);
        let before =
            if original { "; what was there before is kept below /var/lib/nodebake/original" } else { "" };
        progress.warn(&format!("{} was edited and is kept{before}", change.path));
    }
    let mounted = || state::is_mounted(&Root::open(host)?);
    if diff.is_some() && mounted().unwrap_or(false) {
        progress.warn("/var/lib/nodebake is a mount point and stays");
    }
    print(&match (json, &diff) {
        (true, diff) => json::json(&json::removed(host, diff.as_ref()))?,
        (false, Some(diff)) if !progress.is_quiet() => report::changes(diff, false),
        (false, _) => String::new(),
    })
}
