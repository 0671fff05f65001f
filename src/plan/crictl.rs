//! What clients of the CRI on the node read.

use crate::node::Want;
use crate::path::ImagePath;
use crate::runtime::containerd::SOCKET;

/// What clients of the CRI on the node read.
pub(crate) fn client_entries() -> Vec<(ImagePath, Want)> {
    let crictl = indoc::formatdoc! {"
        # Written by nodebake
        runtime-endpoint: {SOCKET}
        image-endpoint: {SOCKET}
        timeout: 10
    "};
    vec![(ImagePath::fixed("/etc/crictl.yaml"), Want::text(0o644, crictl))]
}
