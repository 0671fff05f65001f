//! Refuses a package that does not go with the root: a second containerd, or one that displaces other packages.
//!
//! Each refusal is [`Kind::Unsupported`] and comes before a package is installed or removed. This module must not
//! change the root itself.

use crate::artifact::Installed;
use crate::error::{Failure, Kind};
use crate::packages::inputs::PackageInputs;
use crate::packages::manager::database::Database;
use crate::packages::manager::distribution::{Distribution, Manager};
use crate::packages::manager::dpkg;
use crate::packages::manager::transaction::Transaction;
use crate::path::ImagePath;
use crate::printable::printable;
use crate::root::Root;
use crate::runtime::Facts;

/// Refuses `install: package` where the root has a containerd from an archive that nodebake did not unpack.
pub(super) fn refuse_archived_runtime(inputs: &PackageInputs) -> Result<(), Failure> {
    let binary = ImagePath::fixed(inputs.runtime().binary.own);
    let owned = inputs.receipt.is_some_and(|receipt| receipt.paths.contains_key(&binary));
    if owned || !inputs.root.has(&binary)? {
        return Ok(());
    }
    let message = format!("{} is there already, and not from nodebake", inputs.root.shown(&binary));
    Err(Failure::new(Kind::Unsupported, message)
        .help("a node has one containerd: take that one away, or use `install: archive`"))
}

/// Refuses `install: archive` where a package of the root has installed a containerd.
pub(super) fn refuse_packaged_runtime(inputs: &PackageInputs) -> Result<(), Failure> {
    let Some(runtime) = inputs.spec.runtime() else { return Ok(()) };
    for path in runtime.facts().binary.packaged.iter().map(|path| ImagePath::fixed(path)) {
        if !inputs.root.has(&path)? {
            continue;
        }
        let Some(owner) = owner(inputs.root, runtime.facts(), &path)? else { continue };
        let message =
            format!("{} is there already, of {owner}, and not from nodebake", inputs.root.shown(&path));
        return Err(Failure::new(Kind::Unsupported, message)
            .help("a node has one containerd: take that one away, or use `install: package`"));
    }
    Ok(())
}

/// Returns the package that owns `path`, as the message names it. rpm's database is not read, because that would
/// run the root's own rpm.
fn owner(root: &Root, runtime: &Facts, path: &ImagePath) -> Result<Option<String>, Failure> {
    match Distribution::of(root).map(|distribution| distribution.manager) {
        Err(_) => Ok(None),
        Ok(Manager::Dnf) => Ok(Some("some package".to_owned())),
        Ok(Manager::Apt) => {
            let owner = dpkg::owner(root, runtime.packages, path)?;
            Ok(owner.map(|(name, record)| format!("package {name} {}", record.version)))
        }
    }
}

/// Refuses to install package `name` where another package with a containerd is installed, not by nodebake.
pub(super) fn refuse_other_runtimes(
    inputs: &PackageInputs,
    name: &str,
    database: &Database,
    earlier: &[Installed],
) -> Result<(), Failure> {
    let runtime = inputs.runtime();
    let ours = |other: &str| earlier.iter().any(|package| package.name == other && !package.found);
    let goes_with = |other: &str| other == name || runtime.friends.contains(&(name, other));
    let other = runtime
        .packages
        .iter()
        .find(|other| database.get(other).is_some() && !goes_with(other) && !ours(other));
    let Some((other, record)) = other.and_then(|other| Some((other, database.get(other)?))) else {
        return Ok(());
    };
    let message = format!(
        "package {name} can't be installed into root `{}` beside {other} {}",
        inputs.root.host().display(),
        record.version
    );
    Err(Failure::new(Kind::Unsupported, message).help(format!(
        "a node has one containerd: take {other} away, or set `containerd.package.name: {other}`"
    )))
}

/// Refuses a transaction that removes packages which nodebake has not installed.
pub(super) fn refuse_removals(
    name: &str,
    transaction: &Transaction,
    earlier: &[Installed],
) -> Result<(), Failure> {
    let ours = |other: &String| earlier.iter().any(|package| package.name == *other && !package.found);
    let lost: Vec<&str> =
        transaction.removed.iter().filter(|other| !ours(other)).map(String::as_str).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let message = format!("installing {name} would take away {}", printable(&lost.join(", ")));
    Err(Failure::new(Kind::Unsupported, message)
        .help("take them away first if they may go, or choose another package"))
}
