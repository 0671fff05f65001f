//! Recovers a root after an unfinished run, so that its receipt describes it again.
//!
//! This module must not continue the unfinished run: the next run does.

use std::collections::BTreeSet;

use crate::artifact::{Artifact, Installed};
use crate::error::Failure;
use crate::node::Node;
use crate::packages::recovery as package_recovery;
use crate::path::ImagePath;
use crate::progress::Progress;
use crate::root::Root;
use crate::root::mounts::ON_UNUSED_MOUNT;
use crate::state::{Before, Intent, Receipt, State, Step, paths};

/// Result of a recovery.
pub(crate) struct Recovered {
    /// Receipt that is valid now; none if nodebake owns nothing.
    pub receipt: Option<Receipt>,
    /// Paths of the unfinished run on mounts that no bake uses: they are as they were found.
    pub left: Vec<ImagePath>,
}

impl Recovered {
    /// Warns of what was left, and returns the receipt.
    pub(crate) fn reported(self, root: &Root, progress: &Progress) -> Option<Receipt> {
        for path in &self.left {
            progress.warn(&format!("`{}` {ON_UNUSED_MOUNT}, and is left as it is", root.shown(path)));
        }
        self.receipt
    }
}

/// Recovers a root after an unfinished run and returns the receipt that is valid then.
///
/// Temporary files are removed. If the run had renamed no file yet, everything is undone; else every path
/// that the run has reached is owned, and all others are as they were before it. Paths on a mount that no bake uses
/// stay as they are.
pub(crate) fn recover(root: &Root, state: &State) -> Result<Recovered, Failure> {
    let receipt = state.receipt()?;
    let Some(mut intent) = state.intent()? else { return Ok(Recovered { receipt, left: Vec::new() }) };
    let left = leave_unused_mounts(root, &mut intent)?;
    Ok(Recovered { receipt: recover_from(&intent, receipt.as_ref(), root, state)?, left })
}

/// Carries out [`recover`] for one intent; `old` is the receipt before the unfinished run.
fn recover_from(
    intent: &Intent,
    old: Option<&Receipt>,
    root: &Root,
    state: &State,
) -> Result<Option<Receipt>, Failure> {
    let recovery = Recovery { root, state, old, intent };
    recovery.remove_placeholder()?;
    let packages = recovery.packages()?;
    if recovery.is_fresh(&packages) {
        return Ok(None);
    }
    // What can't be cleaned up at one path keeps nothing at another; the intent stays until all is done.
    let mut failures = recovery.remove_temporaries();
    let extent = recovery.extent()?;
    let mut receipt = recovery.old_receipt(packages);
    for (path, step) in &intent.paths {
        failures.extend(recovery.settle(path, step, &extent, &mut receipt).err());
    }
    receipt.artifacts = recovery.artifacts(&extent, &receipt);
    receipt.directories.extend(intent.directories.iter().cloned());
    failures.extend(prune_directories(root, &mut receipt).err());
    Failure::join(failures)?;
    recovery.save(receipt)
}

/// Takes out of `intent` the paths and directories that must not be changed, and returns them.
fn leave_unused_mounts(root: &Root, intent: &mut Intent) -> Result<Vec<ImagePath>, Failure> {
    let mut left = Vec::new();
    for path in intent.paths.keys().chain(&intent.directories) {
        if !root.permits(path)? {
            left.push(path.clone());
        }
    }
    for path in &left {
        intent.paths.remove(path);
        intent.directories.remove(path);
    }
    Ok(left)
}

/// Removes created directories that are empty, and drops from the receipt those that do not exist. The
/// directories above the state are removed together with the state.
pub(super) fn prune_directories(root: &Root, receipt: &mut Receipt) -> Result<(), Failure> {
    let (mut kept, mut failures) = (BTreeSet::new(), Vec::new());
    for directory in receipt.directories.iter().rev() {
        let used = receipt.paths.keys().any(|path| path.is_below(directory));
        let stays = || Ok(!root.remove_empty_directory(directory)? && root.is_directory(directory)?);
        if used
            || paths::is_above(directory)
            || !root.permits(directory)?
            || stays().unwrap_or_else(|failure| {
                failures.push(failure);
                true
            })
        {
            kept.insert(directory.clone());
        }
    }
    receipt.directories = kept;
    Failure::join(failures)
}

/// Recovery of one root: its locked state, the receipt before the run and the run's intent.
struct Recovery<'a> {
    root: &'a Root,
    state: &'a State<'a>,
    old: Option<&'a Receipt>,
    intent: &'a Intent,
}

/// How far the unfinished run got.
struct Extent {
    /// Paths that are as the intent wants them.
    reached: BTreeSet<ImagePath>,
    /// The run had begun to rename files.
    renamed: bool,
}

impl Recovery<'_> {
    fn remove_placeholder(&self) -> Result<(), Failure> {
        match &self.intent.placeholder {
            Some(placeholder) => package_recovery::remove_placeholder(self.root, placeholder),
            None => Ok(()),
        }
    }

    /// Returns the packages of the intent that the package database has; those of the receipt if the intent
    /// changes none.
    fn packages(&self) -> Result<Vec<Installed>, Failure> {
        match self.intent.packages.is_empty() {
            true => Ok(self.old.map(|old| old.packages.clone()).unwrap_or_default()),
            false => package_recovery::reconcile(self.root, &self.intent.packages),
        }
    }

    /// Returns whether the intent is the one that the state was created with, so that there is nothing to do.
    fn is_fresh(&self, packages: &[Installed]) -> bool {
        let nothing = self.intent.paths.is_empty() && packages.is_empty();
        self.old.is_none() && nothing && self.intent.directories.iter().all(paths::is_above)
    }

    /// Removes all temporary files; returns the failures.
    fn remove_temporaries(&self) -> Vec<Failure> {
        let temporaries = self.intent.paths.values().filter_map(|step| step.temporary.as_ref());
        let remove = |temporary: &ImagePath| match self.root.remove_file(temporary) {
            // A directory of that name is none of nodebake's.
            Err(_) if self.root.is_directory(temporary).unwrap_or(false) => None,
            other => other.err(),
        };
        temporaries.filter_map(remove).collect()
    }

    /// Finds out how far the run got.
    fn extent(&self) -> Result<Extent, Failure> {
        let mut reached = BTreeSet::new();
        for (path, step) in &self.intent.paths {
            if step.acts && self.is_reached(path, step)? {
                reached.insert(path.clone());
            }
        }
        let renamed = reached.iter().any(|path| !is_directory(&self.intent.paths[path]));
        if renamed {
            self.complete_directories(&mut reached)?;
        }
        Ok(Extent { reached, renamed })
    }

    /// Returns whether `path` is as the intent wants it.
    fn is_reached(&self, path: &ImagePath, step: &Step) -> Result<bool, Failure> {
        let size = step.new.as_ref().or(step.old.as_ref()).and_then(|owned| owned.size);
        let found = self.root.node_of_size(path, size)?;
        // The node from before the first bake may equal the wanted one: then only an original that is
        // another file shows that it was replaced.
        let kept = || match self.state.original(path)? {
            Some(original) => Ok::<bool, Failure>(!self.root.is_same_file(path, &original)?),
            None => Ok(false),
        };
        Ok(match (&step.new, &step.old) {
            (Some(new), old) => {
                found.as_ref() == Some(&new.node) && (old.is_some() || new.before != Before::Saved || kept()?)
            }
            (None, Some(old)) => {
                found.as_ref() != Some(&old.node) || (old.before == Before::Saved && !kept()?)
            }
            (None, None) => true,
        })
    }

    /// Sets the mode of directories that the run created without setting it: no other program can have
    /// created them.
    fn complete_directories(&self, reached: &mut BTreeSet<ImagePath>) -> Result<(), Failure> {
        for (path, step) in self.intent.paths.iter().filter(|(_, step)| creates_directory(step)) {
            let Some(Node::Directory { mode, owner }) = step.new.as_ref().map(|new| &new.node) else {
                continue;
            };
            if !reached.contains(path) && matches!(self.root.node(path)?, Some(Node::Directory { .. })) {
                self.root.set_directory(path, *mode, *owner)?;
                reached.insert(path.clone());
            }
        }
        Ok(())
    }

    /// Returns the receipt before the run, with the packages that are installed now.
    fn old_receipt(&self, packages: Vec<Installed>) -> Receipt {
        let mut receipt = self.old.cloned().unwrap_or_else(|| Receipt::new(&self.intent.arch, Vec::new()));
        receipt.packages = packages;
        receipt
    }

    /// Records a path in the receipt if the run has reached it, else undoes what the run did there.
    fn settle(
        &self,
        path: &ImagePath,
        step: &Step,
        extent: &Extent,
        receipt: &mut Receipt,
    ) -> Result<(), Failure> {
        let reached = extent.reached.contains(path);
        let recorded = match step.acts {
            true => reached && (extent.renamed || !is_directory(step)),
            false => extent.renamed,
        };
        match &step.new {
            Some(new) if recorded => {
                receipt.paths.insert(path.clone(), new.clone());
                Ok(())
            }
            None if recorded => {
                receipt.paths.remove(path);
                self.drop_restored(path)
            }
            Some(new) if step.acts => self.undo(path, step, new.before, reached),
            _ => Ok(()),
        }
    }

    /// Undoes a step that was not reached, or whose directory was created in vain.
    fn undo(&self, path: &ImagePath, step: &Step, before: Before, reached: bool) -> Result<(), Failure> {
        // Only if the path still has that node: an original that an earlier run could not restore stays.
        if step.old.is_none() && before == Before::Saved {
            self.drop_restored(path)?;
        }
        self.state.drop_needless_edit(path)?;
        match before {
            _ if !is_directory(step) || step.old.is_some() => Ok(()),
            // Nothing was there before, so the directory is the run's, with or without its mode.
            Before::Nothing => self.root.remove_empty_directory(path).map(drop),
            Before::Directory(mode, owner) if reached => self.root.set_directory(path, mode, owner),
            _ => Ok(()),
        }
    }

    /// Deletes the kept original of `path` if `path` itself is the same again.
    fn drop_restored(&self, path: &ImagePath) -> Result<(), Failure> {
        let Some(original) = self.state.original(path)? else { return self.state.drop_original(path) };
        match self.root.node(path)? == self.root.node(&original)? {
            true => self.state.drop_original(path),
            false => Ok(()),
        }
    }

    /// Returns the artifacts of which every path is installed: the intent's if the run was complete, else
    /// those of the old receipt.
    fn artifacts(&self, extent: &Extent, receipt: &Receipt) -> Vec<Artifact> {
        let mut steps = self.intent.paths.iter();
        let complete =
            extent.renamed && steps.all(|(path, step)| !step.acts || extent.reached.contains(path));
        match self.old {
            _ if complete => self.intent.artifacts.clone(),
            Some(old) => intact_artifacts(old, receipt),
            None => Vec::new(),
        }
    }

    /// Saves the receipt and deletes the intent, or keeps an intent if the receipt would own nothing.
    fn save(&self, receipt: Receipt) -> Result<Option<Receipt>, Failure> {
        if self.old.is_none() && receipt.paths.is_empty() && receipt.packages.is_empty() {
            // An intent names the state's own directories until there is a receipt or the state is removed.
            let mut first = Intent::new("", Vec::new());
            first.directories = receipt.directories;
            self.state.save_intent(&first)?;
            return Ok(None);
        }
        self.state.save_receipt(&receipt)?;
        self.state.clear_intent()?;
        Ok(Some(receipt))
    }
}

/// Returns whether a step creates a directory at a path where nothing was.
fn creates_directory(step: &Step) -> bool {
    step.old.is_none()
        && step.new.as_ref().is_some_and(|new| new.before == Before::Nothing)
        && is_directory(step)
}

/// Returns whether a step creates, changes or removes a directory.
fn is_directory(step: &Step) -> bool {
    [&step.new, &step.old].into_iter().flatten().any(|owned| matches!(owned.node, Node::Directory { .. }))
}

/// Returns the artifacts of `old` of which `now` owns every path that `old` owns.
fn intact_artifacts(old: &Receipt, now: &Receipt) -> Vec<Artifact> {
    let owned = |artifact: &Artifact, receipt: &Receipt| {
        receipt.paths.values().filter(|owned| owned.artifact == Some(artifact.sha256)).count()
    };
    old.artifacts.iter().filter(|artifact| owned(artifact, old) == owned(artifact, now)).cloned().collect()
}
