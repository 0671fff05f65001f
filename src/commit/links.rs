//! Refuses a root whose links lead a path of the plan to a place that is not the plan's.
//!
//! This module must not change the root.

use std::collections::{BTreeMap, BTreeSet};

use crate::commit::diff::{Action, Change};
use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::reserved::{STATE, reserved_directories};
use crate::root::Root;

/// Fails if a link in the root leads a path into the state, or to a mount such as /dev.
pub(super) fn refuse_reserved(changes: &[Change], root: &Root) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for change in changes.iter().filter(|change| change.action != Action::Release) {
        if !seen.insert(change.path.parent()) {
            continue;
        }
        let is_foreign = !root.permits(&change.path)?;
        for directory in reserved_directories().filter(|directory| is_foreign || directory.as_str() == STATE)
        {
            if root.is_really_below(&change.path, &directory)? {
                let message = format!("`{}` leads into `{directory}`", root.shown(&change.path));
                return Err(Failure::new(Kind::Unsafe, message)
                    .help("a link on its way does: replace it in the root by a directory"));
            }
        }
    }
    Ok(())
}

/// Fails if two paths are one file, through a link such as `/usr/local/sbin -> bin`: both would be written,
/// or one written and one removed.
pub(super) fn refuse_aliases(changes: &[Change], root: &Root) -> Result<(), Failure> {
    let mut seen: BTreeMap<(u64, u64, String), &ImagePath> = BTreeMap::new();
    for change in changes.iter().filter(|change| change.action != Action::Release) {
        let Some(entry) = root.entry_identity(&change.path)? else { continue };
        if let Some(other) = seen.insert(entry, &change.path) {
            let path = &change.path;
            let message =
                format!("`{other}` and `{path}` are the same file in root `{}`", root.host().display());
            return Err(Failure::new(Kind::Unsafe, message)
                .help("a link joins their directories: undo it, or run `nodebake remove` first"));
        }
    }
    Ok(())
}
