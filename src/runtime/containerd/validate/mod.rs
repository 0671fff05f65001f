//! Answers with which keys of a config.toml containerd starts without its CRI, does not start, or gives its sockets away.
//!
//! This module must not run a containerd or judge a key that it merely ignores: `keys` names those.
//!
//! Sources: `ValidatePluginConfig` in pkg/cri/config/config.go of 1.6.39 and 1.7.34; `ValidateImageConfig`,
//! `ValidateRuntimeConfig` and `ValidateServerConfig` in internal/cri/config/config.go of 2.0.11 to 2.3.4; `ValidateV2` in
//! services/server/config/config.go.

mod files;
mod runtimes;
mod streaming;
mod types;
mod values;

use toml_edit::{DocumentMut, Item, Value};

use crate::arch::Arch;
use crate::catalog;
use crate::format::{go_duration, image_name, toml};
use crate::printable::printable;
use crate::runtime::containerd::validate::streaming::streaming_problems;
use crate::runtime::containerd::validate::types::{unread_table, wrong_types};
use crate::runtime::containerd::{CRI, IMAGES, RUNTIME, Release};

pub(crate) use files::named_files;

/// Tables of the sockets of versions 2 and 3, and the plugins of version 4.
pub(crate) const SOCKETS: [&[&str]; 6] = [
    &["grpc"],
    &["ttrpc"],
    &["debug"],
    &["plugins", "io.containerd.server.v1.grpc"],
    &["plugins", "io.containerd.server.v1.ttrpc"],
    &["plugins", "io.containerd.server.v1.debug"],
];

/// Begin of the id of a plugin that is a snapshotter.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.";

/// Something in a config.toml with which a node does not work, or is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What is wrong, beginning with the key.
    pub why: String,
    /// How to mend it.
    pub help: String,
}

/// Returns the problems that containerd `version` has with a config.toml.
pub(crate) fn problems(document: &DocumentMut, version: &str) -> Vec<Problem> {
    let Ok(release) = Release::parse(version) else { return Vec::new() };
    let file = ConfigFile { document, version, release };
    let mut problems = file.sockets();
    problems.extend(file.plugins());
    problems.extend(file.registries());
    problems.extend(file.cni());
    problems.extend(file.runtimes());
    problems.extend(file.snapshotter());
    problems.extend(file.sandbox());
    problems.extend(file.durations());
    problems.extend(wrong_types(document, version, release));
    problems.extend(file.values());
    problems.extend(unread_table(document, release));
    problems.extend(streaming_problems(document));
    problems
}

/// Returns whether an item is as good as absent: `containerd config default` prints every key.
fn is_empty(item: &Item) -> bool {
    let table = item.as_table_like().is_some_and(|table| table.is_empty());
    let array = item.as_array().is_some_and(toml_edit::Array::is_empty);
    table || array || item.as_str().is_some_and(str::is_empty)
}

pub(super) fn problem(why: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem { why: why.into(), help: help.into() }
}

/// A config.toml and the release that reads it.
struct ConfigFile<'a> {
    document: &'a DocumentMut,
    version: &'a str,
    release: Release,
}

impl ConfigFile<'_> {
    /// Returns what is at `path`.
    fn at(&self, path: &[&str]) -> Option<&Item> {
        toml::find(self.document.as_item(), path)
    }

    /// Returns what the CRI has at `path`: in the table of `id`, or in the one table of 1.x, which 2.x takes over too.
    fn in_cri(&self, id: &str, path: &[&str]) -> Option<&Item> {
        let below = |id: &str| self.at(&[&["plugins", id], path].concat());
        if self.release.is_2() { below(id).or_else(|| below(CRI)) } else { below(CRI) }
    }

    /// Finds owners of sockets other than root: whoever may use a socket of containerd is root on the node. 2.3 and
    /// later print the owner of the process that asks for the default configuration.
    fn sockets(&self) -> Vec<Problem> {
        let keys = SOCKETS.iter().flat_map(|table| ["uid", "gid"].map(|key| (*table, key)));
        let given_away = keys.filter_map(|(table, key)| {
            let owner = self.at(&[table, &[key]].concat()).filter(|owner| owner.as_integer() != Some(0))?;
            let why = format!(
                "`{}.{key}` is {}: whoever may use that socket is root on the node",
                table.last()?,
                printable(owner.to_string().trim())
            );
            Some(problem(why, "leave it out, or set it to 0"))
        });
        given_away.collect()
    }

    /// Finds plugins that are switched off or named as only version 1 has it.
    fn plugins(&self) -> Vec<Problem> {
        let ids = |key: &str| {
            self.at(&[key]).and_then(Item::as_array).into_iter().flatten().filter_map(Value::as_str)
        };
        let is_cri = |id: &&str| [CRI, IMAGES, RUNTIME, "cri"].contains(id);
        let disabled = ids("disabled_plugins").find(is_cri).map(|id| {
            let why =
                format!("`disabled_plugins` has `{id}`, without which Kubernetes can't use this containerd");
            problem(why, "leave it out")
        });
        let is_old =
            self.document.get("version").and_then(Item::as_integer).is_none_or(|version| version < 2);
        let named = |key: &'static str| {
            ids(key).find(|id| !is_old && !id.contains('.')).map(|id| {
                let why = format!(
                    "`{key}` has `{}`: containerd does not start with a name of version 1",
                    printable(id)
                );
                problem(why, "write the plugin's whole id, such as io.containerd.grpc.v1.cri")
            })
        };
        let named = ["disabled_plugins", "required_plugins"].into_iter().find_map(named);
        disabled.or(named).into_iter().collect()
    }

    /// Finds keys of registries that do not go together, or with which no hosts.toml is read.
    fn registries(&self) -> Vec<Problem> {
        let Some(path) = self.in_cri(IMAGES, &["registry", "config_path"]).and_then(Item::as_str) else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        let set = |key: &str| self.in_cri(IMAGES, &["registry", key]).filter(|item| !is_empty(item));
        let tables = |item: &Item| -> bool {
            item.as_table_like().is_some_and(|table| table.iter().any(|(_, item)| item.get("tls").is_some()))
        };
        let beside = match () {
            () if path.is_empty() => None,
            () if set("mirrors").is_some() => Some("registry.mirrors"),
            () if !self.release.is_2() && set("configs").is_some_and(tables) => {
                Some("registry.configs.*.tls")
            }
            () => None,
        };
        problems.extend(beside.map(|key| {
            let why = format!("`{key}` does not go with `registry.config_path`, and the CRI is not loaded");
            problem(why, "use the spec's `registries`, which nodebake writes below config_path")
        }));
        if self.release.is_2_1() && path.contains(':') {
            let why = format!("config_path `{}` is more than one directory", printable(path));
            problems.push(problem(
                why,
                "containerd 2.1 and later then find no hosts.toml at all (containerd#12808)",
            ));
        }
        problems
    }

    /// Finds two keys for the directories of CNI plugins. Upstream's 2.1 and later bear `bin_dir` beside its own default;
    /// distributions have another default.
    fn cni(&self) -> Vec<Problem> {
        let is_set = |key: &str| self.in_cri(RUNTIME, &["cni", key]).is_some_and(|item| !is_empty(item));
        match is_set("bin_dir") && is_set("bin_dirs") && self.release.is_2_1() {
            true => vec![problem(
                "`cni.bin_dir` does not go with `cni.bin_dirs`, and the CRI is not loaded",
                "set `bin_dirs`",
            )],
            false => Vec::new(),
        }
    }

    /// Finds a pause image that no runtime can pull.
    fn sandbox(&self) -> Option<Problem> {
        let image = self
            .in_cri(IMAGES, &["pinned_images", "sandbox"])
            .or_else(|| self.in_cri(IMAGES, &["sandbox_image"]))
            .and_then(Item::as_str)?;
        let why = image_name::parse(image).err()?;
        let why = format!("the sandbox image is `{}`, with which no pod starts: {why}", printable(image));
        Some(problem(
            why,
            "set `containerd.config.sandbox_image` of the spec, such as registry.k8s.io/pause:3.10",
        ))
    }

    /// Finds a snapshotter that is neither built in nor added in the file.
    fn snapshotter(&self) -> Option<Problem> {
        let named = self
            .in_cri(IMAGES, &["snapshotter"])
            .or_else(|| self.in_cri(IMAGES, &["containerd", "snapshotter"]))
            .and_then(Item::as_str)
            .filter(|name| !name.is_empty())?;
        let default = catalog::default_config("containerd", self.version, Arch::Amd64)?;
        let built_in = default.get("plugins")?.get(format!("{SNAPSHOTTER}{named}")).is_some();
        let is_added = self.at(&["proxy_plugins", named]).is_some();
        (!built_in && !is_added).then(|| {
            let why = format!(
                "`snapshotter` is `{}`, which this containerd does not have: the CRI is not loaded",
                printable(named)
            );
            problem(why, format!("add it as [proxy_plugins.{}], or name another", printable(named)))
        })
    }

    /// Finds durations that Go does not parse.
    fn durations(&self) -> Vec<Problem> {
        let keys = [
            (IMAGES, "image_pull_progress_timeout"),
            (RUNTIME, "drain_exec_sync_io_timeout"),
            (CRI, "stream_idle_timeout"),
        ];
        let wrong = keys.into_iter().filter_map(|(id, key)| {
            let text = self.in_cri(id, &[key]).and_then(Item::as_str).filter(|text| !text.is_empty())?;
            let why =
                format!("`{key}` is `{}`, which is no duration: the CRI is not loaded", printable(text));
            go_duration::parse(text).is_none().then(|| problem(why, "write for example 5m0s"))
        });
        wrong.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::problems;

    fn found(version: &str, text: &str) -> Vec<String> {
        let document = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        problems(&document, version).into_iter().map(|problem| problem.why).collect()
    }

    #[test]
    fn what_keeps_the_cri_from_loading_is_found() {
        let images = "io.containerd.cri.v1.images";
        let runtime = "io.containerd.cri.v1.runtime";
        let cri = "io.containerd.grpc.v1.cri";
        for (version, table, keys, word) in [
            (
                "2.1.9",
                images,
                "registry.config_path = '/c'\nregistry.mirrors.x.endpoint = ['https://m']",
                "registry.mirrors",
            ),
            (
                "1.7.24",
                cri,
                "registry.config_path = '/c'\nregistry.configs.x.tls.insecure_skip_verify = true",
                "configs",
            ),
            ("2.1.9", images, "registry.config_path = '/a:/b'", "more than one"),
            ("2.1.9", runtime, "containerd.default_runtime_name = 'nvidia'", "nvidia"),
            ("1.6.20", cri, "containerd.default_runtime_name = ''", "default_runtime_name"),
            ("2.3.4", runtime, "cni.bin_dir = '/a'\ncni.bin_dirs = ['/b']", "bin_dir"),
            ("1.7.24", cri, "systemd_cgroup = true", "systemd_cgroup"),
            ("1.7.24", cri, "containerd.runtimes.runc.runtime_root = '/x'", "runtime_root"),
            ("2.1.9", runtime, "containerd.runtimes.runc.io_type = 'named_pipe'", "io_type"),
            (
                "2.1.9",
                runtime,
                "containerd.runtimes.runc.privileged_without_host_devices_all_devices_allowed = true",
                "privileged",
            ),
            ("2.1.9", images, "pinned_images.sandbox = ''", "sandbox"),
            ("1.7.24", cri, "sandbox_image = '::x'", "sandbox"),
            ("2.1.9", images, "snapshotter = 'stargz'", "stargz"),
            ("1.7.24", cri, "containerd.snapshotter = 'nydus'", "nydus"),
            ("2.1.9", images, "image_pull_progress_timeout = '5 minutes'", "image_pull_progress_timeout"),
            ("1.7.24", cri, "drain_exec_sync_io_timeout = '1..5s'", "drain_exec_sync_io_timeout"),
        ] {
            let found = found(version, &format!("version = 2\n[plugins.'{table}']\n{keys}\n"));
            assert_eq!(found.len(), 1, "{version} {keys}: {found:?}");
            assert!(found[0].contains(word), "{found:?}");
        }
    }

    #[test]
    fn sockets_belong_to_root() {
        for text in [
            "[grpc]\nuid = 65534",
            "ttrpc = { gid = 1000 }",
            "debug.uid = 1000",
            "[plugins.'io.containerd.server.v1.grpc']\ngid = 65534",
            "[plugins.'io.containerd.server.v1.ttrpc']\nuid = 1",
            "[GRPC]\nUid = 1",
        ] {
            assert!(found("2.3.4", text)[0].contains("root on the node"), "{text}");
        }
        assert_eq!(found("2.3.4", "[grpc]\nuid = 0\ngid = 0"), [""; 0]);
    }

    #[test]
    fn what_containerd_takes_is_no_problem() {
        for (version, text) in [
            ("2.1.9", "[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'native'"),
            (
                "2.1.9",
                "[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'stargz'\n[proxy_plugins.stargz]\ntype = 'snapshot'",
            ),
            (
                "1.7.24",
                "[plugins.'io.containerd.grpc.v1.cri'.containerd.default_runtime]\nruntime_type = 'io.containerd.runc.v2'",
            ),
            (
                "2.1.9",
                "[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'kata'\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'",
            ),
            ("1.7.24", "version = 2\ndisabled_plugins = ['io.containerd.snapshotter.v1.zfs']"),
        ] {
            assert_eq!(found(version, text), [""; 0], "{text}");
        }
        assert!(found("1.7.24", "version = 2\ndisabled_plugins = ['zfs']")[0].contains("version 1"));
    }
}
