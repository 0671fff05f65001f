//! Kinds of strings in the spec, each with its rule: an error points at the string's line and column.
//!
//! This module must not look at other keys.

use std::borrow::{Borrow, Cow};
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use crate::arch::Arch;
use crate::catalog;
use crate::error::Failure;
use crate::format::{go_duration, image_name, toml, yaml};
use crate::path::ImagePath;
use crate::reserved::reserved_from_registries;

/// Declares a kind of string: `check` returns the text as it is kept, or what is wrong with it.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $example:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(pub(super) String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::checked::Checked(|text: &str| $name::try_from(text.to_owned())))
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(String) -> Result<String, String> = $check;
                check(text).map($name)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "examples": [$example]})
            }
        }
    };
}

pub(super) use checked_text;

checked_text!(
    /// Version `X.Y.Z`, kept without a leading `v`.
    VersionText, "2.1.9", |text| {
        let bare = text.strip_prefix('v').unwrap_or(&text).to_owned();
        match semver::Version::parse(&bare) {
            Ok(_) => Ok(bare),
            Err(_) => Err(format!("`{text}` is not a version; expected X.Y.Z, for example 2.1.9")),
        }
    }
);

checked_text!(
    /// Name of a component of the catalogue.
    ComponentName, "containerd", |text| {
        if catalog::components().contains_key(&text) {
            return Ok(text);
        }
        let known = catalog::components().keys().map(String::as_str);
        let hint = match yaml::nearest(&text, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {}", known.collect::<Vec<_>>().join(", ")),
        };
        Err(format!("unknown component `{text}`; {hint}"))
    }
);

checked_text!(
    /// Architecture in any spelling, kept as Go's name.
    ArchName, "amd64", |text| match text.parse::<Arch>() {
        Ok(arch) => Ok(arch.name().to_owned()),
        Err(error) => Err(format!("{error}; {}", error.help.as_deref().unwrap_or_default())),
    }
);

impl ArchName {
    /// Returns the architecture.
    pub(crate) fn arch(&self) -> Option<Arch> {
        self.0.parse().ok()
    }
}

checked_text!(
    /// Text without control characters, so that it stays on its line in whatever file it reaches.
    OneLine, "registry.k8s.io/pause:3.10", |text| match text.chars().any(char::is_control) {
        true => Err("has a line break or a control character".to_owned()),
        false => Ok(text),
    }
);

checked_text!(
    /// Name of a kernel module.
    ModuleName, "br_netfilter", |text| {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if plain { Ok(text) } else { Err(format!("`{}` is not a kernel module's name", text.escape_default())) }
    }
);

checked_text!(
    /// Name of a kernel parameter.
    SysctlName, "net.ipv4.ip_forward", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '*');
        let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed);
        // systemd-sysctl would read a path with `..` in it.
        let has_parts = !text.split(['.', '/']).any(str::is_empty);
        if plain && has_parts { Ok(text) } else { Err(format!("`{}` is not a kernel parameter's name", text.escape_default())) }
    }
);

checked_text!(
    /// Duration as Go writes it.
    Duration, "5s", |text| match go_duration::parse(&text) {
        Some(_) if !text.starts_with(['-', '+']) => Ok(text),
        _ => Err(format!("`{}` is not a duration; expected for example 5s or 1m30s", text.escape_default())),
    }
);

checked_text!(
    /// Name of a container image.
    ImageText, "registry.k8s.io/pause:3.10", |text| match image_name::parse(&text) {
        Ok(_) => Ok(text),
        Err(_) if text.chars().any(char::is_control) => Err("has a line break or a control character".to_owned()),
        Err(why) => Err(format!(
            "`{}` is not an image's name: {why}; expected for example registry.k8s.io/pause:3.10",
            text.escape_default()
        )),
    }
);

/// Directory that containerd's documentation uses for registries.
pub(crate) const CERTS: &str = "/etc/containerd/certs.d";

checked_text!(
    /// Path of one directory in the image.
    Directory, "/etc/containerd/certs.d", |text| match ImagePath::new(&text) {
        // A list joined by colons makes containerd 2.1 and later skip every hosts.toml (containerd#12808).
        Ok(_) if text.contains(':') => Err(format!("`{text}` is more than one directory; expected exactly one")),
        Ok(path) => match reserved_from_registries(&path) {
            Some(why) => Err(format!("`{text}` {why}; expected a directory for registries alone")),
            None => Ok(text),
        },
        Err(error) => Err(format!("{error}; expected one absolute directory")),
    }
);

impl Directory {
    /// Returns the directory that containerd's documentation uses for certs.d.
    pub(super) fn certs() -> Self {
        Directory(CERTS.to_owned())
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> Result<ImagePath, Failure> {
        ImagePath::new(&self.0)
    }
}

checked_text!(
    /// Fragment of TOML.
    #[derive(Default)]
    Toml, "[plugins.\"io.containerd.cri.v1.runtime\"]\nenable_selinux = true", |text| {
        match toml::document(&text) {
            Ok(_) => Ok(text),
            Err(why) => Err(why.trim_end().replace('\n', "; ")),
        }
    }
);
