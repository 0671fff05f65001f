//! CPU architectures, in every spelling that the field uses.
//!
//! This module must not know what upstream publishes for an architecture: the catalogue does.

use std::fmt;
use std::str::FromStr;

use crate::error::{Failure, Kind};

/// A CPU architecture that upstream builds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Arch {
    /// x86-64
    Amd64,
    /// 64-bit Arm
    Arm64,
    /// 32-bit Arm, hard float
    Arm,
    /// 64-bit POWER, little endian
    Ppc64le,
    /// 64-bit RISC-V
    Riscv64,
    /// IBM Z
    S390x,
}

/// Spellings of each architecture: first Go's, which nodebake and upstream use, then those of uname, Debian,
/// RPM and mkosi.
const SPELLINGS: [(Arch, &[&str]); 6] = [
    (Arch::Amd64, &["amd64", "x86_64", "x86-64"]),
    (Arch::Arm64, &["arm64", "aarch64"]),
    (Arch::Arm, &["arm", "armhf", "armv7l", "armv7hl", "armv7hnl"]),
    (Arch::Ppc64le, &["ppc64le", "ppc64el", "ppc64-le"]),
    (Arch::Riscv64, &["riscv64"]),
    (Arch::S390x, &["s390x"]),
];

impl Arch {
    /// Returns Go's name, as in upstream's file names.
    pub(crate) fn name(self) -> &'static str {
        SPELLINGS.iter().find(|(arch, _)| *arch == self).map_or("", |(_, names)| names[0])
    }

    /// Returns Debian's name, as dpkg spells it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Arch::Arm => "armhf",
            Arch::Ppc64le => "ppc64el",
            other => other.name(),
        }
    }

    /// Returns the architecture of this program, and so of any process that it can start.
    pub(crate) fn of_host() -> Option<Arch> {
        std::env::consts::ARCH.parse().ok()
    }
}

impl FromStr for Arch {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let lower = text.to_ascii_lowercase();
        let found = SPELLINGS.iter().find(|(_, names)| names.contains(&lower.as_str()));
        found.map(|(arch, _)| *arch).ok_or_else(|| {
            let names: Vec<_> = SPELLINGS.iter().map(|(arch, _)| arch.name()).collect();
            Failure::new(Kind::Invalid, format!("unknown architecture `{text}`"))
                .help(format!("one of {}", names.join(", ")))
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Arch;

    #[test]
    fn every_spelling_is_understood() {
        for (text, arch) in [("x86_64", Arch::Amd64), ("x86-64", Arch::Amd64), ("AArch64", Arch::Arm64)] {
            assert_eq!(text.parse::<Arch>().unwrap(), arch);
        }
        assert!("mips".parse::<Arch>().is_err());
    }
}
