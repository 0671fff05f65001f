//! The configuration of crictl and other clients of the CRI on the node.
//!
//! This module must not know a runtime beyond the address of its socket.

use crate::node::Want;
use crate::path::ImagePath;

/// File of the clients' configuration.
pub(crate) const CLIENTS: &str = "/etc/crictl.yaml";

/// Returns /etc/crictl.yaml.
pub(crate) fn client_entries(socket: &str) -> Vec<(ImagePath, Want)> {
    let crictl = indoc::formatdoc! {"
        # Written by nodebake
        runtime-endpoint: {socket}
        image-endpoint: {socket}
        timeout: 10
    "};
    vec![(ImagePath::fixed(CLIENTS), Want::text(0o644, crictl))]
}
