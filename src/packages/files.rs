//! Package files that the spec names, in place of a repository.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::artifact::lockfile::PinnedPackage;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::packages::inputs::PackageInputs;
use crate::spec::Spec;
use crate::spec::package::{Package, Repository};

/// The package files of the spec, each with the digest that the lock has for it.
pub(crate) fn files(inputs: &PackageInputs, package: &Package) -> anyhow::Result<Vec<(PathBuf, Digest)>> {
    let Repository::Files(path) = &package.repository else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for host in crate::packages::files::package_files(&inputs.spec.folder.join(path))? {
        let name = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digest = inputs.lock.package(&name).ok_or_else(|| {
            Failure::new(Kind::Unverified, format!("no digest is known for package `{}`", host.display()))
                .help("pin it with `nodebake lock`")
        })?;
        files.push((host, digest));
    }
    Ok(files)
}

/// The package files that the spec names, with their digests as they are now.
pub(crate) fn packages(spec: &Spec) -> anyhow::Result<Vec<PinnedPackage>> {
    let Some(Repository::Files(path)) = spec.package().map(|package| &package.repository) else {
        return Ok(Vec::new());
    };
    let mut packages = Vec::new();
    for host in package_files(&spec.folder.join(path))? {
        let file = File::open(&host).map_err(|error| unreadable(&host, &error))?;
        let name = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
        packages.push(PinnedPackage { file: name, sha256: Digest::of_file(&file)? });
    }
    Ok(packages)
}

/// The `.deb` and `.rpm` files at `path`: that file, or all in that directory, sorted.
pub(crate) fn package_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
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
