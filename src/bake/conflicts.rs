//! Refuses a bake where another file of the root makes it futile, and warns where one decides after the bake's.
//!
//! This module must not find such files: `precedence` does.

use crate::error::{Failure, Kind};
use crate::plan::Plan;
use crate::precedence::{self, Conflict, Ours, Weight};
use crate::root::Root;
use crate::state::Receipt;

/// Returns a warning of every file of `root` that decides after the files of `plan`. Fails with [`Kind::Unsupported`] if
/// the node could not become what the plan says. `receipt` is that of the last bake: what it owns and the plan does not have goes away.
pub(super) fn warnings(root: &Root, plan: &Plan, receipt: Option<&Receipt>) -> Result<Vec<String>, Failure> {
    let conflicts = precedence::conflicts(root, &Ours::Planned(plan, receipt))?;
    let (refused, told): (Vec<_>, Vec<_>) =
        conflicts.iter().partition(|conflict| conflict.weight == Weight::Refused);
    let refuse = |conflict: &&Conflict| {
        let message = format!("{} {}", place(root, conflict), conflict.problem);
        Failure::new(Kind::Unsupported, message).help(&conflict.help)
    };
    Failure::join(refused.iter().map(refuse).collect())?;
    let warning =
        |conflict: &&Conflict| format!("{} {}; {}", place(root, conflict), conflict.problem, conflict.help);
    Ok(told.iter().map(warning).collect())
}

/// Returns the path of a conflict on this host, with its line.
fn place(root: &Root, conflict: &Conflict) -> String {
    let line = conflict.line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}", root.shown(&conflict.path))
}
