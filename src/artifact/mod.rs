//! The files of upstream's that a node gets, each pinned by its digest, and the packages.

pub(crate) mod lockfile;
pub(crate) mod matrix;
pub(crate) mod resolve;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::{self, Component};
use crate::digest::Digest;
use crate::printable;

/// One file of upstream's, pinned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Artifact {
    /// `containerd`, also for its static build.
    pub component: String,
    /// The catalogue's name of the build.
    pub build: String,
    /// X.Y.Z
    pub version: String,
    /// Go's name.
    pub arch: String,
    /// Where upstream (or the spec's `url`) has it. What is written down has no credentials and no query.
    #[serde(serialize_with = "without_secrets")]
    pub url: String,
    /// Of the file as it is downloaded; it decides, whoever serves the bytes.
    pub sha256: Digest,
    /// Bytes, where the lock knows.
    #[serde(skip)]
    pub size: Option<u64>,
    /// SHA-256 of an archive's members, where the lock knows.
    #[serde(skip)]
    pub members: BTreeMap<String, Digest>,
}

impl Artifact {
    /// The file's name, as upstream spells it.
    pub(crate) fn file_name(&self) -> &str {
        file_name(&self.url)
    }

    /// Its catalogue entry.
    pub(crate) fn catalogued(&self) -> &'static Component {
        catalog::component(&self.build)
    }
}

/// The last part of a URL's path.
pub(crate) fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

fn without_secrets<S: serde::Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&printable::redacted(url))
}

impl std::fmt::Display for Artifact {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{} {} ({})", self.build, self.version, self.arch)
    }
}

/// A package that the root's package manager has installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Installed {
    /// Its name.
    pub name: String,
    /// Its version, as the package manager spells it.
    pub version: String,
    /// Its architecture, as the package manager spells it.
    pub architecture: String,
    /// It was there before the first bake: `remove` leaves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
    /// nodebake keeps upgrades of the system from replacing it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

impl std::fmt::Display for Installed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{} {} ({})", self.name, self.version, self.architecture)
    }
}
