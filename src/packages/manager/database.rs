//! Values of a root's package database, the same for dpkg and rpm.
//!
//! This module must not read the database: `dpkg.rs` and `rpm.rs` do.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use md5::Digest as _;

use crate::artifact::Installed;
use crate::digest::{Digest, each_chunk};
use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::root::Root;

/// Limit of installed packages; a large desktop has 5,000.
const MOST_PACKAGES: usize = 50_000;

/// Limit of the bytes of a package's name, version and architecture together.
const LONGEST_FIELDS: usize = 256;

/// Installed packages by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Database {
    /// Record of each package.
    pub records: BTreeMap<String, Record>,
    /// A dpkg was killed before it wrote its changes into the status file.
    pub is_interrupted: bool,
}

/// Installed package.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Version as the package manager writes it, with epoch and revision.
    pub version: String,
    /// Architecture as the package manager writes it.
    pub architecture: String,
    /// The package is unpacked and configured.
    pub is_whole: bool,
    /// No file of the package was found to differ from what the package ships.
    pub is_intact: bool,
    /// The package is on hold: upgrades leave it at its version.
    pub is_held: bool,
    /// Files and directories of the package; empty unless they were asked for.
    pub files: Vec<ImagePath>,
    /// Digests of the files that the package ships, MD5 or SHA-256 in hexadecimal.
    pub digests: BTreeMap<ImagePath, String>,
}

impl Database {
    /// Returns the record of the package called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Record> {
        self.records.get(name)
    }

    /// Adds a package. Fails if there are more than any root has.
    pub(crate) fn add(&mut self, name: String, record: Record) -> anyhow::Result<()> {
        if name.len() + record.version.len() + record.architecture.len() > LONGEST_FIELDS {
            anyhow::bail!("a package has a name or a version of more than {LONGEST_FIELDS} bytes");
        }
        self.records.insert(name, record);
        if self.records.len() > MOST_PACKAGES {
            anyhow::bail!("it has more than {MOST_PACKAGES} packages");
        }
        Ok(())
    }

    /// Returns the package called `name` as the receipt lists it.
    pub(crate) fn installed(&self, name: &str, found: bool) -> Option<Installed> {
        let record = self.get(name)?;
        let (version, architecture) = (record.version.clone(), record.architecture.clone());
        Some(Installed { name: name.to_owned(), version, architecture, found, held: false })
    }
}

impl Default for Record {
    /// Returns the record of a whole and intact package of which nothing else is known.
    fn default() -> Record {
        Record {
            version: String::new(),
            architecture: String::new(),
            is_whole: true,
            is_intact: true,
            is_held: false,
            files: Vec::new(),
            digests: BTreeMap::new(),
        }
    }
}

impl Record {
    /// Returns the files in `root` that differ from what the package ships. Files below /etc are the administrator's,
    /// and files below /usr/share may be missing, because images are often made without documentation.
    pub(crate) fn differing(&self, root: &Root) -> Result<Vec<ImagePath>, Failure> {
        let mut differing = Vec::new();
        for (path, expected) in self.digests.iter().filter(|(path, _)| !path.as_str().starts_with("/etc/")) {
            let same = match root.file(path)? {
                Some(file) if !root.may_hash(path, &file)? => Some(false),
                Some(file) => matches(&file, expected).map_err(|error| unreadable(path, error))?,
                None => Some(path.as_str().starts_with("/usr/share/")),
            };
            if same == Some(false) {
                differing.push(path.clone());
            }
        }
        Ok(differing)
    }
}

/// Makes the failure of a file of a package that can't be hashed.
pub(crate) fn unreadable(path: &ImagePath, error: anyhow::Error) -> Failure {
    let failed = |error| Failure::new(Kind::Filesystem, format!("reading `{path}`: {error}"));
    Failure::from_error(error, failed)
}

/// Returns whether `file` has the digest `expected`; none where its length is neither MD5's nor SHA-256's.
pub(crate) fn matches(file: &File, expected: &str) -> anyhow::Result<Option<bool>> {
    match expected.len() {
        32 => Ok(Some(md5_of(file)? == expected)),
        64 => Ok(Some(Digest::of_file(file)?.to_string() == expected)),
        _ => Ok(None),
    }
}

/// Hashes a whole file by position, so that the file can be compared with several records.
fn md5_of(file: &File) -> anyhow::Result<String> {
    let mut hasher = md5::Md5::new();
    each_chunk(
        |buffer, offset| Ok(file.read_at(buffer, offset)?),
        |chunk| {
            hasher.update(chunk);
            Ok(())
        },
    )?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::matches;

    #[test]
    fn a_file_is_compared_with_several_digests() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello\n").unwrap();
        let (other, own) = ("0".repeat(32), "b1946ac92492d2347c6235b4d2611184");
        assert_eq!(matches(&file, &other).unwrap(), Some(false));
        assert_eq!(matches(&file, own).unwrap(), Some(true));
        assert_eq!(matches(&file, own).unwrap(), Some(true));
        assert_eq!(matches(&file, "sha1").unwrap(), None);
    }
}
