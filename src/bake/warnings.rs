//! What the user should know of a root before its image is used; nothing here stops a bake.

use std::collections::BTreeSet;

use crate::commit::diff::Diff;
use crate::error::Failure;
use crate::node::Node;
use crate::path::ImagePath;
use crate::plan::Plan;
use crate::root::Root;
use crate::runtime::containerd::unit;

/// What stands in the way of the service, or of the image that is made of the root.
pub(super) fn warnings(root: &Root, plan: &Plan) -> Result<Vec<String>, Failure> {
    let mut warnings = outside_of_the_image(root)?;
    warnings.extend(masked(root, plan)?);
    Ok(warnings)
}

/// Where other filesystems are mounted on the way to what changes: files there do not become part
/// of an image that is made of this one.
pub(super) fn mounts(root: &Root, diff: &Diff) -> Result<BTreeSet<String>, Failure> {
    let mut mounts = BTreeSet::new();
    for change in diff.changes.iter().filter(|change| change.acts()) {
        mounts.extend(root.mount_on_the_way(&change.path)?.map(|mount| root.shown(&mount)));
    }
    Ok(mounts)
}

/// A unit in /etc stands before ours.
fn masked(root: &Root, plan: &Plan) -> Result<Option<String>, Failure> {
    let path = ImagePath::fixed(unit::OVERRIDE);
    if unit::unit_of(&plan.entries).is_none() {
        return Ok(None);
    }
    Ok(root.node(&path)?.map(|node| match node {
        Node::Link { target } if target == "/dev/null" => format!(
            "containerd.service is masked in root `{}` and will not start: remove {path} there",
            root.host().display()
        ),
        _ => format!("{} hides the unit that is installed", root.shown(&path)),
    }))
}

/// On ostree systems /usr/local and /opt lead to /var, which an image's update leaves alone.
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
