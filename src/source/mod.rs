//! Sources of artifacts: upstream, a mirror that keeps upstream's paths, a directory or a bundle.
//!
//! This module must not trust a source: every artifact is compared with its pinned digest. To add a source: a
//! variant of [`Source`] here and its arm in `source/fetch.rs`.

pub(crate) mod bundle;
mod cache;
pub(crate) mod client;
mod download;
pub(crate) mod fetch;
pub(crate) mod open;
pub(crate) mod pack;
pub(crate) mod section;

use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::error::{Failure, Kind};
use crate::printable::printable;
use crate::redacted::redacted;
use crate::source::bundle::Bundle;

/// Source of artifacts, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The URLs of the catalogue.
    Upstream,
    /// A server with upstream's paths below this URL.
    Mirror(Url),
    /// A directory of files with upstream's names.
    Directory(PathBuf),
    /// One file with many artifacts, found by their digests.
    Bundle(Bundle),
}

/// Location of one artifact in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location<'source> {
    /// On a server.
    Remote(Url),
    /// On the build host.
    Local(PathBuf),
    /// In a bundle, if it holds the artifact.
    Bundled(&'source Bundle),
}

impl Source {
    /// Parses the user's `--source` or `source:`; a relative path starts from `folder`. A bundle is opened.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Source, Failure> {
        let refuse = |why: &str| {
            Failure::new(Kind::Invalid, format!("source `{}` {why}", printable(&redacted(text))))
                .help("give a directory, a bundle, or an https:// URL whose paths are upstream's")
        };
        match text.split_once("://") {
            Some(("http" | "https", _)) => {
                let url = Url::parse(text).map_err(|error| refuse(&format!("is not a URL: {error}")))?;
                Ok(Source::Mirror(url))
            }
            Some(("oci", _)) => Err(refuse("is not supported by this version of nodebake")),
            Some(_) => Err(refuse("has an unknown scheme")),
            None => {
                let path = folder.join(text);
                // A missing directory is no error yet: what the root has already is not fetched.
                match path.is_file() {
                    false => Ok(Source::Directory(path)),
                    true => Bundle::open(&path).map(Source::Bundle),
                }
            }
        }
    }

    /// Returns the location of the file `name`, which upstream has at `url`, in this source.
    pub(super) fn locate(&self, url: &str, name: &str) -> Result<Location<'_>, Failure> {
        let invalid = |error| {
            Failure::new(Kind::Invalid, format!("`{}` is not a URL: {error}", printable(&redacted(url))))
        };
        match self {
            Source::Directory(directory) => return Ok(Location::Local(directory.join(name))),
            Source::Bundle(bundle) => return Ok(Location::Bundled(bundle)),
            Source::Mirror(_) | Source::Upstream => {}
        }
        let upstream = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        match (self, upstream.scheme()) {
            (_, "file") => {
                upstream.to_file_path().map(Location::Local).map_err(|()| invalid("no path".to_owned()))
            }
            (Source::Mirror(base), "http" | "https") => {
                let mut url = base.clone();
                url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), upstream.path()));
                Ok(Location::Remote(url))
            }
            (_, "http" | "https") => Ok(Location::Remote(upstream)),
            (_, scheme) => Err(invalid(format!("scheme `{scheme}` is not supported"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Location, Source};

    const UPSTREAM: &str = "https://github.com/opencontainers/runc/releases/download/v1.3.6/runc.amd64";

    #[test]
    fn a_mirror_keeps_upstreams_paths() {
        for base in ["https://mirror.example/files", "https://mirror.example/files/"] {
            let source = Source::parse(base, Path::new(".")).unwrap();
            let expected =
                "https://mirror.example/files/opencontainers/runc/releases/download/v1.3.6/runc.amd64";
            assert_eq!(
                source.locate(UPSTREAM, "runc.amd64").unwrap(),
                Location::Remote(expected.parse().unwrap())
            );
        }
    }

    #[test]
    fn a_directory_holds_upstreams_names() {
        let source = Source::Directory("/artifacts".into());
        let expected = Location::Local("/artifacts/runc.amd64".into());
        assert_eq!(source.locate(UPSTREAM, "runc.amd64").unwrap(), expected);
    }

    #[test]
    fn other_schemes_are_refused() {
        for text in ["oci://registry/x", "ftp://host/x", "file:///x"] {
            assert!(Source::parse(text, Path::new(".")).is_err(), "{text}");
        }
    }
}
