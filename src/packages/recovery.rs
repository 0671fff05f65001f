//! Records packages before the package manager runs, and cleans up what a killed run has left.
//!
//! A package manager can't be undone by a rename. So the intent is on disk first, and after a killed run the
//! package database tells which packages are installed. This module must not install or remove a package.

use crate::artifact::Installed;
use crate::digest::Digest;
use crate::error::Failure;
use crate::node::Node;
use crate::packages::manager::distribution::{Distribution, Manager};
use crate::packages::manager::{Session, rpm};
use crate::packages::removal;
use crate::path::ImagePath;
use crate::root::Root;
use crate::runtime::Runtime;
use crate::state::{RESOLV_CONF, State};

/// Suffixes of a configuration file that dpkg or rpm has put beside one that was edited.
const CONFIG_LEFTOVERS: [&str; 2] = [".dpkg-dist", ".rpmnew"];

/// Writes `packages`, which the package manager is about to install, into the intent on disk.
pub(super) fn record(state: &State, packages: Vec<Installed>) -> Result<(), Failure> {
    state.amend_intent(|intent| intent.packages = packages)
}

/// Returns those of `recorded` that are installed, in their installed versions, and cleans up what a killed run
/// has left.
pub(crate) fn reconcile(root: &Root, recorded: &[Installed]) -> Result<Vec<Installed>, Failure> {
    removal::restore_configs(root)?;
    let manager = Distribution::of(root)?.manager;
    if manager == Manager::Dnf {
        remove_files(root, &rpm::temporary_files(root)?)?;
    }
    let database = Session::look(root, manager, &[])?;
    let kept = recorded.iter().filter_map(|package| {
        let installed = database.installed(&package.name, package.found)?;
        Some(Installed { held: package.held, ..installed })
    });
    Ok(kept.collect())
}

/// Creates an empty resolv.conf, over which the host's is mounted, where the root has none.
pub(super) fn place_resolv_conf(root: &Root, state: &State) -> Result<(), Failure> {
    let path = ImagePath::fixed(RESOLV_CONF);
    if root.is_own()? || root.has(&path)? {
        return Ok(());
    }
    state.amend_intent(|intent| intent.placeholder = Some(path.clone()))?;
    root.write_new(&path, 0o644, b"", 0)
}

/// Removes the empty resolv.conf, and the configuration files that package managers have put beside ours, unless they
/// are in `earlier`.
pub(super) fn clean_up(root: &Root, state: &State, earlier: &[ImagePath]) -> Result<(), Failure> {
    if let Some(path) = state.intent()?.and_then(|intent| intent.placeholder) {
        remove_placeholder(root, &path)?;
        state.amend_intent(|intent| intent.placeholder = None)?;
    }
    let left: Vec<ImagePath> =
        config_leftovers(root)?.into_iter().filter(|path| !earlier.contains(path)).collect();
    remove_files(root, &left)
}

/// Returns the files that package managers have put beside ours: configuration that does not replace ours, and rpm's
/// temporary files.
pub(super) fn config_leftovers(root: &Root) -> Result<Vec<ImagePath>, Failure> {
    let mut paths = rpm::temporary_files(root)?;
    for runtime in Runtime::ALL {
        for suffix in CONFIG_LEFTOVERS {
            let path = ImagePath::new(&format!("{}{suffix}", runtime.facts().config))?;
            paths.extend(root.has(&path)?.then_some(path));
        }
    }
    Ok(paths)
}

/// Removes the empty resolv.conf at `path`, if it is still empty.
pub(crate) fn remove_placeholder(root: &Root, path: &ImagePath) -> Result<(), Failure> {
    let found = root.node_of_size(path, Some(0))?;
    let is_empty = matches!(found, Some(Node::File { sha256, .. }) if sha256 == Digest::of(b""));
    if is_empty { root.remove_file(path) } else { Ok(()) }
}

fn remove_files(root: &Root, paths: &[ImagePath]) -> Result<(), Failure> {
    paths.iter().try_for_each(|path| root.remove_file(path))
}
