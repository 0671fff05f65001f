//! Spec × lock × catalogue × target → artifacts, each with its digest.
//!
//! This module must not look at a root: the target's architecture and glibc come in as values.

use crate::arch::Arch;
use crate::artifact::Artifact;
use crate::artifact::lockfile::Lockfile;
use crate::artifact::version::open_version;
use crate::catalog;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::format::elf::Glibc;
use crate::printable::printable;
use crate::redacted::redacted;
use crate::spec::{Pick, Spec};

/// Facts of a root that decide which build it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Architecture of the node.
    pub arch: Arch,
    /// The root's glibc; none if the root has none of that architecture.
    pub glibc: Option<Glibc>,
}

/// Artifact before its digest is known.
#[derive(Debug, Clone)]
pub(crate) struct Unpinned {
    /// Component, which is `containerd` also for its static build.
    pub component: &'static str,
    /// Name of the build in the catalogue.
    pub build: &'static str,
    /// Version, X.Y.Z.
    pub version: String,
    /// Architecture.
    pub arch: Arch,
    /// URL of upstream or of the spec's `url`.
    pub url: String,
    /// Digest that the spec pins.
    pub sha256: Option<Digest>,
}

/// Resolves the artifacts of a bake. A digest comes from the spec, the lock or the catalogue, in this order; an
/// artifact with none is [`Kind::Unverified`].
pub(crate) fn resolve(spec: &Spec, lock: &Lockfile, target: Target) -> Result<Vec<Artifact>, Failure> {
    unpinned(spec, lock, target)?.into_iter().map(|candidate| pin(candidate, lock)).collect()
}

/// Resolves what is to be installed, with the digests of the spec only.
pub(super) fn unpinned(spec: &Spec, lock: &Lockfile, target: Target) -> Result<Vec<Unpinned>, Failure> {
    let build_of_runtime = runtime_build(spec)?;
    let runtime = spec.runtime().unwrap_or_default().component();
    let mut candidates = Vec::new();
    let mut runtime_version = None;
    // The runtime first: runc's default version depends on it.
    let names = std::iter::once(runtime).chain(catalog::components().keys().map(String::as_str));
    for name in names {
        let component = catalog::component(name);
        let seen = candidates.iter().any(|c: &Unpinned| c.component == name);
        if seen || component.build_of.is_some() {
            continue;
        }
        // A package of the runtime brings a runc, or depends on one.
        let packaged = name == "runc" && spec.package().is_some();
        let chosen = match name == runtime {
            true => build_of_runtime,
            false => Some(name).filter(|name| spec.wants(name) && !packaged),
        };
        let Some(chosen) = chosen else { continue };
        let pick = spec.pick(chosen);
        let version = match &pick.version {
            Some(version) => version.to_string(),
            None => open_version(name, &pick, lock, target, runtime_version.as_deref())?,
        };
        let build = if chosen == name { build(name, &pick, &version, target) } else { catalogued(chosen) };
        if name == runtime {
            runtime_version = Some(version.clone());
        }
        candidates.push(candidate(catalogued(name), build, version, &pick, target.arch));
    }
    Ok(candidates)
}

/// Returns the key in `components` that stands for the runtime: the static build replaces the other if the spec
/// names it. None if the runtime comes from a package or is left out.
fn runtime_build(spec: &Spec) -> Result<Option<&'static str>, Failure> {
    let Some(runtime) = spec.runtime() else { return Ok(None) };
    let name = runtime.component();
    let static_build = runtime.static_component().filter(|build| spec.wants(build));
    if let Some(build) = static_build.filter(|_| spec.components.contains_key(name) && spec.wants(name)) {
        let message = format!("components: `{name}` and `{build}` are two builds of one component");
        return Err(Failure::new(Kind::Invalid, message)
            .help(format!("keep one; `{name}: {{static: true}}` is the same")));
    }
    if spec.package().is_some() {
        return Ok(None);
    }
    Ok(static_build.or(Some(name)))
}

/// Returns the catalogue's own copy of `name`, which lives as long as the program.
pub(crate) fn catalogued(name: &str) -> &'static str {
    catalog::components().get_key_value(name).map_or("", |(key, _)| key.as_str())
}

/// Puts one artifact together: its URL and the digest that the spec pins.
fn candidate(
    component: &'static str,
    build: &'static str,
    version: String,
    pick: &Pick,
    arch: Arch,
) -> Unpinned {
    let url = match &pick.url {
        Some(url) => url.replace("{version}", &version).replace("{arch}", arch.name()),
        None => catalog::component(build).url(&version, arch),
    };
    let sha256 = pick.sha256.as_ref().and_then(|digests| digests.of(arch));
    Unpinned { component, build, version, arch, url, sha256 }
}

/// Returns `2.1` for `2.1.9`.
pub(crate) fn minor(version: &str) -> String {
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

/// Chooses the build that runs on `target`: the static one if the root's glibc is too old, unless the spec says
/// which, or has a digest or URL of its own.
pub(super) fn build(name: &str, pick: &Pick, version: &str, target: Target) -> &'static str {
    let component = catalog::component(name);
    let Some(static_build) = &component.static_build else { return catalogued(name) };
    let own_bytes = pick.sha256.is_some() || pick.url.is_some();
    let too_old = match (static_build.glibc.get(&minor(version)), target.glibc) {
        (Some(needs), Some(gives)) => gives < glibc(needs),
        _ => false,
    };
    match pick.static_build.unwrap_or(too_old && !own_bytes) {
        true => catalogued(&static_build.build),
        false => catalogued(name),
    }
}

fn glibc(text: &str) -> Glibc {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Adds to `candidate` its digest, and the size and members that the lock has for it.
pub(crate) fn pin(candidate: Unpinned, lock: &Lockfile) -> Result<Artifact, Failure> {
    let Unpinned { component, build, version, arch, url, sha256 } = candidate;
    let locked = lock
        .find(build, arch.name())
        .filter(|locked| locked.version == version && locked.url == redacted(&url));
    let digest = sha256
        .or(locked.map(|locked| locked.sha256))
        .or_else(|| catalog::digest(build, &version, arch))
        .ok_or_else(|| no_digest(build, &version, arch))?;
    let locked = locked.filter(|locked| locked.sha256 == digest);
    let size = locked.map(|locked| locked.size);
    let members = locked.map(|locked| locked.members.clone()).unwrap_or_default();
    let (component, build, arch) = (component.to_owned(), build.to_owned(), arch.to_string());
    Ok(Artifact { component, build, version, arch, url, sha256: digest, size, members })
}

/// Makes the failure for a version or architecture that nothing pins.
pub(crate) fn no_digest(build: &str, version: &str, arch: Arch) -> Failure {
    let version = printable(version);
    let elsewhere = catalog::architectures(build, &version);
    let known = match elsewhere.is_empty() {
        true => format!("nearest catalogued versions: {}", nearest_versions(build, &version).join(", ")),
        false => format!("{version} is catalogued for {}", elsewhere.join(", ")),
    };
    let help = "`sha256:` in the spec, or `nodebake lock` where the source is trusted";
    Failure::new(Kind::Unverified, format!("no digest for {build} {version} ({arch})"))
        .help(format!("{known}; else pin it: {help}"))
        .absent()
}

fn nearest_versions(build: &str, version: &str) -> Vec<String> {
    let number = |v: &semver::Version| v.major * 1_000_000 + v.minor * 1_000 + v.patch;
    let wanted = semver::Version::parse(version).map_or(0, |version| number(&version));
    let mut known = catalog::versions(build);
    known.sort_by_key(|version| number(version).abs_diff(wanted));
    known.iter().take(3).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Target, resolve};
    use crate::arch::Arch;
    use crate::artifact::Artifact;
    use crate::artifact::lockfile::Lockfile;
    use crate::error::Kind;
    use crate::spec::Spec;

    fn resolved(yaml: &str, glibc: Option<(u32, u32)>) -> Result<Vec<Artifact>, crate::error::Failure> {
        let spec = Spec::parse(yaml, "nodebake.yaml", Path::new(".")).unwrap();
        resolve(&spec, &Lockfile::default(), Target { arch: Arch::Amd64, glibc })
    }

    fn names(yaml: &str, glibc: Option<(u32, u32)>) -> Vec<String> {
        resolved(yaml, glibc).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_the_newest_with_long_term_support_and_its_companions() {
        let expected = ["containerd 2.3.5 (amd64)", "cni-plugins 1.9.1 (amd64)", "runc 1.4.3 (amd64)"];
        assert_eq!(names("", Some((2, 36))), expected);
        assert!(
            names("components: {containerd: {version: 2.1.9}}", None).contains(&"runc 1.3.6 (amd64)".into())
        );
        assert!(
            names("components: {containerd: {version: 2.4.1}}", None).contains(&"runc 1.5.1 (amd64)".into())
        );
    }

    #[test]
    fn the_static_build_is_chosen_only_for_an_old_glibc() {
        let first = |yaml: &str, glibc| names(yaml, glibc)[0].clone();
        let spec = "components: {containerd: {version: 2.1.9}}";
        assert_eq!(first(spec, Some((2, 31))), "containerd-static 2.1.9 (amd64)");
        assert_eq!(first(spec, Some((2, 34))), "containerd 2.1.9 (amd64)");
        assert_eq!(first(spec, None), "containerd 2.1.9 (amd64)");
        assert_eq!(
            first("components: {containerd: {version: 1.7.24}}", Some((2, 31))),
            "containerd 1.7.24 (amd64)"
        );
        let pinned = format!("components: {{containerd: {{version: 2.1.9, sha256: {}}}}}", "0".repeat(64));
        assert_eq!(first(&pinned, Some((2, 31))), "containerd 2.1.9 (amd64)");
        let forced = "components: {containerd: {version: 2.1.9, static: true}}";
        assert_eq!(first(forced, Some((2, 36))), "containerd-static 2.1.9 (amd64)");
        assert_eq!(
            first("components: {containerd-static: {version: 2.1.9}}", None),
            "containerd-static 2.1.9 (amd64)"
        );
    }

    #[test]
    fn no_digest_names_the_nearest_versions() {
        let error = resolved("components: {containerd: {version: 2.1.99}}", None).unwrap_err();
        assert_eq!(error.kind, Kind::Unverified);
        assert!(error.help.unwrap().contains("2.1.9"), "nearest");
    }

    #[test]
    fn a_component_can_be_left_out() {
        assert_eq!(
            names("components: {containerd: false, cni-plugins: false}", None),
            ["runc 1.4.3 (amd64)"]
        );
    }
}
