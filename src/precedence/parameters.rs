//! Kernel parameters that another file of sysctl.d sets to another value than the bake's.
//!
//! This module must not read the running kernel's parameters: `verify/live.rs` does.

use crate::error::{Failure, Kind};
use crate::format::sysctl::{self, Parameters};
use crate::path::ImagePath;
use crate::plan::kernel;
use crate::precedence::{Conflict, Ours, Weight, files, units};
use crate::printable::printable;
use crate::root::{LONGEST_TEXT, Root};

/// Directories that systemd-sysctl reads, the first of most weight. No directory stands before that of the bake's file,
/// so that no other file of its name can hide it.
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];

/// File that `sysctl --system` reads after all others. systemd does not, but where a link in sysctl.d leads to it.
const OF_PROCPS: &str = "/etc/sysctl.conf";

/// Unit that sets the parameters at boot.
const SERVICE: &str = "systemd-sysctl.service";

/// Remedy for a line of another file.
const REMOVE: &str = "remove the line, or set the parameter in the spec's `kernel.sysctl`";

/// Finds the files that set a parameter of the bake to another value.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let own = ImagePath::fixed(kernel::SYSCTL);
    let Some(text) = ours.has(kernel::SYSCTL).then(|| ours.text(root, &own)).transpose()?.flatten() else {
        return Ok(Vec::new());
    };
    let files = files::read(root, ours, &files::searched(root, &DIRECTORIES)?, ".conf")?;
    let mut parameters = Parameters::default();
    files.texts.iter().enumerate().for_each(|(file, (_, text))| parameters.read(file, text));
    let mut found = files.unread;
    for (name, value) in kernel::parameters(&text) {
        let Some((key, setting)) = parameters.deciding(name) else { continue };
        let Some((path, _)) = files.texts.get(setting.file).filter(|(path, _)| *path != own) else {
            continue;
        };
        if setting.value.as_deref().is_some_and(|other| is_same(other, value)) {
            continue;
        }
        let problem = match &setting.value {
            Some(other) => problem(&sysctl::name(key), other, (name, value)),
            None => format!("takes back `{name}` of {}, so that nothing sets it", kernel::SYSCTL),
        };
        found.push(Conflict::new(path, setting.line, problem, REMOVE));
    }
    if found.is_empty() {
        found.extend(of_procps(root, &text, &files.texts)?);
    }
    found.extend(
        units::masked(root, SERVICE)?.map(|mask| Conflict {
            problem: format!("masks {SERVICE}, which sets kernel parameters"),
            ..mask
        }),
    );
    Ok(found)
}

/// Tells what /etc/sysctl.conf sets to another value, if it is not among the files that systemd reads.
fn of_procps(root: &Root, ours: &str, read: &[(ImagePath, String)]) -> Result<Option<Conflict>, Failure> {
    let path = ImagePath::fixed(OF_PROCPS);
    let text = match root.any_text(&path, LONGEST_TEXT) {
        Err(failure) if failure.kind == Kind::Invalid => None,
        text => text?,
    };
    let Some(text) = text.filter(|text| read.iter().all(|(_, other)| other != text)) else { return Ok(None) };
    let mut parameters = Parameters::default();
    parameters.read(0, &text);
    let differing = kernel::parameters(ours).find_map(|(name, value)| {
        let (key, setting) = parameters.deciding(name)?;
        let other = setting.value.as_deref().filter(|other| !is_same(other, value))?;
        let problem = problem(&sysctl::name(key), other, (name, value));
        Some((
            setting.line,
            format!("{problem} when `sysctl --system` runs; systemd does not read this file"),
        ))
    });
    Ok(differing.map(|(line, problem)| Conflict::new(&path, line, problem, REMOVE).weighing(Weight::Told)))
}

fn problem(key: &str, other: &str, (name, value): (&str, &str)) -> String {
    let (key, other) = (printable(key), printable(other));
    let ours = format!("{} = {}", printable(name), printable(value));
    format!("sets `{key}` to `{other}`, which decides over `{ours}` in {}", kernel::SYSCTL)
}

/// Returns whether two values are one to the kernel, which skips spaces.
fn is_same(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}
