//! Finds the package files that the spec names in place of a repository.
//!
//! This module must not read what is in them.

use std::path::{Path, PathBuf};

use crate::artifact::lockfile::PinnedPackage;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::packages::inputs::PackageInputs;
use crate::source::fetch::LARGEST;
use crate::source::open::open_input;
use crate::spec::Spec;
use crate::spec::package::{Package, Repository};

/// Limit of package files: containerd's package needs a few others.
const MOST_FILES: usize = 1000;

/// Returns the package files of the spec, each with its digest from the lock; [`Kind::Unverified`] where the lock
/// has none.
pub(super) fn pinned_files(
    inputs: &PackageInputs,
    package: &Package,
) -> anyhow::Result<Vec<(PathBuf, Digest)>> {
    let Repository::Files(path) = &package.repository else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for host in package_files(&inputs.spec.folder.join(path))? {
        open_input(&host, LARGEST).map_err(|error| unreadable(&host, &error))?;
        let name = file_name(&host);
        let digest = inputs.lock.package(&name).ok_or_else(|| {
            Failure::new(Kind::Unverified, format!("no digest is known for package `{}`", host.display()))
                .help("pin it with `nodebake lock`")
        })?;
        files.push((host, digest));
    }
    Ok(files)
}

/// Hashes the package files that the spec names, for `nodebake lock`.
pub(crate) fn packages(spec: &Spec) -> anyhow::Result<Vec<PinnedPackage>> {
    let Some(Repository::Files(path)) = spec.package().map(|package| &package.repository) else {
        return Ok(Vec::new());
    };
    let mut packages = Vec::new();
    for host in package_files(&spec.folder.join(path))? {
        let file = open_input(&host, LARGEST).map_err(|error| unreadable(&host, &error))?;
        let name = file_name(&host);
        packages.push(PinnedPackage { file: name, sha256: Digest::of_file(&file)? });
    }
    Ok(packages)
}

/// Returns the `.deb` and `.rpm` files at `path`, a file or a directory, sorted by name.
fn package_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_package = |file: &Path| file.extension().is_some_and(|end| end == "deb" || end == "rpm");
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let files = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|file| is_package(file));
    let mut files: Vec<PathBuf> = files.take(MOST_FILES + 1).collect();
    if files.len() > MOST_FILES {
        let message = format!("`{}` holds more than {MOST_FILES} packages", path.display());
        return Err(Failure::new(Kind::Invalid, message).help("leave there what belongs to containerd"));
    }
    files.sort();
    match files.is_empty() {
        true => Err(Failure::new(Kind::Fetch, format!("`{}` holds no .deb or .rpm file", path.display()))
            .help("paths in the spec start from its own folder")),
        false => Ok(files),
    }
}

/// Name of a package file, as the lock has it.
fn file_name(host: &Path) -> String {
    host.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Fetch, format!("reading `{}`: {error}", path.display()))
        .help("paths in the spec start from its own folder")
}
