//! Reads the user's input from this host: the spec, the lock, certificates and the environment.
//!
//! This module must not read anything in a root.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::arch::Arch;
use crate::artifact::lockfile::Lockfile;
use crate::artifact::matrix::Architectures;
use crate::cli::spec::load_spec;
use crate::error::{Failure, Kind};
use crate::progress::Progress;
use crate::source::Source;
use crate::source::client::Network;
use crate::source::fetch::Fetcher;
use crate::source::open::{self, LONGEST_CERTIFICATES};
use crate::spec::{CertificateFile, Dates, Spec};

/// Limit of a spec or lock in bytes, far longer than any. A shorter one may still be too long for the reader of YAML,
/// which says so with the file's name and the line.
const LONGEST: u64 = 2 << 20;

/// Limit of the bytes of all certificates that a spec names.
const LONGEST_TOGETHER: u64 = 4 << 20;

/// Name of the lock, beside the spec.
pub(super) const LOCK: &str = "nodebake.lock";

/// Flags that `plan`, `apply` and `lock` share.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// Spec; default: nodebake.yaml here if there is one, else the built-in spec, unless a root was baked before
    #[arg(long, value_name = "FILE")]
    pub(super) spec: Option<PathBuf>,
    /// Take the built-in spec, whatever is here
    #[arg(long, conflicts_with = "spec")]
    pub(super) defaults: bool,
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

/// User's input, read from this host.
pub(super) struct UserInput {
    /// Spec.
    pub spec: Spec,
    /// Lock beside the spec; empty where there is none.
    pub lock: Lockfile,
    /// Certificates that the spec names, by their path in it.
    pub certificates: BTreeMap<PathBuf, CertificateFile>,
    /// When these are valid.
    pub dates: Vec<Dates>,
}

impl Input {
    /// Returns the input of a command that fetches nothing, for the spec at `spec`.
    pub(super) fn of_spec(spec: &Path) -> Input {
        let stall_timeout = 1;
        Input {
            spec: Some(spec.to_owned()),
            defaults: false,
            source: None,
            offline: true,
            cache_dir: None,
            ca_file: None,
            retries: 0,
            stall_timeout,
        }
    }
}

impl UserInput {
    /// Reads the spec, the lock and the certificates.
    pub(super) fn load(input: &Input, progress: &Progress) -> anyhow::Result<UserInput> {
        let (spec, folder) = load_spec(input, progress)?;
        let lock_path = folder.join(LOCK);
        let lock = match read(&lock_path)? {
            Some(text) => Lockfile::parse(&text, &lock_path.display().to_string())?,
            None => Lockfile::default(),
        };
        let certificates = certificates(&spec, &folder)?;
        let dates = spec.check_certificate_files(&certificates)?;
        Ok(UserInput { spec, lock, certificates, dates })
    }
}

/// Reads a text file; none where it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<String>, Failure> {
    let refuse = |why: String| Failure::new(Kind::Invalid, format!("`{}`: {why}", path.display()));
    match open::read(path, LONGEST) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| refuse("is not UTF-8".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Reads the certificates that the spec names.
fn certificates(spec: &Spec, folder: &Path) -> Result<BTreeMap<PathBuf, CertificateFile>, Failure> {
    let (mut certificates, mut read) = (BTreeMap::new(), 0);
    for path in spec.certificate_paths() {
        let host = folder.join(&path);
        let refuse = |why: String| {
            Failure::new(Kind::Invalid, format!("certificate `{}` of the spec: {why}", host.display()))
        };
        let file = read_certificate(&host)
            .map_err(|error| refuse(error.to_string()).help("paths in the spec start from its own folder"))?;
        read += file.bytes.len() as u64;
        if read > LONGEST_TOGETHER {
            let why = format!("with those before it, it has more than {LONGEST_TOGETHER} bytes");
            return Err(
                refuse(why).help("name the authority of each mirror, not a bundle of all authorities")
            );
        }
        certificates.insert(path, file);
    }
    Ok(certificates)
}

fn read_certificate(path: &Path) -> std::io::Result<CertificateFile> {
    let is_private = std::fs::metadata(path)?.permissions().mode() & 0o004 == 0;
    Ok(CertificateFile { bytes: open::read(path, LONGEST_CERTIFICATES)?, is_private })
}

/// Returns the architectures that are named, else the spec's, else those that are pinned.
pub(super) fn architectures(
    named: &[String],
    spec: &Spec,
    lock: &Lockfile,
) -> Result<Architectures, Failure> {
    let parsed = |name: &str| name.parse::<Arch>();
    let named = named.iter().map(|name| parsed(name)).collect::<Result<Vec<_>, _>>()?;
    let pinned = lock.artifacts.iter().map(|locked| parsed(&locked.arch)).collect::<Result<Vec<_>, _>>()?;
    Ok(match (&spec.arch, named.is_empty(), pinned.is_empty()) {
        (_, false, _) => Architectures::Asked(named),
        (Some(arch), ..) => Architectures::Asked(arch.arch().into_iter().collect()),
        (None, _, false) => Architectures::Asked(pinned),
        (None, ..) => Architectures::Common,
    })
}

/// Returns the fetcher that the flags and the spec describe.
pub(super) fn fetcher(
    input: &Input,
    spec: &Spec,
    cache: Option<PathBuf>,
    progress: &Progress,
) -> Result<Fetcher, Failure> {
    // A relative path on the command line starts from the working directory, in the spec from the spec's folder.
    let source = match (&input.source, &spec.source) {
        (Some(text), _) => Source::parse(text, Path::new("."))?,
        (None, Some(text)) => Source::parse(text, &spec.folder)?,
        (None, None) => Source::Upstream,
    };
    let stall = Duration::from_secs(input.stall_timeout);
    let network = Network { retries: input.retries, stall, ca_file: input.ca_file.clone() };
    Ok(Fetcher { source, cache, offline: input.offline, network, progress: progress.clone() })
}

/// Returns the folder of downloads: `--cache-dir`, else in the user's cache folder.
pub(super) fn cache(input: &Input) -> Option<PathBuf> {
    let user = || {
        let folder =
            std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        folder.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
    };
    input.cache_dir.clone().or_else(|| user().map(|folder| folder.join("nodebake")))
}

/// Returns the folder of downloads, which must not be below a root: there the default folder is not used, and
/// `--cache-dir` is refused.
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
        // Every folder is below the running system's root: downloads go to unnamed files then.
        (true, Some(_)) if live => Ok(None),
        (true, Some(_)) => {
            let message = format!("--cache-dir `{}` is below a --root", cache.display());
            Err(Failure::new(Kind::Usage, message).help("choose a folder outside of what is baked"))
        }
    }
}
