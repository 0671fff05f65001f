//! Units that hide the one of the bake, by systemd's order of directories.
//!
//! This module must not judge what is in a unit: `service.rs` does.

use std::os::unix::fs::MetadataExt;

use crate::error::Failure;
use crate::format::systemd::is_same_unit;
use crate::node::Node;
use crate::path::ImagePath;
use crate::precedence::{Conflict, Ours, drop_ins, files, if_safe};
use crate::root::Root;
use crate::runtime::Daemon;

/// Directories of units, the first of most weight (systemd.unit(5), systemd's src/libsystemd/sd-path/path-lookup.c).
const DIRECTORIES: [&str; 13] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// Directories above those of units.
const ABOVE: [&str; 5] =
    ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd"];

/// Directories in which systemd's own units are masked.
const OF_MASKS: [&str; 4] = [
    "/etc/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
];

/// Finds the unit that hides the daemon's, and the drop-ins that change it.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let mut found: Vec<Conflict> = hiding(root, ours)?.into_iter().collect();
    found.extend(drop_ins::conflicts(root, ours)?);
    Ok(found)
}

/// Finds the unit or the mask that hides the daemon's unit.
pub(crate) fn hiding(root: &Root, ours: &Ours) -> Result<Option<Conflict>, Failure> {
    let Some(Daemon { runtime, unit, .. }) = ours.daemon() else { return Ok(None) };
    let service = runtime.facts().service;
    for directory in directories(root, ours)? {
        let path = directory.join(service)?;
        if is_same_unit(path.as_str(), unit.as_str()) {
            break;
        }
        if ours.sweeps(&path) || !if_safe(root.has(&path))? || leads_to(root, &path, &unit)? {
            continue;
        }
        return Ok(Some(match is_mask(root, &path)? {
            true => {
                let problem =
                    format!("masks the unit that is installed: {service} is masked and will not start");
                let help = format!("remove it, for example with systemctl --root=DIR unmask {service}");
                Conflict::new(&path, None, problem, &help)
            }
            false => {
                let problem = format!("hides the unit that is installed, {unit}");
                Conflict::new(&path, None, problem, "remove it; settings of your own go to a drop-in")
            }
        }));
    }
    Ok(None)
}

/// Returns the directories of units that there are once the bake is done, the first of most weight.
pub(super) fn directories(root: &Root, ours: &Ours) -> Result<Vec<ImagePath>, Failure> {
    let own = ours.paths();
    let mut found = Vec::new();
    for above in ABOVE.map(ImagePath::fixed) {
        let names = if_safe(root.names(&above, |name| !name.starts_with('.')))?;
        found.extend(names.iter().filter_map(|name| above.join(name).ok()));
    }
    let exists = |path: &&'static str| {
        let path = ImagePath::fixed(path);
        found.contains(&path) || own.iter().any(|(own, _)| own.is_below(&path))
    };
    let directories: Vec<&str> = DIRECTORIES.into_iter().filter(exists).collect();
    files::searched(root, &directories)
}

/// Finds the mask of a unit that belongs to systemd itself.
pub(super) fn masked(root: &Root, unit: &str) -> Result<Option<Conflict>, Failure> {
    for directory in files::searched(root, &OF_MASKS)? {
        let path = directory.join(unit)?;
        if if_safe(root.has(&path))? {
            let help = format!("remove it, for example with systemctl --root=DIR unmask {unit}");
            return Ok(is_mask(root, &path)?.then(|| Conflict::new(&path, None, String::new(), &help)));
        }
    }
    Ok(None)
}

/// Returns whether systemd takes what is at `path` for a mask: a link to /dev/null or an empty file.
pub(super) fn is_mask(root: &Root, path: &ImagePath) -> Result<bool, Failure> {
    Ok(match root.node(path)? {
        Some(Node::Link { target }) => {
            matches!(target.trim_start_matches("../"), "/dev/null" | "dev/null")
        }
        Some(Node::File { .. }) => root.any_text(path, 0).is_ok_and(|text| text.is_some()),
        _ => false,
    })
}

/// Returns whether the link at `path` leads to `unit`.
fn leads_to(root: &Root, path: &ImagePath, unit: &ImagePath) -> Result<bool, Failure> {
    let Some(Node::Link { target }) = root.node(path)? else { return Ok(false) };
    if is_same_unit(&target, unit.as_str()) {
        return Ok(true);
    }
    same_file(root, path, unit)
}

/// Returns whether two paths lead to one regular file.
pub(super) fn same_file(root: &Root, a: &ImagePath, b: &ImagePath) -> Result<bool, Failure> {
    let identity = |path: &ImagePath| -> Result<Option<(u64, u64)>, Failure> {
        let metadata = root.file(path)?.and_then(|file| file.metadata().ok());
        Ok(metadata.map(|metadata| (metadata.dev(), metadata.ino())))
    };
    let (a, b) = (identity(a)?, identity(b)?);
    Ok(a.is_some() && a == b)
}
