//! The intent: the changes that a run will make in a root, durable before the first byte is staged.
//!
//! Only data and its JSON: this module must not read or write a file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Installed};
use crate::error::Failure;
use crate::path::ImagePath;
use crate::state::{Owned, json, validate};

/// File that a package manager needs for names of hosts, resolv.conf(5): the only placeholder.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The changes that a run will make, written before the first byte is staged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intent {
    version: u32,
    /// The architecture of the installed files.
    pub arch: String,
    /// The artifacts that the files come from.
    pub artifacts: Vec<Artifact>,
    /// Packages that are being installed or removed: which of them are installed is in the package database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Installed>,
    /// An empty file that exists only while the package manager runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<ImagePath>,
    /// Directories that will be created.
    pub directories: BTreeSet<ImagePath>,
    /// Every path that will change.
    pub paths: BTreeMap<ImagePath, Step>,
}

/// The change of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// The temporary name in the same directory under which the new file is staged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary: Option<ImagePath>,
    /// The path's entry in the present receipt.
    pub old: Option<Owned>,
    /// The path's entry in the next receipt; `None` if the path will no longer be owned.
    pub new: Option<Owned>,
    /// The root changes; if false, only the receipt does.
    pub acts: bool,
}

impl Intent {
    /// Creates an intent without steps.
    pub(crate) fn new(arch: &str, artifacts: Vec<Artifact>) -> Self {
        Intent { version: json::VERSION, arch: arch.to_owned(), artifacts, ..Intent::default() }
    }

    /// Parses `pending.json`; `shown` is its path for messages. An intent that nodebake could not have written
    /// itself is refused.
    pub(crate) fn parse(text: &str, shown: &str) -> Result<Intent, Failure> {
        let measure = |intent: &Intent| {
            (intent.version, json::size(&intent.paths, &intent.directories, &intent.packages))
        };
        let intent = json::parse(text, shown, measure, "it has more paths than any intent")?;
        validate::intent(&intent).map_err(|why| json::unreadable(shown, &why.to_string()))?;
        Ok(intent)
    }

    /// Returns the text of `pending.json`.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        json::to_text(self)
    }
}
