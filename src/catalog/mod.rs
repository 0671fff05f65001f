//! The components that nodebake knows, as data compiled into the binary.
//!
//! No decisions are taken here. To add a component: an entry in `catalog.yaml` and its digests in
//! `checksums.yaml`; where text must be computed for it, one file like `format/toml.rs`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use semver::Version;
use serde::Deserialize;

use crate::arch::Arch;
use crate::digest::Digest;
use crate::path::ImagePath;

/// What is known of a component, without its digests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component {
    /// On unless the spec turns it off.
    #[serde(default)]
    pub default: bool,
    /// Another build of the component of this name.
    pub build_of: Option<String>,
    url: String,
    checksums: String,
    /// One executable instead of an archive.
    #[serde(default)]
    pub raw: bool,
    /// What is installed, and where.
    pub members: Vec<MemberRule>,
    /// Members without which an archive is refused.
    #[serde(default)]
    pub required: Vec<String>,
    /// Its static build, and from which version on the dynamic one needs which glibc.
    #[serde(rename = "static")]
    pub static_build: Option<StaticBuild>,
    /// Its version for each minor version of containerd.
    #[serde(default)]
    pub companions: BTreeMap<String, String>,
}

/// Where a member goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberRule {
    from: String,
    to: ImagePath,
    name: Option<String>,
    #[serde(default)]
    except: Vec<String>,
    /// A script is expected, not an ELF file.
    #[serde(default)]
    pub script: bool,
}

/// A component's static build.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StaticBuild {
    /// The catalogue's name of it.
    pub build: String,
    /// What glibc the dynamic build needs, by minor version; a minor that is missing runs anywhere.
    pub glibc: BTreeMap<String, String>,
}

impl MemberRule {
    /// Where `member` goes, if this rule installs it.
    fn destination(&self, member: &str) -> Option<ImagePath> {
        let (directory, name) = member.rsplit_once('/').unwrap_or(("", member));
        let (from_directory, from_name) = self.from.rsplit_once('/').unwrap_or(("", &self.from));
        let matches = directory == from_directory && (from_name == "*" || from_name == name);
        if !matches || self.except.iter().any(|except| except == name) {
            return None;
        }
        self.to.join(self.name.as_deref().unwrap_or(name)).ok()
    }

    /// The directory in the image that its members go to.
    pub(crate) fn directory(&self) -> &ImagePath {
        &self.to
    }
}

impl Component {
    /// The rule that installs `member`, and where to. None: it is not installed.
    pub(crate) fn rule(&self, member: &str) -> Option<(&MemberRule, ImagePath)> {
        self.members.iter().find_map(|rule| Some((rule, rule.destination(member)?)))
    }

    /// Upstream's URL.
    pub(crate) fn url(&self, version: &str, arch: Arch) -> String {
        self.url.replace("{version}", version).replace("{arch}", arch.name())
    }

    /// The name of the checksum file that upstream publishes beside `file`.
    pub(crate) fn checksum_file(&self, file: &str) -> String {
        self.checksums.replace("{file}", file)
    }
}

/// Every component, by name.
pub(crate) fn components() -> &'static BTreeMap<String, Component> {
    static COMPONENTS: OnceLock<BTreeMap<String, Component>> = OnceLock::new();
    COMPONENTS.get_or_init(|| compiled_in(include_str!("catalog.yaml")))
}

/// The component called `name`; it must be one of [`components`].
pub(crate) fn component(name: &str) -> &'static Component {
    &components()[name]
}

/// The digest of `version` of `name` for `arch`.
pub(crate) fn digest(name: &str, version: &str, arch: Arch) -> Option<Digest> {
    digests().get(name)?.get(version)?.get(arch.name()).copied()
}

/// The catalogued versions of `name`, newest first.
pub(crate) fn versions(name: &str) -> Vec<Version> {
    let known = digests().get(name).into_iter().flat_map(BTreeMap::keys);
    let mut versions: Vec<Version> = known.filter_map(|text| text.parse().ok()).collect();
    versions.sort();
    versions.reverse();
    versions
}

/// The architectures that `version` of `name` is catalogued for.
pub(crate) fn architectures(name: &str, version: &str) -> Vec<String> {
    let known = digests().get(name).and_then(|versions| versions.get(version));
    known.into_iter().flat_map(BTreeMap::keys).cloned().collect()
}

type Digests = BTreeMap<String, BTreeMap<String, BTreeMap<String, Digest>>>;

fn digests() -> &'static Digests {
    static DIGESTS: OnceLock<Digests> = OnceLock::new();
    DIGESTS.get_or_init(|| compiled_in(include_str!("checksums.yaml")))
}

fn compiled_in<T: for<'de> Deserialize<'de>>(text: &str) -> T {
    #[expect(clippy::expect_used, reason = "the text is part of the program; a test parses it")]
    serde_yaml::from_str(text).expect("the compiled-in catalogue is valid")
}

#[cfg(test)]
mod tests {
    use super::{component, components, digest, versions};

    use crate::arch::Arch;

    #[test]
    fn every_component_has_a_digest_for_its_newest_version() {
        for name in components().keys() {
            let newest = &versions(name)[0];
            for arch in [Arch::Amd64, Arch::Arm64] {
                assert!(digest(name, &newest.to_string(), arch).is_some(), "{name} {newest} {arch}");
            }
        }
    }

    #[test]
    fn companions_are_catalogued() {
        for version in component("runc").companions.values() {
            assert!(digest("runc", version, Arch::Amd64).is_some(), "runc {version}");
        }
    }

    #[test]
    fn only_members_of_the_allow_list_have_a_destination() {
        let to = |name: &str, member: &str| component(name).rule(member).map(|(_, path)| path.to_string());
        assert_eq!(to("containerd", "bin/ctr").as_deref(), Some("/usr/local/bin/ctr"));
        assert_eq!(to("containerd", "bin/deep/ctr"), None);
        assert_eq!(to("containerd", "share/doc"), None);
        assert_eq!(to("runc", "runc.arm64").as_deref(), Some("/usr/local/sbin/runc"));
        assert_eq!(to("cni-plugins", "bridge").as_deref(), Some("/opt/cni/bin/bridge"));
        assert_eq!(to("cni-plugins", "README.md"), None);
    }
}
