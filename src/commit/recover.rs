//! Brings a root that a run has left midway to a state that its receipt describes.

use std::collections::BTreeSet;

use crate::artifact::{Artifact, Installed};
use crate::error::Failure;
use crate::node::Node;
use crate::packages::recovery;
use crate::path::ImagePath;
use crate::root::Root;
use crate::state::{Before, Intent, Receipt, State, Step, paths};

/// Brings a root that a run has left midway to a state that its receipt describes: temporaries
/// removed; if nothing had been renamed yet, everything as it was before; else what was reached is
/// owned and what was not is as it was. Gives the receipt that holds then.
pub(crate) fn recover(root: &Root, held: &State) -> Result<Option<Receipt>, Failure> {
    let old = held.receipt()?;
    let Some(intent) = held.intent()? else { return Ok(old) };
    if let Some(placeholder) = &intent.placeholder {
        recovery::remove_placeholder(root, placeholder)?;
    }
    let packages = recover_packages(root, old.as_ref(), &intent)?;
    let nothing = intent.paths.is_empty() && packages.is_empty();
    if old.is_none() && nothing && intent.directories.iter().all(paths::is_above) {
        return Ok(None);
    }
    let mut receipt = old.clone().unwrap_or_else(|| Receipt::new(&intent.arch, Vec::new()));
    receipt.packages = packages;
    let reached = reached(root, held, &intent)?;
    let renamed = reached.iter().any(|path| !is_directory(&intent.paths[path]));
    let reached = if renamed { complete_directories(root, &intent, reached)? } else { reached };
    for (path, step) in &intent.paths {
        let claimed =
            if step.acts { reached.contains(path) && (renamed || !is_directory(step)) } else { renamed };
        if claimed {
            match &step.new {
                Some(new) => drop(receipt.paths.insert(path.clone(), new.clone())),
                None => {
                    receipt.paths.remove(path);
                    drop_restored(root, held, path)?;
                }
            }
        } else if step.acts {
            undo(root, held, path, step, reached.contains(path))?;
        }
    }
    let complete = renamed && intent.paths.iter().all(|(path, step)| !step.acts || reached.contains(path));
    receipt.artifacts = match (&old, complete) {
        (_, true) => intent.artifacts.clone(),
        (Some(old), false) => whole(old, &receipt),
        (None, false) => Vec::new(),
    };
    receipt.directories.extend(intent.directories.iter().cloned());
    prune_directories(root, &mut receipt)?;
    match old.is_none() && receipt.paths.is_empty() && receipt.packages.is_empty() {
        // The state's own directories stay claimed until it is destroyed or there is a receipt.
        true => {
            let mut first = Intent::new("", Vec::new());
            first.directories = receipt.directories;
            held.save_intent(&first)?;
            Ok(None)
        }
        false => {
            held.save_receipt(&receipt)?;
            held.clear_intent()?;
            Ok(Some(receipt))
        }
    }
}

/// The packages that a run which did not end has left: what it claimed, and the database has.
fn recover_packages(root: &Root, old: Option<&Receipt>, intent: &Intent) -> Result<Vec<Installed>, Failure> {
    match intent.packages.is_empty() {
        true => Ok(old.map(|old| old.packages.clone()).unwrap_or_default()),
        false => recovery::reconcile(root, &intent.packages),
    }
}

/// Removes all temporaries and gives the paths that are as the intent wanted them.
fn reached(root: &Root, state: &State, intent: &Intent) -> Result<BTreeSet<ImagePath>, Failure> {
    let mut reached = BTreeSet::new();
    for (path, step) in &intent.paths {
        if let Some(temporary) = &step.temporary {
            root.remove_file(temporary)?;
        }
        if !step.acts {
            continue;
        }
        let found = root.node(path)?;
        // What was there may be just what belongs there: only an original that is another file tells.
        let kept = || match state.original(path)? {
            Some(original) => Ok::<bool, Failure>(!root.is_same_file(path, &original)?),
            None => Ok(false),
        };
        let done = match (&step.new, &step.old) {
            (Some(new), old) => {
                found.as_ref() == Some(&new.node) && (old.is_some() || new.before != Before::Saved || kept()?)
            }
            (None, Some(old)) => {
                found.as_ref() != Some(&old.node) || (old.before == Before::Saved && !kept()?)
            }
            (None, None) => true,
        };
        if done {
            reached.insert(path.clone());
        }
    }
    Ok(reached)
}

/// Directories that were made and had not got their mode: nobody else can have made them.
fn complete_directories(
    root: &Root,
    intent: &Intent,
    mut reached: BTreeSet<ImagePath>,
) -> Result<BTreeSet<ImagePath>, Failure> {
    for (path, step) in intent.paths.iter().filter(|(_, step)| made_by_us(step)) {
        let Some(Node::Directory { mode, owner }) = step.new.as_ref().map(|new| &new.node) else { continue };
        if !reached.contains(path) && matches!(root.node(path)?, Some(Node::Directory { .. })) {
            root.set_directory(path, *mode, *owner)?;
            reached.insert(path.clone());
        }
    }
    Ok(reached)
}

/// Whether the step makes a directory where nothing was.
fn made_by_us(step: &Step) -> bool {
    step.old.is_none()
        && step.new.as_ref().is_some_and(|new| new.before == Before::Nothing)
        && is_directory(step)
}

/// Forgets the original of `path` if it is back in its place.
fn drop_restored(root: &Root, state: &State, path: &ImagePath) -> Result<(), Failure> {
    let Some(original) = state.original(path)? else { return state.drop_original(path) };
    match root.node(path)? == root.node(&original)? {
        true => state.drop_original(path),
        false => Ok(()),
    }
}

fn is_directory(step: &Step) -> bool {
    [&step.new, &step.old].into_iter().flatten().any(|owned| matches!(owned.node, Node::Directory { .. }))
}

/// A step that was not reached, or whose directory was made for nothing.
fn undo(root: &Root, state: &State, path: &ImagePath, step: &Step, reached: bool) -> Result<(), Failure> {
    let Some(new) = &step.new else { return Ok(()) };
    // Only copies of what is still in its place: an original that an earlier run had to leave stays.
    if step.old.is_none() && new.before == Before::Saved {
        drop_restored(root, state, path)?;
    }
    state.drop_needless_edit(path)?;
    match new.before {
        _ if !is_directory(step) || step.old.is_some() => Ok(()),
        // With or without its mode: nothing was there before.
        Before::Nothing => root.remove_empty_directory(path).map(drop),
        Before::Directory(mode, owner) if reached => root.set_directory(path, mode, owner),
        _ => Ok(()),
    }
}

/// The artifacts of `old` of which `now` still owns every path: only those count as in place.
fn whole(old: &Receipt, now: &Receipt) -> Vec<Artifact> {
    let owns = |artifact: &Artifact, receipt: &Receipt| {
        receipt.paths.values().filter(|owned| owned.artifact == Some(artifact.sha256)).count()
    };
    old.artifacts.iter().filter(|artifact| owns(artifact, old) == owns(artifact, now)).cloned().collect()
}

/// Removes created directories that hold nothing any more, and forgets those that are gone. The
/// directories above the state go with the state.
pub(crate) fn prune_directories(root: &Root, receipt: &mut Receipt) -> Result<(), Failure> {
    let mut kept = BTreeSet::new();
    for directory in receipt.directories.iter().rev() {
        let used = receipt.paths.keys().any(|path| path.is_below(directory));
        if used
            || paths::is_above(directory)
            || (!root.remove_empty_directory(directory)? && root.is_directory(directory)?)
        {
            kept.insert(directory.clone());
        }
    }
    receipt.directories = kept;
    Ok(())
}
