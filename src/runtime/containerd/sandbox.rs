//! Refuses a pause image that the release can't run.
//!
//! This module must not change a configuration.

use semver::{Version, VersionReq};

use crate::error::{Failure, Kind};
use crate::printable::printable;

/// Releases that can't run a pod if the pause image is named by its digest (containerd#13529, mended in 2.3.4).
const WITHOUT_DIGEST: &str = ">=2.3.0, <2.3.4";

/// Fails if `version` can't run a pod with `image` as the pause image.
pub(super) fn check(version: &str, image: &str) -> Result<(), Failure> {
    let is_affected =
        |version: Version| VersionReq::parse(WITHOUT_DIGEST).is_ok_and(|releases| releases.matches(&version));
    if !image.contains('@') || !version.parse().is_ok_and(is_affected) {
        return Ok(());
    }
    let message = format!(
        "the sandbox image `{}` is pinned by its digest, and containerd {version} can't run a pod with it",
        printable(image)
    );
    Err(Failure::new(Kind::Invalid, message)
        .help("use containerd 2.3.4 or later, or name the image by its tag"))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_digest_is_refused_where_no_pod_would_run() {
        let digest = format!("registry.k8s.io/pause:3.10@sha256:{}", "0".repeat(64));
        for (version, is_refused) in [
            ("2.2.7", false),
            ("2.3.0", true),
            ("2.3.3", true),
            ("2.3.4", false),
            ("2.4.1", false),
            ("1.7.24", false),
        ] {
            assert_eq!(check(version, &digest).is_err(), is_refused, "{version}");
            assert!(check(version, "registry.k8s.io/pause:3.10").is_ok(), "{version}");
        }
    }
}
