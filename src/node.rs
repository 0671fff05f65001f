//! Contents of a path: what is in a root ([`Node`]), and what belongs there ([`Want`]).
//!
//! This module must not open anything or know a component.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::printable::printable;

/// Mode of every executable, whatever the archive says.
pub(crate) const EXECUTABLE: u32 = 0o755;

/// Node of a root's filesystem: what is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Node {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: Octal,
        /// User and group.
        #[serde(skip_serializing_if = "Owner::is_root")]
        owner: Owner,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: Octal,
        /// Digest of its content.
        sha256: Digest,
        /// User and group.
        #[serde(skip_serializing_if = "Owner::is_root")]
        owner: Owner,
    },
    /// A symlink.
    Link {
        /// Target as it is written in the link.
        target: String,
    },
    /// A file that a package has installed: its content is left to the package manager.
    Present {
        /// The package.
        package: String,
    },
    /// A regular file that was not read: it has another size than the expected one, or is larger than any file that
    /// nodebake installs. It equals only itself.
    #[serde(skip)]
    Unread {
        /// Size in bytes.
        size: u64,
        /// Device and inode.
        inode: (u64, u64),
    },
    /// A FIFO, a socket or a device, which nodebake never writes.
    #[serde(skip)]
    Other,
}

impl Node {
    /// Returns whether the content is another one, so that replacing it would lose something; a changed
    /// mode or owner alone loses nothing.
    pub(crate) fn differs_in_content(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::File { sha256: a, .. }, Node::File { sha256: b, .. }) => a != b,
            (Node::Directory { .. }, Node::Directory { .. })
            | (Node::File { .. } | Node::Unread { .. }, Node::Present { .. })
            | (Node::Link { .. }, Node::Present { .. }) => false,
            (a, b) => a != b,
        }
    }
}

/// Shape of what nodebake puts at a path: all of it but a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A regular file with one of these modes.
    File(&'static [u32]),
    /// A directory with this mode.
    Directory(u32),
    /// A symlink to one of these targets.
    Link(&'static [&'static str]),
    /// A file that a package has installed.
    Present,
}

impl Shape {
    /// A text, for root alone if it holds a secret.
    pub(crate) const TEXT: Shape = Shape::File(&[0o644, 0o600]);

    /// Returns the field of `node` that does not fit, and why; `None` if the node has this shape.
    pub(crate) fn misfit(self, node: &Node) -> Option<(&'static str, String)> {
        let root = |owner: &Owner| {
            (!owner.is_root()).then(|| ("owner", format!("is {}:{}, and root owns it", owner.0, owner.1)))
        };
        let mode = |found: &Octal, modes: &[u32]| {
            (!modes.contains(&found.0)).then(|| ("mode", format!("can't be {:04o}", found.0)))
        };
        match (self, node) {
            (Shape::File(modes), Node::File { mode: found, owner, .. }) => {
                mode(found, modes).or_else(|| root(owner))
            }
            (Shape::Directory(wanted), Node::Directory { mode: found, owner }) => {
                mode(found, &[wanted]).or_else(|| root(owner))
            }
            (Shape::Link(targets), Node::Link { target }) => (!targets.contains(&target.as_str()))
                .then(|| ("target", format!("can't be `{}`", printable(target)))),
            (Shape::Present, Node::Present { .. }) => None,
            _ => Some(("type", "is another one".to_owned())),
        }
    }
}

/// Wanted node: what belongs at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    /// A directory with this mode.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Content of the file.
        content: Content,
    },
    /// A symlink.
    Link {
        /// Target as it is written in the link: a path inside the image.
        target: String,
    },
    /// A file that a package installs.
    Present {
        /// The package.
        package: String,
    },
}

/// Content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// These bytes.
    Text(Vec<u8>),
    /// A member of an artifact.
    Member {
        /// The artifact's digest.
        artifact: Digest,
        /// The member's name.
        name: String,
        /// The member's size in bytes; none if only an old receipt knows the member.
        size: Option<u64>,
        /// The member's digest.
        sha256: Digest,
    },
}

impl Want {
    /// Makes a file of text.
    pub(crate) fn text(mode: u32, text: impl Into<String>) -> Want {
        Want::File { mode, content: Content::Text(text.into().into_bytes()) }
    }

    /// Returns the node that is at the path once this has been written.
    pub(crate) fn node(&self) -> Node {
        let owner = Owner::default();
        match self {
            Want::Directory { mode } => Node::Directory { mode: Octal(*mode), owner },
            Want::File { mode, content } => {
                Node::File { mode: Octal(*mode), sha256: content.sha256(), owner }
            }
            Want::Link { target } => Node::Link { target: target.clone() },
            Want::Present { package } => Node::Present { package: package.clone() },
        }
    }

    /// Returns the size of a file in bytes; none for everything else.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Want::File { content: Content::Text(bytes), .. } => Some(bytes.len() as u64),
            Want::File { content: Content::Member { size, .. }, .. } => *size,
            _ => None,
        }
    }

    /// Returns the artifact and the member that a file comes from; none for text, links and directories.
    pub(crate) fn origin(&self) -> (Option<Digest>, Option<String>) {
        match self {
            Want::File { content: Content::Member { artifact, name, .. }, .. } => {
                (Some(*artifact), Some(name.clone()))
            }
            _ => (None, None),
        }
    }
}

impl Content {
    fn sha256(&self) -> Digest {
        match self {
            Content::Text(bytes) => Digest::of(bytes),
            Content::Member { sha256, .. } => *sha256,
        }
    }
}

/// User and group of a node; root's by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner(pub u32, pub u32);

impl Owner {
    fn is_root(&self) -> bool {
        *self == Owner(0, 0)
    }
}

/// Permission bits, written in JSON as `"0755"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Octal(pub u32);

impl From<Octal> for String {
    fn from(mode: Octal) -> String {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for Octal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mode = u32::from_str_radix(&text, 8).map(Octal).ok();
        // Digits alone, and as many as nodebake writes.
        let mode = mode.filter(|mode| mode.0 <= 0o7777 && String::from(*mode) == text);
        mode.ok_or_else(|| format!("mode `{}` is not four octal digits", printable(&text)))
    }
}
