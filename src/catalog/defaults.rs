//! The default configuration of each release of containerd, as `containerd config default` prints it.
//!
//! This module must not adapt a configuration to a node beyond the name of its platform. To add a minor release: its
//! text and its range. To add a patch release: widen the range; if it prints something else, exchange the text, and
//! write into `containerd/changes.yaml` how the older ones differ.
//!
//! Sources: binaries built from the tags of containerd's repository, with the build tags of its releases, on amd64; and
//! the differences between the tags. The texts are as root's containerd prints them: 2.3 prints the caller's uid as
//! that of its sockets. Distributions' builds differ: Debian's look for CNI plugins in /usr/lib/cni. The text of 2.4 is
//! that of its first beta, without what the notes of 2.4.0 say was removed: `enable_cdi`, the CRI's `cni.bin_dir`, the
//! restoring of checkpoints by CreateContainer and the keys of tracing. The notes of 2.3.5 and 2.3.6 name no key.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use semver::{Version, VersionReq};
use serde::Deserialize;
use toml_edit::{DocumentMut, Item, TableLike};

use crate::arch::Arch;
use crate::catalog::compiled_in;

/// The default configuration of a minor release.
struct Minor {
    /// The patch releases that are known.
    releases: &'static str,
    /// What the newest of them prints on amd64.
    text: &'static str,
}

const CONTAINERD: [Minor; 7] = [
    Minor { releases: ">=1.6.0, <=1.6.39", text: include_str!("containerd/default-1.6.toml") },
    Minor { releases: ">=1.7.0, <=1.7.34", text: include_str!("containerd/default-1.7.toml") },
    Minor { releases: ">=2.0.0, <=2.0.11", text: include_str!("containerd/default-2.0.toml") },
    Minor { releases: ">=2.1.0, <=2.1.9", text: include_str!("containerd/default-2.1.toml") },
    Minor { releases: ">=2.2.0, <=2.2.7", text: include_str!("containerd/default-2.2.toml") },
    Minor { releases: ">=2.3.0, <=2.3.6", text: include_str!("containerd/default-2.3.toml") },
    Minor { releases: ">=2.4.0, <=2.4.2", text: include_str!("containerd/default-2.4.toml") },
];

/// How older patch releases differ in one table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// The releases that differ.
    releases: String,
    /// Names of the table, from the top.
    table: Vec<String>,
    /// Keys that these releases do not have.
    #[serde(default)]
    without: Vec<String>,
    /// Keys that they have, or have with another value.
    #[serde(default)]
    with: BTreeMap<String, Scalar>,
}

/// Value of a key that older patch releases have.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Returns the default configuration of a component's version on a node of `arch`; none if it is not known.
pub(crate) fn default_config(component: &str, version: &str, arch: Arch) -> Option<DocumentMut> {
    let version: Version = version.parse().ok().filter(|_| component == "containerd")?;
    let minor = CONTAINERD.iter().find(|minor| is_of(&version, minor.releases))?;
    // The platform is the only value that depends on the node.
    let mut document: DocumentMut = minor.text.replace("linux/amd64", platform(arch)).parse().ok()?;
    for change in changes().iter().filter(|change| is_of(&version, &change.releases)) {
        for table in tables(document.as_item_mut(), &change.table) {
            change.apply(table);
        }
    }
    Some(document)
}

/// Returns whether `version` is one of `releases`.
fn is_of(version: &Version, releases: &str) -> bool {
    VersionReq::parse(releases).is_ok_and(|releases| releases.matches(version))
}

fn changes() -> &'static [Change] {
    static CHANGES: OnceLock<Vec<Change>> = OnceLock::new();
    CHANGES.get_or_init(|| compiled_in(include_str!("containerd/changes.yaml")))
}

/// Returns the tables at `path` below `item`: one, or those of an array.
fn tables<'a>(item: &'a mut Item, path: &[String]) -> Vec<&'a mut dyn TableLike> {
    match (path, item) {
        ([name, rest @ ..], item) => item.get_mut(name).map(|item| tables(item, rest)).unwrap_or_default(),
        ([], Item::ArrayOfTables(array)) => {
            array.iter_mut().map(|table| table as &mut dyn TableLike).collect()
        }
        ([], item) => item.as_table_like_mut().into_iter().collect(),
    }
}

impl Change {
    /// Makes a table of the newest release into that of the older ones.
    fn apply(&self, table: &mut dyn TableLike) {
        for key in &self.without {
            table.remove(key);
        }
        for (key, value) in &self.with {
            table.insert(key, value.item());
        }
    }
}

impl Scalar {
    /// Returns the value as TOML.
    fn item(&self) -> Item {
        match self {
            Scalar::Bool(value) => toml_edit::value(*value),
            Scalar::Number(value) => toml_edit::value(*value),
            Scalar::Text(value) => toml_edit::value(value),
        }
    }
}

/// Returns containerd's name of the platform of a node of `arch` (containerd/platforms, defaults_unix.go and
/// cpuinfo_linux.go).
fn platform(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "linux/amd64",
        Arch::Arm64 => "linux/arm64/v8",
        // That of Debian's armhf and RPM's armv7hl.
        Arch::Arm => "linux/arm/v7",
        Arch::Ppc64le => "linux/ppc64le",
        Arch::Riscv64 => "linux/riscv64",
        Arch::S390x => "linux/s390x",
    }
}

#[cfg(test)]
mod tests {
    use semver::VersionReq;

    use super::{changes, default_config};
    use crate::arch::Arch;
    use crate::catalog::versions;

    #[test]
    fn every_catalogued_containerd_has_its_defaults() {
        for version in versions("containerd") {
            let text = default_config("containerd", &version.to_string(), Arch::Arm64).unwrap().to_string();
            assert!(text.contains("linux/arm64/v8") && !text.contains("amd64"), "{version}");
        }
        assert!(default_config("containerd", "2.99.0", Arch::Amd64).is_none());
        assert!(default_config("runc", "1.3.6", Arch::Amd64).is_none());
    }

    #[test]
    fn every_change_changes_the_oldest_release_that_it_names() {
        for change in changes() {
            assert!(VersionReq::parse(&change.releases).is_ok(), "{change:?}");
            let oldest = change.releases.trim_start_matches(['>', '=']).split(',').next().unwrap();
            let document = default_config("containerd", oldest, Arch::Amd64).unwrap();
            let mut item = document.as_item();
            for name in &change.table {
                item = item.get(name).unwrap_or_else(|| panic!("{change:?}"));
            }
            let has = |key: &String| match item.as_array_of_tables() {
                Some(array) => array.iter().all(|table| table.contains_key(key)),
                None => item.get(key).is_some(),
            };
            assert!(change.without.iter().all(|key| !has(key)) && change.with.keys().all(has), "{change:?}");
        }
    }
}
