//! `nodebake.lock`, the file of data beside the spec: what was pinned, and how each digest was verified.
//!
//! A bake must not change the file: `nodebake lock` alone writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::format::yaml;

/// Version of the format that this nodebake reads and writes.
const VERSION: u32 = 1;

/// Lock file; its lists are sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lockfile {
    version: u32,
    /// Artifacts, one for each component and architecture.
    pub artifacts: Vec<Pinned>,
    /// Package files of `containerd.package.repository.path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PinnedPackage>,
}

/// Package file, pinned by its digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinnedPackage {
    /// Name of the file, without a folder.
    pub file: String,
    /// Digest of the file.
    pub sha256: Digest,
}

/// Artifact as the lock pins it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pinned {
    /// Name of the build in the catalogue, `containerd` or `containerd-static`.
    pub component: String,
    /// Version, X.Y.Z.
    pub version: String,
    /// Go's name of the architecture.
    pub arch: String,
    /// URL of upstream or of the spec's `url`.
    pub url: String,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the artifact as it is downloaded.
    pub sha256: Digest,
    /// Origin of the digest: `spec`, `catalogue` or a checksum file.
    pub verified: String,
    /// Digests of an archive's installed members by name, so that a bake need not hash them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Digest>,
}

impl Default for Lockfile {
    fn default() -> Self {
        Lockfile { version: VERSION, artifacts: Vec::new(), packages: Vec::new() }
    }
}

impl Lockfile {
    /// Makes a lock of `artifacts` and `packages`.
    pub(crate) fn new(mut artifacts: Vec<Pinned>, mut packages: Vec<PinnedPackage>) -> Self {
        artifacts.sort();
        packages.sort();
        Lockfile { version: VERSION, artifacts, packages }
    }

    /// Parses a lock; `name` is for messages.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Lockfile, Failure> {
        const HELP: &str = "write it anew with `nodebake lock`";
        let lock: Option<Lockfile> = yaml::parse(text, name).map_err(|failure| failure.help(HELP))?;
        let refuse = |why: String| Failure::new(Kind::Invalid, format!("{name}: {why}")).help(HELP);
        let Some(lock) = lock else { return Err(refuse("is empty".to_owned())) };
        if lock.version != VERSION {
            return Err(refuse(format!(
                "lock version {} is not supported; expected {VERSION}",
                lock.version
            )));
        }
        let mut keys: Vec<_> = lock.artifacts.iter().map(|a| (&a.component, &a.arch)).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(refuse(format!("{} for {} stands there twice", pair[0].0, pair[0].1))),
            None => Ok(lock),
        }
    }

    /// Returns the text of the file.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        let yaml = serde_yaml::to_string(self)
            .map_err(|error| Failure::new(Kind::Invalid, format!("writing the lock: {error}")))?;
        Ok(format!("# Written by `nodebake lock`; commit it beside nodebake.yaml.\n{yaml}"))
    }

    /// Returns the digest of the package file called `file`.
    pub(crate) fn package(&self, file: &str) -> Option<Digest> {
        self.packages.iter().find(|package| package.file == file).map(|package| package.sha256)
    }

    /// Returns the pinned artifact of `component` for `arch`.
    pub(crate) fn find(&self, component: &str, arch: &str) -> Option<&Pinned> {
        self.artifacts.iter().find(|a| a.component == component && a.arch == arch)
    }
}

#[cfg(test)]
mod tests {
    use super::Lockfile;

    #[test]
    fn a_lock_of_another_version_is_refused() {
        assert!(Lockfile::parse("version: 2\nartifacts: []\n", "nodebake.lock").is_err());
        let text = Lockfile::default().text().unwrap();
        assert_eq!(Lockfile::parse(&text, "nodebake.lock").unwrap(), Lockfile::default());
    }
}
