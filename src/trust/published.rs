//! The digest of an artifact that is to be pinned: from the spec, the catalogue or upstream's checksum file.
//!
//! This module must not compare a digest with the artifact: fetching does.

use crate::artifact;
use crate::artifact::resolve::{self, Unpinned};
use crate::catalog;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::format::checksums;
use crate::source::fetch::Fetcher;

/// Returns the digest and its origin, as the lock records it.
pub(crate) fn digest(candidate: &Unpinned, fetcher: &Fetcher) -> anyhow::Result<(Digest, String)> {
    let Unpinned { build, version, arch, url, sha256, .. } = candidate;
    if let Some(digest) = sha256 {
        return Ok((*digest, "spec".to_owned()));
    }
    // The catalogue has the digest of upstream's own file, not of one from another URL. It precedes a checksum
    // file, which comes from the same server as the bytes that it vouches for.
    let upstream = *url == catalog::component(build).url(version, *arch);
    if let Some(digest) = catalog::digest(build, version, *arch).filter(|_| upstream) {
        return Ok((digest, "catalogue".to_owned()));
    }
    match published(candidate, fetcher)? {
        Some((digest, place)) => Ok((digest, format!("checksum {place}"))),
        None => {
            let help = format!(
                "upstream publishes it in `{}`; put that beside it, or pin it by `sha256:` in the spec",
                checksum_file(candidate)
            );
            Err(resolve::no_digest(build, version, *arch).help(help).into())
        }
    }
}

/// Returns the name of the checksum file beside the artifact.
fn checksum_file(candidate: &Unpinned) -> String {
    let file = artifact::file_name(&candidate.url);
    catalog::component(candidate.build).checksum_file(file)
}

/// Reads the digest from the checksum file beside the artifact; none if the source has no such file.
fn published(candidate: &Unpinned, fetcher: &Fetcher) -> anyhow::Result<Option<(Digest, String)>> {
    let file = artifact::file_name(&candidate.url);
    let name = checksum_file(candidate);
    let base = candidate.url.split(['?', '#']).next().unwrap_or_default();
    let url = format!("{}/{name}", base.trim_end_matches(file).trim_end_matches('/'));
    let Some((document, place)) = fetcher.text(&url, &name)? else { return Ok(None) };
    match checksums::checksum(&document, file, name.starts_with(file)) {
        Some(digest) => Ok(Some((digest, place))),
        None => {
            let message = format!("`{place}` has no SHA-256 of `{file}`");
            Err(Failure::new(Kind::Unverified, message)
                .help("pin it by `sha256:` in the spec")
                .absent()
                .into())
        }
    }
}
