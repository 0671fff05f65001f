//! The keys that containerd reads although its default configuration does not have them.
//!
//! This module must not read a configuration. The list is `containerd/keys.yaml`, which says how to add to it.

use std::sync::OnceLock;

use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::catalog::compiled_in;

/// Name in [`Unprinted::table`] and [`Unprinted::keys`] that stands for any name.
const ANY: &str = "*";

/// Keys of one table that the default configuration does not have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unprinted {
    /// Names of the table, from the top.
    pub table: Vec<String>,
    /// Names of keys in the table.
    #[serde(default)]
    keys: Vec<String>,
    /// Entry of the table in the default configuration whose keys every other entry has too.
    pub like: Option<String>,
    /// The releases that read the keys; none for all.
    releases: Option<String>,
}

impl Unprinted {
    /// Returns whether the keys are those of the table at `path`.
    pub(crate) fn is_of(&self, path: &[&str]) -> bool {
        self.table.len() == path.len() && self.leads_along(path)
    }

    /// Returns whether `path` leads to a key, or to the table or to one above it. `same` compares a key's name with
    /// the one written.
    pub(crate) fn has(&self, path: &[&str], same: impl Fn(&str, &str) -> bool) -> bool {
        if path.len() <= self.table.len() {
            return self.leads_along(path);
        }
        let (table, keys) = path.split_at(self.table.len());
        let is_key = |written: &str| self.keys.iter().any(|key| key == ANY || same(key, written));
        self.leads_along(table) && keys.len() == 1 && is_key(keys[0])
    }

    /// Returns whether each name of `path` is that of the table there.
    fn leads_along(&self, path: &[&str]) -> bool {
        self.table.iter().zip(path).all(|(name, written)| name == ANY || name == written)
    }
}

/// Returns the keys that `version` of containerd reads and does not print.
pub(crate) fn unprinted(version: &Version) -> impl Iterator<Item = &'static Unprinted> {
    static KEYS: OnceLock<Vec<Unprinted>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| compiled_in(include_str!("containerd/keys.yaml")));
    let reads = |releases: &str| VersionReq::parse(releases).is_ok_and(|releases| releases.matches(version));
    keys.iter().filter(move |entry| entry.releases.as_deref().is_none_or(reads))
}

#[cfg(test)]
mod tests {
    use super::unprinted;

    #[test]
    fn every_entry_is_of_some_release() {
        let known = ["1.6.0", "1.6.39", "1.7.34", "2.3.4"].map(|version| version.parse().unwrap());
        let all: Vec<serde_yaml::Value> = serde_yaml::from_str(include_str!("containerd/keys.yaml")).unwrap();
        let mut tables: Vec<_> = known.iter().flat_map(unprinted).map(std::ptr::from_ref).collect();
        tables.sort();
        tables.dedup();
        assert_eq!(tables.len(), all.len());
    }
}
