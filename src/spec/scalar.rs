//! The scalars of a spec, each checked where it is read, so that an error has its line and column.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::arch::Arch;
use crate::catalog;
use crate::digest::Digest;
use crate::path::ImagePath;
use crate::yaml;

/// Declares a string with a rule: `check` gives the text as it is kept, or what is wrong with it.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $example:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(yaml::Checked(|text: &str| $name::try_from(text.to_owned())))
            }
        }

        impl $name {
            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            #[allow(dead_code)]
            pub(crate) fn fixed(text: &'static str) -> Self {
                $name(text.to_owned())
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
pub(crate) use text;

text!(
    /// `X.Y.Z`, kept without a leading `v`.
    VersionText, "2.1.9", |text| {
        let bare = text.strip_prefix('v').unwrap_or(&text).to_owned();
        match semver::Version::parse(&bare) {
            Ok(_) => Ok(bare),
            Err(_) => Err(format!("`{text}` is not a version; expected X.Y.Z, for example 2.1.9")),
        }
    }
);

text!(
    /// A component of the catalogue.
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

text!(
    /// An architecture in any spelling.
    ArchName, "amd64", |text| match text.parse::<Arch>() {
        Ok(arch) => Ok(arch.name().to_owned()),
        Err(error) => Err(format!("{error}; {}", error.help.as_deref().unwrap_or_default())),
    }
);

impl ArchName {
    /// The architecture.
    pub fn arch(&self) -> Option<Arch> {
        self.0.parse().ok()
    }
}

text!(
    /// Text without control characters, so that it stays on its line in whatever file it reaches.
    OneLine, "registry.k8s.io/pause:3.10", |text| match text.chars().any(char::is_control) {
        true => Err("has a line break or a control character".to_owned()),
        false => Ok(text),
    }
);

text!(
    /// An http:// or https:// URL with a host, without credentials, query or fragment.
    MirrorUrl, "https://harbor.example", |text| {
        if text.contains('@') {
            return Err("credentials in a URL are not used by containerd; put them into `headers`".to_owned());
        }
        if !text.contains("://") {
            return Err(format!("`{text}` has no scheme; expected a URL such as https://{text}"));
        }
        let url = reqwest::Url::parse(&text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("scheme `{}` is not supported; expected http or https", url.scheme()));
        }
        if url.query().is_some() || url.fragment().is_some() || text.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\\')) {
            return Err(format!("`{}` is not a plain URL of scheme, host, port and path", text.escape_default()));
        }
        Ok(text.trim_end_matches('/').to_owned())
    }
);

text!(
    /// A registry as image references name it, `host` or `host:port`, or `_default`.
    RegistryName, "docker.io", |text| {
        // `[fd00::2]` without a port has colons of its own.
        let bare = text.ends_with(']');
        let (host, port) = text.rsplit_once(':').filter(|_| !bare).unwrap_or((&text, "0"));
        let host_is_plain = !host.is_empty()
            && !host.starts_with(['.', '-'])
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':'));
        match host_is_plain && port.parse::<u16>().is_ok() {
            true => Ok(text),
            false => Err(format!(
                "`{}` is not a registry's name; expected host or host:port as in an image reference, or _default",
                text.escape_default()
            )),
        }
    }
);

impl RegistryName {
    /// The directory below config_path: `host:port` becomes `host_port_` (containerd's
    /// core/remotes/docker/config/hosts.go, hostDirectory).
    pub fn directory(&self) -> String {
        match self.0.rsplit_once(':') {
            Some((host, port)) if !self.0.ends_with(']') => format!("{host}_{port}_"),
            _ => self.0.clone(),
        }
    }
}

text!(
    /// A kernel module.
    ModuleName, "br_netfilter", |text| {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        plain.then(|| text.clone()).ok_or_else(|| format!("`{}` is not a kernel module's name", text.escape_default()))
    }
);

text!(
    /// A kernel parameter.
    SysctlName, "net.ipv4.ip_forward", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '*');
        let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed);
        plain.then(|| text.clone()).ok_or_else(|| format!("`{}` is not a kernel parameter's name", text.escape_default()))
    }
);

text!(
    /// A Go duration.
    Duration, "5s", |text| {
        let units = ["ns", "us", "ms", "s", "m", "h"];
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
            let unit = rest[number..].find(|c: char| c.is_ascii_digit()).map_or(&rest[number..], |end| &rest[number..number + end]);
            if number == 0 || !units.contains(&unit) {
                break;
            }
            rest = &rest[number + unit.len()..];
        }
        match rest.is_empty() && !text.is_empty() {
            true => Ok(text),
            false => Err(format!("`{}` is not a duration; expected for example 5s or 1m30s", text.escape_default())),
        }
    }
);

text!(
    /// One directory in the image.
    Directory, "/etc/containerd/certs.d", |text| match ImagePath::new(&text) {
        // A list joined by colons makes containerd 2.1 and later skip every hosts.toml (containerd#12808).
        Ok(_) if text.contains(':') => Err(format!("`{text}` is more than one directory; expected exactly one")),
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{error}; expected one absolute directory")),
    }
);

impl Directory {
    /// Where containerd's documentation puts certs.d.
    pub fn certs() -> Self {
        Directory::fixed("/etc/containerd/certs.d")
    }

    /// As a path.
    pub fn path(&self) -> Result<ImagePath, crate::error::Failure> {
        ImagePath::new(&self.0)
    }
}

text!(
    /// A fragment of TOML.
    Toml, "[plugins.\"io.containerd.cri.v1.runtime\"]\nenable_selinux = true", |text| {
        match text.parse::<toml_edit::DocumentMut>() {
            Ok(_) => Ok(text),
            Err(error) => Err(format!("is not TOML: {}", error.message().trim_end().replace('\n', "; "))),
        }
    }
);

impl Default for Toml {
    fn default() -> Self {
        Toml::fixed("")
    }
}

/// A number or a text that stays on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(pub String);

impl Scalar {
    /// `1`
    pub fn one() -> Self {
        Scalar("1".to_owned())
    }
}

/// systemd's resource limit: a number, `infinity`, or `soft:hard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit(pub String);

/// Digests of an artifact.
#[derive(Debug, Clone)]
pub enum Sha256 {
    /// For the one architecture that is asked for.
    One(Digest),
    /// By architecture.
    Each(BTreeMap<Arch, Digest>),
}

impl Sha256 {
    /// The digest for `arch`.
    pub fn of(&self, arch: Arch) -> Option<Digest> {
        match self {
            Sha256::One(digest) => Some(*digest),
            Sha256::Each(digests) => digests.get(&arch).copied(),
        }
    }
}

/// Implements `Deserialize` by a visitor: the untagged enums of serde lose line and column.
macro_rules! visit {
    ($type:ty, $expected:literal, $schema:expr, { $($method:item)* }) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visit;

                impl<'de> Visitor<'de> for Visit {
                    type Value = $type;

                    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                        formatter.write_str($expected)
                    }

                    $($method)*
                }

                deserializer.deserialize_any(Visit)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let schema: fn(&mut SchemaGenerator) -> Schema = $schema;
                schema(generator)
            }
        }
    };
}
pub(crate) use visit;

visit!(Scalar, "a number or a text of one line", |_| json_schema!({"type": ["integer", "string"]}), {
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
        // sysctl.d(5) strips them: another value would be set than stands in the spec.
        if value.starts_with(' ') || value.ends_with(' ') {
            return Err(E::custom("begins or ends with a space, which sysctl.d does not keep"));
        }
        OneLine::try_from(value.to_owned()).map(|text| Scalar(text.0)).map_err(E::custom)
    }
});

visit!(
    Limit,
    "a number, infinity or soft:hard",
    |_| json_schema!({"type": ["integer", "string"], "examples": [1048576, "infinity", "1024:524288"]}),
    {
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Limit, E> {
            self.visit_str(&value.to_string())
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Limit, E> {
            self.visit_str(&value.to_string())
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<Limit, E> {
            let bound = |text: &str| text == "infinity" || text.parse::<u64>().is_ok();
            let parts: Vec<&str> = value.split(':').collect();
            match parts.len() <= 2 && parts.iter().all(|part| bound(part)) {
                true => Ok(Limit(value.to_owned())),
                false => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
            }
        }
    }
);

visit!(
    Sha256,
    "a SHA-256 digest, or one for each architecture",
    |_| json_schema!({"type": ["string", "object"], "additionalProperties": {"type": "string"}}),
    {
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Sha256, E> {
            value.parse().map(Sha256::One).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sha256, A::Error> {
            let mut digests = BTreeMap::new();
            while let Some((name, digest)) = map.next_entry::<ArchName, Digest>()? {
                let Some(arch) = name.arch() else { continue };
                if digests.insert(arch, digest).is_some() {
                    return Err(de::Error::custom(format_args!("duplicate key: two spellings of `{arch}`")));
                }
            }
            Ok(Sha256::Each(digests))
        }
    }
);

/// One file or several.
#[derive(Debug, Clone, Default)]
pub struct Files(pub Vec<PathBuf>);

/// Client certificates: a file that holds both, or a pair of certificate and key.
#[derive(Debug, Clone, Default)]
pub struct Clients(pub Vec<(PathBuf, Option<PathBuf>)>);

visit!(
    Files,
    "a file or a list of files",
    |_| json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    {
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Files, E> {
            Ok(Files(vec![PathBuf::from(value)]))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Files, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(sequence)).map(Files)
        }
    }
);

visit!(
    Clients,
    "a file, or a list of files and [certificate, key] pairs",
    |_| json_schema!({"type": ["string", "array"]}),
    {
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Clients, E> {
            Ok(Clients(vec![(PathBuf::from(value), None)]))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Clients, A::Error> {
            let mut clients = Vec::new();
            while let Some(Files(paths)) = sequence.next_element()? {
                match paths.as_slice() {
                    [file] => clients.push((file.clone(), None)),
                    [certificate, key] => clients.push((certificate.clone(), Some(key.clone()))),
                    _ => return Err(de::Error::custom("expected a pair [certificate, key]")),
                }
            }
            Ok(Clients(clients))
        }
    }
);
