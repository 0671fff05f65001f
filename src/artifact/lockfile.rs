//! `nodebake.lock`: what was pinned, and how each digest was verified.
//!
//! The lock is data beside the spec. It is written by `nodebake lock` alone and never changed by
//! a bake.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::format::yaml;

/// The format that this version reads and writes.
const VERSION: u32 = 1;

/// The pinned artifacts, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lockfile {
    version: u32,
    /// One for each component and architecture.
    pub artifacts: Vec<Pinned>,
    /// Package files, for `containerd.package.repository.path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PinnedPackage>,
}

/// One pinned package file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinnedPackage {
    /// Its name, without a folder.
    pub file: String,
    /// Of the file.
    pub sha256: Digest,
}

/// One pinned artifact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pinned {
    /// The catalogue's name of the build, `containerd` or `containerd-static`.
    pub component: String,
    /// X.Y.Z
    pub version: String,
    /// Go's name.
    pub arch: String,
    /// Where upstream (or the spec's `url`) has it.
    pub url: String,
    /// Bytes.
    pub size: u64,
    /// Of the artifact as it is downloaded.
    pub sha256: Digest,
    /// Where the digest came from.
    pub verified: String,
    /// SHA-256 of what is installed of an archive, by the members' names: a bake need not hash it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Digest>,
}

impl Default for Lockfile {
    fn default() -> Self {
        Lockfile { version: VERSION, artifacts: Vec::new(), packages: Vec::new() }
    }
}

impl Lockfile {
    /// A lock of `artifacts` and `packages`.
    pub(crate) fn new(mut artifacts: Vec<Pinned>, mut packages: Vec<PinnedPackage>) -> Self {
        artifacts.sort();
        packages.sort();
        Lockfile { version: VERSION, artifacts, packages }
    }

    /// Parses a lock; `name` stands in messages.
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

    /// The text of the file.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        let yaml = serde_yaml::to_string(self)
            .map_err(|error| Failure::new(Kind::Invalid, format!("writing the lock: {error}")))?;
        Ok(format!("# Written by `nodebake lock`; commit it beside nodebake.yaml.\n{yaml}"))
    }

    /// The digest of the package file called `file`.
    pub(crate) fn package(&self, file: &str) -> Option<Digest> {
        self.packages.iter().find(|package| package.file == file).map(|package| package.sha256)
    }

    /// What is pinned of `component` for `arch`.
    pub(crate) fn find(&self, component: &str, arch: &str) -> Option<&Pinned> {
        self.artifacts.iter().find(|a| a.component == component && a.arch == arch)
    }
}

#[cfg(test)]
mod tests {
    use super::Lockfile;

    use crate::format::checksums::checksum;

    const HASH: &str = "e6568cc6e6568cc6e6568cc6e6568cc6e6568cc6e6568cc6e6568cc6e6568cc6";

    #[test]
    fn all_four_grammars_are_read() {
        let lines = format!("{HASH}  runc.arm64\n");
        let binary = format!("{HASH} *./dist/runc.arm64\n");
        let signed = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{}  runc.amd64\n{HASH}  runc.arm64\n-----BEGIN PGP SIGNATURE-----\nabc\n",
            HASH.replace('e', "f")
        );
        for document in [&lines, &binary, &signed] {
            assert_eq!(checksum(document, "runc.arm64", false).unwrap().to_string(), HASH);
            assert_eq!(checksum(document, "runc.s390x", false), None);
        }
        assert_eq!(checksum(&format!("{HASH}\n"), "any", true).unwrap().to_string(), HASH);
        assert_eq!(checksum(&format!("{HASH}\n"), "any", false), None);
        assert_eq!(checksum("<html>", "any", true), None);
    }

    #[test]
    fn a_lock_of_another_version_is_refused() {
        assert!(Lockfile::parse("version: 2\nartifacts: []\n", "nodebake.lock").is_err());
        let text = Lockfile::default().text().unwrap();
        assert_eq!(Lockfile::parse(&text, "nodebake.lock").unwrap(), Lockfile::default());
    }
}
