//! Installs the package that the spec asks for into a root, and removes it when the spec no longer does.
//!
//! The package manager first simulates the transaction, and the intent is on disk before the package manager runs
//! it. This module must not write the files of the plan: `commit` does.

mod conflicts;
pub(crate) mod files;
pub(crate) mod inputs;
mod install;
mod key;
pub(crate) mod manager;
pub(crate) mod recovery;
pub(crate) mod removal;
mod runtime;

use crate::artifact::Installed;
use crate::error::Failure;
use crate::packages::inputs::PackageInputs;
use crate::packages::install::Installation;
use crate::packages::key::key;
use crate::packages::manager::database::Database;
use crate::packages::manager::distribution::{Distribution, Manager};
use crate::packages::manager::options::Options;
use crate::packages::manager::{Session, repository};
use crate::packages::removal::Removal;
use crate::packages::runtime::{packaged_runtime, shipped, warn_of_config_flaws};
use crate::plan::from_packages::FromPackages;
use crate::spec::package::Package;

/// Installs the package that the spec asks for, or removes those of an earlier bake. Returns none where neither the
/// spec nor the receipt has a package.
pub(crate) fn ensure(inputs: &PackageInputs) -> anyhow::Result<Option<FromPackages>> {
    let earlier = inputs.receipt.map(|receipt| receipt.packages.clone()).unwrap_or_default();
    match inputs.spec.package() {
        Some(package) => ensure_installed(inputs, package, &earlier).map(Some),
        None if earlier.is_empty() => {
            conflicts::refuse_packaged_runtime(inputs)?;
            Ok(None)
        }
        None => {
            // A package that was there before the first bake stays, with its containerd.
            if earlier.iter().any(|package| package.found) {
                conflicts::refuse_packaged_runtime(inputs)?;
            }
            let options = Options::offline(inputs.lock_timeout);
            let changes =
                removal::remove_packages(inputs.root, inputs.state, &earlier, options, Removal::Must)?;
            Ok(Some(FromPackages { changes, ..FromPackages::default() }))
        }
    }
}

/// Installs `package` unless the root has it as the spec wants it.
fn ensure_installed(
    inputs: &PackageInputs,
    package: &Package,
    earlier: &[Installed],
) -> anyhow::Result<FromPackages> {
    conflicts::refuse_archived_runtime(inputs)?;
    let distribution = Distribution::of(inputs.root)?;
    let manager = distribution.manager;
    let name = package.name();
    let before = database(inputs, manager, name, earlier)?;
    conflicts::refuse_other_runtimes(inputs, name, &before, earlier)?;
    let origin = repository::origin(&package.repository, &distribution)?;
    let key = origin.as_ref().map(|origin| key(inputs, manager, origin)).transpose()?;
    let sources = origin.as_ref().zip(key.as_deref());
    let installation = Installation { inputs, package, before, earlier };
    let mut from_packages = FromPackages::default();
    let after = match (installation.is_installed(), installation.is_held() == package.hold) {
        (true, true) => installation.before.clone(),
        (true, false) => installation.change_hold(&mut from_packages.changes)?,
        (false, _) => installation.transact(sources, &mut from_packages.changes)?,
    };
    from_packages.packages = installation.installed(&after);
    let is_ours = from_packages.packages.iter().any(|package| package.name == name && !package.found);
    from_packages.runtime = Some(packaged_runtime(inputs, name, &after)?);
    if is_ours {
        from_packages.shipped = shipped(inputs, name, &after)?;
        warn_of_config_flaws(inputs, name, &from_packages.shipped)?;
    }
    if let Some((origin, key)) = sources {
        from_packages.entries = origin.entries(manager, inputs.arch, key)?;
    }
    Ok(from_packages)
}

/// Reads the root's package database, with the files of the package called `name` and of those that `earlier` bakes
/// have installed, and compares these files with their digests.
fn database(
    inputs: &PackageInputs,
    manager: Manager,
    name: &str,
    earlier: &[Installed],
) -> Result<Database, Failure> {
    let mut names = vec![name];
    names.extend(earlier.iter().filter(|package| !package.found).map(|package| package.name.as_str()));
    let mut database = Session::look(inputs.root, manager, &names)?;
    for (_, record) in database.records.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        record.is_intact = record.differing(inputs.root)?.is_empty();
    }
    Ok(database)
}
