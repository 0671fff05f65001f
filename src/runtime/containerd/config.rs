//! What nodebake knows of containerd: which configuration each release reads, and with which keys.
//!
//! containerd ignores a key in the wrong table without a word, so the keys are chosen by release
//! and the result is parsed back. Text in, text out; nothing is read or run here.
//!
//! Sources: containerd's docs/cri/config.md and RELEASES.md, and `config default` of 1.6.20, 1.7.24
//! and 2.1.9, which the tests ask again.

use std::collections::BTreeMap;

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use crate::error::{Failure, Kind, printable};
use crate::path::ImagePath;
use crate::receipt::Node;
use crate::spec::{Base, Config};
use crate::want::Want;

/// Its configuration.
pub const CONFIG: &str = "/etc/containerd/config.toml";
/// The daemon.
pub const BINARY: &str = "/usr/local/bin/containerd";
/// The daemon where a package has brought it.
pub const PACKAGED: [&str; 2] = ["/usr/bin/containerd", "/bin/containerd"];
const CNI_BIN: &str = "/opt/cni/bin";
const CNI_CONF: &str = "/etc/cni/net.d";
const DROP_INS: &str = "/etc/containerd/conf.d/*.toml";
/// Where it answers, in gRPC's spelling.
pub const SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// The CRI plugin of configuration version 2.
pub const CRI: &str = "io.containerd.grpc.v1.cri";
/// Its two halves of version 3: images,
pub const IMAGES: &str = "io.containerd.cri.v1.images";
/// and containers.
pub const RUNTIME: &str = "io.containerd.cri.v1.runtime";

/// A minor release of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(u64, u64);

impl Release {
    /// Reads `X.Y.Z`. Before 1.6 there is no certs.d as we write it.
    pub fn parse(version: &str) -> Result<Release, Failure> {
        let parsed = semver::Version::parse(version)
            .map_err(|_| Failure::new(Kind::Invalid, format!("`{}` is not a version", printable(version))))?;
        let release = Release(parsed.major, parsed.minor);
        match release >= Release(1, 6) {
            true => Ok(release),
            false => Err(Failure::new(Kind::Invalid, format!("containerd {version} is not supported"))
                .help("containerd 1.6 and later are; 1.5 had its end of life in 2023")),
        }
    }

    /// Whether it is 2.0 or later.
    pub fn is_2(self) -> bool {
        self >= Release(2, 0)
    }

    /// Whether it is 2.1 or later.
    pub fn is_2_1(self) -> bool {
        self >= Release(2, 1)
    }

    /// The version of the configuration that is written for it.
    ///
    /// Version 3 also for 2.3, which introduced 4: the CRI keys are the same, and drop-ins of other
    /// tools, which still say 3 at most, abort 2.3.0 to 2.3.4 where they differ from the root file.
    pub fn config_version(self) -> i64 {
        if self.is_2() { 3 } else { 2 }
    }

    /// The pause image that this release pulls unless told otherwise.
    pub fn sandbox_image(self) -> &'static str {
        match self {
            Release(1, 6) => "registry.k8s.io/pause:3.6",
            Release(1, _) => "registry.k8s.io/pause:3.8",
            Release(2, 0 | 1) => "registry.k8s.io/pause:3.10",
            Release(2, 2) => "registry.k8s.io/pause:3.10.1",
            _ => "registry.k8s.io/pause:3.10.2",
        }
    }
}

/// config.toml and the directories that containerd expects.
pub fn entries(config: String) -> Vec<(ImagePath, Want)> {
    vec![
        (ImagePath::fixed(CONFIG), Want::text(0o644, config)),
        // Empty: the CNI add-on writes it, and the kubelet waits for that.
        (ImagePath::fixed("/etc/cni/net.d"), Want::Directory { mode: 0o755 }),
        // CVE-2024-25621: containers' files were readable by every user of the node.
        (ImagePath::fixed("/var/lib/containerd"), Want::Directory { mode: 0o700 }),
    ]
}

/// The daemon among `paths`: one node has one.
pub fn binary<T>(paths: &BTreeMap<ImagePath, T>) -> Option<ImagePath> {
    let known = std::iter::once(BINARY).chain(PACKAGED).map(ImagePath::fixed);
    known.into_iter().find(|path| paths.contains_key(path))
}

/// The daemon among `nodes` that a package brought, and the package's name.
pub fn packaged<'a>(
    nodes: impl Iterator<Item = (&'a ImagePath, &'a Node)>,
) -> Option<(&'a ImagePath, &'a str)> {
    let mut brought = nodes.filter_map(|(path, node)| match node {
        Node::Present { package } => Some((path, package.as_str())),
        _ => None,
    });
    brought.find(|(path, _)| PACKAGED.contains(&path.as_str()))
}

/// What clients of the CRI on the node read.
pub fn client_entries() -> Vec<(ImagePath, Want)> {
    let crictl = indoc::formatdoc! {"
        # Written by nodebake
        runtime-endpoint: {SOCKET}
        image-endpoint: {SOCKET}
        timeout: 10
    "};
    vec![(ImagePath::fixed("/etc/crictl.yaml"), Want::text(0o644, crictl))]
}

/// What is wrong with a package's own config.toml for a Kubernetes node, in words that follow its name.
pub fn flaws(text: &str) -> Vec<String> {
    let Ok(document) = text.parse::<DocumentMut>() else { return vec!["is not TOML".to_owned()] };
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

/// What config.toml is made from, beside the spec.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// Which containerd reads it.
    pub release: Release,
    /// What its `config default` printed, for `base: default`.
    pub default: Option<&'a str>,
    /// Where the CNI plugins are, where it is not the usual place.
    pub cni_bin: Option<&'static str>,
}

/// The text of config.toml.
pub fn config(config: &Config, basis: Basis) -> Result<String, Failure> {
    let Basis { release, default, cni_bin } = basis;
    let mut document = match (config.base, default) {
        (Base::Default, Some(text)) => parse(text, "`containerd config default`")?,
        _ => DocumentMut::new(),
    };
    for (path, item) in settings(config, release, cni_bin.unwrap_or(CNI_BIN)) {
        set(&mut document, &path, item)?;
    }
    let fragment = parse(config.merge.as_str(), "containerd.config.merge")?;
    merge(document.as_table_mut(), fragment.as_table());
    check(&document, release)?;
    let text = format!("# Written by nodebake\n{}", document.to_string().trim_start());
    // What was built is what a parser sees.
    parse(&text, "the generated config.toml")?;
    Ok(text)
}

/// Every key that this release reads and nodebake sets.
fn settings(config: &Config, release: Release, cni_bin: &str) -> Vec<(Vec<&'static str>, Value)> {
    let sandbox = config.sandbox_image.as_ref().map_or(release.sandbox_image(), |image| image.as_str());
    let registries = config.registry_config_path.as_str();
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

fn list(only: &str) -> Value {
    Value::Array(Array::from_iter([only]))
}

fn parse(text: &str, what: &str) -> Result<DocumentMut, Failure> {
    text.parse::<DocumentMut>().map_err(|error| {
        let why = error.to_string();
        Failure::new(Kind::Invalid, format!("{what} is not TOML: {}", why.trim_end().replace('\n', "\n  ")))
    })
}

/// Sets one key; tables on the way that hold only tables get no header of their own.
fn set(document: &mut DocumentMut, path: &[&str], new: Value) -> Result<(), Failure> {
    let Some((key, tables)) = path.split_last() else { return Ok(()) };
    let mut table = document.as_table_mut();
    for name in tables {
        let item = table.entry(name).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        table = item.as_table_mut().ok_or_else(|| {
            Failure::new(
                Kind::Invalid,
                format!("`{}` is not a table in the base configuration", tables.join(".")),
            )
        })?;
    }
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            // Comments and indentation of the base stay.
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, value(new))),
    }
    Ok(())
}

/// Merges `fragment` into `table`: tables by key, everything else replaced.
fn merge(table: &mut Table, fragment: &Table) {
    for (key, item) in fragment {
        match (table.get_mut(key).and_then(Item::as_table_mut), item.as_table()) {
            (Some(old), Some(new)) => {
                merge(old, new);
                let has_values = old.iter().any(|(_, item)| item.is_value());
                old.set_implicit(!has_values && old.is_implicit());
            }
            _ => drop(table.insert(key, item.clone())),
        }
    }
}

/// What containerd would ignore or trip over in silence.
fn check(document: &DocumentMut, release: Release) -> Result<(), Failure> {
    let refuse = |why: String| Failure::new(Kind::Invalid, format!("containerd.config.merge: {why}"));
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
    let images = plugin(if release.is_2() { IMAGES } else { CRI });
    let config_path = images.and_then(|images| images.get("registry")?.get("config_path")?.as_str());
    match config_path {
        Some(path) if path.contains(':') => {
            let why = format!("config_path `{}` is more than one directory", printable(path));
            Err(refuse(why)
                .help("containerd 2.1 and later then find no hosts.toml at all (containerd#12808)"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Basis, Release, config as text_of};
    use crate::spec::{Base, Config};

    fn config(
        release: Result<Release, crate::error::Failure>,
        from: &Config,
        default: Option<&str>,
    ) -> Result<String, crate::error::Failure> {
        text_of(from, Basis { release: release?, default, cni_bin: None })
    }

    fn minimal(version: &str) -> String {
        config(Release::parse(version), &Config::default(), None).unwrap()
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
        let text = config(Release::parse("2.1.9"), &with, None).unwrap();
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
            config(Release::parse(version), &with, None).unwrap_err().to_string()
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
        assert!(
            refused("2.1.9", "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a:/b'")
                .contains("more than one")
        );
    }

    #[test]
    fn a_default_configuration_is_patched_in_place() {
        let default = "version = 2\n\n[plugins]\n\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"registry.k8s.io/pause:3.8\" # kept\n\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"\n";
        let from = Config { base: Base::Default, ..Config::default() };
        let text = config(Release::parse("1.7.24"), &from, Some(default)).unwrap();
        assert!(text.contains("    sandbox_image = \"registry.k8s.io/pause:3.8\" # kept"), "{text}");
        assert!(text.contains("      bin_dir = \"/opt/cni/bin\""), "{text}");
        let twice = config(Release::parse("1.7.24"), &from, Some(&text)).unwrap();
        assert_eq!(twice.matches("SystemdCgroup").count(), 1);
    }
}
