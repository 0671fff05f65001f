//! Values for what is installed: upstream's files, each pinned by its digest, and packages.
//!
//! This module must not fetch or open anything.

pub(crate) mod doubt;
pub(crate) mod lockfile;
pub(crate) mod matrix;
pub(crate) mod resolve;
mod version;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::catalog::{self, Component};
use crate::digest::Digest;
use crate::path::ImagePath;
use crate::redacted::redacted;

/// Artifact: one file that upstream publishes, pinned by its digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Artifact {
    /// Component, which is `containerd` also for its static build.
    pub component: String,
    /// Name of the build in the catalogue.
    pub build: String,
    /// Version, X.Y.Z.
    pub version: String,
    /// Go's name of the architecture.
    pub arch: String,
    /// URL of upstream or of the spec's `url`; in a receipt it has no credentials and no query.
    #[serde(serialize_with = "without_secrets")]
    pub url: String,
    /// Digest of the file as it is downloaded; it decides, whoever serves the bytes.
    pub sha256: Digest,
    /// Size in bytes, if the lock has it.
    #[serde(skip)]
    pub size: Option<u64>,
    /// Digests of an archive's members, if the lock has them.
    #[serde(skip)]
    pub members: BTreeMap<String, Digest>,
}

impl Artifact {
    /// Returns the file's name, as upstream spells it.
    pub(crate) fn file_name(&self) -> &str {
        file_name(&self.url)
    }

    /// Returns the members whose digests are pinned, by their path in the image: those that the lock has, and of an
    /// artifact that is one executable this one.
    pub(crate) fn pinned(&self) -> BTreeMap<ImagePath, (&str, Digest)> {
        let alone = self.catalogued().raw.then(|| (self.file_name(), self.sha256));
        let locked = self.members.iter().map(|(name, digest)| (name.as_str(), *digest));
        let placed = |(name, digest)| Some((self.catalogued().rule(name)?.1, (name, digest)));
        match alone {
            Some(member) => placed(member).into_iter().collect(),
            None => locked.filter_map(placed).collect(),
        }
    }

    /// Returns the paths of the members without which the artifact is refused.
    pub(crate) fn required(&self) -> impl Iterator<Item = ImagePath> {
        let component = self.catalogued();
        component.required.iter().filter_map(|name| Some(component.rule(name)?.1))
    }

    /// Returns the entry of the catalogue.
    pub(crate) fn catalogued(&self) -> &'static Component {
        catalog::component(&self.build)
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} {} ({})", self.build, self.version, self.arch)
    }
}

/// Package that the root's package manager has installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Installed {
    /// Name.
    pub name: String,
    /// Version, as the package manager spells it.
    pub version: String,
    /// Architecture, as the package manager spells it.
    pub architecture: String,
    /// The package was there before the first bake: `remove` leaves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
    /// nodebake keeps upgrades of the system from replacing it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

impl fmt::Display for Installed {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} {} ({})", self.name, self.version, self.architecture)
    }
}

/// Returns the last part of a URL's path.
pub(crate) fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

fn without_secrets<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redacted(url))
}
