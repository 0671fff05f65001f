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
use crate::runtime::containerd::{CONFIG, PACKAGED};
use crate::state::State;

/// The second name of what stands at [`CONFIG`] while packages go away. No commit has such a name: what an
/// interrupted one has staged is nobody's configuration.
const KEPT: &str = "/etc/containerd/.nodebake-config.toml.kept";

/// What rpm makes of a configuration file that was edited.
const RENAMED: &str = "/etc/containerd/config.toml.rpmsave";

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
        files.into_iter().any(|file| PACKAGED.contains(&file.as_str()))
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
        match is_shipped(root, &ImagePath::fixed(CONFIG), &there)? {
            true => session.remove(&going)?,
            false => keep_config_during(root, || session.remove(&going))?,
        }
    }
    Ok(changes)
}

/// Whether the file at `path` is as a package has brought it.
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

/// Package managers take their configuration file away, or rename it, also where what stands there is ours or
/// somebody's edit: that is told apart later.
fn keep_config_during(root: &Root, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let config = ImagePath::fixed(CONFIG);
    if root.node(&config)?.is_none() {
        return work();
    }
    root.duplicate(&config, &ImagePath::fixed(KEPT))?;
    root.sync_directory(config.parent().as_ref())?;
    let done = work();
    restore_config(root)?;
    done
}

/// Has the configuration in its place again that stands beside it while its package goes away: for a run that
/// was killed meanwhile, the next one does it.
pub(crate) fn restore_config(root: &Root) -> Result<(), Failure> {
    let [config, kept, renamed] = [CONFIG, KEPT, RENAMED].map(ImagePath::fixed);
    let Some(content) = root.node(&kept)? else { return Ok(()) };
    match root.node(&config)? {
        None => {
            // The directory may have gone with it.
            for above in root.missing_directories(&config)? {
                root.make_directory(&above, 0o755)?;
            }
            root.rename(&kept, &config)?;
        }
        Some(_) => root.remove_file(&kept)?,
    }
    if root.node(&renamed)?.as_ref() == Some(&content) {
        root.remove_file(&renamed)?;
    }
    root.sync_directory(config.parent().as_ref())
}
