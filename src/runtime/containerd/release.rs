//! What differs between containerd's minor releases.

use crate::error::{Failure, Kind};
use crate::printable::printable;

/// A minor release of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release(u64, u64);

impl Release {
    /// Reads `X.Y.Z`. Before 1.6 there is no certs.d as we write it.
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

    /// Whether it is 2.0 or later.
    pub(crate) fn is_2(self) -> bool {
        self >= Release(2, 0)
    }

    /// Whether it is 2.1 or later.
    pub(crate) fn is_2_1(self) -> bool {
        self >= Release(2, 1)
    }

    /// The version of the configuration that is written for it.
    ///
    /// Version 3 also for 2.3, which introduced 4: the CRI keys are the same, and drop-ins of other
    /// tools, which still say 3 at most, abort 2.3.0 to 2.3.4 where they differ from the root file.
    pub(crate) fn config_version(self) -> i64 {
        if self.is_2() { 3 } else { 2 }
    }

    /// The pause image that this release pulls unless told otherwise.
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
