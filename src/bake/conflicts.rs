//! Refuses a bake where another file of the root makes it futile, and warns where one decides after the bake's.
//!
//! This module must not find such files: `precedence` does.

use crate::error::{Failure, Kind};
use crate::node::{Shape, Want};
use crate::path::ImagePath;
use crate::plan::{Entry, Plan};
use crate::precedence::{self, Conflict, Ours, Weight, mounts};
use crate::root::Root;
use crate::runtime::Runtime;
use crate::state::Receipt;

/// Returns a warning of every file of `root` that decides after the files of `plan`. Fails with [`Kind::Unsupported`] if
/// the node could not become what the plan says. `receipt` is that of the last bake: what it owns and the plan does not
/// have goes away.
pub(super) fn warnings(root: &Root, plan: &Plan, receipt: Option<&Receipt>) -> Result<Vec<String>, Failure> {
    let conflicts = precedence::conflicts(root, &Ours::Planned(plan, receipt))?;
    refuse_any(root, &conflicts)?;
    let warning = |found: &Conflict| format!("{} {}; {}", place(root, found), found.problem, found.help);
    Ok(conflicts.iter().map(warning).collect())
}

/// Fails as [`warnings`] does if a mount of the boot would hide files of `plan`, which was made before the packages that
/// bring `runtime` were installed: it lacks the files that depend on the runtime's version.
pub(super) fn refuse_mounts(root: &Root, mut plan: Plan, runtime: Runtime) -> Result<(), Failure> {
    let facts = runtime.facts();
    for (path, shape) in facts.places.iter().filter(|(path, _)| *path != facts.unit.own) {
        let want = match shape {
            Shape::Directory(mode) => Want::Directory { mode: *mode },
            _ => Want::text(0o644, ""),
        };
        let entry = Entry { want, component: runtime.component().to_owned() };
        plan.entries.entry(ImagePath::fixed(path)).or_insert(entry);
    }
    refuse_any(root, &mounts::conflicts(root, &Ours::Planned(&plan, None))?)
}

/// Fails if a conflict makes the bake futile.
fn refuse_any(root: &Root, conflicts: &[Conflict]) -> Result<(), Failure> {
    let refused = conflicts.iter().filter(|found| found.weight == Weight::Refused);
    let failure = |found: &Conflict| {
        let message = format!("{} {}", place(root, found), found.problem);
        Failure::new(Kind::Unsupported, message).help(&found.help)
    };
    Failure::join(refused.map(failure).collect())
}

/// Returns the path of a conflict on this host, with its line.
fn place(root: &Root, conflict: &Conflict) -> String {
    let line = conflict.line.map(|line| format!(":{line}")).unwrap_or_default();
    format!("`{}{line}`", root.shown(&conflict.path))
}
