//! The fetching of artifacts: an artifact in, its verified bytes out.
//!
//! This module must not return bytes whose digest is not the pinned one, and must not parse them. Bytes are
//! hashed as they arrive, or through the descriptor that is parsed later.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use reqwest::Url;

use crate::artifact::{self, Artifact};
use crate::digest::Digest;
use crate::error::{self, Failure, Kind};
use crate::parallel;
use crate::printable::printable;
use crate::progress::Progress;
use crate::redacted;
use crate::source::bundle::Bundle;
use crate::source::cache::{self, Partial};
use crate::source::client::Network;
use crate::source::download::{Download, NotFound};
use crate::source::open::{self, open, open_no_follow};
use crate::source::section::Section;
use crate::source::{Location, Source};

/// Size limit of small files in bytes: checksum files and keys are shorter.
const SMALL: u64 = 1 << 20;

/// Size limit of an artifact in bytes: the largest has a tenth.
pub(crate) const LARGEST: u64 = 2 << 30;

/// Remedy for a web page in place of an artifact.
pub(crate) const HTML: &str =
    "it is an HTML page: a captive portal, a proxy or a login page answered instead of the server";

/// Artifact that has been fetched, with its verified bytes.
pub(crate) struct Fetched {
    /// The artifact.
    pub artifact: Artifact,
    /// The artifact's bytes.
    pub bytes: Section,
    /// The bytes are in a file that this run has made, and nobody else but root can ever have opened it: the bytes
    /// that were verified are the ones that will be parsed.
    pub private: bool,
}

/// Fetcher of artifacts from one source.
pub(crate) struct Fetcher {
    /// Source of the artifacts.
    pub source: Source,
    /// Directory that keeps downloads; none keeps none.
    pub cache: Option<PathBuf>,
    /// No socket may be opened.
    pub offline: bool,
    /// Settings of the network.
    pub network: Network,
    /// Reporter of progress.
    pub progress: Progress,
}

impl Fetcher {
    /// Fetches and verifies `artifact`.
    ///
    /// [`Kind::Fetch`] if the source does not give it, [`Kind::Unverified`] if size or digest are not the pinned
    /// ones.
    pub(crate) fn fetch(&self, artifact: &Artifact) -> anyhow::Result<Fetched> {
        match self.source.locate(&artifact.url, artifact.file_name())? {
            Location::Local(path) => {
                self.progress.step(&format!("reading {artifact} from {}", path.display()));
                let fetched = Fetched::from_file(artifact, &path)?;
                verify(&fetched, None, &path.display().to_string())?;
                Ok(fetched)
            }
            Location::Bundled(bundle) => {
                self.progress.step(&format!("reading {artifact} from {}", bundle.path().display()));
                let fetched = Fetched::from_bundle(artifact, bundle)?;
                verify(&fetched, None, &bundle.path().display().to_string())?;
                Ok(fetched)
            }
            Location::Remote(url) => match self.cached(artifact)? {
                Some(fetched) => Ok(fetched),
                None => self.download(artifact, url),
            },
        }
    }

    /// Returns whether fetching the file that upstream has at `url` may wait for a server.
    pub(crate) fn waits(&self, url: &str) -> bool {
        matches!(self.source.locate(url, artifact::file_name(url)), Ok(Location::Remote(_)))
    }

    /// Returns how many of `urls` are fetched at once: as many as there are processors, or all that wait for a
    /// server if these are more, because waiting takes no processor.
    pub(crate) fn at_once<'a>(&self, urls: impl Iterator<Item = &'a str>) -> usize {
        parallel::processors().max(urls.filter(|url| self.waits(url)).count())
    }

    /// Reads a small text beside an artifact, such as a checksum file, and returns it with its path or URL; none if
    /// the source has none.
    pub(crate) fn text(&self, url: &str, name: &str) -> anyhow::Result<Option<(String, String)>> {
        match self.source.locate(url, name)? {
            Location::Local(path) => match open::read(&path, SMALL) {
                Ok(bytes) => {
                    Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), path.display().to_string())))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => {
                    Err(Failure::new(Kind::Fetch, format!("reading `{}`: {error}", path.display())).into())
                }
            },
            Location::Bundled(_) => Ok(None),
            Location::Remote(url) => match self.small(&url) {
                Ok(bytes) => Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), redacted::shown(&url)))),
                Err(error) if error.is::<NotFound>() => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Downloads a small file from `url`, whatever the source is; the caller verifies the bytes.
    pub(crate) fn bytes(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        let parsed = Url::parse(url).map_err(|error| {
            Failure::new(Kind::Invalid, format!("`{}`: {error}", printable(&redacted::redacted(url))))
        })?;
        self.small(&parsed).with_context(|| format!("fetching {}", redacted::shown(&parsed)))
    }

    fn small(&self, url: &Url) -> anyhow::Result<Vec<u8>> {
        self.refuse_offline(&redacted::shown(url))?;
        let file = cache::temporary()?;
        let download = Download { url, file: &file, largest: SMALL, resume: false };
        let done = download.run(&self.network, &self.progress.hidden())?;
        let mut bytes = vec![0; usize::try_from(done.size)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Looks an artifact up in the cache and verifies it; a damaged copy is removed.
    fn cached(&self, artifact: &Artifact) -> anyhow::Result<Option<Fetched>> {
        let Some(path) = self.cache.as_ref().map(|cache| cache.join(artifact.sha256.to_string())) else {
            return Ok(None);
        };
        let Ok(file) = open_no_follow(&path) else { return Ok(None) };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let bytes = Section::whole(file, metadata.len());
        let fetched = Fetched { artifact: artifact.clone(), bytes, private: false };
        match verify(&fetched, None, &path.display().to_string()) {
            Ok(()) => {
                self.progress.step(&format!("using {artifact} from the cache"));
                Ok(Some(fetched))
            }
            Err(failure) if failure.kind == Kind::Unverified => {
                self.progress.step(&format!("fetching {artifact} anew: its cached copy is damaged"));
                let _ = std::fs::remove_file(&path);
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Downloads and verifies an artifact. Bytes of another digest are removed from the cache.
    fn download(&self, artifact: &Artifact, url: Url) -> anyhow::Result<Fetched> {
        let shown = redacted::shown(&url);
        self.refuse_offline(&shown)?;
        self.progress.step(&format!("fetching {artifact} from {shown}"));
        let partial = cache::partial(&self.cache, artifact, &self.progress)?;
        let left = partial.file.metadata()?.len();
        let resume = partial.path.is_some() && (1..artifact.size.unwrap_or(LARGEST)).contains(&left);
        let outcome = self.download_verified(artifact, &url, &partial, resume);
        match (&outcome, &partial.path, &self.cache) {
            (Ok(_), Some(path), Some(cache)) => cache::keep(cache, path, artifact, &self.progress),
            (Err(error), Some(path), _) if error::kind(error) == Some(Kind::Unverified) => {
                let _ = std::fs::remove_file(path);
            }
            _ => {}
        }
        outcome
    }

    /// Downloads and verifies; if the file came in pieces that do not fit together, once more as a whole.
    fn download_verified(
        &self,
        artifact: &Artifact,
        url: &Url,
        partial: &Partial,
        resume: bool,
    ) -> anyhow::Result<Fetched> {
        match self.attempt(artifact, url, partial, resume)? {
            (Err(failure), true) if failure.kind == Kind::Unverified => {
                self.progress.step(&format!("fetching {artifact} anew: its pieces do not fit"));
                Ok(self.attempt(artifact, url, partial, false)?.0?)
            }
            (outcome, _) => Ok(outcome?),
        }
    }

    /// Downloads and verifies; returns as well whether the file came in more than one piece.
    fn attempt(
        &self,
        artifact: &Artifact,
        url: &Url,
        partial: &Partial,
        resume: bool,
    ) -> anyhow::Result<(Result<Fetched, Failure>, bool)> {
        let largest = artifact.size.unwrap_or(LARGEST);
        let download = Download { url, file: &partial.file, largest, resume };
        let bar = self.progress.bar(&artifact.to_string(), artifact.size);
        let done = download.run(&self.network, &bar)?;
        let bytes = Section::whole(partial.file.try_clone()?, done.size);
        let fetched = Fetched { artifact: artifact.clone(), bytes, private: partial.private };
        let verified = verify(&fetched, done.sha256, &redacted::shown(url));
        Ok((verified.map(|()| fetched), done.sha256.is_none()))
    }

    fn refuse_offline(&self, what: &str) -> Result<(), Failure> {
        match self.offline {
            true => Err(Failure::new(Kind::Fetch, format!("offline, and `{what}` is not in the cache"))
                .help("give a directory with the artifacts as --source")
                .absent()),
            false => Ok(()),
        }
    }
}

impl Fetched {
    /// Makes the failure of bytes that have changed since they were verified; `found` is their new digest.
    pub(crate) fn changed(&self, found: Digest) -> Failure {
        let Fetched { artifact, .. } = self;
        let message = format!(
            "{artifact}, `{}` changed while it was read: sha256 {found}, expected {}",
            artifact.file_name(),
            artifact.sha256
        );
        Failure::new(Kind::Unverified, message).help("keep others from writing to the source")
    }

    /// Opens a file of the build host.
    fn from_file(artifact: &Artifact, path: &Path) -> Result<Fetched, Failure> {
        let failed = |why: String| {
            Failure::new(Kind::Fetch, format!("`{}` {why}", path.display())).help(format!(
                "{artifact} is expected there under upstream's name `{}`",
                artifact.file_name()
            ))
        };
        let file = open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed("does not exist".to_owned()).absent(),
            _ => failed(format!("can't be read: {error}")),
        })?;
        let metadata = file.metadata().map_err(|error| failed(format!("can't be read: {error}")))?;
        if !metadata.is_file() {
            return Err(failed("is not a regular file".to_owned()));
        }
        let bytes = Section::whole(file, metadata.len());
        Ok(Fetched { artifact: artifact.clone(), bytes, private: false })
    }

    /// Looks an artifact up in a bundle.
    fn from_bundle(artifact: &Artifact, bundle: &Bundle) -> Result<Fetched, Failure> {
        let missing = || {
            let message = format!("`{}` holds no {artifact} with the pinned digest", bundle.path().display());
            Failure::new(Kind::Fetch, message)
                .help(format!("it holds {}", bundle.names().join(", ")))
                .absent()
        };
        let bytes = bundle.section(&artifact.sha256)?.ok_or_else(missing)?;
        Ok(Fetched { artifact: artifact.clone(), bytes, private: false })
    }
}

/// Compares size and digest with the pinned ones; `hashed` is the digest if it is known already. `place` is for
/// messages.
fn verify(fetched: &Fetched, hashed: Option<Digest>, place: &str) -> Result<(), Failure> {
    let Fetched { artifact, bytes, .. } = fetched;
    let refuse = |why: String| {
        let failure = Failure::new(Kind::Unverified, format!("{artifact} from `{place}`: {why}"));
        let mut start = [0; 256];
        match bytes.read_at(&mut start, 0) {
            Ok(count) if looks_like_html(&start[..count]) => failure.help(HTML),
            _ => failure.help("it was damaged on its way, or it is another build: pin what you trust by `sha256:` in the spec"),
        }
    };
    if let Some(expected) = artifact.size.filter(|expected| *expected != bytes.size()) {
        return Err(refuse(format!("size {}, expected {expected}", bytes.size())));
    }
    if bytes.size() > LARGEST {
        return Err(refuse(format!("size {}, more than the {LARGEST} of any artifact", bytes.size())));
    }
    let unreadable = |error| Failure::new(Kind::Fetch, format!("reading `{place}`: {error}"));
    let found =
        hashed.map_or_else(|| bytes.digest(), Ok).map_err(|error| Failure::from_error(error, unreadable))?;
    match found == artifact.sha256 {
        true => Ok(()),
        false => Err(refuse(format!("sha256 {found}, expected {}", artifact.sha256))),
    }
}

/// Returns whether `start` is the beginning of a web page.
pub(crate) fn looks_like_html(start: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&start[..start.len().min(256)]).trim_start().to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html")
}
