//! The spec: exactly what the user wrote in `nodebake.yaml`, checked as far as its text alone allows.
//!
//! This module must not open a file or resolve a version: `artifact/resolve.rs` does. The doc comments of the keys
//! are the descriptions of the JSON Schema.

mod certificate;
mod containerd;
mod effect;
mod kernel;
mod key_pair;
mod network;
pub(crate) mod package;
mod proxy;
mod registry;
mod runtime;
mod scalar;
pub(crate) mod value;

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
use crate::format::yaml;
use crate::printable::printable;
use crate::reserved::reserved;
use crate::spec::package::Package;
use crate::spec::scalar::{ArchName, ComponentName, VersionText};
use crate::spec::value::{Sha256, visit};

pub(crate) use certificate::Dates;
pub(crate) use containerd::{Base, Config, Containerd, Install, Proxy};
pub(crate) use kernel::Kernel;
pub(crate) use network::RegistryName;
pub(crate) use registry::{CertificateFile, Mirror, Registry};
pub(crate) use runtime::Runtime;
pub(crate) use scalar::CERTS;

/// A node, as the user describes it. Every key is optional.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "nodebake.yaml")]
pub(crate) struct Spec {
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
    /// Kernel modules and parameters, beside those that Kubernetes needs; `null` takes these away
    pub kernel: Kernel,
    /// Images to preload
    pub images: Vec<String>,
    /// The folder that relative paths in the spec start from
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Value of a component's key: `false`, or what to install of it.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// The component is left out.
    Off,
    /// The component is installed.
    On(Pick),
}

/// Which version of a component, from where.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pick {
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

impl Spec {
    /// Parses the text of a spec. `name` is for messages; relative paths in the spec start from `folder`.
    ///
    /// Every failure is [`Kind::Invalid`] and names line and column where it has one.
    pub(crate) fn parse(text: &str, name: &str, folder: &Path) -> Result<Spec, Failure> {
        let mut spec: Spec = yaml::parse(text, name)?;
        spec.folder = folder.to_owned();
        spec.check().map_err(|failure| failure.in_file(name))?;
        Ok(spec)
    }

    /// Refuses values that are read and not supported yet.
    fn check(&self) -> Result<(), Failure> {
        self.check_package()?;
        self.check_registries()?;
        self.check_certificates()?;
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

    /// Refuses keys that need an archive if containerd comes from a package.
    fn check_package(&self) -> Result<(), Failure> {
        if self.containerd.install == Install::Archive {
            return Ok(());
        }
        let of_archives =
            |pick: &Pick| pick.url.is_some() || pick.sha256.is_some() || pick.static_build.is_some();
        let runtime = Runtime::Containerd;
        let named = [runtime.component(), "runc"].into_iter().find(|name| of_archives(&self.pick(name)));
        let static_build = runtime.static_component().filter(|name| self.wants(name));
        let why = match (static_build, named) {
            (Some(name), _) => format!("components.{name}"),
            (None, Some(name)) => format!("components.{name}: `url`, `sha256` or `static`"),
            (None, None) if self.containerd.config.base == Base::Default => {
                "containerd.config.base: `default`".to_owned()
            }
            (None, None) => return Ok(()),
        };
        Err(Failure::new(Kind::Invalid, format!("{why} goes with `install: archive` only"))
            .help("leave it out, or set `containerd.install: archive`"))
    }

    /// Refuses certificates under a name that no file of the plan can have.
    fn check_certificates(&self) -> Result<(), Failure> {
        let directory = self.containerd.config.registry_config_path.path()?;
        for (name, path) in self.certificates() {
            let base = path.file_name().unwrap_or_default().to_string_lossy();
            let refused = directory.join(&base).ok().and_then(|path| reserved(&path));
            if let Some(why) = refused {
                let message = format!("registries.{name}: a certificate called `{}` {why}", printable(&base));
                return Err(Failure::new(Kind::Invalid, message).help("give the file another name"));
            }
        }
        Ok(())
    }

    /// Returns the package that containerd comes from; none if it comes from an archive or is left out.
    pub(crate) fn package(&self) -> Option<&Package> {
        let packaged =
            self.containerd.install == Install::Package && self.wants(Runtime::Containerd.component());
        packaged.then_some(&self.containerd.package)
    }

    /// Returns the version that the package must have: its own key, or else the component's.
    pub(crate) fn package_version(&self) -> Option<String> {
        let component = || Some(self.pick(Runtime::Containerd.component()).version?.to_string());
        let own = self.containerd.package.version.as_ref().map(|version| version.to_string());
        own.or_else(component)
    }

    /// Returns whether `component` is to be installed.
    pub(crate) fn wants(&self, component: &str) -> bool {
        match self.components.get(component) {
            Some(Choice::Off) => false,
            Some(Choice::On(_)) => true,
            None => catalog::component(component).default,
        }
    }

    /// Sets which build of containerd is used, whatever the spec says.
    pub(crate) fn choose_static(&mut self, static_build: bool) {
        let runtime = Runtime::Containerd;
        let static_component = runtime.static_component();
        for name in std::iter::once(runtime.component()).chain(static_component) {
            if let Some(Choice::On(pick)) = self.components.get_mut(name) {
                pick.static_build = Some(static_build);
            }
        }
        if static_component.is_none_or(|name| !self.components.contains_key(name)) {
            let name = ComponentName(runtime.component().to_owned());
            let pick = Pick { static_build: Some(static_build), ..Pick::default() };
            self.components.entry(name).or_insert(Choice::On(pick));
        }
    }

    /// Returns what the spec says of `component`; the defaults if it says nothing.
    pub(crate) fn pick(&self, component: &str) -> Pick {
        match self.components.get(component) {
            Some(Choice::On(pick)) => pick.clone(),
            _ => Pick::default(),
        }
    }
}
