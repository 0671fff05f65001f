//! Warnings about a root: what keeps files from getting into its image.
//!
//! This module must not stop a bake.

use std::collections::BTreeSet;

use crate::commit::diff::Diff;
use crate::error::Failure;
use crate::node::Node;
use crate::path::ImagePath;
use crate::root::Root;

/// Returns the mount points of other filesystems above changed paths: files there do not get into an image of the
/// root's own filesystem.
pub(super) fn mounts(root: &Root, diff: &Diff) -> Result<BTreeSet<String>, Failure> {
    let mut mounts = BTreeSet::new();
    for change in diff.changes.iter().filter(|change| change.acts()) {
        mounts.extend(root.mount_on_the_way(&change.path)?.map(|mount| root.shown(&mount)));
    }
    Ok(mounts)
}

/// Warns of links from /usr/local and /opt to /var: on ostree systems an update of the image does not change /var.
pub(super) fn warnings(root: &Root) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    for path in ["/usr/local", "/opt"].map(ImagePath::fixed) {
        if let Some(Node::Link { target }) = root.node(&path)?
            && target.trim_start_matches("../").trim_start_matches('/').starts_with("var/")
        {
            let shown = root.shown(&path);
            warnings.push(format!("{shown} leads to {target}: updates of an ostree image do not touch /var"));
        }
    }
    Ok(warnings)
}
