//! The files that load the kernel modules and set the parameters that Kubernetes needs, at every boot.
//!
//! This module must not touch the running kernel: `live/running_kernel.rs` does.

use crate::node::Want;
use crate::path::ImagePath;
use crate::spec::Kernel;

/// File of the modules that are loaded at boot.
pub(crate) const MODULES: &str = "/etc/modules-load.d/nodebake.conf";

/// File of the parameters that are set at boot.
pub(crate) const SYSCTL: &str = "/etc/sysctl.d/90-nodebake.conf";

/// Returns the files for modules-load.d and sysctl.d. Both are needed: the bridge parameters do not exist until
/// br_netfilter is loaded.
pub(crate) fn entries(kernel: &Kernel) -> Vec<(ImagePath, Want)> {
    let mut entries = Vec::new();
    if !kernel.modules.names.is_empty() {
        let lines: String = kernel.modules.names.iter().map(|module| format!("{module}\n")).collect();
        let path = ImagePath::fixed(MODULES);
        entries.push((path, Want::text(0o644, format!("# Written by nodebake\n{lines}"))));
    }
    if !kernel.sysctl.values.is_empty() {
        let lines: String =
            kernel.sysctl.values.iter().map(|(name, value)| format!("{name} = {}\n", value.0)).collect();
        let path = ImagePath::fixed(SYSCTL);
        entries.push((path, Want::text(0o644, format!("# Written by nodebake\n{lines}"))));
    }
    entries
}

/// Parses the names and values of a sysctl file that [`entries`] has made.
pub(crate) fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(" = "))
}
