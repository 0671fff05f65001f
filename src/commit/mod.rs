//! Carries out a diff in one root so that a crash at any point leaves every path old or new.
//!
//! The order: intent durable → everything staged beside its place, durable → renamed, files before
//! links → swept → receipt replaced → intent forgotten. Until the first rename a failure is undone;
//! after it [`recover`] keeps what has been reached, and the next run goes on from there.

pub(crate) mod diff;
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

/// Created directories that are only on the way carry this mode.
const ON_THE_WAY: u32 = 0o755;

/// One root, its changes, and where their bytes come from.
pub(crate) struct Commit<'a> {
    /// The root.
    pub root: &'a Root,
    /// Its locked state.
    pub state: &'a State<'a>,
    /// What the receipt says now.
    pub receipt: &'a Receipt,
    /// What it should be.
    pub plan: &'a Plan,
    /// What has to change.
    pub diff: &'a Diff,
    /// Decoded members of the artifacts that are not in place.
    pub members: &'a [&'a DecodedMember],
    /// Of all installed files.
    pub mtime: i64,
    /// How many files are flushed at once.
    pub flushes: usize,
}

/// What happened beside the changes themselves.
#[derive(Debug, Default)]
pub(crate) struct SavedEdits {
    /// Edited files: the path, and where the edit is kept.
    pub edits: Vec<(ImagePath, ImagePath)>,
    /// SELinux labels could not be set: the root is marked so that the next boot does it.
    pub unlabelled: bool,
}

impl Commit<'_> {
    /// What the receipt will say, but for directories that are created on the way.
    pub(crate) fn wanted(&self) -> Receipt {
        let mut receipt = Receipt::new(&self.plan.arch, self.plan.artifacts.clone());
        receipt.packages.clone_from(&self.plan.packages);
        receipt.paths = self.diff.owned();
        receipt.directories.clone_from(&self.receipt.directories);
        receipt
    }

    /// Everything that can fail for want of space or rights: nothing is visible after it.
    pub(crate) fn stage(&self) -> Result<(), Failure> {
        self.state.admit_receipt(&self.wanted())?;
        self.state.save_intent(&self.intent()?)?;
        for directory in &self.diff.directories {
            self.root.make_directory(directory, ON_THE_WAY)?;
        }
        for change in self.acting() {
            self.stage_directory(change)?;
        }
        let staged: Vec<&Change> = self.acting().filter(|change| change.is_staged()).collect();
        parallel::try_each(staged, self.flushes, |change| {
            interrupt::check()?;
            self.stage_one(change)
        })?;
        interrupt::check()
    }

    /// Makes it visible. Not interrupted by signals: it takes milliseconds.
    pub(crate) fn publish(&self) -> Result<SavedEdits, Failure> {
        let mut kept = self.keep()?;
        // Before anything is in place. What is taken away, or put back as it was, needs no label.
        if self.acting().any(|change| change.want.is_some()) {
            kept.unlabelled = self.root.mark_for_relabelling()?;
        }
        // Directories are durable before links: a unit is never enabled before its binary is there.
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

    fn acting(&self) -> impl Iterator<Item = &Change> {
        self.diff.changes.iter().filter(|change| change.acts())
    }

    fn intent(&self) -> Result<Intent, Failure> {
        let mut intent = Intent::new(&self.plan.arch, self.plan.artifacts.clone());
        intent.directories.clone_from(&self.diff.directories);
        // The state's own directories are claimed by the intent that it was created with.
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

    fn stage_one(&self, change: &Change) -> Result<(), Failure> {
        let temporary = change.path.temporary();
        // Not ours by any intent, but our name.
        self.root.remove_file(&temporary)?;
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

    /// Saves what would be lost: originals at the first bake, edits at any.
    fn keep(&self) -> Result<SavedEdits, Failure> {
        let mut kept = SavedEdits::default();
        for change in self.acting() {
            let saved = change.new.as_ref().is_some_and(|new| new.before == Before::Saved);
            // An original that an earlier `remove` had to leave is the true one: what is there now is an edit.
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

    /// Takes away what is owned and not wanted, links first, directories last.
    fn sweep(&self) -> Result<(), Failure> {
        let mut removed: Vec<&Change> = self.acting().filter(|change| change.want.is_none()).collect();
        removed.sort_by_key(|change| (rank(change), std::cmp::Reverse(change.path.clone())));
        // Each kind is gone for good before the next: a link never outlives its unit and its binary.
        for rank in removed.chunk_by(|a, b| rank(a) == rank(b)) {
            for change in rank {
                self.take_away(change)?;
            }
            self.sync(rank.iter().map(|change| change.path.parent()).collect())?;
        }
        Ok(())
    }

    fn take_away(&self, change: &Change) -> Result<(), Failure> {
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

    /// The receipt, last: it never claims what is not there.
    fn finish(&self) -> Result<(), Failure> {
        let mut receipt = self.wanted();
        receipt.directories.extend(self.state.intent()?.map(|intent| intent.directories).unwrap_or_default());
        prune_directories(self.root, &mut receipt)?;
        for change in self.diff.changes.iter().filter(|change| change.new.is_none()) {
            // A file that was edited stays where it is; what was there before it stays kept.
            if !change.edited {
                self.state.drop_original(&change.path)?;
            }
        }
        self.state.save_receipt(&receipt)?;
        self.state.clear_intent()
    }

    fn sync(&self, directories: BTreeSet<Option<ImagePath>>) -> Result<(), Failure> {
        let directories: Vec<_> = directories.into_iter().collect();
        parallel::try_each(directories, self.flushes, |path| self.root.sync_directory(path.as_ref()))
    }
}

/// The order in which things are taken away: links, files, directories.
fn rank(change: &Change) -> u8 {
    match change.found {
        Some(Node::Link { .. }) => 0,
        Some(Node::Directory { .. }) => 2,
        _ => 1,
    }
}
