//! What a run of the package manager claims before it acts, and what of that is there afterwards.
//!
//! A package manager can't be undone by a rename: the claim is durable first, and where a run was killed
//! the package database tells what came of it.

use std::collections::BTreeMap;

use crate::artifact::Installed;
use crate::digest::Digest;
use crate::error::Failure;
use crate::node::Node;
use crate::packages::manager::database::Database;
use crate::packages::manager::distribution::{Distribution, Manager};
use crate::packages::manager::transaction::Transaction;
use crate::packages::manager::{Session, rpm};
use crate::packages::removal;
use crate::path::ImagePath;
use crate::root::Root;
use crate::state::State;

/// Where name resolution is read from.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where package managers put a configuration file of theirs that does not replace ours.
const CONFIG_LEFTOVERS: [&str; 2] =
    ["/etc/containerd/config.toml.dpkg-dist", "/etc/containerd/config.toml.rpmnew"];

/// Makes durable what `transaction` is about to bring for the package called `name`, beside what `earlier`
/// runs have brought.
pub(crate) fn record(
    state: &State,
    name: &str,
    before: &Database,
    earlier: &[Installed],
    transaction: &Transaction,
) -> Result<(), Failure> {
    let mut recorded: BTreeMap<String, Installed> = BTreeMap::new();
    for installed in &transaction.installed {
        let found = before.get(&installed.name).is_some();
        if !found || installed.name == name {
            recorded.insert(installed.name.clone(), Installed { found, ..installed.clone() });
        }
    }
    recorded.extend(earlier.iter().map(|package| (package.name.clone(), package.clone())));
    state.amend_intent(|intent| intent.packages = recorded.into_values().collect())
}

/// Of `recorded` what is really there, as the database has it. What a killed run has left is told by it.
pub(crate) fn reconcile(root: &Root, recorded: &[Installed]) -> Result<Vec<Installed>, Failure> {
    removal::restore_config(root)?;
    let manager = Distribution::of(root)?.manager;
    if manager == Manager::Dnf {
        sweep(root, &rpm::torn(root)?)?;
    }
    let database = Session::look(root, manager, &[])?;
    let kept = recorded.iter().filter_map(|package| {
        let installed = database.installed(&package.name, package.found)?;
        Some(Installed { held: package.held, ..installed })
    });
    Ok(kept.collect())
}

/// A file for the resolver to be mounted on, where the root has none.
pub(crate) fn place_resolv_conf(root: &Root, state: &State) -> Result<(), Failure> {
    let path = ImagePath::fixed(RESOLV_CONF);
    if root.is_own()? || root.node(&path)?.is_some() {
        return Ok(());
    }
    state.amend_intent(|intent| intent.placeholder = Some(path.clone()))?;
    root.write_new(&path, 0o644, b"", 0)
}

/// What package managers have left that they should not have: the resolver's place, and their versions of
/// files that are ours, unless they are in `earlier`.
pub(crate) fn clean_up(root: &Root, state: &State, earlier: &[ImagePath]) -> Result<(), Failure> {
    if let Some(path) = state.intent()?.and_then(|intent| intent.placeholder) {
        remove_placeholder(root, &path)?;
        state.amend_intent(|intent| intent.placeholder = None)?;
    }
    let left: Vec<ImagePath> =
        config_leftovers(root)?.into_iter().filter(|path| !earlier.contains(path)).collect();
    sweep(root, &left)
}

/// Versions of our files that package managers have put beside them.
pub(crate) fn config_leftovers(root: &Root) -> Result<Vec<ImagePath>, Failure> {
    let mut paths = rpm::torn(root)?;
    for path in CONFIG_LEFTOVERS.map(ImagePath::fixed) {
        paths.extend(root.node(&path)?.map(|_| path));
    }
    Ok(paths)
}

fn sweep(root: &Root, paths: &[ImagePath]) -> Result<(), Failure> {
    paths.iter().try_for_each(|path| root.remove_file(path))
}

/// Takes away the empty file that stood where the resolver was mounted.
pub(crate) fn remove_placeholder(root: &Root, path: &ImagePath) -> Result<(), Failure> {
    let is_empty = matches!(root.node(path)?, Some(Node::File { sha256, .. }) if sha256 == Digest::of(b""));
    if is_empty { root.remove_file(path) } else { Ok(()) }
}
