//! Compares a plan with a root and lists the necessary changes, path by path.
//!
//! This module reads the root and must not write to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::commit::links;
use crate::error::{Failure, Kind};
use crate::node::{Content, Node, Want};
use crate::path::ImagePath;
use crate::plan::from_packages::PackageChange;
use crate::plan::{Entry, Plan};
use crate::root::Root;
use crate::state::{Before, Owned, Receipt, Step, Survey};

/// Length of the longest text that is kept for showing a change.
const LONGEST_SHOWN: u64 = 1 << 18;

/// Action at one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing: the path is as the plan wants it.
    Keep,
    /// The path does not exist and is created.
    Create,
    /// The path exists and is not nodebake's: the node is kept, so that `remove` can restore it.
    Replace,
    /// The path is nodebake's and gets another node.
    Update,
    /// The path is nodebake's, no longer wanted, and removed.
    Remove,
    /// The path is nodebake's and no longer wanted: the node from before the first bake is restored.
    Restore,
    /// The path is no longer wanted and stays as it is, no longer owned, for example because it was edited.
    Release,
}

/// Change of one path.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The path.
    pub path: ImagePath,
    /// The action.
    pub action: Action,
    /// The node in the root.
    pub found: Option<Node>,
    /// The wanted node; `None` if the path is no longer wanted.
    pub want: Option<Want>,
    /// The path's entry in the present receipt.
    pub old: Option<Owned>,
    /// The path's entry in the next receipt; `None` if the path will not be owned.
    pub new: Option<Owned>,
    /// The installed file was edited.
    pub edited: bool,
    /// The path is no longer wanted, and is on a mount that no bake uses: it stays as it is.
    pub unreachable: bool,
    /// The found text, for showing the change.
    pub text: Option<String>,
}

/// All changes of one root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Diff {
    /// Changes that the package manager made, or would make.
    pub packages: Vec<PackageChange>,
    /// Changes of every planned and every owned path, sorted by path.
    pub changes: Vec<Change>,
    /// Missing directories above planned paths.
    pub directories: BTreeSet<ImagePath>,
}

impl Change {
    /// Returns whether the root changes, not only the receipt.
    pub(crate) fn acts(&self) -> bool {
        !matches!(self.action, Action::Keep | Action::Release)
    }

    /// Returns whether a new file or link is staged under a temporary name.
    pub(super) fn is_staged(&self) -> bool {
        let written = matches!(self.want, Some(Want::File { .. } | Want::Link { .. }));
        match self.action {
            Action::Create | Action::Replace | Action::Update => written,
            Action::Restore => matches!(self.old, Some(Owned { before: Before::Saved, .. })),
            Action::Keep | Action::Remove | Action::Release => false,
        }
    }

    /// Treats the found node as installed, because a package that nodebake installed brought it: no original
    /// is kept. Before the bake nothing was there, as a plan says.
    fn forget_original(&mut self) {
        if let Some(new) = &mut self.new {
            new.before = Before::Nothing;
            let same = self.found.as_ref() == Some(&new.node);
            self.action = if same { Action::Keep } else { Action::Create };
        }
    }

    /// Returns whether a symlink is wanted: links come last, so that no unit is enabled before it exists.
    pub(super) fn is_link(&self) -> bool {
        matches!(self.want, Some(Want::Link { .. }))
    }

    /// Returns the change as a step of an intent.
    pub(crate) fn step(&self) -> Step {
        let temporary = self.is_staged().then(|| self.path.temporary());
        Step { temporary, old: self.old.clone(), new: self.new.clone(), acts: self.acts() }
    }
}

impl Diff {
    /// Returns whether the root is as the plan wants it.
    pub(crate) fn is_empty(&self) -> bool {
        self.packages.is_empty() && !self.changes.iter().any(Change::acts)
    }

    /// Returns all paths that the next receipt will own.
    pub(crate) fn owned(&self) -> BTreeMap<ImagePath, Owned> {
        self.changes.iter().filter_map(|change| Some((change.path.clone(), change.new.clone()?))).collect()
    }
}

/// Compares `plan` with `root`, where `receipt` owns the paths in `found`.
pub(crate) fn diff(plan: &Plan, receipt: &Receipt, found: &Survey, root: &Root) -> Result<Diff, Failure> {
    let mut diff = Diff::default();
    for (path, entry) in &plan.entries {
        let at_path = match found.get(path) {
            // It has not the size of the installed file, but that of the new one.
            Some(Some(Node::Unread { size, .. })) if entry.want.size() == Some(*size) => root.node(path)?,
            Some(node) => node.clone(),
            None => root.node_of_size(path, entry.want.size())?,
        };
        let is_present = matches!(entry.want, Want::Present { .. });
        if at_path.is_none() && !is_present {
            let missing = root.missing_directories(path)?;
            diff.directories.extend(missing.into_iter().filter(|above| !plan.entries.contains_key(above)));
        }
        let planned = Planned { path, entry, old: receipt.paths.get(path), found: at_path };
        if is_present {
            diff.changes.push(planned.keep());
        } else if let Some(mut change) = planned.change(root)? {
            if plan.shipped.contains(path) && change.old.is_none() {
                change.forget_original();
            }
            diff.changes.push(change);
        }
    }
    let unplanned = receipt.paths.iter().filter(|(path, _)| !plan.entries.contains_key(*path));
    for (path, old) in unplanned {
        let unreachable = !root.permits(path)?;
        diff.changes.push(unwanted(path, old, found.get(path).cloned().flatten(), unreachable));
    }
    diff.changes.sort_by(|a, b| a.path.cmp(&b.path));
    links::refuse_reserved(&diff.changes, root)?;
    links::refuse_aliases(&diff.changes, root)?;
    Ok(diff)
}

/// Iterates over the changes that a user would notice.
pub(crate) fn visible(diff: &Diff) -> impl Iterator<Item = &Change> {
    diff.changes
        .iter()
        .filter(|change| change.acts() || change.unreachable || (change.edited && change.new.is_none()))
}

/// A path of the plan, with its entry in the receipt and its node in the root.
struct Planned<'a> {
    path: &'a ImagePath,
    entry: &'a Entry,
    old: Option<&'a Owned>,
    found: Option<Node>,
}

impl Planned<'_> {
    /// Returns the change; `None` if the plan wants a directory and the path is a link to one, which an
    /// administrator made and which stays as it is.
    fn change(self, root: &Root) -> Result<Option<Change>, Failure> {
        let is_link = matches!(self.found, Some(Node::Link { .. }));
        if self.is_directory() && is_link && root.is_directory(self.path)? {
            return Ok(None);
        }
        self.refuse_mixture(root)?;
        let node = self.entry.want.node();
        let (action, edited) = (self.action(&node), self.is_edited(&node));
        let text = self.shown_text(action, root);
        let before = self.before();
        Ok(Some(Change { action, edited, text, ..self.unchanged(node, before) }))
    }

    /// Returns the change of a file that a package brings, where never anything is done.
    fn keep(self) -> Change {
        let node = self.entry.want.node();
        self.unchanged(node, Before::Nothing)
    }

    /// Returns a change that does nothing but record `node` in the receipt.
    fn unchanged(self, node: Node, before: Before) -> Change {
        let (artifact, member) = self.entry.want.origin();
        let (size, component) = (self.entry.want.size(), self.entry.component.clone());
        let new = Owned { node, size, component, artifact, member, before };
        Change {
            path: self.path.clone(),
            action: Action::Keep,
            found: self.found,
            want: Some(self.entry.want.clone()),
            old: self.old.cloned(),
            new: Some(new),
            edited: false,
            unreachable: false,
            text: None,
        }
    }

    fn is_directory(&self) -> bool {
        matches!(self.entry.want, Want::Directory { .. })
    }

    /// Fails if a file would replace a directory or a directory a file.
    fn refuse_mixture(&self, root: &Root) -> Result<(), Failure> {
        let Some(found) = &self.found else { return Ok(()) };
        if matches!(found, Node::Directory { .. }) == self.is_directory() {
            return Ok(());
        }
        let (is, wants) =
            if self.is_directory() { ("no directory", "a directory") } else { ("a directory", "a file") };
        let message = format!("`{}` is {is}, and {wants} belongs there", root.shown(self.path));
        Err(Failure::new(Kind::Unsafe, message).help("move it away and run again"))
    }

    /// Returns the action that makes `node` of what is found.
    fn action(&self, node: &Node) -> Action {
        let same = self.found.as_ref() == Some(node);
        match (self.old, &self.found) {
            _ if same && (self.old.is_some() || self.is_directory()) => Action::Keep,
            (_, None) => Action::Create,
            (None, Some(_)) => Action::Replace,
            (Some(_), Some(_)) => Action::Update,
        }
    }

    /// Returns whether the found content is neither the installed one nor that of `node`.
    fn is_edited(&self, node: &Node) -> bool {
        match (self.old, &self.found) {
            (Some(old), Some(found)) => found.differs_in_content(&old.node) && found.differs_in_content(node),
            _ => false,
        }
    }

    /// Returns the node from before the first bake, as the receipt records it.
    fn before(&self) -> Before {
        match (self.old, &self.found) {
            (Some(old), _) => old.before,
            (None, None) => Before::Nothing,
            (None, Some(Node::Directory { mode, owner })) => Before::Directory(*mode, *owner),
            (None, Some(_)) => Before::Saved,
        }
    }

    /// Reads the found text if another text will replace it.
    fn shown_text(&self, action: Action, root: &Root) -> Option<String> {
        match (&self.entry.want, &self.found) {
            (Want::File { content: Content::Text(_), .. }, Some(Node::File { .. }))
                if action != Action::Keep =>
            {
                root.text(self.path, LONGEST_SHOWN).unwrap_or(None)
            }
            _ => None,
        }
    }
}

/// Returns the change of a path that is owned and no longer planned.
fn unwanted(path: &ImagePath, old: &Owned, found: Option<Node>, unreachable: bool) -> Change {
    let edited = found.as_ref().is_some_and(|found| found.differs_in_content(&old.node));
    let action = match (&found, old.before) {
        _ if unreachable || matches!(old.node, Node::Present { .. }) => Action::Release,
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
        unreachable,
        text: None,
    }
}
