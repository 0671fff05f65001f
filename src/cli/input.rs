//! What the user gave, read from this host: the spec, the lock, certificates, the environment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::artifact::lockfile::Lockfile;
use crate::error::{Failure, Kind};
use crate::printable::printable;
use crate::progress::Progress;
use crate::runtime::containerd::hosts;
use crate::source::Source;
use crate::source::client::Network;
use crate::source::fetch::Fetcher;
use crate::spec::Spec;

const DEFAULT_SPEC: &str = "nodebake.yaml";

/// Far longer than any spec, lock or certificate.
const LONGEST: u64 = 16 << 20;

/// The lock's name, beside the spec.
pub(super) const LOCK: &str = "nodebake.lock";

/// Flags that `plan`, `apply` and `lock` share.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// Spec; default: nodebake.yaml here if there is one, else the built-in defaults
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Where artifacts come from: a directory, a bundle, or an https:// mirror that keeps upstream's paths
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Open no socket
    #[arg(long)]
    offline: bool,
    /// Where downloads are kept; default: the user's cache folder
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Certificates in PEM to trust beside the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Tries after a failed download
    #[arg(long, value_name = "N", default_value_t = 4)]
    retries: u32,
    /// Give up on a connection that is silent for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    stall_timeout: u64,
}

/// What the user gave, read from this host.
pub(super) struct UserInput {
    /// The spec.
    pub spec: Spec,
    /// The lock beside it; empty where there is none.
    pub lock: Lockfile,
    /// The certificates that it names.
    pub certificates: BTreeMap<PathBuf, Vec<u8>>,
}

impl UserInput {
    /// Reads the spec, the lock and the certificates.
    pub(super) fn load(input: &Input) -> anyhow::Result<UserInput> {
        let (spec, folder) = spec(input)?;
        let lock_path = folder.join(LOCK);
        let lock = match read(&lock_path)? {
            Some(text) => Lockfile::parse(&text, &lock_path.display().to_string())?,
            None => Lockfile::default(),
        };
        let certificates = certificates(&spec, &folder)?;
        Ok(UserInput { spec, lock, certificates })
    }
}

/// The spec that is asked for, else the one in the working directory, else the defaults; and its folder.
pub(super) fn spec(input: &Input) -> anyhow::Result<(Spec, PathBuf)> {
    let path = input.spec.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SPEC));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = match read(&path)? {
        Some(text) => text,
        None if input.spec.is_none() => String::new(),
        None => {
            let message = format!("spec `{}` does not exist", path.display());
            let help = "write one, or leave out --spec for the defaults";
            return Err(Failure::new(Kind::Invalid, message).help(help).into());
        }
    };
    Ok((Spec::parse(&text, &path.display().to_string(), folder)?, folder.to_owned()))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    let refuse = |why: String| Failure::new(Kind::Invalid, format!("`{}`: {why}", path.display()));
    match read_bytes(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| refuse("is not UTF-8".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// A file of the user's, at most [`LONGEST`] bytes: a device or somebody's log must not fill the memory.
fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST {
        true => Err(std::io::Error::other(format!("longer than {LONGEST} bytes"))),
        false => Ok(bytes),
    }
}

fn certificates(spec: &Spec, folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
    let mut certificates = BTreeMap::new();
    for path in hosts::certificate_paths(spec) {
        let host = folder.join(&path);
        let bytes = read_bytes(&host).map_err(|error| {
            Failure::new(Kind::Invalid, format!("certificate `{}` of the spec: {error}", host.display()))
                .help("paths in the spec start from its own folder")
        })?;
        certificates.insert(path, bytes);
    }
    Ok(certificates)
}

/// How artifacts are fetched.
pub(super) fn fetcher(
    input: &Input,
    spec: &Spec,
    cache: Option<PathBuf>,
    progress: &Progress,
) -> Result<Fetcher, Failure> {
    // On the command line from the working directory, in the spec from its folder.
    let source = match (&input.source, &spec.source) {
        (Some(text), _) => Source::parse(text, Path::new("."))?,
        (None, Some(text)) => Source::parse(text, &spec.folder)?,
        (None, None) => Source::Upstream,
    };
    let stall = Duration::from_secs(input.stall_timeout);
    let network = Network { retries: input.retries, stall, ca_file: input.ca_file.clone() };
    Ok(Fetcher { source, cache, offline: input.offline, network, progress: progress.clone() })
}

/// Where downloads are kept: as asked for, else in the user's cache folder.
pub(super) fn cache(input: &Input) -> Option<PathBuf> {
    let user = || {
        let folder =
            std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        folder.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
    };
    input.cache_dir.clone().or_else(|| user().map(|folder| folder.join("nodebake")))
}

/// Downloads never go below a root: the default cache is left out there, one that was asked for is
/// refused.
pub(super) fn cache_outside(input: &Input, roots: &[PathBuf]) -> Result<Option<PathBuf>, Failure> {
    let Some(cache) = cache(input) else { return Ok(None) };
    let real = |path: &Path| {
        let existing = path.ancestors().find_map(|above| std::fs::canonicalize(above).ok());
        existing.unwrap_or_else(|| std::env::current_dir().unwrap_or_default())
    };
    let below = roots.iter().any(|root| real(&cache).starts_with(real(root)));
    let live = roots.iter().any(|root| real(root) == Path::new("/"));
    match (below, &input.cache_dir) {
        (false, _) => Ok(Some(cache)),
        (true, None) => Ok(None),
        // Everything is below it: downloads have no name then.
        (true, Some(_)) if live => Ok(None),
        (true, Some(_)) => {
            let message = format!("--cache-dir `{}` is below a --root", cache.display());
            Err(Failure::new(Kind::Usage, message).help("choose a folder outside of what is baked"))
        }
    }
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
pub(super) fn source_date_epoch() -> Result<i64, Failure> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if text.is_empty() => Ok(0),
        Ok(text) => text.parse().map_err(|_| {
            Failure::new(
                Kind::Usage,
                format!("SOURCE_DATE_EPOCH `{}` is not a number of seconds", printable(&text)),
            )
        }),
        Err(_) => Ok(0),
    }
}
