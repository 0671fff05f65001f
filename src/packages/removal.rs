//! Takes packages away that nodebake has brought.

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

/// Name under which a configuration file is kept while its package goes away. No commit uses such a name: what an
/// interrupted commit has staged is not a configuration that somebody wrote.
const KEPT: &str = ".nodebake-config.toml.kept";

/// Suffix that rpm gives a configuration file that was edited.
const RENAMED: &str = ".rpmsave";

/// What is done about packages that are not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The one that brings a containerd goes, or none: another takes its place.
    Must,
    /// What other packages need by now stays, whatever it is.
    IfUnneeded,
}

/// Takes away those of `packages` that nodebake has brought; without `state` it only says which. What was
/// there before the first bake stays, and loses the hold that nodebake has set.
pub(crate) fn remove_packages(
    root: &Root,
    state: Option<&State>,
    packages: &[Installed],
    options: Options,
    rule: Removal,
) -> Result<Vec<PackageChange>, Failure> {
    if packages.iter().all(|package| package.found && !package.held) {
        return Ok(Vec::new());
    }
    let access = if state.is_some() { Access::Change } else { Access::Look };
    let mut session = Session::open(root, access, true, Vec::new(), options)?;
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let there = session.database(&names)?;
    let ours = packages.iter().filter(|package| !package.found && there.get(&package.name).is_some());
    let ours: Vec<String> = ours.map(|package| package.name.clone()).collect();
    let going = session.removable(ours.clone())?;
    let brings = |name: &String| {
        let files = there.get(name).into_iter().flat_map(|record| &record.files);
        files.into_iter().any(is_daemon)
    };
    let stays = |name: &&String| rule == Removal::Must && !going.contains(name) && brings(name);
    if let Some(needed) = ours.iter().find(stays) {
        let message = format!(
            "package {needed} can't go from root `{}`: other packages need it",
            root.host().display()
        );
        return Err(Failure::new(Kind::Unsupported, message)
            .help("take those away first, or keep `install: package`"));
    }
    let change = |package: &Installed| match going.contains(&package.name) {
        true => PackageChange::Remove(package.clone()),
        false => PackageChange::Leave(package.clone()),
    };
    let changes = packages.iter().filter(|package| ours.contains(&package.name)).map(change).collect();
    let Some(state) = state else { return Ok(changes) };
    state.amend_intent(|intent| intent.packages = packages.to_vec())?;
    for package in packages.iter().filter(|package| package.held) {
        if there.get(&package.name).is_some_and(|record| record.is_held) {
            session.hold(&package.name, false)?;
        }
    }
    if !going.is_empty() {
        keep_configs_during(root, &foreign_configs(root, &there)?, || session.remove(&going))?;
    }
    Ok(changes)
}

/// Tells whether `path` is where packages have the daemon of a runtime.
fn is_daemon(path: &ImagePath) -> bool {
    Runtime::ALL.iter().any(|runtime| runtime.facts().binary.packaged.contains(&path.as_str()))
}

/// Returns the paths of the runtimes' configuration files.
fn configs() -> impl Iterator<Item = ImagePath> {
    Runtime::ALL.into_iter().map(|runtime| ImagePath::fixed(runtime.facts().config))
}

/// Returns the configuration files in `root` that are not as a package has brought them.
fn foreign_configs(root: &Root, database: &Database) -> Result<Vec<ImagePath>, Failure> {
    let mut foreign = Vec::new();
    for config in configs() {
        if root.node(&config)?.is_some() && !is_shipped(root, &config, database)? {
            foreign.push(config);
        }
    }
    Ok(foreign)
}

/// Tells whether the file at `path` is as a package has brought it.
fn is_shipped(root: &Root, path: &ImagePath, database: &Database) -> Result<bool, Failure> {
    let Some(file) = root.file(path)? else { return Ok(true) };
    for expected in database.records.values().filter_map(|record| record.digests.get(path)) {
        let same = database::matches(&file, expected);
        if same.map_err(|error| Failure::new(Kind::Filesystem, format!("reading `{path}`: {error}")))?
            == Some(true)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Calls `work`, during which a package manager deletes or renames `configs`, and puts them back: whose edits they
/// are is told apart later.
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

/// Returns the path under which `config` is kept while its package goes away.
fn kept(config: &ImagePath) -> Result<ImagePath, Failure> {
    config.parent().unwrap_or_else(|| config.clone()).join(KEPT)
}

/// Puts every configuration file back that [`keep_configs_during`] has kept: also what a killed run has left.
pub(crate) fn restore_configs(root: &Root) -> Result<(), Failure> {
    configs().try_for_each(|config| restore_config(root, &config))
}

fn restore_config(root: &Root, config: &ImagePath) -> Result<(), Failure> {
    let (kept, renamed) = (kept(config)?, ImagePath::new(&format!("{config}{RENAMED}"))?);
    let Some(content) = root.node(&kept)? else { return Ok(()) };
    match root.node(config)? {
        None => {
            // The package's directory may have gone with the package.
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
