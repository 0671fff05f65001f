//! Applies a diff to one root so that a crash at any point leaves every path either old or new.
//!
//! The order: intent durable → all files staged under temporary names, durable → renamed, files before links
//! → unwanted paths removed → receipt replaced → intent deleted. Before the first rename a failure is undone;
//! after it [`recover`] keeps the paths that were reached, and the next run continues from there. This module
//! must not decide what a root should contain.

pub(crate) mod diff;
mod links;
pub(crate) mod recover;

use std::collections::BTreeSet;

use crate::archive::decode::DecodedMember;
use crate::commit::diff::{Action, Change, Diff};
use crate::commit::recover::prune_directories;
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::node::{Content, Node, Octal, Owner, Want};
use crate::parallel;
use crate::path::ImagePath;
use crate::plan::Plan;
use crate::root::Root;
use crate::state::{Before, Intent, Receipt, State};

/// Mode of directories that are created above planned paths.
const PARENT_MODE: u32 = 0o755;

/// Changes to apply to one root, and the files for them.
pub(crate) struct Commit<'a> {
    /// The root.
    pub root: &'a Root,
    /// The root's locked state.
    pub state: &'a State<'a>,
    /// The present receipt.
    pub receipt: &'a Receipt,
    /// The plan that the root will match.
    pub plan: &'a Plan,
    /// The differences between plan and root.
    pub diff: &'a Diff,
    /// Decoded members of the artifacts that are not installed yet.
    pub members: &'a [&'a DecodedMember],
    /// The modification time of all installed files, in seconds since 1970.
    pub mtime: i64,
    /// The number of files that are flushed in parallel.
    pub flushes: usize,
}

/// Side effects that the user is told.
#[derive(Debug, Default)]
pub(crate) struct SavedEdits {
    /// Edited files that were replaced: the path, and the path where the edit is kept.
    pub edits: Vec<(ImagePath, ImagePath)>,
    /// SELinux labels could not be set, so the root is marked for relabelling at the next boot.
    pub unlabelled: bool,
}

impl Commit<'_> {
    /// Returns the next receipt, without the directories that will be created.
    pub(crate) fn wanted(&self) -> Receipt {
        let mut receipt = Receipt::new(&self.plan.arch, self.plan.artifacts.clone());
        receipt.packages.clone_from(&self.plan.packages);
        receipt.paths = self.diff.owned();
        receipt.directories.clone_from(&self.receipt.directories);
        receipt
    }

    /// Writes all files under temporary names, so that lack of space or rights shows before a path changes.
    pub(crate) fn stage(&self) -> Result<(), Failure> {
        self.state.admit_receipt(&self.wanted())?;
        for change in self.acting().filter(|change| change.want.is_some()) {
            self.root.use_mount_of(&change.path)?;
        }
        self.state.save_intent(&self.intent()?)?;
        for directory in &self.diff.directories {
            self.root.make_directory(directory, PARENT_MODE)?;
        }
        for change in self.acting() {
            self.stage_directory(change)?;
        }
        let staged: Vec<&Change> = self.acting().filter(|change| change.is_staged()).collect();
        parallel::try_each(staged, self.flushes, |change| {
            interrupt::check()?;
            self.stage_file(change)
        })?;
        interrupt::check()
    }

    /// Renames the staged files and removes unwanted paths. Signals do not interrupt it: it takes milliseconds.
    pub(crate) fn publish(&self) -> Result<SavedEdits, Failure> {
        let mut kept = self.keep()?;
        // Before the first rename. Paths that are only removed or restored need no new label.
        if self.acting().any(|change| change.want.is_some()) {
            kept.unlabelled = self.root.mark_for_relabelling()?;
        }
        // Files are durable before links: a unit is never enabled before its binary exists.
        for links in [false, true] {
            let staged = self.acting().filter(|change| change.is_staged() && change.is_link() == links);
            let mut touched = BTreeSet::new();
            for change in staged {
                self.root.rename(&change.path.temporary(), &change.path)?;
                touched.insert(change.path.parent());
            }
            if !links {
                touched.extend(self.diff.directories.iter().map(ImagePath::parent));
                touched.extend(self.acting().map(|change| change.path.parent()));
            }
            self.sync(touched)?;
        }
        self.sweep()?;
        self.finish()?;
        Ok(kept)
    }

    /// Iterates over the changes that change the root.
    fn acting(&self) -> impl Iterator<Item = &Change> {
        self.diff.changes.iter().filter(|change| change.acts())
    }

    fn intent(&self) -> Result<Intent, Failure> {
        let mut intent = Intent::new(&self.plan.arch, self.plan.artifacts.clone());
        intent.directories.clone_from(&self.diff.directories);
        // The state's own directories are named by the intent that the state was created with.
        if let Some(first) = self.state.intent()? {
            intent.directories.extend(first.directories);
            intent.packages = first.packages;
        }
        let changed = self.diff.changes.iter().filter(|change| change.acts() || change.old != change.new);
        intent.paths = changed.map(|change| (change.path.clone(), change.step())).collect();
        Ok(intent)
    }

    fn stage_directory(&self, change: &Change) -> Result<(), Failure> {
        match (&change.want, &change.found) {
            (Some(Want::Directory { mode }), None) => self.root.make_directory(&change.path, *mode),
            (Some(Want::Directory { mode }), Some(_)) => {
                self.root.set_directory(&change.path, Octal(*mode), Owner::default())
            }
            _ => Ok(()),
        }
    }

    /// Writes the file or link of one change under its temporary name.
    fn stage_file(&self, change: &Change) -> Result<(), Failure> {
        let temporary = change.path.temporary();
        // Such a name is only nodebake's, even if no intent contains it.
        if let Err(failure) = self.root.remove_file(&temporary) {
            if !self.root.is_directory(&temporary)? {
                return Err(failure);
            }
            let shown = self.root.shown(&temporary);
            let message = format!("`{shown}` is a directory, and a file is staged under this name");
            return Err(Failure::new(Kind::Unsafe, message).help("move it away and run again"));
        }
        match &change.want {
            Some(Want::File { mode, content: Content::Text(bytes) }) => {
                self.root.write_new(&temporary, *mode, bytes, self.mtime)
            }
            Some(Want::File { content: Content::Member { sha256, .. }, .. }) => {
                let member =
                    self.members.iter().find(|member| member.path == change.path && member.sha256 == *sha256);
                match member {
                    Some(member) => member.install(self.root, &temporary, self.mtime),
                    None => Err(Failure::new(Kind::Filesystem, format!("`{}` was not fetched", change.path))),
                }
            }
            Some(Want::Link { target }) => self.root.link_new(&temporary, target, self.mtime),
            Some(Want::Directory { .. } | Want::Present { .. }) => Ok(()),
            None => match self.state.original(&change.path)? {
                Some(original) => self.root.duplicate(&original, &temporary),
                None => Err(Failure::new(
                    Kind::Filesystem,
                    format!(
                        "what was at `{}` before the first bake is gone from {}",
                        change.path,
                        self.root.shown("/var/lib/nodebake/original")
                    ),
                )),
            },
        }
    }

    /// Keeps the nodes that would be lost: originals at the first bake, edits at every bake.
    fn keep(&self) -> Result<SavedEdits, Failure> {
        let mut kept = SavedEdits::default();
        for change in self.acting() {
            let saved = change.new.as_ref().is_some_and(|new| new.before == Before::Saved);
            // An original that an earlier `remove` could not restore stays, and the present node is an edit.
            let older =
                change.action == Action::Replace && saved && self.state.original(&change.path)?.is_some();
            if change.action == Action::Replace && saved && !older {
                self.state.keep_original(&change.path)?;
            }
            if older || (change.action == Action::Update && change.edited) {
                kept.edits.push((change.path.clone(), self.state.keep_edited(&change.path)?));
            }
        }
        Ok(kept)
    }

    /// Removes paths that are owned and no longer wanted, links first, directories last.
    fn sweep(&self) -> Result<(), Failure> {
        let mut removed: Vec<&Change> = self.acting().filter(|change| change.want.is_none()).collect();
        removed.sort_by_key(|change| (rank(change), std::cmp::Reverse(change.path.clone())));
        // The removal of each kind is durable before the next: a link never outlives its unit and its binary.
        for rank in removed.chunk_by(|a, b| rank(a) == rank(b)) {
            for change in rank {
                self.remove(change)?;
            }
            self.sync(rank.iter().map(|change| change.path.parent()).collect())?;
        }
        Ok(())
    }

    fn remove(&self, change: &Change) -> Result<(), Failure> {
        let before = change.old.as_ref().map(|old| old.before);
        match (&change.found, change.action, before) {
            (Some(Node::Directory { .. }), Action::Remove, _) => {
                self.root.remove_empty_directory(&change.path).map(drop)
            }
            (_, Action::Restore, Some(Before::Directory(mode, owner))) => {
                self.root.set_directory(&change.path, mode, owner)
            }
            (_, Action::Remove, _) => self.root.remove_file(&change.path),
            _ => Ok(()),
        }
    }

    /// Saves the receipt, as the last step: it never names a path that does not exist.
    fn finish(&self) -> Result<(), Failure> {
        let mut receipt = self.wanted();
        receipt.directories.extend(self.state.intent()?.map(|intent| intent.directories).unwrap_or_default());
        prune_directories(self.root, &mut receipt)?;
        for change in self.diff.changes.iter().filter(|change| change.new.is_none()) {
            // An edited file stays at its path, so the original stays kept.
            if !change.edited {
                self.state.drop_original(&change.path)?;
            }
        }
        self.state.save_receipt(&receipt)?;
        self.state.clear_intent()
    }

    /// Makes directories durable, in parallel.
    fn sync(&self, directories: BTreeSet<Option<ImagePath>>) -> Result<(), Failure> {
        let directories: Vec<_> = directories.into_iter().collect();
        parallel::try_each(directories, self.flushes, |path| self.root.sync_directory(path.as_ref()))
    }
}

/// Returns a change's rank in the order of removal: links, files, directories.
fn rank(change: &Change) -> u8 {
    match change.found {
        Some(Node::Link { .. }) => 0,
        Some(Node::Directory { .. }) => 2,
        _ => 1,
    }
}
