//! What a root's package database says, whichever package manager keeps it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use md5::Digest as _;

use crate::artifact::Installed;
use crate::digest::{BUFFER, Digest};
use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::root::Root;

/// All installed packages by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Database {
    /// What is known of each.
    pub records: BTreeMap<String, Record>,
    /// A package manager did not end and has left what it did to the next one to be put down.
    pub is_interrupted: bool,
}

/// One installed package.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// As the package manager spells it.
    pub version: String,
    /// As the package manager spells it.
    pub architecture: String,
    /// Unpacked and configured.
    pub is_whole: bool,
    /// Its files are as it ships them, as far as that was looked at.
    pub is_intact: bool,
    /// SavedEdits from upgrades.
    pub is_held: bool,
    /// Its files and directories, where they were asked for.
    pub files: Vec<ImagePath>,
    /// The digests of its files as it ships them, MD5 or SHA-256 in hexadecimal.
    pub digests: BTreeMap<ImagePath, String>,
}

impl Database {
    /// The package called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Record> {
        self.records.get(name)
    }

    /// What the receipt says of the package called `name`.
    pub(crate) fn installed(&self, name: &str, found: bool) -> Option<Installed> {
        let record = self.get(name)?;
        let (version, architecture) = (record.version.clone(), record.architecture.clone());
        Some(Installed { name: name.to_owned(), version, architecture, found, held: false })
    }
}

impl Default for Record {
    /// Nothing is known of it yet, nothing bad either.
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
    /// Its files in `root` that are not as it ships them. What it has below /etc is the administrator's, and
    /// images are often made without documentation.
    pub(crate) fn differing(&self, root: &Root) -> Result<Vec<ImagePath>, Failure> {
        let mut differing = Vec::new();
        for (path, expected) in self.digests.iter().filter(|(path, _)| !path.as_str().starts_with("/etc/")) {
            let same = match root.file(path)? {
                Some(file) => matches(&file, expected)
                    .map_err(|error| Failure::new(Kind::Filesystem, format!("reading `{path}`: {error}")))?,
                None => Some(path.as_str().starts_with("/usr/share/")),
            };
            if same == Some(false) {
                differing.push(path.clone());
            }
        }
        Ok(differing)
    }
}

/// Whether `file` has the digest `expected`; none where that is of a kind that is not known.
pub(crate) fn matches(file: &File, expected: &str) -> anyhow::Result<Option<bool>> {
    match expected.len() {
        32 => Ok(Some(md5_of(file)? == expected)),
        64 => Ok(Some(Digest::of_file(file)?.to_string() == expected)),
        _ => Ok(None),
    }
}

fn md5_of(mut file: &File) -> anyhow::Result<String> {
    let mut hasher = md5::Md5::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
