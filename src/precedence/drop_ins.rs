//! Drop-ins of the daemon's service, in systemd's order: what they make of the unit of the bake.
//!
//! This module must not know what a setting means: `service.rs` does.

use crate::error::Failure;
use crate::format::unit::drop_in_directories;
use crate::path::ImagePath;
use crate::precedence::service::Service;
use crate::precedence::{Conflict, Ours, files, units};
use crate::root::Root;

/// Finds the drop-ins that decide over the unit and the drop-in of the bake.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let Some(daemon) = ours.daemon() else { return Ok(Vec::new()) };
    let facts = daemon.runtime.facts();
    let files = files::read(root, ours, &directories(root, ours, facts.service)?, ".conf")?;
    let mut found = files.unread;
    let own = ImagePath::fixed(facts.drop_in);
    let is_planned = ours.has(facts.drop_in);
    let is_hidden = |path: &ImagePath| is_planned && path.name() == own.name() && *path != own;
    found.extend(files.texts.iter().filter(|(path, _)| is_hidden(path)).map(|(path, _)| {
        Conflict::new(path, None, format!("hides {own} by its name"), "remove it or rename it")
    }));
    let unit = ours.text(root, &daemon.unit)?.unwrap_or_default();
    let is_own = |path: &ImagePath| is_planned && *path == own;
    if files.texts.iter().all(|(path, _)| is_own(path)) {
        return Ok(found);
    }
    let (mut wanted, mut all) = (Service::default(), Service::default());
    all.read(&daemon.unit, &unit, true);
    for (path, text) in &files.texts {
        all.read(path, text, is_own(path));
        if is_own(path) {
            wanted.read(path, text, true);
        }
    }
    found.extend(all.conflicts(root, ours, &daemon, &wanted)?);
    Ok(found)
}

/// Returns the directories whose drop-ins belong to `service`, the first of most weight: by the name of the directory,
/// then by where it is.
fn directories(root: &Root, ours: &Ours, service: &str) -> Result<Vec<ImagePath>, Failure> {
    let above = units::directories(root, ours)?;
    let names = drop_in_directories(service);
    names.iter().flat_map(|name| above.iter().map(move |above| above.join(name))).collect()
}
