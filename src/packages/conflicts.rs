//! What must not be in a root together: two containerds, from a package and from an archive or from two
//! packages. Told before anything changes; each refusal is [`Kind::Unsupported`].

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
use crate::runtime::containerd;

/// Packages that bring a containerd, or need one of their own.
const RUNTIMES: [&str; 6] =
    ["containerd", "containerd.io", "docker.io", "moby-containerd", "containerd2", "docker-engine"];

/// `install: package`, and somebody has unpacked an archive.
pub(super) fn refuse_archived_runtime(inputs: &PackageInputs) -> Result<(), Failure> {
    let binary = ImagePath::fixed(containerd::BINARY);
    let owned = inputs.receipt.is_some_and(|receipt| receipt.paths.contains_key(&binary));
    if owned || inputs.root.node(&binary)?.is_none() {
        return Ok(());
    }
    let message = format!("{} is there already, and not from nodebake", inputs.root.shown(&binary));
    Err(Failure::new(Kind::Unsupported, message)
        .help("a node has one containerd: take that one away, or use `install: archive`"))
}

/// `install: archive`, and a package has brought one.
pub(super) fn refuse_packaged_runtime(inputs: &PackageInputs) -> Result<(), Failure> {
    if !inputs.spec.wants("containerd") && !inputs.spec.wants("containerd-static") {
        return Ok(());
    }
    for path in containerd::PACKAGED.map(ImagePath::fixed) {
        if inputs.root.node(&path)?.is_none() {
            continue;
        }
        let Some(owner) = owner(inputs.root, &path)? else { continue };
        let message =
            format!("{} is there already, of {owner}, and not from nodebake", inputs.root.shown(&path));
        return Err(Failure::new(Kind::Unsupported, message)
            .help("a node has one containerd: take that one away, or use `install: package`"));
    }
    Ok(())
}

/// The package that `path` is of. rpm's database is not asked: that would run the root's own rpm.
fn owner(root: &Root, path: &ImagePath) -> Result<Option<String>, Failure> {
    match Distribution::of(root).map(|distribution| distribution.manager) {
        Err(_) => Ok(None),
        Ok(Manager::Dnf) => Ok(Some("some package".to_owned())),
        Ok(Manager::Apt) => {
            let owner = dpkg::owner(root, &RUNTIMES, path)?;
            Ok(owner.map(|(name, record)| format!("package {name} {}", record.version)))
        }
    }
}

/// Another package with a containerd is there, and not from nodebake.
pub(super) fn refuse_other_runtimes(
    root: &Root,
    name: &str,
    database: &Database,
    earlier: &[Installed],
) -> Result<(), Failure> {
    let ours = |other: &str| earlier.iter().any(|package| package.name == other && !package.found);
    // Debian's docker.io lives beside Debian's containerd.
    let goes_with = |other: &str| other == name || (name == "containerd" && other == "docker.io");
    let other =
        RUNTIMES.iter().find(|other| database.get(other).is_some() && !goes_with(other) && !ours(other));
    let Some((other, record)) = other.and_then(|other| Some((other, database.get(other)?))) else {
        return Ok(());
    };
    let message = format!(
        "package {name} can't be installed into root `{}` beside {other} {}",
        root.host().display(),
        record.version
    );
    Err(Failure::new(Kind::Unsupported, message).help(format!(
        "a node has one containerd: take {other} away, or set `containerd.package.name: {other}`"
    )))
}

/// The solver would take away what is not ours.
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
