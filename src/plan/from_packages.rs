//! What packages bring into a root, as values: for the plan, the receipt and the report. Pure.

use std::collections::BTreeSet;

use crate::artifact::Installed;
use crate::node::Want;
use crate::path::ImagePath;

/// What packages bring into one root.
#[derive(Debug, Clone, Default)]
pub(crate) struct FromPackages {
    /// What the receipt will say of packages.
    pub packages: Vec<Installed>,
    /// What the package manager has done, or would do.
    pub changes: Vec<PackageChange>,
    /// The containerd that comes with them.
    pub runtime: Option<PackagedRuntime>,
    /// The repository's files.
    pub entries: Vec<(ImagePath, Want)>,
    /// Files that are as a package of ours has brought them: nobody's original.
    pub shipped: BTreeSet<ImagePath>,
}

/// A containerd that a package brought.
#[derive(Debug, Clone)]
pub(crate) struct PackagedRuntime {
    /// Upstream's X.Y.Z.
    pub version: String,
    /// Files that a node depends on, and their package.
    pub present: Vec<(ImagePath, String)>,
    /// Its unit.
    pub unit: ImagePath,
    /// Where the root has CNI plugins, where it is not the usual place.
    pub cni_bin: Option<&'static str>,
}

/// What happens to a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PackageChange {
    /// It comes.
    Install(Installed),
    /// It comes in another version; the one that was there.
    Upgrade(Installed, String),
    /// It goes.
    Remove(Installed),
    /// It is not wanted any more, and stays: other packages need it.
    Leave(Installed),
    /// Its hold is set or lifted.
    Hold(Installed),
}
