//! What nodebake owns in a root, and what it is about to change there.
//!
//! Pure data and its JSON: no time, inode or host name, so that the same inputs give the same
//! bytes. Reading and writing is `state.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::resolve::Artifact;

const VERSION: u32 = 1;
/// No receipt that is written has so many: see `state.rs`. A root may say what it likes.
const MOST_PATHS: usize = 10_000;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Node {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: Octal,
        /// User and group.
        #[serde(default, skip_serializing_if = "Owner::is_root")]
        owner: Owner,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: Octal,
        /// Of its content.
        sha256: Digest,
        /// User and group.
        #[serde(default, skip_serializing_if = "Owner::is_root")]
        owner: Owner,
    },
    /// A symlink.
    Link {
        /// As it is written in the link.
        target: String,
    },
    /// A file that a package brought: it is there, and its content is the package manager's business.
    Present {
        /// The package.
        package: String,
    },
    /// A FIFO, a socket or a device: seen, never owned.
    #[serde(skip)]
    Other,
}

impl Node {
    /// Whether the content is another one, so that replacing it would lose something; a changed
    /// mode or owner alone loses nothing.
    pub fn differs_in_content(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::File { sha256: a, .. }, Node::File { sha256: b, .. }) => a != b,
            (Node::Directory { .. }, Node::Directory { .. })
            | (Node::File { .. }, Node::Present { .. })
            | (Node::Link { .. }, Node::Present { .. }) => false,
            (a, b) => a != b,
        }
    }
}

/// User and group, root's by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner(pub u32, pub u32);

impl Owner {
    fn is_root(&self) -> bool {
        *self == Owner(0, 0)
    }
}

/// Permission bits, written as `"0755"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Octal(pub u32);

impl From<Octal> for String {
    fn from(mode: Octal) -> String {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for Octal {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u32::from_str_radix(&text, 8).map(Octal)
    }
}

/// What was at a path before the first bake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Before {
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
pub struct Owned {
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

/// A package that the root's package manager has installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// Its version, as the package manager spells it.
    pub version: String,
    /// Its architecture, as the package manager spells it.
    pub architecture: String,
    /// It was there before the first bake: `remove` leaves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
    /// nodebake keeps upgrades of the system from replacing it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

impl std::fmt::Display for Installed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{} {} ({})", self.name, self.version, self.architecture)
    }
}

/// Everything that nodebake owns in a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
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
    pub fn new(arch: &str, artifacts: Vec<Artifact>) -> Self {
        Receipt {
            version: VERSION,
            arch: arch.to_owned(),
            artifacts,
            packages: Vec::new(),
            directories: BTreeSet::new(),
            paths: BTreeMap::new(),
        }
    }

    /// Whether it owns nothing.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.directories.is_empty() && self.packages.is_empty()
    }

    /// Parses `receipt.json`; `shown` is its path for messages.
    pub fn parse(text: &str, shown: &str) -> Result<Receipt, Failure> {
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
    pub fn text(&self) -> Result<String, Failure> {
        to_json(self)
    }
}

/// What a run is about to do, written before the first byte is staged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
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
pub struct Step {
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
    pub fn new(arch: &str, artifacts: Vec<Artifact>) -> Self {
        Intent { version: VERSION, arch: arch.to_owned(), artifacts, ..Intent::default() }
    }

    /// Parses `pending.json`; `shown` is its path for messages.
    pub fn parse(text: &str, shown: &str) -> Result<Intent, Failure> {
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
    pub fn text(&self) -> Result<String, Failure> {
        to_json(self)
    }
}

fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(value);
    json.map(|json| json + "\n")
        .map_err(|error| Failure::new(Kind::Invalid, format!("writing JSON: {error}")))
}

fn unreadable(shown: &str, why: &str) -> Failure {
    Failure::new(Kind::Invalid, format!("`{shown}` is unreadable: {why}"))
        .help("restore it from a backup of the root, or bake the root anew from its base image")
}

#[cfg(test)]
mod tests {
    use super::{Before, Node, Octal, Owned, Owner, Receipt};
    use crate::digest::Digest;
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
