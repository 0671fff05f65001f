//! Differences between containerd's minor releases.

use crate::error::{Failure, Kind};
use crate::printable::printable;

/// A minor release of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release(u64, u64);

impl Release {
    /// Parses `X.Y.Z`. Releases before 1.6 do not read certs.d as nodebake writes it.
    pub(crate) fn parse(version: &str) -> Result<Release, Failure> {
        let parsed = semver::Version::parse(version)
            .map_err(|_| Failure::new(Kind::Invalid, format!("`{}` is not a version", printable(version))))?;
        let release = Release(parsed.major, parsed.minor);
        match release >= Release(1, 6) {
            true => Ok(release),
            false => Err(Failure::new(Kind::Invalid, format!("containerd {version} is not supported"))
                .help("containerd 1.6 and later are; 1.5 had its end of life in 2023")),
        }
    }

    /// Tells whether the release is 1.7 or later.
    pub(crate) fn is_1_7(self) -> bool {
        self >= Release(1, 7)
    }

    /// Tells whether the release is 2.0 or later.
    pub(crate) fn is_2(self) -> bool {
        self >= Release(2, 0)
    }

    /// Tells whether the release is 2.1 or later.
    pub(crate) fn is_2_1(self) -> bool {
        self >= Release(2, 1)
    }

    /// Returns the version of config.toml that is written for the release: the newest that it reads. 2.3.0 to 2.3.4 do
    /// not start with a drop-in of a higher version than the file's (containerd#13995); a lower one is fine.
    pub(crate) fn config_version(self) -> i64 {
        match self {
            Release(1, _) => 2,
            Release(2, 0..=2) => 3,
            _ => 4,
        }
    }

    /// Returns the pause image that this release pulls by default.
    pub(crate) fn sandbox_image(self) -> &'static str {
        match self {
            Release(1, 6) => "registry.k8s.io/pause:3.6",
            Release(1, _) => "registry.k8s.io/pause:3.8",
            Release(2, 0 | 1) => "registry.k8s.io/pause:3.10",
            Release(2, 2) => "registry.k8s.io/pause:3.10.1",
            _ => "registry.k8s.io/pause:3.10.2",
        }
    }
}
