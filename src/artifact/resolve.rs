//! Spec × lock × catalogue × target → artifacts, each with its digest.
//!
//! Pure: what the target is (architecture, glibc) comes in as values.

use crate::arch::Arch;
use crate::artifact::Artifact;
use crate::artifact::lockfile::Lockfile;
use crate::catalog;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::format::elf::Glibc;
use crate::printable::{self, printable};
use crate::spec::{Pick, Spec};

/// What decides which build is right for a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Architecture of the node.
    pub arch: Arch,
    /// The root's glibc; none where there is none of that architecture.
    pub glibc: Option<Glibc>,
}

/// An artifact before its digest is known.
#[derive(Debug, Clone)]
pub(crate) struct Unpinned {
    /// `containerd`, also for its static build.
    pub component: &'static str,
    /// The catalogue's name of the build.
    pub build: &'static str,
    /// X.Y.Z
    pub version: String,
    /// Architecture.
    pub arch: Arch,
    /// Where upstream (or the spec's `url`) has it.
    pub url: String,
    /// What the spec pins.
    pub sha256: Option<Digest>,
}

/// The artifacts of a bake. A digest comes from the spec, from the lock or from the catalogue, in
/// this order; with none it is [`Kind::Unverified`].
pub(crate) fn resolve(spec: &Spec, lock: &Lockfile, target: Target) -> Result<Vec<Artifact>, Failure> {
    unpinned(spec, lock, target)?.into_iter().map(|candidate| pin(candidate, lock)).collect()
}

/// What is to be installed, with the digests of the spec only.
pub(crate) fn unpinned(spec: &Spec, lock: &Lockfile, target: Target) -> Result<Vec<Unpinned>, Failure> {
    let runtime = runtime(spec)?;
    let mut candidates = Vec::new();
    let mut containerd = None;
    // containerd first: runc's default version depends on it.
    let names = std::iter::once("containerd").chain(catalog::components().keys().map(String::as_str));
    for name in names {
        let component = catalog::component(name);
        let seen = candidates.iter().any(|c: &Unpinned| c.component == name);
        if seen || component.build_of.is_some() {
            continue;
        }
        let packaged = name == "runc" && spec.package().is_some();
        let chosen = match name {
            "containerd" => runtime,
            _ => Some(name).filter(|name| spec.wants(name) && !packaged),
        };
        let Some(chosen) = chosen else { continue };
        let pick = spec.pick(chosen);
        let version = version(name, &pick, lock, target.arch, containerd.as_deref())?;
        let build = if chosen == name { build(name, &pick, &version, target) } else { catalogued(chosen) };
        if name == "containerd" {
            containerd = Some(version.clone());
        }
        candidates.push(candidate(catalogued(name), build, version, &pick, target.arch));
    }
    Ok(candidates)
}

/// Which entry of the spec speaks for containerd; naming the static build replaces the other.
fn runtime(spec: &Spec) -> Result<Option<&'static str>, Failure> {
    let static_named = spec.wants("containerd-static");
    let both = static_named && spec.components.contains_key("containerd") && spec.wants("containerd");
    if both {
        let message = "components: `containerd` and `containerd-static` are two builds of one component";
        return Err(
            Failure::new(Kind::Invalid, message).help("keep one; `containerd: {static: true}` is the same")
        );
    }
    if spec.package().is_some() {
        return Ok(None);
    }
    Ok(match static_named {
        true => Some("containerd-static"),
        false => Some("containerd").filter(|name| spec.wants(name)),
    })
}

/// The catalogue's own, static copy of `name`.
pub(crate) fn catalogued(name: &str) -> &'static str {
    catalog::components().get_key_value(name).map_or("", |(key, _)| key.as_str())
}

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

/// The spec's version, else the locked one, else the companion of this containerd, else the newest.
fn version(
    name: &str,
    pick: &Pick,
    lock: &Lockfile,
    arch: Arch,
    containerd: Option<&str>,
) -> Result<String, Failure> {
    if let Some(version) = &pick.version {
        return Ok(version.to_string());
    }
    let static_name = catalog::component(name).static_build.as_ref().map(|build| build.build.as_str());
    let names = match pick.static_build {
        Some(true) => [static_name, Some(name)],
        _ => [Some(name), static_name],
    };
    if let Some(locked) = names.into_iter().flatten().find_map(|name| lock.find(name, arch.name())) {
        return Ok(locked.version.clone());
    }
    let companions = &catalog::component(name).companions;
    if let Some(version) = containerd.and_then(|version| companions.get(&minor(version))) {
        return Ok(version.clone());
    }
    let newest = catalog::versions(name).into_iter().next();
    newest.map(|version| version.to_string()).ok_or_else(|| {
        Failure::new(Kind::Invalid, format!("components.{name}: no version is catalogued"))
            .help(format!("add `components.{name}.version`"))
    })
}

/// `2.1` of `2.1.9`.
pub(crate) fn minor(version: &str) -> String {
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

/// The build that runs on `target`: the static one where the root's glibc is too old, unless the
/// spec says which, or pins bytes of its own.
fn build(name: &str, pick: &Pick, version: &str, target: Target) -> &'static str {
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

/// The artifact that `candidate` is, with its digest.
pub(crate) fn pin(candidate: Unpinned, lock: &Lockfile) -> Result<Artifact, Failure> {
    let Unpinned { component, build, version, arch, url, sha256 } = candidate;
    let locked = lock
        .find(build, arch.name())
        .filter(|locked| locked.version == version && locked.url == printable::redacted(&url));
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

/// The error for a version or architecture that nothing pins.
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
    fn defaults_are_the_newest_and_its_companions() {
        let expected = ["containerd 2.3.4 (amd64)", "cni-plugins 1.9.1 (amd64)", "runc 1.4.3 (amd64)"];
        assert_eq!(names("", Some((2, 36))), expected);
        assert!(
            names("components: {containerd: {version: 2.1.9}}", None).contains(&"runc 1.3.6 (amd64)".into())
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
