//! Removes packages that nodebake has installed.
//!
//! This module must not remove one that was there before the first bake.

use crate::artifact::Installed;
use crate::error::{Failure, Kind};
use crate::packages::manager::Session;
use crate::packages::manager::database::{self, Database};
use crate::packages::manager::options::Options;
use crate::path::ImagePath;
use crate::plan::from_packages::PackageChange;
use crate::process::protocol::Access;
use crate::root::Root;
use crate::runtime::Runtime;
use crate::state::State;

/// Name of a hard link to a configuration file while a package that owns it is removed, because dpkg and rpm delete or
/// rename conffiles. A commit stages files under other names: after a crash the two are not confused.
const KEPT: &str = ".nodebake-config.toml.kept";

/// Suffix that rpm gives to an edited configuration file when its package is removed.
const RENAMED: &str = ".rpmsave";

/// Rule for packages that the spec no longer asks for and that other packages need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The package with the containerd must go, because another containerd takes its place: else the run fails.
    Must,
    /// Packages that other packages need stay.
    IfUnneeded,
}

/// Removes those of `packages` that nodebake has installed; without `state` it only returns the changes. Packages that
/// were there before the first bake stay, and lose the hold that nodebake has set.
pub(crate) fn remove_packages(
    root: &Root,
    state: Option<&State>,
    packages: &[Installed],
    options: Options,
    rule: Removal,
) -> Result<Vec<PackageChange>, Failure> {
    if !is_needed(packages) {
        return Ok(Vec::new());
    }
    let access = if state.is_some() { Access::Change } else { Access::Look };
    let mut session = Session::open(root, access, true, Vec::new(), options)?;
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let database = session.database(&names)?;
    let ours = packages.iter().filter(|package| !package.found && database.get(&package.name).is_some());
    let ours: Vec<String> = ours.map(|package| package.name.clone()).collect();
    let removable = session.removable(ours.clone())?;
    if rule == Removal::Must {
        refuse_needed_runtime(root, &database, ours.iter().filter(|name| !removable.contains(name)))?;
    }
    let change = |package: &Installed| match removable.contains(&package.name) {
        true => PackageChange::Remove(package.clone()),
        false => PackageChange::Leave(package.clone()),
    };
    let changes = packages.iter().filter(|package| ours.contains(&package.name)).map(change).collect();
    let Some(state) = state else { return Ok(changes) };
    state.amend_intent(|intent| intent.packages = packages.to_vec())?;
    for package in packages.iter().filter(|package| package.held) {
        if database.get(&package.name).is_some_and(|record| record.is_held) {
            session.hold(&package.name, false)?;
        }
    }
    if !removable.is_empty() {
        let configs = modified_configs(root, &database)?;
        keep_configs_during(root, &configs, || session.remove(&removable))?;
    }
    Ok(changes)
}

/// Returns whether one of `packages` has to be removed or to lose its hold: then the package manager has to run.
pub(crate) fn is_needed(packages: &[Installed]) -> bool {
    packages.iter().any(|package| !package.found || package.held)
}

/// Refuses where one of the packages that can't be removed, `needed`, has installed a runtime.
fn refuse_needed_runtime<'a>(
    root: &Root,
    database: &Database,
    mut needed: impl Iterator<Item = &'a String>,
) -> Result<(), Failure> {
    let has_runtime = |name: &&String| {
        let files = database.get(name).into_iter().flat_map(|record| &record.files);
        files.into_iter().any(is_daemon)
    };
    let Some(needed) = needed.find(has_runtime) else { return Ok(()) };
    let message =
        format!("package {needed} can't go from root `{}`: other packages need it", root.host().display());
    Err(Failure::new(Kind::Unsupported, message).help("take those away first, or keep `install: package`"))
}

/// Returns whether `path` is where packages have the daemon of a runtime.
fn is_daemon(path: &ImagePath) -> bool {
    Runtime::ALL.iter().any(|runtime| runtime.facts().binary.packaged.contains(&path.as_str()))
}

/// Returns the paths of the runtimes' configuration files.
fn configs() -> impl Iterator<Item = ImagePath> {
    Runtime::ALL.into_iter().map(|runtime| ImagePath::fixed(runtime.facts().config))
}

/// Returns the configuration files in `root` that differ from what a package ships.
fn modified_configs(root: &Root, database: &Database) -> Result<Vec<ImagePath>, Failure> {
    let mut modified = Vec::new();
    for config in configs() {
        if !is_unmodified(root, &config, database)? && root.has(&config)? {
            modified.push(config);
        }
    }
    Ok(modified)
}

/// Returns whether the file at `path` is as a package ships it; true where there is no file.
fn is_unmodified(root: &Root, path: &ImagePath, database: &Database) -> Result<bool, Failure> {
    let Some(file) = root.file(path)? else { return Ok(true) };
    if !root.may_hash(path, &file)? {
        return Ok(false);
    }
    for expected in database.records.values().filter_map(|record| record.digests.get(path)) {
        let same = database::matches(&file, expected).map_err(|error| database::unreadable(path, error))?;
        if same == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs `work`, which removes a package, and keeps `configs`. dpkg and rpm delete or rename these files also where
/// nodebake or an administrator has written them.
fn keep_configs_during(
    root: &Root,
    configs: &[ImagePath],
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    for config in configs {
        root.duplicate(config, &kept(config)?)?;
        root.sync_directory(config.parent().as_ref())?;
    }
    let done = work();
    if !configs.is_empty() {
        restore_configs(root)?;
    }
    done
}

/// Returns the path of the hard link that keeps `config`.
fn kept(config: &ImagePath) -> Result<ImagePath, Failure> {
    config.parent().unwrap_or_else(|| config.clone()).join(KEPT)
}

/// Renames every hard link of [`keep_configs_during`] back. After a killed run the next run calls this.
pub(super) fn restore_configs(root: &Root) -> Result<(), Failure> {
    configs().try_for_each(|config| restore_config(root, &config))
}

fn restore_config(root: &Root, config: &ImagePath) -> Result<(), Failure> {
    let (kept, renamed) = (kept(config)?, ImagePath::new(&format!("{config}{RENAMED}"))?);
    let Some(content) = root.node(&kept)? else { return Ok(()) };
    match root.node(config)? {
        None => {
            // The package manager may have removed the directory, too.
            for above in root.missing_directories(config)? {
                root.make_directory(&above, 0o755)?;
            }
            root.rename(&kept, config)?;
        }
        Some(_) => root.remove_file(&kept)?,
    }
    if root.node(&renamed)?.as_ref() == Some(&content) {
        root.remove_file(&renamed)?;
    }
    root.sync_directory(config.parent().as_ref())
}
