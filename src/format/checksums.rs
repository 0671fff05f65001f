//! The documents of digests that upstream publishes beside its files.
//!
//! This module must not verify their signatures: `nodebake lock` records such a digest as `checksum`.

use crate::digest::Digest;

/// Finds the digest of `file` in a checksum document, in any grammar that upstream uses: `hash  name` lines, the
/// same clear-signed by PGP, a SHA256SUMS of several files, or the hash alone.
///
/// Names are compared by their last component. A hash alone counts only if the document is `for_one_file`.
pub(crate) fn checksum(document: &str, file: &str, for_one_file: bool) -> Option<Digest> {
    let named = document.lines().find_map(|line| {
        let (hash, name) = line.trim().split_once(char::is_whitespace)?;
        let name = name.trim_start().trim_start_matches('*');
        (name.rsplit('/').next() == Some(file)).then(|| hash.parse().ok())?
    });
    named.or_else(|| {
        let mut words = document.split_whitespace();
        let only = words.next().filter(|_| words.next().is_none() && for_one_file)?;
        only.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::checksum;

    const HASH: &str = "e6568cc6e6568cc6e6568cc6e6568cc6e6568cc6e6568cc6e6568cc6e6568cc6";

    #[test]
    fn all_four_grammars_are_read() {
        let lines = format!("{HASH}  runc.arm64\n");
        let binary = format!("{HASH} *./dist/runc.arm64\n");
        let signed = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{}  runc.amd64\n{HASH}  runc.arm64\n-----BEGIN PGP SIGNATURE-----\nabc\n",
            HASH.replace('e', "f")
        );
        for document in [&lines, &binary, &signed] {
            assert_eq!(checksum(document, "runc.arm64", false).unwrap().to_string(), HASH);
            assert_eq!(checksum(document, "runc.s390x", false), None);
        }
        assert_eq!(checksum(&format!("{HASH}\n"), "any", true).unwrap().to_string(), HASH);
        assert_eq!(checksum(&format!("{HASH}\n"), "any", false), None);
        assert_eq!(checksum("<html>", "any", true), None);
    }
}
