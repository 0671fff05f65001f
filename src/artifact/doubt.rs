//! Doubts about a version that is going to be installed, in words for a warning.
//!
//! This module must not refuse anything: an old release is installed where the spec asks for it.

use crate::artifact::Artifact;
use crate::artifact::lockfile::Lockfile;
use crate::artifact::resolve::minor;
use crate::catalog;
use crate::printable::printable;
use crate::redacted::redacted;

/// Returns what is to be said of a version from its archive on the day `today`, YYYY-MM-DD.
pub(crate) fn of_release(component: &str, version: &str, today: &str) -> Option<String> {
    let minor = minor(version);
    let ended = catalog::ended(component, &minor, today);
    let ended = ended.map(|ended| {
        format!(
            "{component} {version}: {minor} reached its end of life on {}; {} gets fixes until {}",
            ended.on, ended.line, ended.until
        )
    });
    match (ended, of_kubernetes(component, version)) {
        (Some(ended), Some(kubernetes)) => Some(format!("{ended}; {kubernetes}")),
        (ended, kubernetes) => ended.or(kubernetes),
    }
}

/// Returns what is to be said of a version whatever brings it: Kubernetes 1.38 removes what the kubelet did where the
/// runtime does not tell its cgroup driver (KEP-4033), and containerd 1.x does not.
pub(crate) fn of_kubernetes(component: &str, version: &str) -> Option<String> {
    let is_1 = component == "containerd" && version.starts_with("1.");
    is_1.then(|| format!("Kubernetes 1.38 and later do not start on containerd {}", minor(version)))
}

/// Returns why `lock` is not used for `artifact`, which it should have; none if it is used, or pins nothing.
pub(crate) fn of_lock(lock: &Lockfile, artifact: &Artifact) -> Option<String> {
    let Artifact { build, version, arch, url, sha256, .. } = artifact;
    if lock.artifacts.is_empty() {
        return None;
    }
    let why = match lock.find(build, arch) {
        None => format!("does not have {artifact}"),
        Some(locked) if locked.version != *version => {
            format!("has {build} {} ({arch}), and {version} is wanted", printable(&locked.version))
        }
        Some(locked) if locked.url != redacted(url) => format!("has {artifact} from another URL"),
        Some(locked) if locked.sha256 != *sha256 => format!("has another digest of {artifact} than the spec"),
        Some(_) => return None,
    };
    Some(format!("nodebake.lock {why}: it is not used for that; write it anew with `nodebake lock`"))
}

#[cfg(test)]
mod tests {
    use super::of_release;

    #[test]
    fn an_old_release_is_told_with_its_last_day() {
        let told = |version: &str| of_release("containerd", version, "2026-11-28").unwrap_or_default();
        assert_eq!(
            told("2.1.9"),
            "containerd 2.1.9: 2.1 reached its end of life on 2026-07-03; 2.3 gets fixes until 2028-04-30"
        );
        assert!(told("1.7.34").contains("2026-09-30") && told("1.7.34").contains("Kubernetes 1.38"));
        assert_eq!(told("2.3.5"), "");
        assert_eq!(of_release("runc", "1.1.0", "2026-11-28"), None);
    }
}
