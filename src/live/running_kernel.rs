//! What the running kernel has of the modules and parameters that `plan/kernel.rs` asks for.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::path::ImagePath;
use crate::process;

const ANSWER: Duration = Duration::from_secs(30);

/// Whether a module is loaded or built in. A module without parameters that is built in is seen
/// only where its kernel's files are.
pub(crate) fn is_loaded(module: &str) -> bool {
    let name = module.replace('-', "_");
    Path::new("/sys/module").join(&name).exists() || is_built_in(&name)
}

fn is_built_in(name: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let Ok(list) = fs::read_to_string(format!("/lib/modules/{}/modules.builtin", release.trim())) else {
        return false;
    };
    // kernel/fs/overlayfs/overlay.ko; a name is spelled with `-` or `_`.
    list.lines()
        .filter_map(|line| line.rsplit('/').next()?.strip_suffix(".ko"))
        .any(|found| found.replace('-', "_") == name)
}

/// Whether systemd finds itself in a container: the kernel and its modules are the host's business.
pub(crate) fn is_in_container() -> bool {
    Path::new("/run/systemd/container").exists()
}

/// Loads modules; one that is there already is no error.
pub(crate) fn load<'a>(modules: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let mut modprobe = Command::new("modprobe");
    modprobe.args(["--all", "--"]).args(modules);
    process::output(&mut modprobe, ANSWER).map(drop)
}

/// The value of a parameter; an error says why there is none.
pub(crate) fn parameter(name: &str) -> Result<String, String> {
    let value = fs::read_to_string(Path::new("/proc/sys").join(relative(name)));
    let value = value.map_err(|error| error.to_string())?;
    Ok(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// sysctl.d(5): dots separate unless a slash comes first; the other of the two stands for itself.
fn relative(name: &str) -> String {
    match name.find(['.', '/']).map(|at| &name[at..=at]) {
        Some(".") => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Sets the parameters of a file of sysctl.d, as systemd does at boot.
pub(crate) fn apply(path: &ImagePath) -> Result<(), String> {
    // Before /usr was merged it was in /lib.
    let programs = ["/usr/lib/systemd/systemd-sysctl", "/lib/systemd/systemd-sysctl"];
    let program = programs.into_iter().find(|program| Path::new(program).is_file());
    let program = program.ok_or("systemd-sysctl is missing")?;
    process::output(Command::new(program).arg(path.as_str()), ANSWER).map(drop)
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn parameters_are_found_as_systemd_finds_them() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(relative(name), path);
        }
    }
}
