//! Values for everything that packages bring into a root: for the plan, the receipt and the report.
//!
//! This module must not ask a package manager.

use std::collections::BTreeSet;

use crate::artifact::Installed;
use crate::node::Want;
use crate::path::ImagePath;

/// Every file that configures a repository for apt or dnf.
pub(crate) const REPOSITORY_FILES: [&str; 10] = [
    "/etc/apt/keyrings/docker.asc",
    "/etc/apt/keyrings/docker.gpg",
    "/etc/apt/keyrings/nodebake.asc",
    "/etc/apt/keyrings/nodebake.gpg",
    "/etc/apt/sources.list.d/docker.sources",
    "/etc/apt/sources.list.d/nodebake.sources",
    "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker",
    "/etc/pki/rpm-gpg/RPM-GPG-KEY-nodebake",
    "/etc/yum.repos.d/docker-ce.repo",
    "/etc/yum.repos.d/nodebake.repo",
];

/// Everything that packages bring into one root.
#[derive(Debug, Clone, Default)]
pub(crate) struct FromPackages {
    /// The packages as the receipt records them.
    pub packages: Vec<Installed>,
    /// Changes that the package manager has made or would make.
    pub changes: Vec<PackageChange>,
    /// The containerd that comes with the packages.
    pub runtime: Option<PackagedRuntime>,
    /// Files that configure the repository.
    pub entries: Vec<(ImagePath, Want)>,
    /// Files that are as a package of this bake has installed them, so no original is kept of them.
    pub shipped: BTreeSet<ImagePath>,
}

/// Containerd that a package has installed.
#[derive(Debug, Clone)]
pub(crate) struct PackagedRuntime {
    /// Upstream's X.Y.Z.
    pub version: String,
    /// Files that a node depends on, each with its package.
    pub present: Vec<(ImagePath, String)>,
    /// Path of the package's unit.
    pub unit: ImagePath,
    /// Directory of CNI plugins, if the root has another than the usual one.
    pub cni_bin: Option<&'static str>,
}

/// Change of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PackageChange {
    /// The package is installed.
    Install(Installed),
    /// The package is installed in place of this other version.
    Upgrade(Installed, String),
    /// The package is removed.
    Remove(Installed),
    /// The package is not wanted any more and stays, because other packages need it.
    Leave(Installed),
    /// The package's hold is set or lifted.
    Hold(Installed),
}
