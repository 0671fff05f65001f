//! The components that nodebake knows, as data compiled into the binary.
//!
//! This module must not decide what is installed. To add a component: an entry in `catalog.yaml` and its digests
//! in `checksums.yaml`. A component that needs configuration files gets a module that writes them, like
//! `plan/crictl.rs`.

mod defaults;
mod keys;
mod support;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use semver::Version;
use serde::Deserialize;

use crate::arch::Arch;
use crate::digest::Digest;
use crate::path::ImagePath;

pub(crate) use defaults::default_config;
pub(crate) use keys::{Unprinted, unprinted};
pub(crate) use support::ended;

/// Entry of the catalogue: all that is known of a component except its digests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component {
    /// Installed unless the spec turns it off.
    #[serde(default)]
    pub default: bool,
    /// Name of the component that this is another build of.
    pub build_of: Option<String>,
    /// Minor version whose newest release is the default; none for the newest of all.
    line: Option<String>,
    /// Pattern of upstream's URL.
    url: String,
    /// Pattern of the checksum file's name.
    checksums: String,
    /// The artifact is one executable and not an archive.
    #[serde(default)]
    pub raw: bool,
    /// Time that decoding takes relative to other components: the longest is begun first.
    pub decoding: u8,
    /// Rules of which members are installed, and where.
    pub members: Vec<MemberRule>,
    /// Members without which an archive is refused.
    #[serde(default)]
    pub required: Vec<String>,
    /// The component's static build.
    #[serde(rename = "static")]
    pub static_build: Option<StaticBuild>,
    /// The component's version for each minor version of containerd.
    #[serde(default)]
    pub companions: BTreeMap<String, String>,
}

/// Rule that installs members of an archive.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberRule {
    /// The member's name in the archive; `*` stands for every file of a directory.
    from: String,
    /// Directory in the image.
    to: ImagePath,
    /// Name in the image; none keeps the member's.
    name: Option<String>,
    /// Names that `*` leaves out.
    #[serde(default)]
    except: Vec<String>,
    /// The member is a script and not an ELF file.
    #[serde(default)]
    pub script: bool,
}

/// Static build of a component.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StaticBuild {
    /// Name of the build in the catalogue.
    pub build: String,
    /// The glibc that the dynamic build needs, by minor version; one that is missing runs with any glibc.
    pub glibc: BTreeMap<String, String>,
}

impl Component {
    /// Returns the rule that installs `member` and its path in the image; none if it is not installed.
    pub(crate) fn rule(&self, member: &str) -> Option<(&MemberRule, ImagePath)> {
        self.members.iter().find_map(|rule| Some((rule, rule.destination(member)?)))
    }

    /// Returns whether `version` is of the line whose newest release is the default.
    pub(crate) fn is_in_line(&self, version: &Version) -> bool {
        let minor = format!("{}.{}", version.major, version.minor);
        self.line.as_ref().is_none_or(|line| *line == minor)
    }

    /// Returns upstream's URL.
    pub(crate) fn url(&self, version: &str, arch: Arch) -> String {
        self.url.replace("{version}", version).replace("{arch}", arch.name())
    }

    /// Returns the name of the checksum file that upstream publishes beside `file`.
    pub(crate) fn checksum_file(&self, file: &str) -> String {
        self.checksums.replace("{file}", file)
    }
}

impl MemberRule {
    /// Returns the path of `member` in the image, if this rule installs it.
    fn destination(&self, member: &str) -> Option<ImagePath> {
        let (directory, name) = member.rsplit_once('/').unwrap_or(("", member));
        let (from_directory, from_name) = self.from.rsplit_once('/').unwrap_or(("", &self.from));
        let matches = directory == from_directory && (from_name == "*" || from_name == name);
        if !matches || self.except.iter().any(|except| except == name) {
            return None;
        }
        self.to.join(self.name.as_deref().unwrap_or(name)).ok()
    }

    /// Returns the directory in the image that the members go to.
    pub(crate) fn directory(&self) -> &ImagePath {
        &self.to
    }
}

/// Returns every component, by name.
pub(crate) fn components() -> &'static BTreeMap<String, Component> {
    static COMPONENTS: OnceLock<BTreeMap<String, Component>> = OnceLock::new();
    COMPONENTS.get_or_init(|| compiled_in(include_str!("catalog.yaml")))
}

/// Returns the component called `name`, which must be one of [`components`].
pub(crate) fn component(name: &str) -> &'static Component {
    &components()[name]
}

/// Returns the component that `build`, which must be one of [`components`], is a build of.
pub(crate) fn component_of(build: &str) -> &str {
    component(build).build_of.as_deref().unwrap_or(build)
}

/// Returns the digest of a component's version for `arch`.
pub(crate) fn digest(name: &str, version: &str, arch: Arch) -> Option<Digest> {
    digests().get(name)?.get(version)?.get(arch.name()).copied()
}

/// Returns the catalogued versions of a component, newest first.
pub(crate) fn versions(name: &str) -> Vec<Version> {
    let known = digests().get(name).into_iter().flat_map(BTreeMap::keys);
    let mut versions: Vec<Version> = known.filter_map(|text| text.parse().ok()).collect();
    versions.sort();
    versions.reverse();
    versions
}

/// Returns the architectures that a component's version is catalogued for.
pub(crate) fn architectures(name: &str, version: &str) -> Vec<String> {
    let known = digests().get(name).and_then(|versions| versions.get(version));
    known.into_iter().flat_map(BTreeMap::keys).cloned().collect()
}

/// Digests by component, version and architecture.
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
    fn every_minor_release_of_containerd_is_in_every_table() {
        let containerd = component("containerd");
        for version in versions("containerd") {
            let minor = format!("{}.{}", version.major, version.minor);
            assert!(component("runc").companions.contains_key(&minor), "runc for {minor}");
            let needs = containerd.static_build.as_ref().unwrap().glibc.contains_key(&minor);
            assert_eq!(needs, version >= semver::Version::new(2, 1, 0), "glibc of {minor}");
        }
    }

    #[test]
    fn every_line_has_a_release() {
        for (name, component) in components() {
            assert!(versions(name).iter().any(|version| component.is_in_line(version)), "{name}");
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
