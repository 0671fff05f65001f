//! What a run is about to do in a root, durable before the first byte is staged.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Installed};
use crate::error::Failure;
use crate::path::ImagePath;
use crate::state::Owned;
use crate::state::receipt::{MOST_PATHS, VERSION, to_json, unreadable};

/// What a run is about to do, written before the first byte is staged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    version: u32,
    /// The architecture that is being baked.
    pub arch: String,
    /// What the files come from.
    pub artifacts: Vec<Artifact>,
    /// Packages that are being installed or taken away: which of them are there, their database knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Installed>,
    /// An empty file that stands there only while the package manager runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<ImagePath>,
    /// Directories that will be created.
    pub directories: BTreeSet<ImagePath>,
    /// Every path that will change.
    pub paths: BTreeMap<ImagePath, Step>,
}

/// What will happen at one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// The name beside it under which the new file is staged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary: Option<ImagePath>,
    /// What the receipt says of it.
    pub old: Option<Owned>,
    /// What it will be; none: not owned any more.
    pub new: Option<Owned>,
    /// Something happens in the root; else only the receipt changes.
    pub acts: bool,
}

impl Intent {
    /// An intent without steps.
    pub(crate) fn new(arch: &str, artifacts: Vec<Artifact>) -> Self {
        Intent { version: VERSION, arch: arch.to_owned(), artifacts, ..Intent::default() }
    }

    /// Parses `pending.json`; `shown` is its path for messages.
    pub(crate) fn parse(text: &str, shown: &str) -> Result<Intent, Failure> {
        let intent: Intent =
            serde_json::from_str(text).map_err(|error| unreadable(shown, &error.to_string()))?;
        match intent.version {
            _ if intent.paths.len().max(intent.directories.len()) > MOST_PATHS => {
                Err(unreadable(shown, "it has more paths than any intent"))
            }
            VERSION => Ok(intent),
            other => Err(unreadable(shown, &format!("version {other} is not supported; expected {VERSION}"))),
        }
    }

    /// The bytes of `pending.json`.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        to_json(self)
    }
}
