//! Writes config.toml for a release of containerd, with the keys that this release reads.
//!
//! This module must not read a configuration back: `settings` does.

use std::fmt::Display;

use toml_edit::{Array, DocumentMut, Item, Value};

use crate::catalog;
use crate::error::{Failure, Kind};
use crate::format::toml::{list, merge, parse, set};
use crate::node::Want;
use crate::printable::printable;
use crate::runtime::containerd::{CRI, DROP_INS, IMAGES, RUNTIME, Release};
use crate::runtime::{CNI_BIN, CNI_CONF, Runtime, RuntimeInputs};
use crate::secret;
use crate::spec::{Base, Config};

/// Writes config.toml, for root alone if the spec has put a secret into it.
pub(crate) fn config(config: &Config, inputs: RuntimeInputs) -> Result<Want, Failure> {
    let release = Release::parse(inputs.version)?;
    let mut document = match config.base {
        Base::Default => default(inputs)?,
        Base::Minimal | Base::Existing => DocumentMut::new(),
    };
    for (path, item) in settings(config, release, inputs.cni_bin.unwrap_or(CNI_BIN)) {
        set(&mut document, &path, item)?;
    }
    let fragment = parse(&config.merge, "containerd.config.merge")?;
    merge(document.as_table_mut(), fragment.as_table()).map_err(|why| {
        refuse(why).help("write the key as this containerd's `containerd config default` has it")
    })?;
    check(&document, release)?;
    check_promises(&document, release)?;
    let text = format!("# Written by nodebake\n{}", document.to_string().trim_start());
    // A parser must see the document that was built.
    parse(&text, "the generated config.toml")?;
    let mode = if secret::is_in_toml(document.as_table()) { 0o600 } else { 0o644 };
    Ok(Want::text(mode, text))
}

/// Returns the default configuration of the release: what it has printed, or else the catalogue's.
fn default(inputs: RuntimeInputs) -> Result<DocumentMut, Failure> {
    let RuntimeInputs { version, arch, printed_default, .. } = inputs;
    if let Some(text) = printed_default {
        return parse(text, "`containerd config default`");
    }
    catalog::default_config(Runtime::Containerd.component(), version, arch).ok_or_else(|| {
        let message =
            format!("the catalogue has no default configuration of containerd {}", printable(version));
        Failure::new(Kind::Unsupported, message)
            .help("use `base: minimal`; for a --root, --execute has containerd print it, in a sandbox")
    })
}

/// Returns every key that nodebake sets, at the place where this release reads it.
fn settings(config: &Config, release: Release, cni_bin: &str) -> Vec<(Vec<&'static str>, Value)> {
    let sandbox = config.sandbox_image.as_ref().map_or(release.sandbox_image(), |image| &**image);
    let registries = &*config.registry_config_path;
    let (images, runtime) = if release.is_2() { (IMAGES, RUNTIME) } else { (CRI, CRI) };
    let mut settings: Vec<(Vec<&str>, Value)> = vec![(vec!["version"], release.config_version().into())];
    if release.is_2() {
        // On 1.x a drop-in replaces the whole table of a plugin that it names (containerd#5837).
        settings.push((vec!["imports"], list(DROP_INS)));
        settings.push((vec!["plugins", images, "pinned_images", "sandbox"], sandbox.into()));
    } else {
        settings.push((vec!["plugins", images, "sandbox_image"], sandbox.into()));
    }
    settings.push((vec!["plugins", images, "registry", "config_path"], registries.into()));
    let runc = ["plugins", runtime, "containerd", "runtimes", "runc"];
    settings.push(([&runc[..], &["runtime_type"]].concat(), "io.containerd.runc.v2".into()));
    settings.push(([&runc[..], &["options", "SystemdCgroup"]].concat(), config.systemd_cgroup.into()));
    if release.is_2_1() {
        settings.push((vec!["plugins", runtime, "cni", "bin_dirs"], list(cni_bin)));
    } else {
        settings.push((vec!["plugins", runtime, "cni", "bin_dir"], cni_bin.into()));
    }
    settings.push((vec!["plugins", runtime, "cni", "conf_dir"], CNI_CONF.into()));
    settings
}

fn refuse(why: impl Display) -> Failure {
    Failure::new(Kind::Invalid, format!("containerd.config.merge: {why}"))
}

/// Refuses keys that this release ignores without a message, or that break it.
fn check(document: &DocumentMut, release: Release) -> Result<(), Failure> {
    let version = document.get("version").and_then(Item::as_integer);
    if version != Some(release.config_version()) {
        let why =
            format!("sets another `version` than {}, which this containerd reads", release.config_version());
        return Err(refuse(why).help("leave `version` out of the fragment"));
    }
    let plugin =
        |id: &str| document.get("plugins").and_then(|plugins| plugins.get(id)).and_then(Item::as_table_like);
    let misplaced: Vec<(&str, Vec<&str>)> = match release.is_2() {
        true => vec![(CRI, vec!["sandbox_image", "registry", "containerd", "cni"])],
        false => vec![(IMAGES, vec![]), (RUNTIME, vec![])],
    };
    for (id, keys) in misplaced {
        let Some(table) = plugin(id) else { continue };
        let all = keys.is_empty();
        if let Some((key, _)) = table.iter().find(|(key, _)| all || keys.contains(key)) {
            let right =
                if release.is_2() { format!("`{IMAGES}` or `{RUNTIME}`") } else { format!("`{CRI}`") };
            let why = format!("`{key}` in table `plugins.\"{id}\"` is not read by this containerd");
            return Err(refuse(why).help(format!("put it into {right}")));
        }
    }
    Ok(())
}

/// Refuses keys with which the CRI is not loaded, while the daemon starts without it (ValidatePluginConfig in
/// internal/cri/config/config.go), or with which it finds no hosts.toml.
fn check_promises(document: &DocumentMut, release: Release) -> Result<(), Failure> {
    let at = |id: &str, path: &[&str]| -> Option<&Item> {
        path.iter().try_fold(document.get("plugins")?.get(id)?, |item, key| item.get(*key))
    };
    let (images, runtime) = if release.is_2() { (IMAGES, RUNTIME) } else { (CRI, CRI) };
    let is_set = |key: &str| at(runtime, &["cni", key]).is_some_and(|item| !is_empty(item));
    if is_set("bin_dir") && is_set("bin_dirs") {
        let (read, other) = if release.is_2_1() { ("bin_dirs", "bin_dir") } else { ("bin_dir", "bin_dirs") };
        let why = format!("`cni.{other}` does not go with `cni.{read}`, which nodebake sets");
        return Err(refuse(why).help(format!("set `{read}`")));
    }
    let disabled = document.get("disabled_plugins").and_then(Item::as_array);
    let is_cri = |id: &&str| [CRI, IMAGES, RUNTIME, "cri"].contains(id);
    if let Some(id) = disabled.and_then(|ids| ids.iter().filter_map(Value::as_str).find(is_cri)) {
        let why =
            format!("`disabled_plugins` has `{id}`, without which Kubernetes can't use this containerd");
        return Err(refuse(why).help("leave it out"));
    }
    let config_path = at(images, &["registry", "config_path"]).and_then(Item::as_str).unwrap_or_default();
    let has_mirrors = at(images, &["registry", "mirrors"]).is_some_and(|mirrors| !is_empty(mirrors));
    if has_mirrors && !config_path.is_empty() {
        let why = "`registry.mirrors` does not go with `registry.config_path`, which nodebake sets";
        return Err(refuse(why).help("use the spec's `registries`"));
    }
    if config_path.contains(':') {
        let why = format!("config_path `{}` is more than one directory", printable(config_path));
        return Err(
            refuse(why).help("containerd 2.1 and later then find no hosts.toml at all (containerd#12808)")
        );
    }
    Ok(())
}

/// Returns whether an item is as good as absent: `containerd config default` prints every key.
fn is_empty(item: &Item) -> bool {
    let table = item.as_table_like().is_some_and(|table| table.is_empty());
    table || item.as_array().is_some_and(Array::is_empty) || item.as_str().is_some_and(str::is_empty)
}

#[cfg(test)]
mod tests {

    use crate::arch::Arch;
    use crate::error::Failure;
    use crate::node::{Content, Want};
    use crate::runtime::RuntimeInputs;
    use crate::spec::{Base, Config};

    fn config(version: &str, from: &Config, printed_default: Option<&str>) -> Result<String, Failure> {
        let inputs =
            RuntimeInputs { version, arch: Arch::Amd64, printed_default, cni_bin: None, packaged_unit: None };
        match super::config(from, inputs)? {
            Want::File { content: Content::Text(bytes), .. } => Ok(String::from_utf8(bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn minimal(version: &str) -> String {
        config(version, &Config::default(), None).unwrap()
    }

    #[test]
    fn each_generation_has_its_own_keys() {
        insta::assert_snapshot!("config_1_6", minimal("1.6.20"));
        insta::assert_snapshot!("config_1_7", minimal("1.7.24"));
        insta::assert_snapshot!("config_2_0", minimal("2.0.7"));
        insta::assert_snapshot!("config_2_1", minimal("2.1.9"));
        insta::assert_snapshot!("config_2_2", minimal("2.2.7"));
        insta::assert_snapshot!("config_2_3", minimal("2.3.4"));
    }

    #[test]
    fn a_fragment_is_merged_last() {
        let merge = "[plugins.\"io.containerd.cri.v1.runtime\"]\nenable_selinux = true\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]\nSystemdCgroup = false\n";
        let with = Config { merge: merge.to_owned().try_into().unwrap(), ..Config::default() };
        let text = config("2.1.9", &with, None).unwrap();
        let read: toml_edit::DocumentMut = text.parse().unwrap();
        let runtime = &read["plugins"]["io.containerd.cri.v1.runtime"];
        assert_eq!(runtime["enable_selinux"].as_bool(), Some(true));
        assert_eq!(
            runtime["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"].as_bool(),
            Some(false)
        );
        assert_eq!(runtime["cni"]["conf_dir"].as_str(), Some("/etc/cni/net.d"));
    }

    #[test]
    fn a_fragment_for_another_version_is_refused() {
        let refused = |version: &str, merge: &str| {
            let with = Config { merge: merge.to_owned().try_into().unwrap(), ..Config::default() };
            config(version, &with, None).unwrap_err().to_string()
        };
        assert!(
            refused("2.1.9", "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = 'x'")
                .contains("not read")
        );
        assert!(
            refused("1.7.24", "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = '/x'")
                .contains("not read")
        );
        assert!(refused("2.1.9", "version = 2").contains("version"));
        let cni = |key: &str, id: &str| format!("plugins.'{id}'.cni.{key} = '/x'");
        assert!(refused("2.1.9", &cni("bin_dir", "io.containerd.cri.v1.runtime")).contains("cni.bin_dir"));
        assert!(refused("1.7.24", &cni("bin_dirs", "io.containerd.grpc.v1.cri")).contains("cni.bin_dirs"));
        for plugin in ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"] {
            let merge = format!("disabled_plugins = ['x.y', '{plugin}']");
            assert!(refused("2.1.9", &merge).contains("disabled_plugins"));
        }
        let mirrors =
            "plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io'.endpoint = ['https://m']";
        assert!(refused("2.1.9", mirrors).contains("registry.mirrors"));
        assert!(refused("2.1.9", "plugins = 1").contains("`plugins` is a number"));
        assert!(
            refused("2.1.9", "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a:/b'")
                .contains("more than one")
        );
    }

    #[test]
    fn a_default_configuration_is_patched_in_place() {
        let default = "version = 2\n\n[plugins]\n\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"registry.k8s.io/pause:3.8\" # kept\n\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"\n";
        let from = Config { base: Base::Default, ..Config::default() };
        let text = config("1.7.24", &from, Some(default)).unwrap();
        assert!(text.contains("    sandbox_image = \"registry.k8s.io/pause:3.8\" # kept"), "{text}");
        assert!(text.contains("      bin_dir = \"/opt/cni/bin\""), "{text}");
        let of_2_1 = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dir = ''\nbin_dirs = ['/usr/lib/cni']\n[plugins.'io.containerd.cri.v1.images'.registry.mirrors]\n";
        assert!(config("2.1.9", &from, Some(of_2_1)).unwrap().contains("bin_dirs = [\"/opt/cni/bin\"]"));
        let twice = config("1.7.24", &from, Some(&text)).unwrap();
        assert_eq!(twice.matches("SystemdCgroup").count(), 1);
    }
}
