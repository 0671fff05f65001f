//! Reads back the settings that decide whether a node works, from a config.toml or from a running daemon, so that
//! the two can be compared whatever the configuration's version.
//!
//! This module must not write a configuration: `config` does.

use toml_edit::{Item, Value};

use crate::format::toml;
use crate::printable::printable;
use crate::runtime::CNI_BIN;
use crate::runtime::containerd::{CRI, IMAGES, RUNTIME};

/// Settings of a containerd; none where the source does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Pause image.
    pub sandbox_image: Option<String>,
    /// runc uses systemd's cgroups.
    pub systemd_cgroup: Option<bool>,
    /// Directory of hosts.toml files, or several with `:` between them.
    pub registry_config_path: Option<String>,
    /// Directory of CNI plugins, or several with `:` between them.
    pub cni_bin: Option<String>,
    /// Directory in which the CNI add-on writes its configuration.
    pub cni_conf: Option<String>,
    /// Path of the socket.
    pub address: Option<String>,
    /// Directory of images and containers.
    pub root: Option<String>,
}

impl Settings {
    /// Reads the text of a config.toml; one that is not TOML has no settings.
    pub(crate) fn of_text(text: &str) -> Settings {
        let document = toml::document(text).unwrap_or_default();
        Settings::of_file(document.as_item())
    }

    /// Reads a config.toml of version 2, 3 or 4: each key where the version has it.
    pub(crate) fn of_file(document: &Item) -> Settings {
        let at = |path: &[&str]| -> Option<&Item> {
            let plugins = toml::find(document, &["plugins"])?;
            let in_plugin = |id| toml::find(plugins.get(id)?, path);
            [IMAGES, RUNTIME, CRI].into_iter().find_map(in_plugin)
        };
        let text = |path: &[&str]| at(path).and_then(Item::as_str).map(str::to_owned);
        let dirs = at(&["cni", "bin_dirs"]).and_then(Item::as_array);
        let dirs = dirs.map(|dirs| dirs.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(":"));
        Settings {
            sandbox_image: text(&["pinned_images", "sandbox"]).or_else(|| text(&["sandbox_image"])),
            systemd_cgroup: at(&["containerd", "runtimes", "runc", "options", "SystemdCgroup"])
                .and_then(Item::as_bool),
            registry_config_path: text(&["registry", "config_path"]),
            cni_bin: dirs.or_else(|| text(&["cni", "bin_dir"])),
            cni_conf: text(&["cni", "conf_dir"]),
            address: text_at(document, &["plugins", "io.containerd.server.v1.grpc", "address"])
                .or_else(|| text_at(document, &["grpc", "address"])),
            root: text_at(document, &["root"]),
        }
    }

    /// Reads what the CRI's Status prints of the daemon's configuration. containerd 2.x shows neither the pause image
    /// nor the registry directory (seen in 1.6.20, 1.7.24 and 2.1.9).
    pub(crate) fn of_status(config: &serde_json::Value) -> Settings {
        let at = |pointer: &str| config.pointer(pointer);
        let text = |pointer: &str| at(pointer)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let dirs = at("/cni/binDirs").and_then(serde_json::Value::as_array);
        let dirs = dirs.map(|dirs| dirs.iter().filter_map(|dir| dir.as_str()).collect::<Vec<_>>().join(":"));
        Settings {
            sandbox_image: text("/sandboxImage"),
            systemd_cgroup: at("/containerd/runtimes/runc/options/SystemdCgroup")
                .and_then(serde_json::Value::as_bool),
            registry_config_path: at("/registry/configPath")
                .and_then(|path| path.as_str())
                .map(str::to_owned),
            cni_bin: dirs.or_else(|| text("/cni/binDir")),
            cni_conf: text("/cni/confDir"),
            address: None,
            root: None,
        }
    }

    /// Returns the settings that both have: name, value in `self`, value in `running`.
    pub(crate) fn beside(&self, running: &Settings) -> Vec<(&'static str, String, String)> {
        let (ours, theirs) = (self.named(), running.named());
        let both = ours
            .into_iter()
            .zip(theirs)
            .filter_map(|((name, ours), (_, theirs))| Some((name, ours?, theirs?)));
        both.collect()
    }

    fn named(&self) -> [(&'static str, Option<String>); 5] {
        [
            ("sandbox image", self.sandbox_image.clone()),
            ("SystemdCgroup", self.systemd_cgroup.map(|on| on.to_string())),
            ("registry config_path", self.registry_config_path.clone()),
            ("CNI bin_dir", self.cni_bin.clone()),
            ("CNI conf_dir", self.cni_conf.clone()),
        ]
    }
}

/// Returns the text at `path`; none where it is empty.
fn text_at(document: &Item, path: &[&str]) -> Option<String> {
    toml::find(document, path)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Tells what is wrong with a package's own config.toml for a Kubernetes node, in words that follow its name.
pub(crate) fn flaws(text: &str) -> Vec<String> {
    let document = match toml::document(text) {
        Ok(document) => document,
        Err(why) => return vec![why],
    };
    let disabled = document.get("disabled_plugins").and_then(Item::as_array);
    let is_cri = |value: &Value| value.as_str().is_some_and(|id| id == "cri" || id.contains(".cri"));
    let mut flaws = Vec::new();
    if disabled.is_some_and(|plugins| plugins.iter().any(is_cri)) {
        flaws.push("disables the CRI".to_owned());
    }
    let bin_dir =
        ["plugins", CRI, "cni", "bin_dir"].iter().try_fold(document.as_item(), |item, key| item.get(key));
    if let Some(other) = bin_dir.and_then(Item::as_str).filter(|other| *other != CNI_BIN) {
        flaws.push(format!("looks for CNI plugins in {}", printable(other)));
    }
    flaws
}
