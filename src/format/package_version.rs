//! Compares a package's version with the version that the spec asks for.
//!
//! This module must not order versions: apt and dnf do.

/// Returns the upstream part of a package's version, `1.7.24` of `1:1.7.24~ds1-6+b4`; none where that is not X.Y.Z.
pub(crate) fn upstream(version: &str) -> Option<&str> {
    let bare = version.split_once(':').map_or(version, |(_, rest)| rest);
    let end = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
    let text = bare[..end].trim_end_matches('.');
    (text.split('.').count() == 3 && semver::Version::parse(text).is_ok()).then_some(text)
}

/// Returns whether `version` of a package is `wanted` of the spec: the same with or without the epoch, or a package of
/// that upstream version.
pub(crate) fn satisfies(version: &str, wanted: &str) -> bool {
    let bare = version.split_once(':').map_or(version, |(_, rest)| rest);
    let revised = |rest: &str| rest.starts_with(['-', '~', '+']);
    version == wanted || bare == wanted || bare.strip_prefix(wanted).is_some_and(revised)
}

#[cfg(test)]
mod tests {
    use super::{satisfies, upstream};

    #[test]
    fn the_upstream_version_is_found_in_any_packages() {
        let cases = [
            ("1.7.24-1", Some("1.7.24")),
            ("1.6.20~ds1-1+deb12u2", Some("1.6.20")),
            ("5:2.1.9-1~debian.12~bookworm", Some("2.1.9")),
            ("1.7.24-1.el9", Some("1.7.24")),
            ("2.1.9+ds1-5", Some("2.1.9")),
            ("1.7-1", None),
            ("git20240101", None),
        ];
        for (version, expected) in cases {
            assert_eq!(upstream(version), expected, "{version}");
        }
    }

    #[test]
    fn a_version_is_asked_for_by_upstreams_or_by_its_own() {
        for wanted in ["1.7.24", "1.7.24-1", "1.7.24-1~debian.12~bookworm"] {
            assert!(satisfies("1.7.24-1~debian.12~bookworm", wanted), "{wanted}");
        }
        assert!(satisfies("5:1.7.24-1", "1.7.24-1") && satisfies("1.6.20~ds1-1", "1.6.20"));
        for wanted in ["1.7.2", "1.7.2-1", "1.7", "1.7.24-2"] {
            assert!(!satisfies("1.7.24-1", wanted), "{wanted}");
        }
    }
}
