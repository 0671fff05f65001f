//! `nodebake lock`: finds the digest of every artifact, fetches it once, and writes both down.
//!
//! A digest comes from the spec, from the catalogue, or from the checksum file that upstream
//! publishes; which one it was stands in the lock. It is the only command that believes a
//! checksum file.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::arch::Arch;
use crate::catalog;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::fetch::Fetcher;
use crate::interrupt;
use crate::lock::{self, Lock, Locked, LockedPackage};
use crate::package::Repository;
use crate::resolve::{self, Artifact, Candidate, Target};
use crate::source;
use crate::spec::Spec;

/// Which architectures are pinned.
pub enum Architectures {
    /// These: one that is not to be had is an error.
    Asked(Vec<Arch>),
    /// The common ones, as far as the source has them.
    Common,
}

/// Pins everything that `spec` asks for, for each architecture, also the static builds that a root
/// with an older glibc would get.
pub fn pin(spec: &Spec, architectures: &Architectures, fetcher: &Fetcher) -> anyhow::Result<Lock> {
    let mut locked: Vec<Locked> = Vec::new();
    let (all, asked) = match architectures {
        Architectures::Asked(all) => (all.as_slice(), true),
        Architectures::Common => (&[Arch::Amd64, Arch::Arm64][..], false),
    };
    let mut missing = None;
    for arch in all {
        match pin_one(spec, *arch, fetcher) {
            Ok(entries) => locked.extend(entries),
            Err(error) if !asked && is_missing(&error) => {
                fetcher.progress.warn(&format!("{arch} is not pinned: {error:#}"));
                missing.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if locked.is_empty() => Err(error),
        _ => Ok(Lock::new(locked, packages(spec)?)),
    }
}

/// The package files that the spec names, with their digests as they are now.
fn packages(spec: &Spec) -> anyhow::Result<Vec<LockedPackage>> {
    let Some(Repository::Files(path)) = spec.package().map(|package| &package.repository) else {
        return Ok(Vec::new());
    };
    let mut packages = Vec::new();
    for host in package_files(&spec.folder.join(path))? {
        let file = File::open(&host).map_err(|error| unreadable(&host, &error))?;
        let name = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
        packages.push(LockedPackage { file: name, sha256: Digest::of_file(&file)? });
    }
    Ok(packages)
}

/// The `.deb` and `.rpm` files at `path`: that file, or all in that directory, sorted.
pub fn package_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_package = |file: &Path| file.extension().is_some_and(|end| end == "deb" || end == "rpm");
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|file| is_package(file)).collect();
    files.sort();
    match files.is_empty() {
        true => Err(Failure::new(Kind::Fetch, format!("`{}` holds no .deb or .rpm file", path.display()))
            .help("paths in the spec start from its own folder")),
        false => Ok(files),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Fetch, format!("reading `{}`: {error}", path.display()))
        .help("paths in the spec start from its own folder")
}

fn pin_one(spec: &Spec, arch: Arch, fetcher: &Fetcher) -> anyhow::Result<Vec<Locked>> {
    let mut locked: Vec<Locked> = Vec::new();
    // None: the dynamic build. Zero: a glibc that is older than any, the static build if there is one.
    for glibc in [None, Some((0, 0))] {
        for candidate in resolve::candidates(spec, &Lock::default(), Target { arch, glibc })? {
            interrupt::check()?;
            let known = locked.iter().any(|entry| entry.component == candidate.build);
            let fallback = glibc.is_some() && candidate.build != candidate.component;
            if known || (glibc.is_some() && !fallback) {
                continue;
            }
            match lock_one(candidate, fetcher) {
                Ok(entry) => locked.push(entry),
                // Nobody may ever need it: a source without static builds is a good source.
                Err(error) if fallback && is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(locked)
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(crate::error::kind(error), Some(Kind::Fetch | Kind::Unverified))
}

fn lock_one(candidate: Candidate, fetcher: &Fetcher) -> anyhow::Result<Locked> {
    let (sha256, verified) = digest(&candidate, fetcher)?;
    let Candidate { component, build, version, arch, url, .. } = candidate;
    let (component, build, arch) = (component.to_owned(), build.to_owned(), arch.to_string());
    let artifact = Artifact { component, build, version, arch, url, sha256, size: None };
    let fetched = fetcher.fetch(&artifact)?;
    let Artifact { build, version, arch, url, sha256, .. } = artifact;
    let url = source::redacted(&url);
    Ok(Locked { component: build, version, arch, url, size: fetched.size, sha256, verified })
}

/// The digest and where it came from.
fn digest(candidate: &Candidate, fetcher: &Fetcher) -> anyhow::Result<(Digest, String)> {
    let Candidate { build, version, arch, url, sha256, .. } = candidate;
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

fn checksum_file(candidate: &Candidate) -> String {
    let file = resolve::file_name(&candidate.url);
    catalog::component(candidate.build).checksum_file(file)
}

/// What the checksum file beside the artifact says.
fn published(candidate: &Candidate, fetcher: &Fetcher) -> anyhow::Result<Option<(Digest, String)>> {
    let file = resolve::file_name(&candidate.url);
    let name = checksum_file(candidate);
    let base = candidate.url.split(['?', '#']).next().unwrap_or_default();
    let url = format!("{}/{name}", base.trim_end_matches(file).trim_end_matches('/'));
    let Some((document, place)) = fetcher.text(&url, &name)? else { return Ok(None) };
    match lock::checksum(&document, file, name.starts_with(file)) {
        Some(digest) => Ok(Some((digest, place))),
        None => {
            let message = format!("`{place}` has no SHA-256 of `{file}`");
            Err(Failure::new(Kind::Unverified, message).help("pin it by `sha256:` in the spec").into())
        }
    }
}
