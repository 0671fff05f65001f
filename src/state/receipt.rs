//! What nodebake owns in a root, and what it is about to change there.
//!
//! Pure data and its JSON: no time, inode or host name, so that the same inputs give the same
//! bytes. Reading and writing is `state/mod.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Installed};
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::node::{Node, Octal, Owner};
use crate::path::ImagePath;

pub(crate) const VERSION: u32 = 1;

/// No receipt that is written has so many: see `state.rs`. A root may say what it likes.
pub(crate) const MOST_PATHS: usize = 10_000;

/// What was at a path before the first bake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Before {
    /// Nothing: `remove` deletes it.
    #[default]
    Nothing,
    /// Something that is kept below `original/`: `remove` puts it back.
    Saved,
    /// A directory of this mode and owner: `remove` leaves it and restores both.
    Directory(Octal, Owner),
}

impl Before {
    fn is_nothing(&self) -> bool {
        *self == Before::Nothing
    }
}

/// One path that nodebake owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owned {
    /// What nodebake put there.
    #[serde(flatten)]
    pub node: Node,
    /// The component that it belongs to.
    pub component: String,
    /// The digest of the artifact that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Digest>,
    /// Its name in that artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// What was there before.
    #[serde(default, skip_serializing_if = "Before::is_nothing")]
    pub before: Before,
}

/// Everything that nodebake owns in a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    version: u32,
    /// The architecture that was baked.
    pub arch: String,
    /// What the files came from.
    pub artifacts: Vec<Artifact>,
    /// The packages that containerd came with, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Installed>,
    /// Directories that nodebake created on the way to what it owns.
    pub directories: BTreeSet<ImagePath>,
    /// Every owned path.
    pub paths: BTreeMap<ImagePath, Owned>,
}

impl Receipt {
    /// A receipt that owns nothing yet.
    pub(crate) fn new(arch: &str, artifacts: Vec<Artifact>) -> Self {
        Receipt {
            version: VERSION,
            arch: arch.to_owned(),
            artifacts,
            packages: Vec::new(),
            directories: BTreeSet::new(),
            paths: BTreeMap::new(),
        }
    }

    /// Parses `receipt.json`; `shown` is its path for messages.
    pub(crate) fn parse(text: &str, shown: &str) -> Result<Receipt, Failure> {
        let receipt: Receipt =
            serde_json::from_str(text).map_err(|error| unreadable(shown, &error.to_string()))?;
        match receipt.version {
            _ if receipt.paths.len().max(receipt.directories.len()) > MOST_PATHS => {
                Err(unreadable(shown, "it has more paths than any receipt"))
            }
            VERSION => Ok(receipt),
            other => Err(unreadable(shown, &format!("version {other} is not supported; expected {VERSION}"))),
        }
    }

    /// The bytes of `receipt.json`.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        to_json(self)
    }
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(value);
    json.map(|json| json + "\n")
        .map_err(|error| Failure::new(Kind::Invalid, format!("writing JSON: {error}")))
}

pub(crate) fn unreadable(shown: &str, why: &str) -> Failure {
    Failure::new(Kind::Invalid, format!("`{shown}` is unreadable: {why}"))
        .help("restore it from a backup of the root, or bake the root anew from its base image")
}

#[cfg(test)]
mod tests {
    use super::{Before, Owned, Receipt};

    use crate::digest::Digest;
    use crate::node::{Node, Octal, Owner};
    use crate::path::ImagePath;

    #[test]
    fn a_receipt_reads_back_as_it_was_written() {
        let mut receipt = Receipt::new("amd64", Vec::new());
        let node = Node::File { mode: Octal(0o755), sha256: Digest::of(b"x"), owner: Owner::default() };
        let owned =
            Owned { node, component: "runc".into(), artifact: None, member: None, before: Before::Saved };
        receipt.paths.insert(ImagePath::fixed("/usr/local/sbin/runc"), owned);
        let text = receipt.text().unwrap();
        assert_eq!(Receipt::parse(&text, "receipt.json").unwrap(), receipt);
        assert!(text.contains("\"mode\": \"0755\"") && !text.contains("owner"), "{text}");
    }

    #[test]
    fn a_receipt_of_another_version_is_refused() {
        let text =
            Receipt::new("amd64", Vec::new()).text().unwrap().replace("\"version\": 1", "\"version\": 2");
        assert!(Receipt::parse(&text, "receipt.json").is_err());
    }
}
