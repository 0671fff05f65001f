//! `nodebake lock`: finds the digest of every artifact, fetches it once, and writes both down.
//!
//! A digest comes from the spec, from the catalogue, or from the checksum file that upstream
//! publishes; which one it was stands in the lock. It is the only command that believes a
//! checksum file. Archives are decoded as a bake would, and the digests of their members go in as
//! well: then they are hashed here once, and not on every node.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::catalog;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::fetch::{Fetched, Fetcher};
use crate::lock::{self, Lock, Locked, LockedPackage};
use crate::package::Repository;
use crate::parallel::Idle;
use crate::resolve::{self, Artifact, Candidate};
use crate::selection::{Architectures, Selection};
use crate::source;
use crate::spec::Spec;
use crate::spool::{self, Place};

/// Finds out what is pinned.
pub struct Pinner<'a> {
    /// How artifacts are fetched.
    pub fetcher: &'a Fetcher,
    /// Where archives are decoded, one at a time: a whole one has to fit.
    pub scratch: &'a Path,
    /// Held while one is.
    pub decoding: Mutex<Idle>,
}

/// Pins everything that `spec` asks for.
pub fn pin(spec: &Spec, architectures: &Architectures, pinner: &Pinner) -> anyhow::Result<Lock> {
    // Nothing is open but what the spec leaves open: an older lock has no say.
    let selected = Selection::new(spec, &Lock::default(), architectures)?;
    let at_once = pinner.fetcher.at_once(selected.values().map(|candidate| candidate.url.as_str()));
    let locked =
        selected.map(at_once, &pinner.fetcher.progress, "pinned", |candidate| lock_one(candidate, pinner))?;
    Ok(Lock::new(locked.into_values(), packages(spec)?))
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

fn lock_one(candidate: Candidate, pinner: &Pinner) -> anyhow::Result<Locked> {
    let (sha256, verified) = digest(&candidate, pinner.fetcher)?;
    let Candidate { component, build, version, arch, url, .. } = candidate;
    let (component, build, arch) = (component.to_owned(), build.to_owned(), arch.to_string());
    let artifact =
        Artifact { component, build, version, arch, url, sha256, size: None, members: BTreeMap::new() };
    let fetched = pinner.fetcher.fetch(&artifact)?;
    let members = members(&fetched, pinner)?;
    let Artifact { build, version, arch, url, sha256, .. } = artifact;
    let url = source::redacted(&url);
    Ok(Locked { component: build, version, arch, url, size: fetched.bytes.size(), sha256, verified, members })
}

/// The digests of what is installed of an archive. An artifact that a bake would refuse is pinned all
/// the same, with a warning: the lock says what the source has.
fn members(fetched: &Fetched, pinner: &Pinner) -> anyhow::Result<BTreeMap<String, Digest>> {
    let idle = pinner.decoding.lock().unwrap_or_else(PoisonError::into_inner);
    let _decoding = idle.work();
    let spooled = match spool::spool(fetched, &Place::Scratch(pinner.scratch), &idle) {
        Ok(spooled) => spooled,
        Err(error) => {
            let artifact = &fetched.artifact;
            // What somebody is writing to is no release.
            let found = fetched.bytes.digest()?;
            if found != artifact.sha256 {
                return Err(fetched.changed(found).into());
            }
            let warning = match crate::error::kind(&error) {
                Some(Kind::Unverified | Kind::Unsafe | Kind::Invalid) => {
                    format!("{artifact} is pinned, but no root will get it: {error:#}")
                }
                Some(Kind::Filesystem) => format!(
                    "{artifact} is pinned without a look into it, for which `{}` has no room: {error:#}",
                    pinner.scratch.display()
                ),
                _ => return Err(error),
            };
            pinner.fetcher.progress.warn(&warning);
            return Ok(BTreeMap::new());
        }
    };
    // What is no archive is its own and only member.
    let members = spooled.members.into_iter().filter(|_| !fetched.artifact.catalogued().raw);
    Ok(members.map(|member| (member.name, member.sha256)).collect())
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
            Err(Failure::new(Kind::Unverified, message)
                .help("pin it by `sha256:` in the spec")
                .absent()
                .into())
        }
    }
}
