//! Carries out a diff in one root so that a crash at any point leaves every path old or new.
//!
//! The order: intent durable → everything staged beside its place, durable → renamed, files before
//! links → swept → receipt replaced → intent forgotten. Until the first rename a failure is undone;
//! after it [`recover`] keeps what has been reached, and the next run goes on from there.

use std::collections::BTreeSet;

use crate::claim;
use crate::diff::{Action, Change, Diff};
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::parallel;
use crate::path::ImagePath;
use crate::plan::Plan;
use crate::receipt::{Before, Installed, Intent, Node, Octal, Owner, Receipt, Step};
use crate::resolve::Artifact;
use crate::root::Root;
use crate::spool::Member;
use crate::state::{self, State};
use crate::want::{Content, Want};

/// Created directories that are only on the way carry this mode.
const ON_THE_WAY: u32 = 0o755;

/// One root, its changes, and where their bytes come from.
pub struct Commit<'a> {
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
    pub members: &'a [&'a Member],
    /// Of all installed files.
    pub mtime: i64,
    /// How many files are flushed at once.
    pub flushes: usize,
}

/// What happened beside the changes themselves.
#[derive(Debug, Default)]
pub struct Kept {
    /// Edited files: the path, and where the edit is kept.
    pub edits: Vec<(ImagePath, ImagePath)>,
    /// SELinux labels could not be set: the root is marked so that the next boot does it.
    pub unlabelled: bool,
}

impl Commit<'_> {
    /// What the receipt will say, but for directories that are created on the way.
    pub fn wanted(&self) -> Receipt {
        let mut receipt = Receipt::new(&self.plan.arch, self.plan.artifacts.clone());
        receipt.packages.clone_from(&self.plan.packages);
        receipt.paths = self.diff.owned();
        receipt.directories.clone_from(&self.receipt.directories);
        receipt
    }

    /// Everything that can fail for want of space or rights: nothing is visible after it.
    pub fn stage(&self) -> Result<(), Failure> {
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
    pub fn publish(&self) -> Result<Kept, Failure> {
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
    fn keep(&self) -> Result<Kept, Failure> {
        let mut kept = Kept::default();
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

/// Brings a root that a run has left midway to a state that its receipt describes: temporaries
/// removed; if nothing had been renamed yet, everything as it was before; else what was reached is
/// owned and what was not is as it was. Gives the receipt that holds then.
pub fn recover(root: &Root, held: &State) -> Result<Option<Receipt>, Failure> {
    let old = held.receipt()?;
    let Some(intent) = held.intent()? else { return Ok(old) };
    if let Some(placeholder) = &intent.placeholder {
        claim::take_placeholder(root, placeholder)?;
    }
    let packages = recover_packages(root, old.as_ref(), &intent)?;
    let nothing = intent.paths.is_empty() && packages.is_empty();
    if old.is_none() && nothing && intent.directories.iter().all(state::is_above) {
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
        false => claim::reconcile(root, &intent.packages),
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
fn prune_directories(root: &Root, receipt: &mut Receipt) -> Result<(), Failure> {
    let mut kept = BTreeSet::new();
    for directory in receipt.directories.iter().rev() {
        let used = receipt.paths.keys().any(|path| path.is_below(directory));
        if used
            || state::is_above(directory)
            || (!root.remove_empty_directory(directory)? && root.is_directory(directory)?)
        {
            kept.insert(directory.clone());
        }
    }
    receipt.directories = kept;
    Ok(())
}
