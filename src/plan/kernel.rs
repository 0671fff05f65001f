//! The kernel modules and parameters that Kubernetes needs, set at every boot.

use crate::node::Want;
use crate::path::ImagePath;
use crate::spec::Kernel;

/// Modules that are loaded at boot.
pub(crate) const MODULES: &str = "/etc/modules-load.d/nodebake.conf";

/// Parameters that are set at boot.
pub(crate) const SYSCTL: &str = "/etc/sysctl.d/90-nodebake.conf";

/// modules-load.d and sysctl.d.
///
/// Both: the bridge parameters do not exist until br_netfilter is loaded.
pub(crate) fn entries(kernel: &Kernel) -> Vec<(ImagePath, Want)> {
    let mut entries = Vec::new();
    if !kernel.modules.is_empty() {
        let lines: String = kernel.modules.iter().map(|module| format!("{module}\n")).collect();
        let path = ImagePath::fixed(MODULES);
        entries.push((path, Want::text(0o644, format!("# Written by nodebake\n{lines}"))));
    }
    if !kernel.sysctl.is_empty() {
        let lines: String =
            kernel.sysctl.iter().map(|(name, value)| format!("{name} = {}\n", value.0)).collect();
        let path = ImagePath::fixed(SYSCTL);
        entries.push((path, Want::text(0o644, format!("# Written by nodebake\n{lines}"))));
    }
    entries
}

/// The parameters of a sysctl file that was written here: name and value.
pub(crate) fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(" = "))
}
