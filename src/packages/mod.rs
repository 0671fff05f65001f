//! The package manager's way: brings the package that the spec asks for into a root, and takes it away.
//!
//! What would change is known before anything does: the package manager's own solver is asked first, and
//! the intent is durable before it runs. It must not write a file of the root itself.

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
use crate::packages::inputs::PackageInputs;
use crate::packages::install::Installation;
use crate::packages::key::key;
use crate::packages::manager::distribution::Distribution;
use crate::packages::manager::options::Options;
use crate::packages::manager::{Session, repository, transaction};
use crate::packages::removal::Removal;
use crate::packages::runtime::{runtime, say_what_is_wrong, shipped};
use crate::plan::from_packages::FromPackages;
use crate::spec::package::Package;

/// Brings what the spec asks for and takes away what nodebake has brought and is not asked for any more.
/// None: packages play no part in this root.
pub(crate) fn ensure(inputs: &PackageInputs) -> anyhow::Result<Option<FromPackages>> {
    let earlier = inputs.receipt.map(|receipt| receipt.packages.clone()).unwrap_or_default();
    match inputs.spec.package() {
        Some(package) => ensure_installed(inputs, package, &earlier).map(Some),
        None if earlier.is_empty() => {
            conflicts::refuse_packaged_runtime(inputs)?;
            Ok(None)
        }
        None => {
            // It was there before the first bake, and stays.
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

fn ensure_installed(
    inputs: &PackageInputs,
    package: &Package,
    earlier: &[Installed],
) -> anyhow::Result<FromPackages> {
    conflicts::refuse_archived_runtime(inputs)?;
    let distribution = Distribution::of(inputs.root)?;
    let manager = distribution.manager;
    let name = package.name();
    let mut names = vec![name];
    names.extend(earlier.iter().filter(|package| !package.found).map(|package| package.name.as_str()));
    let mut before = Session::look(inputs.root, manager, &names)?;
    for (_, record) in before.records.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        record.is_intact = record.differing(inputs.root)?.is_empty();
    }
    conflicts::refuse_other_runtimes(inputs.root, name, &before, earlier)?;
    let origin = repository::origin(&package.repository, &distribution)?;
    let key = origin.as_ref().map(|origin| key(inputs, manager, origin)).transpose()?;
    let sources = origin.as_ref().zip(key.as_deref());
    let installation = Installation { inputs, package, name, before, earlier };
    let mut from_packages = FromPackages::default();
    let after = match (installation.is_installed(), installation.is_held() == package.hold) {
        (true, true) => installation.before.clone(),
        (true, false) => installation.change_hold(&mut from_packages.changes)?,
        (false, _) => installation.transact(sources, &mut from_packages.changes)?,
    };
    from_packages.packages = transaction::brought(name, package.hold, &installation.before, &after, earlier);
    let is_ours = from_packages.packages.iter().any(|package| package.name == name && !package.found);
    from_packages.runtime = Some(runtime(inputs, name, &after)?);
    if is_ours {
        from_packages.shipped = shipped(inputs.root, name, &after)?;
        say_what_is_wrong(inputs, name, &from_packages.shipped)?;
    }
    if let Some((origin, key)) = sources {
        from_packages.entries = origin.entries(manager, inputs.arch, key)?;
    }
    Ok(from_packages)
}
