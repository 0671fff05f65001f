//! Reads and writes the JSON of the state's files.
//!
//! This module must not know what a receipt or an intent means.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::artifact::Installed;
use crate::error::{Failure, Kind};
use crate::path::ImagePath;

/// Version of the format of receipt and intent.
pub(super) const VERSION: u32 = 1;

/// Paths that a file may have: none that nodebake writes has as many, because `state/mod.rs` limits the
/// length, but a root can contain any file.
const MOST_PATHS: usize = 10_000;

/// Strings that a file may have, keys among them: a path in an intent has up to 30.
const MOST_STRINGS: usize = 24 * MOST_PATHS;

/// Returns how many paths a file counts as having. A package counts as twenty, because the package manager is asked
/// for each.
pub(super) fn size<T>(
    paths: &BTreeMap<ImagePath, T>,
    directories: &BTreeSet<ImagePath>,
    packages: &[Installed],
) -> usize {
    paths.len().max(directories.len()).max(20 * packages.len())
}

/// Parses a file whose version and number of paths are given by `measure`; `shown` is its path for messages.
pub(super) fn parse<T: DeserializeOwned>(
    text: &str,
    shown: &str,
    measure: impl Fn(&T) -> (u32, usize),
    too_many: &str,
) -> Result<T, Failure> {
    // Before it is parsed: in memory a short path needs many times its text.
    let count = |mark: u8| text.bytes().filter(|byte| *byte == mark).count();
    if count(b'{') > 3 * MOST_PATHS || count(b'"') > 2 * MOST_STRINGS {
        return Err(unreadable(shown, too_many));
    }
    let value: T = serde_json::from_str(text).map_err(|error| match of_version(text) {
        Some(other) if other != VERSION => unsupported(shown, other),
        _ => unreadable(shown, &error.to_string()),
    })?;
    match measure(&value) {
        (_, paths) if paths > MOST_PATHS => Err(unreadable(shown, too_many)),
        (VERSION, _) => Ok(value),
        (other, _) => Err(unsupported(shown, other)),
    }
}

/// Returns the version of a file whose other fields may be unknown.
fn of_version(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    serde_json::from_str(text).ok().map(|Versioned { version }| version)
}

fn unsupported(shown: &str, version: u32) -> Failure {
    unreadable(shown, &format!("version {version} is not supported; expected {VERSION}"))
}

/// Returns the text of a file.
pub(super) fn to_text(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(value);
    json.map(|json| json + "\n")
        .map_err(|error| Failure::new(Kind::Invalid, format!("writing JSON: {error}")))
}

/// Returns the failure of a file that is not as nodebake writes it.
pub(super) fn unreadable(shown: &str, why: &str) -> Failure {
    Failure::new(Kind::Invalid, format!("`{shown}` is unreadable: {why}"))
        .help("restore it from a backup of the root, or bake the root anew from its base image")
}
