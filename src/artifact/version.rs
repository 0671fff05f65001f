//! The version of a component that the spec leaves open.
//!
//! This module must not choose a build: `resolve.rs` does.

use semver::Version;

use crate::artifact::lockfile::{Lockfile, Pinned};
use crate::artifact::resolve::{Target, build, minor};
use crate::catalog;
use crate::error::{Failure, Kind};
use crate::spec::Pick;

/// Returns the version that the spec leaves open: the locked one, else the companion of this containerd, else the newest
/// of the component's line.
pub(super) fn open_version(
    name: &str,
    pick: &Pick,
    lock: &Lockfile,
    target: Target,
    containerd: Option<&str>,
) -> Result<String, Failure> {
    if let Some(version) = locked_version(name, pick, lock, target) {
        return Ok(version);
    }
    let component = catalog::component(name);
    if let Some(version) = containerd.and_then(|version| component.companions.get(&minor(version))) {
        return Ok(version.clone());
    }
    let of_line = || catalog::versions(name).into_iter().filter(|version| component.is_in_line(version));
    // The build that the root gets may be missing where the other is there.
    let is_pinned = |version: &Version| {
        let version = version.to_string();
        catalog::digest(build(name, pick, &version, target), &version, target.arch).is_some()
    };
    let newest = of_line().find(is_pinned).or_else(|| of_line().next());
    newest.map(|version| version.to_string()).ok_or_else(|| {
        Failure::new(Kind::Invalid, format!("components.{name}: no version is catalogued"))
            .help(format!("add `components.{name}.version`"))
    })
}

/// Returns the version of a component that the lock has: that of the build which the root gets, else of another.
fn locked_version(name: &str, pick: &Pick, lock: &Lockfile, target: Target) -> Option<String> {
    let static_name = catalog::component(name).static_build.as_ref().map(|build| build.build.as_str());
    let names = match pick.static_build {
        Some(true) => [static_name, Some(name)],
        _ => [Some(name), static_name],
    };
    let locked = || names.into_iter().flatten().filter_map(|name| lock.find(name, target.arch.name()));
    let is_used = |locked: &&Pinned| build(name, pick, &locked.version, target) == locked.component;
    locked().find(is_used).or_else(|| locked().next()).map(|locked| locked.version.clone())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::arch::Arch;
    use crate::artifact::lockfile::Lockfile;
    use crate::artifact::resolve::{Target, resolve};
    use crate::spec::Spec;

    /// Returns the first artifact that an empty spec gives.
    fn first(lock: &Lockfile, target: Target) -> String {
        let spec = Spec::parse("", "nodebake.yaml", Path::new(".")).unwrap();
        resolve(&spec, lock, target).unwrap()[0].to_string()
    }

    #[test]
    fn the_default_is_a_version_that_is_catalogued_for_the_build_and_the_architecture() {
        let none = Lockfile::default();
        let target = |arch, glibc| Target { arch, glibc };
        // The static build of 2.3.5 is not catalogued for amd64, and neither build for ppc64le.
        assert_eq!(first(&none, target(Arch::Amd64, Some((2, 31)))), "containerd-static 2.3.4 (amd64)");
        assert_eq!(first(&none, target(Arch::Arm64, Some((2, 31)))), "containerd-static 2.3.5 (arm64)");
        assert_eq!(first(&none, target(Arch::Ppc64le, None)), "containerd 2.3.4 (ppc64le)");
    }

    #[test]
    fn the_lock_has_a_version_for_each_build() {
        let pinned = |name: &str, version: &str| {
            let digest = "0".repeat(64);
            format!(
                "- {{component: {name}, version: {version}, arch: amd64, url: 'https://x/{name}', size: 1, \
                 sha256: {digest}, verified: spec}}\n"
            )
        };
        let pinned = pinned("containerd", "2.3.5") + &pinned("containerd-static", "2.3.4");
        let lock = Lockfile::parse(&format!("version: 1\nartifacts:\n{pinned}"), "nodebake.lock").unwrap();
        let target = |glibc| Target { arch: Arch::Amd64, glibc };
        assert_eq!(first(&lock, target(Some((2, 36)))), "containerd 2.3.5 (amd64)");
        assert_eq!(first(&lock, target(Some((2, 31)))), "containerd-static 2.3.4 (amd64)");
    }
}
