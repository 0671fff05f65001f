//! Virtual machines: the root's own kernel, the disk's own boot loader.

use std::path::Path;

use super::guest::{Layer, Report, run_in_guest};
use super::lab::repository;

impl Layer {
    /// QEMU without hardware virtualisation: about a minute; the root's own kernel.
    pub const MACHINE: Layer = Layer { program: "qemu", network: "--net", registry: "http://10.0.2.2:15080" };
}

/// Boots a whole disk by its own boot loader and runs `script` in it. `options` go to tests/lab/disk.
pub fn boot_disk(disk: &Path, folder: &Path, options: &[&str], script: &str) -> Report {
    let program = repository().join("tests/lab/disk");
    let mut words = vec![program.to_str().unwrap()];
    words.extend(options);
    run_in_guest(&words, disk, folder, script).remove(0)
}
