//! Warnings about a root: what keeps the service from starting, or files from getting into the image.
//!
//! This module must not stop a bake.

use std::collections::BTreeSet;

use crate::commit::diff::Diff;
use crate::error::Failure;
use crate::node::Node;
use crate::path::ImagePath;
use crate::plan::Plan;
use crate::root::Root;
use crate::runtime::Daemon;

/// Warns of what keeps the service from starting, or files from getting into an image of the root.
pub(super) fn warnings(root: &Root, plan: &Plan) -> Result<Vec<String>, Failure> {
    let mut warnings = outside_of_the_image(root)?;
    warnings.extend(masked(root, plan)?);
    Ok(warnings)
}

/// Returns the mount points of other filesystems above changed paths: files there do not get into an image of the
/// root's own filesystem.
pub(super) fn mounts(root: &Root, diff: &Diff) -> Result<BTreeSet<String>, Failure> {
    let mut mounts = BTreeSet::new();
    for change in diff.changes.iter().filter(|change| change.acts()) {
        mounts.extend(root.mount_on_the_way(&change.path)?.map(|mount| root.shown(&mount)));
    }
    Ok(mounts)
}

/// Warns of a unit in /etc, which wins over the installed one.
fn masked(root: &Root, plan: &Plan) -> Result<Option<String>, Failure> {
    let Some(daemon) = Daemon::of(&plan.entries) else { return Ok(None) };
    let path = ImagePath::fixed(daemon.runtime.facts().override_unit);
    Ok(root.node(&path)?.map(|node| match node {
        Node::Link { target } if target == "/dev/null" => format!(
            "{} is masked in root `{}` and will not start: remove {path} there",
            daemon.runtime.facts().service,
            root.host().display()
        ),
        _ => format!("{} hides the unit that is installed", root.shown(&path)),
    }))
}

/// Warns of links from /usr/local and /opt to /var: on ostree systems an update of the image does not change /var.
fn outside_of_the_image(root: &Root) -> Result<Vec<String>, Failure> {
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
