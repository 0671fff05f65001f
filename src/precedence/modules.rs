//! Kernel modules of the bake that modprobe.d keeps from being loaded.
//!
//! This module must not look for the modules themselves: `kernels.rs` does.

use crate::error::Failure;
use crate::format::modprobe::{Command, Verb, canonical, commands};
use crate::path::ImagePath;
use crate::plan::kernel;
use crate::precedence::{Conflict, Ours, files, units};
use crate::printable::printable;
use crate::root::Root;

/// Directories that kmod reads, the first of most weight.
const DIRECTORIES: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// Unit that loads the modules at boot.
const SERVICE: &str = "systemd-modules-load.service";

/// Limit of the modules that are judged; a node needs a handful.
const MOST_MODULES: usize = 64;

/// Finds the files that keep a module of the bake from being loaded.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let wanted = wanted(root, ours)?;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let files = files::read(root, ours, &files::searched(root, &DIRECTORIES)?, ".conf")?;
    let commands: Vec<(&ImagePath, Command)> = files
        .texts
        .iter()
        .flat_map(|(path, text)| commands(text).map(move |command| (path, command)))
        .collect();
    let mut found = files.unread;
    for module in &wanted {
        // systemd-modules-load obeys a blacklist, and libkmod runs the first command only.
        for verb in [Verb::Alias, Verb::Blacklist, Verb::Install] {
            let mut about = commands.iter().filter(|(_, c)| c.verb == verb && c.is_about(module));
            let first = about.next().filter(|(_, command)| !command.loads(module));
            found.extend(first.map(|(path, command)| {
                let help = format!("remove the line, or take `{module}` out of the spec's `kernel.modules`");
                Conflict::new(path, command.line, problem(command, module), &help)
            }));
        }
    }
    found.extend(
        units::masked(root, SERVICE)?
            .map(|mask| Conflict { problem: format!("masks {SERVICE}, which loads kernel modules"), ..mask }),
    );
    Ok(found)
}

/// Returns the modules that the bake has loaded at boot, by their canonical names. Its file in modules-load.d can't be
/// hidden: no directory stands before /etc.
pub(super) fn wanted(root: &Root, ours: &Ours) -> Result<Vec<String>, Failure> {
    if !ours.has(kernel::MODULES) {
        return Ok(Vec::new());
    }
    let text = ours.text(root, &ImagePath::fixed(kernel::MODULES))?.unwrap_or_default();
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    Ok(names.map(canonical).take(MOST_MODULES).collect())
}

fn problem(command: &Command, module: &str) -> String {
    let rest = printable(&command.rest);
    match command.verb {
        Verb::Alias => format!("makes `{module}` a name of module `{rest}`, so that it is not loaded"),
        Verb::Blacklist => format!("blacklists module `{module}`, so that it is not loaded at boot"),
        Verb::Install => format!("runs `{rest}` in place of loading module `{module}`"),
    }
}
