//! Who says what an artifact's digest is: the spec, the catalogue, or upstream beside the file.

use crate::artifact;
use crate::artifact::resolve::{self, Unpinned};
use crate::catalog;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::format::checksums;
use crate::source::fetch::Fetcher;

/// The digest and where it came from.
pub(crate) fn digest(candidate: &Unpinned, fetcher: &Fetcher) -> anyhow::Result<(Digest, String)> {
    let Unpinned { build, version, arch, url, sha256, .. } = candidate;
    if let Some(digest) = sha256 {
        return Ok((*digest, "spec".to_owned()));
    }
    // The catalogue speaks of upstream's own file, not of what another URL serves. It is believed
    // before a checksum file: that comes from the server whose bytes it vouches for.
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

fn checksum_file(candidate: &Unpinned) -> String {
    let file = artifact::file_name(&candidate.url);
    catalog::component(candidate.build).checksum_file(file)
}

/// What the checksum file beside the artifact says.
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
