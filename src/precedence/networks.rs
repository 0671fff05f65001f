//! Networks of the CNI that nodebake has not configured: with one, a node is Ready before its add-on is installed.
//!
//! This module must not judge them: on a node that has joined a cluster the add-on's file is right.

use crate::error::Failure;
use crate::path::ImagePath;
use crate::precedence::{Conflict, Ours, Weight, if_safe};
use crate::root::Root;
use crate::runtime::CNI_CONF;

/// Suffixes of the names that the CRI reads (go-cni's libcni.ConfFiles).
const SUFFIXES: [&str; 3] = [".conf", ".conflist", ".json"];

/// Limit of the files that are told.
const MOST_TOLD: usize = 10;

/// Tells the networks of the root.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let told = |path: ImagePath| {
        let problem = "configures a pod network that nodebake has not written, and with it the node is Ready"
            .to_owned();
        let help = "remove it, unless a CNI add-on of this node has written it";
        Conflict::new(&path, None, problem, help).weighing(Weight::Told)
    };
    Ok(networks(root, ours)?.into_iter().take(MOST_TOLD).map(told).collect())
}

/// Returns the configurations in the directory that config.toml names, in the order in which the CRI reads them.
pub(crate) fn networks(root: &Root, ours: &Ours) -> Result<Vec<ImagePath>, Failure> {
    let Some(runtime) = ours.runtime() else { return Ok(Vec::new()) };
    let config = ours.text(root, &ImagePath::fixed(runtime.facts().config))?.unwrap_or_default();
    let named = runtime.settings(&config).cni_conf;
    let Ok(directory) = ImagePath::new(named.as_deref().unwrap_or(CNI_CONF)) else { return Ok(Vec::new()) };
    let is_read = |name: &str| SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    let names = if_safe(root.names(&directory, is_read))?;
    let paths = names.iter().filter_map(|name| directory.join(name).ok());
    Ok(paths.filter(|path| !ours.has(path.as_str()) && !ours.sweeps(path)).collect())
}
