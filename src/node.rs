//! What belongs at a path: the half of a plan that the modules that know containerd, systemd and the
//! kernel speak in. [`Node`] is the other half: what is there.

use crate::digest::Digest;
use crate::receipt::{Node, Octal, Owner};

/// What belongs at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// A directory with this mode.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// What is in it.
        content: Content,
    },
    /// A symlink.
    Link {
        /// As it is written in the link: a path inside the image.
        target: String,
    },
    /// A file that a package brings.
    Present {
        /// The package.
        package: String,
    },
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Text(Vec<u8>),
    /// A member of an artifact.
    Member {
        /// The artifact's digest.
        artifact: Digest,
        /// The member's name.
        name: String,
        /// The member's digest.
        sha256: Digest,
    },
}

impl Want {
    /// A file of text.
    pub fn text(mode: u32, text: impl Into<String>) -> Want {
        Want::File { mode, content: Content::Text(text.into().into_bytes()) }
    }

    /// What will be observed once it is there.
    pub fn node(&self) -> Node {
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

    /// The artifact and the member that it comes from; none for text, links and directories.
    pub fn origin(&self) -> (Option<Digest>, Option<String>) {
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
