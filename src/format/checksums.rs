//! The digests that upstream publishes beside its files.

use crate::digest::Digest;

/// The digest of `file` in a checksum document, in any of the grammars that upstream publishes:
/// `hash  name` lines, the same clear-signed by PGP and for several files, one combined
/// SHA256SUMS, or the hash alone.
///
/// Names are compared by their last component. A hash alone counts only where the document is
/// `for_one_file`. An armoured signature is not verified here: the lock says `checksum`.
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
