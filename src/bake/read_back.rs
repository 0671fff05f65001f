//! Reads the files of a plan back as the runtime will: which keys it does not read, and which URLs it asks.
//!
//! This module must not ask one of them, and must not stop a bake.

use crate::node::{Content, Want};
use crate::path::ImagePath;
use crate::plan::Plan;
use crate::printable::printable;
use crate::progress::Progress;
use crate::spec::Spec;

/// Returns a warning for each key of the spec, and of the configuration, that the planned runtime does not read.
pub(super) fn warnings(spec: &Spec, plan: &Plan) -> Vec<String> {
    let runtime = spec.runtime().unwrap_or_default();
    let Some(version) = plan.runtime_version.as_deref() else { return Vec::new() };
    let mut warnings = runtime.without_effect(spec, version);
    if spec.containerd.config.merge.is_empty() {
        return warnings;
    }
    let config = text(plan, &ImagePath::fixed(runtime.facts().config)).unwrap_or_default();
    let unread = runtime.unread_keys(version, &config).unwrap_or_default();
    warnings.extend(unread.iter().map(|key| {
        let name = runtime.facts().name;
        format!(
            "`{}` in `containerd.config.merge` has no effect: {name} {version} has no such key",
            printable(key)
        )
    }));
    warnings
}

/// Tells with `--verbose` which URLs the images of each registry of the spec are asked under.
pub(super) fn show_requests(spec: &Spec, plan: &Plan, progress: &Progress) {
    let runtime = spec.runtime().unwrap_or_default();
    let Ok(directory) = spec.containerd.config.registry_config_path.path() else { return };
    for name in spec.registries.keys() {
        let path =
            directory.join(&name.directory()).and_then(|path| path.join(runtime.facts().registry_file));
        let Some(text) = path.ok().and_then(|path| text(plan, &path)) else { continue };
        let requests: Vec<String> =
            runtime.apis(name, &text).iter().map(|api| format!("{api}/REPOSITORY")).collect();
        progress.detail(&format!("images of {name} are asked under {}", requests.join(", then ")));
    }
}

/// Returns the text that is planned for `path`.
fn text(plan: &Plan, path: &ImagePath) -> Option<String> {
    match &plan.entries.get(path)?.want {
        Want::File { content: Content::Text(text), .. } => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}
