//! The files of a bake as the rules need them: planned, or owned by a root's receipt.
//!
//! This module must not judge anything.

use crate::error::{Failure, Kind};
use crate::node::{Content, Node, Want};
use crate::path::ImagePath;
use crate::plan::Plan;
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::{CNI_BIN, Daemon, PACKAGED_CNI_BINS, Promises, Runtime};
use crate::state::Receipt;

/// Files of a bake.
#[derive(Clone, Copy)]
pub(crate) enum Ours<'a> {
    /// Those that a bake will write, and the receipt of the one before it.
    Planned(&'a Plan, Option<&'a Receipt>),
    /// Those that a bake has written.
    Owned(&'a Receipt),
}

impl<'a> Ours<'a> {
    /// Returns every path, and whether a directory belongs there.
    pub(super) fn paths(&self) -> Vec<(&'a ImagePath, bool)> {
        match *self {
            Ours::Planned(plan, _) => {
                let of = |(path, entry): (&'a ImagePath, &'a crate::plan::Entry)| {
                    (path, matches!(entry.want, Want::Directory { .. }))
                };
                plan.entries.iter().map(of).collect()
            }
            Ours::Owned(receipt) => {
                let of = |(path, owned): (&'a ImagePath, &'a crate::state::Owned)| {
                    (path, matches!(owned.node, Node::Directory { .. }))
                };
                receipt.paths.iter().map(of).collect()
            }
        }
    }

    /// Returns whether `path` is one of the files.
    pub(super) fn has(&self, path: &str) -> bool {
        match self {
            Ours::Planned(plan, _) => plan.entries.contains_key(path),
            Ours::Owned(receipt) => receipt.paths.contains_key(path),
        }
    }

    /// Returns whether the bake takes away what is at `path` in the root.
    pub(super) fn sweeps(&self, path: &ImagePath) -> bool {
        match self {
            Ours::Planned(plan, Some(receipt)) => {
                receipt.paths.contains_key(path) && !plan.entries.contains_key(path)
            }
            _ => false,
        }
    }

    /// Returns the daemon among the files.
    pub(crate) fn daemon(&self) -> Option<Daemon> {
        match self {
            Ours::Planned(plan, _) => Daemon::of(&plan.entries),
            Ours::Owned(receipt) => Daemon::of(&receipt.paths),
        }
    }

    /// Returns the runtime whose configuration is among the files.
    pub(crate) fn runtime(&self) -> Option<Runtime> {
        match self {
            Ours::Planned(plan, _) => Runtime::configured_in(&plan.entries),
            Ours::Owned(receipt) => Runtime::configured_in(&receipt.paths),
        }
    }

    /// Returns the version of the runtime.
    pub(super) fn version(&self, runtime: Runtime) -> Option<&'a str> {
        match *self {
            Ours::Planned(plan, _) => plan.runtime_version.as_deref(),
            Ours::Owned(receipt) => receipt.version_of(runtime),
        }
    }

    /// Returns what the files depend on.
    pub(crate) fn promises(&self) -> Promises<'a> {
        let paths: Vec<&'a str> = self.paths().into_iter().map(|(path, _)| path.as_str()).collect();
        let above = |path: &'a str| path.rsplit_once('/').map(|(directory, _)| directory);
        let is_registry = |path: &&&str| {
            let name = path.rsplit('/').next().unwrap_or_default();
            Runtime::ALL.iter().any(|runtime| runtime.facts().registry_file == name)
        };
        let registries = paths.iter().find(is_registry).and_then(|path| above(above(path)?));
        let has = |bin: &&str| paths.iter().any(|path| above(path) == Some(*bin));
        let plugins = std::iter::once(CNI_BIN).chain(PACKAGED_CNI_BINS).find(has);
        Promises { registries, plugins }
    }

    /// Returns the text at `path` once the bake is done: the planned one, or else that in the root. None if there is no
    /// file, or one that is too long for a text.
    pub(super) fn text(&self, root: &Root, path: &ImagePath) -> Result<Option<String>, Failure> {
        if let Some(text) = self.planned(path) {
            return Ok(Some(text));
        }
        match root.any_text(path, LONGEST_TEXT) {
            Err(failure) if failure.kind == Kind::Invalid => Ok(None),
            text => text,
        }
    }

    /// Returns the text that is planned for `path`.
    pub(super) fn planned(&self, path: &ImagePath) -> Option<String> {
        let Ours::Planned(plan, _) = self else { return None };
        match &plan.entries.get(path)?.want {
            Want::File { content: Content::Text(bytes), .. } => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
            _ => None,
        }
    }
}
