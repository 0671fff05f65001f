//! The spec: exactly what the user wrote in `nodebake.yaml`, checked as far as it can be without
//! looking at anything else.
//!
//! Parsing takes `&str`. Nothing is resolved here: see `resolve.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::catalog;
use crate::error::{Failure, Kind};
use crate::package::Package;
use crate::values::{
    ArchName, Clients, ComponentName, Directory, Duration, Files, Limit, MirrorUrl, ModuleName, OneLine,
    RegistryName, Scalar, Sha256, SysctlName, Toml, VersionText, visit,
};
use crate::yaml;

/// A node, as the user describes it. Every key is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "nodebake.yaml")]
pub struct Spec {
    /// Architecture of the node; default: that of the root's own binaries
    pub arch: Option<ArchName>,
    /// Where artifacts come from: a directory, a bundle or an https:// mirror that keeps upstream's paths; default: upstream
    pub source: Option<String>,
    /// What is installed; containerd, runc and cni-plugins are on by default, `false` leaves one out
    pub components: BTreeMap<ComponentName, Choice>,
    /// How containerd is installed and configured
    pub containerd: Containerd,
    /// One certs.d/<name>/hosts.toml for each registry; `_default` is for all others
    pub registries: BTreeMap<RegistryName, Registry>,
    /// Kernel modules and parameters
    pub kernel: Kernel,
    /// Images to preload
    pub images: Vec<String>,
    /// The folder that relative paths in the spec start from
    #[serde(skip)]
    pub folder: PathBuf,
}

/// A component of the spec: `false`, or what to install of it.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Leave it out.
    Off,
    /// Install it.
    On(Pick),
}

/// Which version of a component, from where.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pick {
    /// Version, X.Y.Z
    pub version: Option<VersionText>,
    /// Another URL than upstream's; {version} and {arch} are filled in
    pub url: Option<String>,
    /// SHA-256 of the artifact: one digest, or one for each architecture
    pub sha256: Option<Sha256>,
    /// Use the static build (true) or the dynamic one (false); default: as the root's glibc demands
    #[serde(rename = "static")]
    pub static_build: Option<bool>,
}

/// The way containerd gets onto the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Install {
    /// From upstream's release archives
    #[default]
    Archive,
    /// From the distribution's or Docker's packages
    Package,
}

/// The `containerd` key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Containerd {
    /// archive or package
    pub install: Install,
    /// Which package, for `install: package`
    pub package: Package,
    /// What stands in /etc/containerd/config.toml
    pub config: Config,
    /// LimitNOFILE of the service; default: unset on containerd 1.x, 1048576 on 2.x
    pub limit_nofile: Option<Limit>,
    /// HTTP proxy of the service
    pub proxy: Proxy,
}

/// What config.toml starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Only the keys that this spec sets
    #[default]
    Minimal,
    /// What `containerd config default` of the staged binary prints
    Default,
    /// The root's own file
    Existing,
}

/// The `containerd.config` key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// minimal, default or existing
    pub base: Base,
    /// Pause image; default: the one that this containerd expects
    pub sandbox_image: Option<OneLine>,
    /// Let runc use the systemd cgroup driver
    pub systemd_cgroup: bool,
    /// The one directory that holds <registry>/hosts.toml
    pub registry_config_path: Directory,
    /// TOML, merged last
    pub merge: Toml,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            base: Base::default(),
            sandbox_image: None,
            systemd_cgroup: true,
            registry_config_path: Directory::certs(),
            merge: Toml::default(),
        }
    }
}

/// HTTP proxy settings of the containerd service.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// HTTP_PROXY
    pub http: Option<OneLine>,
    /// HTTPS_PROXY
    pub https: Option<OneLine>,
    /// NO_PROXY
    pub no_proxy: Option<OneLine>,
}

/// One registry as images name it, and where its images are really pulled from.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// The upstream that is tried after the mirrors; default: the registry itself
    pub server: Option<MirrorUrl>,
    /// Never fall back to the upstream
    pub strict: bool,
    /// Tried in this order
    pub mirrors: Vec<Mirror>,
}

/// The keys of a registry, before they are checked against each other.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Registry")]
struct RegistryKeys {
    /// The upstream that is tried after the mirrors; default: the registry itself
    server: Option<MirrorUrl>,
    /// Never fall back to the upstream
    strict: bool,
    /// Tried in this order
    mirrors: Vec<Mirror>,
}

/// One `[host."…"]` table.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// http:// or https:// URL
    pub url: MirrorUrl,
    /// What it may be asked for; default: pull, resolve
    #[serde(default = "pull_and_resolve")]
    pub capabilities: Vec<Capability>,
    /// Do not verify its certificate
    #[serde(default)]
    pub skip_verify: bool,
    /// The URL's path is the API's root: append no /v2
    #[serde(default)]
    pub override_path: bool,
    /// CA certificate: a file beside the spec, or several
    #[serde(default)]
    pub ca: Files,
    /// Client certificate: a file with certificate and key, or [certificate, key] pairs
    #[serde(default)]
    pub client: Clients,
    /// Request headers, such as Authorization
    #[serde(default)]
    pub headers: BTreeMap<OneLine, OneLine>,
    /// How long to wait for a connection, for example 5s
    pub dial_timeout: Option<Duration>,
}

/// What a mirror can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Fetch manifests and blobs by digest
    Pull,
    /// Turn a tag into a digest
    Resolve,
    /// Upload
    Push,
}

impl Capability {
    /// As hosts.toml spells it.
    pub fn name(self) -> &'static str {
        match self {
            Capability::Pull => "pull",
            Capability::Resolve => "resolve",
            Capability::Push => "push",
        }
    }
}

fn pull_and_resolve() -> Vec<Capability> {
    vec![Capability::Pull, Capability::Resolve]
}

/// Kernel modules and parameters that Kubernetes needs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// Loaded at boot
    pub modules: Vec<ModuleName>,
    /// Set at boot
    pub sysctl: BTreeMap<SysctlName, Scalar>,
}

impl Default for Kernel {
    fn default() -> Self {
        let modules = ["overlay", "br_netfilter"];
        let sysctl = [
            "net.bridge.bridge-nf-call-ip6tables",
            "net.bridge.bridge-nf-call-iptables",
            "net.ipv4.ip_forward",
        ];
        Kernel {
            modules: modules.into_iter().map(ModuleName::fixed).collect(),
            sysctl: sysctl.into_iter().map(|name| (SysctlName::fixed(name), Scalar::one())).collect(),
        }
    }
}

visit!(
    Choice,
    "`false`, or a map such as {version: 2.1.9}",
    |generator| {
        let pick = generator.subschema_for::<Pick>();
        json_schema!({"anyOf": [{"type": ["boolean", "null"]}, pick]})
    },
    {
        fn visit_bool<E: de::Error>(self, on: bool) -> Result<Choice, E> {
            Ok(if on { Choice::On(Pick::default()) } else { Choice::Off })
        }

        fn visit_unit<E: de::Error>(self) -> Result<Choice, E> {
            Ok(Choice::On(Pick::default()))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
            Pick::deserialize(MapAccessDeserializer::new(map)).map(Choice::On)
        }
    }
);

visit!(
    Registry,
    "a map such as {mirrors: [{url: https://harbor.example}]}",
    |generator| Registry::schema(generator),
    {
        fn visit_unit<E: de::Error>(self) -> Result<Registry, E> {
            Ok(Registry::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Registry, A::Error> {
            let registry = Registry::read(MapAccessDeserializer::new(map))?;
            registry.check().map_err(de::Error::custom)?;
            Ok(registry)
        }
    }
);

impl Spec {
    /// Parses the text of a spec. `name` stands in messages; relative paths start from `folder`.
    ///
    /// Every failure is [`Kind::Invalid`] and names line and column where it has one.
    pub fn parse(text: &str, name: &str, folder: &Path) -> Result<Spec, Failure> {
        let mut spec: Spec = yaml::parse(text, name)?;
        spec.folder = folder.to_owned();
        spec.check().map_err(|failure| failure.in_file(name))?;
        Ok(spec)
    }

    /// What is read and not done yet.
    fn check(&self) -> Result<(), Failure> {
        self.check_package()?;
        let unsupported = if self.containerd.config.base == Base::Existing {
            Some("containerd.config.base: `existing`")
        } else if !self.images.is_empty() {
            Some("images: preloading")
        } else {
            None
        };
        match unsupported {
            Some(what) => {
                let message = format!("{what} is not supported by this version of nodebake");
                Err(Failure::new(Kind::Invalid, message))
            }
            None => Ok(()),
        }
    }

    /// What only an archive can do.
    fn check_package(&self) -> Result<(), Failure> {
        if self.containerd.install == Install::Archive {
            return Ok(());
        }
        let of_archives =
            |pick: &Pick| pick.url.is_some() || pick.sha256.is_some() || pick.static_build.is_some();
        let named = ["containerd", "runc"].into_iter().find(|name| of_archives(&self.pick(name)));
        let why = match named {
            _ if self.wants("containerd-static") => "components.containerd-static".to_owned(),
            Some(name) => format!("components.{name}: `url`, `sha256` or `static`"),
            None if self.containerd.config.base == Base::Default => {
                "containerd.config.base: `default`".to_owned()
            }
            None => return Ok(()),
        };
        Err(Failure::new(Kind::Invalid, format!("{why} goes with `install: archive` only"))
            .help("leave it out, or set `containerd.install: archive`"))
    }

    /// The package that containerd comes with, where it comes with one.
    pub fn package(&self) -> Option<&Package> {
        let packaged = self.containerd.install == Install::Package && self.wants("containerd");
        packaged.then_some(&self.containerd.package)
    }

    /// The version that the package must have: its own key, or else the component's.
    pub fn package_version(&self) -> Option<String> {
        let component = || Some(self.pick("containerd").version?.as_str().to_owned());
        let own = self.containerd.package.version.as_ref().map(|version| version.as_str().to_owned());
        own.or_else(component)
    }

    /// Whether `component` is to be installed.
    pub fn wants(&self, component: &str) -> bool {
        match self.components.get(component) {
            Some(Choice::Off) => false,
            Some(Choice::On(_)) => true,
            None => catalog::component(component).default,
        }
    }

    /// Overrules which build of containerd is used.
    pub fn choose_static(&mut self, static_build: bool) {
        for name in ["containerd", "containerd-static"] {
            if let Some(Choice::On(pick)) = self.components.get_mut(name) {
                pick.static_build = Some(static_build);
            }
        }
        if !self.components.contains_key("containerd-static") {
            let name = ComponentName::fixed("containerd");
            let pick = Pick { static_build: Some(static_build), ..Pick::default() };
            self.components.entry(name).or_insert(Choice::On(pick));
        }
    }

    /// What the spec says of `component`.
    pub fn pick(&self, component: &str) -> Pick {
        match self.components.get(component) {
            Some(Choice::On(pick)) => pick.clone(),
            _ => Pick::default(),
        }
    }
}

impl Registry {
    pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Registry, D::Error> {
        let RegistryKeys { server, strict, mirrors } = RegistryKeys::deserialize(deserializer)?;
        Ok(Registry { server, strict, mirrors })
    }

    pub(crate) fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<RegistryKeys>()
    }

    /// What no single key can say.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.strict && self.mirrors.is_empty() {
            return Err("`strict` needs at least one mirror".to_owned());
        }
        if self.strict && self.server.is_some() {
            return Err("`strict` makes the last mirror the server; leave out `server`".to_owned());
        }
        if let Some(mirror) = self.mirrors.iter().find(|mirror| mirror.capabilities.is_empty()) {
            return Err(format!("mirror `{}` has no capability; expected pull, resolve or push", mirror.url));
        }
        let mut urls: Vec<_> = self.mirrors.iter().map(|mirror| mirror.url.as_str()).collect();
        urls.sort_unstable();
        match urls.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("mirror `{}` stands there twice", pair[0])),
            None => Ok(()),
        }
    }
}
