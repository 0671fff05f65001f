//! What nodebake knows of containerd: which configuration each release reads, and with which keys.
//!
//! containerd ignores a key in the wrong table without a word, so the keys are chosen by release
//! and the result is parsed back. Text in, text out; nothing is read or run here.
//!
//! Sources: containerd's docs/cri/config.md and RELEASES.md, and `config default` of 1.6.20, 1.7.24
//! and 2.1.9, which the tests ask again.

pub(crate) mod config;
pub(crate) mod hosts;
pub(crate) mod lookup;
mod release;
pub(crate) mod settings;
pub(crate) mod unit;

use std::collections::BTreeMap;

use crate::node::{Node, Want};
use crate::path::ImagePath;

pub(crate) use config::{ConfigInputs, config};
pub(crate) use release::Release;

/// Its configuration.
pub(crate) const CONFIG: &str = "/etc/containerd/config.toml";

/// The daemon.
pub(crate) const BINARY: &str = "/usr/local/bin/containerd";

/// The daemon where a package has brought it.
pub(crate) const PACKAGED: [&str; 2] = ["/usr/bin/containerd", "/bin/containerd"];

pub(crate) const CNI_BIN: &str = "/opt/cni/bin";

pub(crate) const CNI_CONF: &str = "/etc/cni/net.d";

pub(crate) const DROP_INS: &str = "/etc/containerd/conf.d/*.toml";

/// Where it answers, in gRPC's spelling.
pub(crate) const SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// The CRI plugin of configuration version 2.
pub(crate) const CRI: &str = "io.containerd.grpc.v1.cri";

/// Its two halves of version 3: images,
pub(crate) const IMAGES: &str = "io.containerd.cri.v1.images";

/// and containers.
pub(crate) const RUNTIME: &str = "io.containerd.cri.v1.runtime";

/// config.toml and the directories that containerd expects.
pub(crate) fn entries(config: String) -> Vec<(ImagePath, Want)> {
    vec![
        (ImagePath::fixed(CONFIG), Want::text(0o644, config)),
        // Empty: the CNI add-on writes it, and the kubelet waits for that.
        (ImagePath::fixed("/etc/cni/net.d"), Want::Directory { mode: 0o755 }),
        // CVE-2024-25621: containers' files were readable by every user of the node.
        (ImagePath::fixed("/var/lib/containerd"), Want::Directory { mode: 0o700 }),
    ]
}

/// The daemon among `paths`: one node has one.
pub(crate) fn binary<T>(paths: &BTreeMap<ImagePath, T>) -> Option<ImagePath> {
    let known = std::iter::once(BINARY).chain(PACKAGED).map(ImagePath::fixed);
    known.into_iter().find(|path| paths.contains_key(path))
}

/// The daemon among `nodes` that a package brought, and the package's name.
pub(crate) fn packaged<'a>(
    nodes: impl Iterator<Item = (&'a ImagePath, &'a Node)>,
) -> Option<(&'a ImagePath, &'a str)> {
    let mut brought = nodes.filter_map(|(path, node)| match node {
        Node::Present { package } => Some((path, package.as_str())),
        _ => None,
    });
    brought.find(|(path, _)| PACKAGED.contains(&path.as_str()))
}
