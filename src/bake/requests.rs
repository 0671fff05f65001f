//! Tells with `--verbose` which URLs the images of each registry of the spec are asked under.
//!
//! This module must not ask one of them.

use crate::node::{Content, Want};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::spec::Spec;

/// Writes a line for each registry of the spec.
pub(super) fn show(spec: &Spec, plan: &Plan, progress: &Progress) {
    let runtime = spec.runtime().unwrap_or_default();
    let Ok(directory) = spec.containerd.config.registry_config_path.path() else { return };
    for name in spec.registries.keys() {
        let path =
            directory.join(&name.directory()).and_then(|path| path.join(runtime.facts().registry_file));
        let want = path.ok().and_then(|path| plan.entries.get(&path)).map(|entry| &entry.want);
        let Some(Want::File { content: Content::Text(text), .. }) = want else { continue };
        let apis = runtime.apis(name, &String::from_utf8_lossy(text));
        let requests: Vec<String> = apis.iter().map(|api| format!("{api}/REPOSITORY")).collect();
        progress.detail(&format!("images of {name} are asked under {}", requests.join(", then ")));
    }
}
