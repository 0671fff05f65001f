//! The receipt: all paths and packages that nodebake owns in a root.
//!
//! Only data and its JSON: this module must not read or write a file, and a receipt must not contain a time,
//! an inode or a host name, so that the same inputs give the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Installed};
use crate::digest::Digest;
use crate::error::Failure;
use crate::format::package_version;
use crate::node::{Node, Octal, Owner};
use crate::path::ImagePath;
use crate::runtime::Runtime;
use crate::state::{json, validate};

/// The node that was at a path before the first bake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Before {
    /// Nothing: `remove` deletes the path.
    #[default]
    Nothing,
    /// A file or a link that is kept below `original/`: `remove` restores it.
    Saved,
    /// A directory of this mode and owner: `remove` keeps the directory and restores both.
    Directory(Octal, Owner),
}

impl Before {
    fn is_nothing(&self) -> bool {
        *self == Before::Nothing
    }
}

/// One path that nodebake owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OwnedFields")]
pub(crate) struct Owned {
    /// The node that nodebake installed.
    #[serde(flatten)]
    pub node: Node,
    /// The size of the installed file in bytes; none for other nodes, and in receipts of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The component that the node belongs to.
    pub component: String,
    /// The digest of the artifact that the node came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Digest>,
    /// The node's name in that artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The node that was there before the first bake.
    #[serde(skip_serializing_if = "Before::is_nothing")]
    pub before: Before,
}

/// Fields of an [`Owned`] as they are read: serde can't refuse unknown fields beside a flattened enum.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnedFields {
    r#type: NodeType,
    mode: Option<Octal>,
    owner: Option<Owner>,
    sha256: Option<Digest>,
    target: Option<String>,
    package: Option<String>,
    size: Option<u64>,
    component: String,
    artifact: Option<Digest>,
    member: Option<String>,
    #[serde(default)]
    before: Before,
}

/// Type of an owned node.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum NodeType {
    Directory,
    File,
    Link,
    Present,
}

impl TryFrom<OwnedFields> for Owned {
    type Error = String;

    fn try_from(fields: OwnedFields) -> Result<Owned, String> {
        let OwnedFields { r#type, mut mode, mut owner, mut sha256, mut target, mut package, size, .. } =
            fields;
        let missing = |name: &str| format!("missing field `{name}`");
        let node = match r#type {
            NodeType::Directory => Node::Directory {
                mode: mode.take().ok_or_else(|| missing("mode"))?,
                owner: owner.take().unwrap_or_default(),
            },
            NodeType::File => Node::File {
                mode: mode.take().ok_or_else(|| missing("mode"))?,
                sha256: sha256.take().ok_or_else(|| missing("sha256"))?,
                owner: owner.take().unwrap_or_default(),
            },
            NodeType::Link => Node::Link { target: target.take().ok_or_else(|| missing("target"))? },
            NodeType::Present => Node::Present { package: package.take().ok_or_else(|| missing("package"))? },
        };
        let left = [
            ("mode", mode.is_some()),
            ("owner", owner.is_some()),
            ("sha256", sha256.is_some()),
            ("target", target.is_some()),
            ("package", package.is_some()),
            ("size", size.is_some() && !matches!(node, Node::File { .. })),
        ];
        if let Some((name, _)) = left.iter().find(|(_, is_left)| *is_left) {
            return Err(format!("field `{name}` does not go with this `type`"));
        }
        let OwnedFields { component, artifact, member, before, .. } = fields;
        Ok(Owned { node, size, component, artifact, member, before })
    }
}

/// All paths and packages that nodebake owns in a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receipt {
    version: u32,
    /// The architecture of the installed files.
    pub arch: String,
    /// The artifacts that the files came from.
    pub artifacts: Vec<Artifact>,
    /// The packages that brought containerd, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Installed>,
    /// Directories that nodebake created above the paths that it owns.
    pub directories: BTreeSet<ImagePath>,
    /// All owned paths.
    pub paths: BTreeMap<ImagePath, Owned>,
}

impl Receipt {
    /// Creates a receipt that owns no path.
    pub(crate) fn new(arch: &str, artifacts: Vec<Artifact>) -> Self {
        Receipt {
            version: json::VERSION,
            arch: arch.to_owned(),
            artifacts,
            packages: Vec::new(),
            directories: BTreeSet::new(),
            paths: BTreeMap::new(),
        }
    }

    /// Parses `receipt.json`; `shown` is its path for messages. A receipt that nodebake could not have written
    /// itself is refused.
    pub(crate) fn parse(text: &str, shown: &str) -> Result<Receipt, Failure> {
        let measure = |receipt: &Receipt| {
            (receipt.version, json::size(&receipt.paths, &receipt.directories, &receipt.packages))
        };
        let receipt = json::parse(text, shown, measure, "it has more paths than any receipt")?;
        validate::receipt(&receipt).map_err(|why| json::unreadable(shown, &why.to_string()))?;
        Ok(receipt)
    }

    /// Returns the version of the runtime: its artifact's, or upstream's part of its package's.
    pub(crate) fn version_of(&self, runtime: Runtime) -> Option<&str> {
        let artifact = self.artifacts.iter().find(|artifact| artifact.component == runtime.component());
        let packaged = || {
            let nodes = self.paths.iter().map(|(path, owned)| (path, &owned.node));
            let (_, brought) = runtime.facts().binary.packaged_in(nodes)?;
            let package = self.packages.iter().find(|package| package.name == brought)?;
            package_version::upstream(&package.version)
        };
        artifact.map(|artifact| artifact.version.as_str()).or_else(packaged)
    }

    /// Returns the text of `receipt.json`.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        json::to_text(self)
    }
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
        let (artifact, member) = (Some(Digest::of(b"x")), Some("runc.amd64".into()));
        let owned =
            Owned { node, size: Some(1), component: "runc".into(), artifact, member, before: Before::Saved };
        receipt.paths.insert(ImagePath::fixed("/usr/local/sbin/runc"), owned);
        let text = receipt.text().unwrap();
        assert_eq!(Receipt::parse(&text, "receipt.json").unwrap(), receipt);
        assert!(text.contains("\"mode\": \"0755\"") && !text.contains("owner"), "{text}");
        let older = text.replace("\"size\": 1,", "");
        assert!(older != text && Receipt::parse(&older, "receipt.json").is_ok(), "{older}");
    }

    #[test]
    fn a_receipt_of_another_version_is_refused() {
        let text =
            Receipt::new("amd64", Vec::new()).text().unwrap().replace("\"version\": 1", "\"version\": 2");
        assert!(Receipt::parse(&text, "receipt.json").is_err());
    }
}
