//! Writes config.toml for a release of containerd, with the keys that this release reads.
//!
//! This module must not read a configuration back: `settings` does.

use std::fmt::Display;

use toml_edit::{DocumentMut, Item, Value, value};

use crate::catalog;
use crate::error::{Failure, Kind};
use crate::format::toml::{list, merge, parse, set, string};
use crate::node::Want;
use crate::printable::printable;
use crate::runtime::containerd::keys::{Misplaced, misplaced};
use crate::runtime::containerd::promises::{Promises, broken};
use crate::runtime::containerd::validate::{Problem, SOCKETS, problems};
use crate::runtime::containerd::{CRI, DROP_INS, IMAGES, RUNTIME, Release};
use crate::runtime::{CNI_BIN, CNI_CONF, Runtime, RuntimeInputs, Settings};
use crate::secret;
use crate::spec::{Base, Config, Spec};

/// Key of the plugins without which containerd does not start.
const REQUIRED: &str = "required_plugins";

/// config.toml, and what of it other files depend on.
pub(crate) struct Written {
    /// The file, for root alone if the spec has put a secret into it.
    pub file: Want,
    /// What a containerd reads from it.
    pub settings: Settings,
}

/// Writes config.toml.
pub(crate) fn config(spec: &Spec, inputs: RuntimeInputs) -> Result<Written, Failure> {
    let config = &spec.containerd.config;
    let release = Release::parse(inputs.version)?;
    let mut document = match config.base {
        Base::Default => default(inputs)?,
        Base::Minimal | Base::Existing => DocumentMut::new(),
    };
    for (path, item) in keys(config, release, inputs.cni_bin.unwrap_or(CNI_BIN)) {
        set(&mut document, &path, item)?;
    }
    let fragment = parse(&config.merge, "containerd.config.merge")?;
    merge(document.as_table_mut(), fragment.as_table()).map_err(|why| {
        refuse(why).help("write the key as this containerd's `containerd config default` has it")
    })?;
    require_cri(&mut document);
    check(&document, release)?;
    let text = format!("# Written by nodebake\n{}", document.to_string().trim_start());
    // A parser must see the document that was built.
    let document = parse(&text, "the generated config.toml")?;
    let settings = Settings::of_file(document.as_item());
    // What nodebake writes itself is taken by every release of the catalogue: a test of `keys` holds that.
    if !fragment.is_empty() || inputs.printed_default.is_some() {
        judge(spec, &document, &text, inputs)?;
    }
    let mode = if secret::is_in_toml(document.as_table()) { 0o600 } else { 0o644 };
    Ok(Written { file: Want::text(mode, text), settings })
}

/// Refuses a document with which containerd does not serve the CRI, ignores a key that another table would have, or does
/// not find other files of the image.
fn judge(spec: &Spec, document: &DocumentMut, text: &str, inputs: RuntimeInputs) -> Result<(), Failure> {
    if let Some(Misplaced { key: (key, table), right }) = misplaced(inputs.version, text) {
        let why = format!("`{key}` in table `{table}` is not read by this containerd");
        return Err(refuse(why).help(format!("put it into `{}`, as `{}`", right.1, right.0)));
    }
    let mut problems = problems(document, inputs.version);
    problems.extend(broken(&Settings::of_file(document.as_item()), promises(spec, &inputs)));
    match problems.into_iter().next() {
        Some(Problem { why, help }) => Err(refuse(why).help(help)),
        None => Ok(()),
    }
}

/// Returns the default configuration of the release: what it has printed, or else the catalogue's.
fn default(inputs: RuntimeInputs) -> Result<DocumentMut, Failure> {
    let RuntimeInputs { version, arch, printed_default, .. } = inputs;
    if let Some(text) = printed_default {
        let mut document = parse(text, "`containerd config default`")?;
        sockets_of_root(&mut document);
        return Ok(document);
    }
    catalog::default_config(Runtime::Containerd.component(), version, arch).ok_or_else(|| {
        let message =
            format!("the catalogue has no default configuration of containerd {}", printable(version));
        Failure::new(Kind::Unsupported, message)
            .help("use `base: minimal`; for a --root, --execute has containerd print it, in a sandbox")
    })
}

/// Returns every key that nodebake sets, at the place where this release reads it.
fn keys(config: &Config, release: Release, cni_bin: &str) -> Vec<(Vec<&'static str>, Value)> {
    let sandbox = config.sandbox_image.as_ref().map_or(release.sandbox_image(), |image| &**image);
    let registries = &*config.registry_config_path;
    let (images, runtime) = if release.is_2() { (IMAGES, RUNTIME) } else { (CRI, CRI) };
    let mut settings: Vec<(Vec<&str>, Value)> = vec![(vec!["version"], release.config_version().into())];
    // A CRI that does not load is an error of the service: without the key containerd is up and ready without it.
    settings.push((vec![REQUIRED], list(CRI)));
    if release.is_2() {
        // On 1.x a drop-in replaces the whole table of a plugin that it names (containerd#5837).
        settings.push((vec!["imports"], list(DROP_INS)));
        settings.push((vec!["plugins", images, "pinned_images", "sandbox"], string(sandbox)));
    } else {
        settings.push((vec!["plugins", images, "sandbox_image"], string(sandbox)));
    }
    settings.push((vec!["plugins", images, "registry", "config_path"], string(registries)));
    let runc = ["plugins", runtime, "containerd", "runtimes", "runc"];
    settings.push(([&runc[..], &["runtime_type"]].concat(), "io.containerd.runc.v2".into()));
    settings.push(([&runc[..], &["options", "SystemdCgroup"]].concat(), config.systemd_cgroup.into()));
    if release.is_2_1() {
        settings.push((vec!["plugins", runtime, "cni", "bin_dirs"], list(cni_bin)));
    } else {
        settings.push((vec!["plugins", runtime, "cni", "bin_dir"], string(cni_bin)));
    }
    settings.push((vec!["plugins", runtime, "cni", "conf_dir"], CNI_CONF.into()));
    settings
}

/// Makes root the owner of every socket: containerd 2.3 and later print the owner of the process that asks.
fn sockets_of_root(document: &mut DocumentMut) {
    for path in SOCKETS {
        let table = path.iter().try_fold(document.as_item_mut(), |item, key| item.get_mut(key));
        let Some(table) = table.and_then(Item::as_table_like_mut) else { continue };
        for owner in ["uid", "gid"] {
            if table.contains_key(owner) {
                table.insert(owner, value(0));
            }
        }
    }
}

/// Adds the CRI to the plugins without which containerd does not start, where a fragment has named others.
fn require_cri(document: &mut DocumentMut) {
    if let Some(required) = document.get_mut(REQUIRED).and_then(Item::as_array_mut)
        && !required.iter().any(|id| id.as_str() == Some(CRI))
    {
        required.push(CRI);
    }
}

fn refuse(why: impl Display) -> Failure {
    Failure::new(Kind::Invalid, format!("containerd.config.merge: {why}"))
}

/// Refuses another version of the configuration than the one that is written.
fn check(document: &DocumentMut, release: Release) -> Result<(), Failure> {
    let version = document.get("version").and_then(Item::as_integer);
    if version == Some(release.config_version()) {
        return Ok(());
    }
    let why =
        format!("sets another `version` than {}, which this containerd reads", release.config_version());
    Err(refuse(why).help("leave `version` out of the fragment"))
}

/// Returns what other files of the image depend on.
fn promises<'a>(spec: &'a Spec, inputs: &RuntimeInputs) -> Promises<'a> {
    let registries = &*spec.containerd.config.registry_config_path;
    Promises {
        registries: (!spec.registries.is_empty()).then_some(registries),
        plugins: spec.wants("cni-plugins").then_some(inputs.cni_bin.unwrap_or(CNI_BIN)),
    }
}

#[cfg(test)]
mod tests {

    use crate::arch::Arch;
    use crate::error::Failure;
    use crate::node::{Content, Want};
    use crate::runtime::RuntimeInputs;
    use crate::spec::{Base, Config, Containerd, Spec};

    fn config(version: &str, from: &Config, printed_default: Option<&str>) -> Result<String, Failure> {
        let inputs =
            RuntimeInputs { version, arch: Arch::Amd64, printed_default, cni_bin: None, packaged_unit: None };
        let containerd = Containerd { config: from.clone(), ..Containerd::default() };
        match super::config(&Spec { containerd, ..Spec::default() }, inputs)?.file {
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
