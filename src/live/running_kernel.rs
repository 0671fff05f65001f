//! Reads and sets modules and parameters of the running kernel.
//!
//! This module must not know which ones are needed: `plan/kernel.rs` does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::format::sysctl;
use crate::path::ImagePath;
use crate::process;

/// Time limit for modprobe and systemd-sysctl.
const LIMIT: Duration = Duration::from_secs(30);

/// Returns whether a module is loaded or built in. A built-in module without parameters is only found if
/// the files of the running kernel are installed.
pub(crate) fn is_loaded(module: &str) -> bool {
    let name = module.replace('-', "_");
    Path::new("/sys/module").join(&name).exists() || is_built_in(&name)
}

/// Returns whether modules.builtin of the running kernel names the module.
fn is_built_in(name: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let Ok(list) = fs::read_to_string(format!("/lib/modules/{}/modules.builtin", release.trim())) else {
        return false;
    };
    // A line is for example kernel/fs/overlayfs/overlay.ko; names are spelled with `-` or `_`.
    list.lines()
        .filter_map(|line| line.rsplit('/').next()?.strip_suffix(".ko"))
        .any(|found| found.replace('-', "_") == name)
}

/// Returns whether systemd runs in a container, where kernel and modules are those of the host.
pub(crate) fn is_in_container() -> bool {
    Path::new("/run/systemd/container").exists()
}

/// Loads modules; no error for one that is already loaded.
pub(crate) fn load<'a>(modules: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let mut modprobe = Command::new("modprobe");
    modprobe.args(["--all", "--"]).args(modules);
    process::output(&mut modprobe, LIMIT).map(drop)
}

/// Reads the value of a parameter. The error says why it can't be read.
pub(crate) fn parameter(name: &str) -> Result<String, String> {
    let value = fs::read_to_string(Path::new("/proc/sys").join(sysctl::path(name)));
    let value = value.map_err(|error| error.to_string())?;
    Ok(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Sets the parameters of a sysctl.d file, as systemd does at boot.
pub(crate) fn apply(path: &ImagePath) -> Result<(), String> {
    // On systems without merged /usr it is in /lib.
    let programs = ["/usr/lib/systemd/systemd-sysctl", "/lib/systemd/systemd-sysctl"];
    let program = programs.into_iter().find(|program| Path::new(program).is_file());
    let program = program.ok_or("systemd-sysctl is missing")?;
    process::output(Command::new(program).arg(path.as_str()), LIMIT).map(drop)
}
