//! Directories of registries that decide in place of `_default`: containerd takes the first of `host_port_`, `host:port`
//! and `_default` that is there, also an empty one, and merges none (hostPaths in
//! core/remotes/docker/config/config_unix.go).
//!
//! This module must not read what is in them.

use std::collections::BTreeSet;

use crate::error::{Failure, Kind};
use crate::format::toml;
use crate::path::ImagePath;
use crate::precedence::{Conflict, Ours, Weight, if_safe};
use crate::root::Root;
use crate::spec::RegistryName;

/// Directory of the registries that have none.
const DEFAULT: &str = "_default";

/// File of a registry's directory, which says where its images come from.
const FILE: &str = "hosts.toml";

/// Limit of the directories that are told.
const MOST_TOLD: usize = 10;

/// Returns the directories of the root that keep images from the mirrors of `_default`.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let Some(Ok(directory)) = ours.promises().registries.map(ImagePath::new) else { return Ok(Vec::new()) };
    let own: BTreeSet<&str> = ours
        .paths()
        .into_iter()
        .filter_map(|(path, _)| path.as_str().strip_prefix(directory.as_str())?.strip_prefix('/'))
        .filter_map(|path| path.split('/').next())
        .collect();
    if !own.contains(DEFAULT) {
        return Ok(Vec::new());
    }
    let own_file = directory.join(DEFAULT)?.join(FILE)?;
    let text = ours.text(root, &own_file)?.unwrap_or_default();
    // With a `server` of its own the file leaves no registry to upstream.
    let never_upstream = text.lines().any(|line| line.starts_with("server"));
    let is_other = |name: &str| RegistryName::is_directory(name) && !own.contains(name);
    let mut found = Vec::new();
    for name in if_safe(root.names(&directory, is_other))? {
        let path = directory.join(&name)?;
        if found.len() < MOST_TOLD && is_there(root, &path)? && !is_swept(ours, &path)? {
            let registry = registry_of(&name);
            let problem = format!("decides for the images of {registry} in place of `{DEFAULT}`");
            let help = "remove it, or name the registry in the spec";
            let conflict = Conflict::new(&path, None, problem, help);
            let is_wanted = !never_upstream && says_where(root, &path)?;
            found.push(if is_wanted { conflict.weighing(Weight::Told) } else { conflict });
        }
    }
    Ok(found)
}

/// Returns whether there is a directory, or a file, which containerd can't read as one.
fn is_there(root: &Root, path: &ImagePath) -> Result<bool, Failure> {
    Ok(if_safe(root.is_directory(path))? || if_safe(root.file(path).map(|file| file.is_some()))?)
}

/// Returns whether somebody has said where the images of the registry at `path` come from: else it is upstream.
fn says_where(root: &Root, path: &ImagePath) -> Result<bool, Failure> {
    let text = match root.any_text(&path.join(FILE)?, toml::LONGEST) {
        Err(failure) if matches!(failure.kind, Kind::Invalid | Kind::Unsafe) => None,
        text => text?,
    };
    let says = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    Ok(text.is_some_and(|text| text.lines().any(says)))
}

/// Returns whether the bake takes away the file that an earlier one has written there, and so the directory.
fn is_swept(ours: &Ours, path: &ImagePath) -> Result<bool, Failure> {
    Ok(ours.sweeps(&path.join(FILE)?))
}

/// Returns the registry whose directory is called `name`.
fn registry_of(name: &str) -> String {
    match name.strip_suffix('_').and_then(|name| name.rsplit_once('_')) {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{host}:{port}"),
        _ => name.to_owned(),
    }
}
