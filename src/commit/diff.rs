//! Plan against root: what would have to change, path by path. It reads the root and writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Failure, Kind};
use crate::node::{Content, Node, Want};
use crate::path::ImagePath;
use crate::plan::from_packages::PackageChange;
use crate::plan::{Entry, Plan};
use crate::root::Root;
use crate::state::{Before, Owned, Receipt, Step, Survey};

/// Longer texts are replaced without being shown.
const SHOWN: u64 = 1 << 18;

/// What happens to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is as it should be.
    Keep,
    /// Nothing is there yet.
    Create,
    /// Something of somebody else's is there: it is kept for `remove` to put back.
    Replace,
    /// Something of ours is there and has to be another.
    Update,
    /// It is ours and not wanted any more.
    Remove,
    /// As [`Action::Remove`], and what was there before comes back.
    Restore,
    /// It was ours, is not wanted any more and was edited: it stays.
    Release,
}

/// One path and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The path.
    pub path: ImagePath,
    /// What happens.
    pub action: Action,
    /// What is there now.
    pub found: Option<Node>,
    /// What belongs there; none where it goes.
    pub want: Option<Want>,
    /// What the receipt says now.
    pub old: Option<Owned>,
    /// What the receipt will say; none: nothing.
    pub new: Option<Owned>,
    /// Somebody edited what we had put there.
    pub edited: bool,
    /// The text that is there now, for showing what changes.
    pub text: Option<String>,
}

/// All changes of one root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Diff {
    /// What the package manager did, or would do.
    pub packages: Vec<PackageChange>,
    /// Every planned and every owned path, sorted.
    pub changes: Vec<Change>,
    /// Directories that have to be created on the way.
    pub directories: BTreeSet<ImagePath>,
}

impl Change {
    /// Whether something happens in the root.
    pub(crate) fn acts(&self) -> bool {
        !matches!(self.action, Action::Keep | Action::Release)
    }

    /// Whether a new file or link is staged beside the path.
    pub(crate) fn is_staged(&self) -> bool {
        let written = matches!(self.want, Some(Want::File { .. } | Want::Link { .. }));
        match self.action {
            Action::Create | Action::Replace | Action::Update => written,
            Action::Restore => matches!(self.old, Some(Owned { before: Before::Saved, .. })),
            Action::Keep | Action::Remove | Action::Release => false,
        }
    }

    /// What is there came with a package of ours: there is nothing to keep.
    fn forget_original(&mut self) {
        if let Some(new) = &mut self.new {
            new.before = Before::Nothing;
            let same = self.found.as_ref() == Some(&new.node);
            self.action = if same { Action::Keep } else { Action::Update };
        }
    }

    /// Whether it is a symlink: those come last, so that nothing is enabled before it is there.
    pub(crate) fn is_link(&self) -> bool {
        matches!(self.want, Some(Want::Link { .. }))
    }

    /// What the intent says of it.
    pub(crate) fn step(&self) -> Step {
        let temporary = self.is_staged().then(|| self.path.temporary());
        Step { temporary, old: self.old.clone(), new: self.new.clone(), acts: self.acts() }
    }
}

impl Diff {
    /// Whether the root is as the plan wants it.
    pub(crate) fn is_empty(&self) -> bool {
        self.packages.is_empty() && !self.changes.iter().any(Change::acts)
    }

    /// Everything that the receipt will own.
    pub(crate) fn owned(&self) -> BTreeMap<ImagePath, Owned> {
        self.changes.iter().filter_map(|change| Some((change.path.clone(), change.new.clone()?))).collect()
    }
}

/// Compares `plan` with `root`, of which `receipt` owns what is in `found`.
pub(crate) fn diff(plan: &Plan, receipt: &Receipt, found: &Survey, root: &Root) -> Result<Diff, Failure> {
    let mut diff = Diff::default();
    for (path, entry) in &plan.entries {
        let at_path = match found.get(path) {
            Some(node) => node.clone(),
            None => root.node(path)?,
        };
        if at_path.is_none() && !matches!(entry.want, Want::Present { .. }) {
            let missing = root.missing_directories(path)?;
            diff.directories.extend(missing.into_iter().filter(|above| !plan.entries.contains_key(above)));
        }
        if let Want::Present { .. } = entry.want {
            diff.changes.push(present(path, entry, receipt.paths.get(path), at_path));
        } else if let Some(mut change) = wanted(path, entry, receipt.paths.get(path), at_path, root)? {
            if plan.shipped.contains(path) && change.old.is_none() {
                change.forget_original();
            }
            diff.changes.push(change);
        }
    }
    let unplanned = receipt.paths.iter().filter(|(path, _)| !plan.entries.contains_key(*path));
    diff.changes.extend(unplanned.map(|(path, old)| unwanted(path, old, found.get(path).cloned().flatten())));
    diff.changes.sort_by(|a, b| a.path.cmp(&b.path));
    refuse_aliases(&diff, root)?;
    Ok(diff)
}

/// A path of the plan. None: an administrator's link leads to the directory, it stays as it is.
fn wanted(
    path: &ImagePath,
    entry: &Entry,
    old: Option<&Owned>,
    found: Option<Node>,
    root: &Root,
) -> Result<Option<Change>, Failure> {
    let node = entry.want.node();
    let is_directory = matches!(entry.want, Want::Directory { .. });
    if is_directory && matches!(found, Some(Node::Link { .. })) && root.is_directory(path)? {
        return Ok(None);
    }
    refuse_mixture(path, is_directory, found.as_ref(), root)?;
    let before = match (old, &found) {
        (Some(old), _) => old.before,
        (None, None) => Before::Nothing,
        (None, Some(Node::Directory { mode, owner })) => Before::Directory(*mode, *owner),
        (None, Some(_)) => Before::Saved,
    };
    let edited = match (old, &found) {
        (Some(old), Some(found)) => found.differs_in_content(&old.node) && found.differs_in_content(&node),
        _ => false,
    };
    let same = found.as_ref() == Some(&node);
    let action = match (old, &found) {
        _ if same && (old.is_some() || is_directory) => Action::Keep,
        (_, None) => Action::Create,
        (None, Some(_)) => Action::Replace,
        (Some(_), Some(_)) => Action::Update,
    };
    let text = match (&entry.want, &found) {
        (Want::File { content: Content::Text(_), .. }, Some(Node::File { .. })) if action != Action::Keep => {
            root.text(path, SHOWN).unwrap_or(None)
        }
        _ => None,
    };
    let (artifact, member) = entry.want.origin();
    let new = Some(Owned { node, component: entry.component.clone(), artifact, member, before });
    let (path, want, old) = (path.clone(), Some(entry.want.clone()), old.cloned());
    Ok(Some(Change { path, action, found, want, old, new, edited, text }))
}

/// A file that a package brings: nothing is ever done about it here.
fn present(path: &ImagePath, entry: &Entry, old: Option<&Owned>, found: Option<Node>) -> Change {
    let (node, component) = (entry.want.node(), entry.component.clone());
    let new = Owned { node, component, artifact: None, member: None, before: Before::Nothing };
    Change {
        path: path.clone(),
        action: Action::Keep,
        found,
        want: Some(entry.want.clone()),
        old: old.cloned(),
        new: Some(new),
        edited: false,
        text: None,
    }
}

/// A file never takes a directory's place, nor a directory a file's.
fn refuse_mixture(
    path: &ImagePath,
    is_directory: bool,
    found: Option<&Node>,
    root: &Root,
) -> Result<(), Failure> {
    let found_directory = match found {
        None => return Ok(()),
        Some(found) => matches!(found, Node::Directory { .. }),
    };
    if found_directory == is_directory {
        return Ok(());
    }
    let (is, wants) = if is_directory { ("no directory", "a directory") } else { ("a directory", "a file") };
    let message = format!("`{}` is {is}, and {wants} belongs there", root.shown(path));
    Err(Failure::new(Kind::Unsafe, message).help("move it away and run again"))
}

/// A path that is owned and not planned any more.
fn unwanted(path: &ImagePath, old: &Owned, found: Option<Node>) -> Change {
    let edited = found.as_ref().is_some_and(|found| found.differs_in_content(&old.node));
    let action = match (&found, old.before) {
        _ if matches!(old.node, Node::Present { .. }) => Action::Release,
        _ if edited => Action::Release,
        (None, Before::Saved) | (Some(_), Before::Saved | Before::Directory(..)) => Action::Restore,
        (None, _) => Action::Release,
        (Some(_), Before::Nothing) => Action::Remove,
    };
    Change {
        path: path.clone(),
        action,
        found,
        want: None,
        old: Some(old.clone()),
        new: None,
        edited,
        text: None,
    }
}

/// Two paths that are one file, through a link such as `/usr/local/sbin -> bin`: both planned, or one
/// planned and one that would be swept.
fn refuse_aliases(diff: &Diff, root: &Root) -> Result<(), Failure> {
    let mut seen: BTreeMap<(u64, u64, String), &ImagePath> = BTreeMap::new();
    for change in diff.changes.iter().filter(|change| change.action != Action::Release) {
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

/// The changes that somebody would notice.
pub(crate) fn visible(diff: &Diff) -> impl Iterator<Item = &Change> {
    diff.changes.iter().filter(|change| change.acts() || (change.edited && change.new.is_none()))
}
