//! Values that the spec accepts in more than one form.
//!
//! This module must not look at other keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::arch::Arch;
use crate::digest::Digest;
use crate::spec::scalar::{ArchName, OneLine};

/// Number, or text that stays on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar(pub String);

impl Scalar {
    /// Returns `1`.
    pub(super) fn one() -> Self {
        Scalar("1".to_owned())
    }
}

/// Resource limit as systemd writes it: a number, `infinity`, or `soft:hard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit(pub String);

/// Digests of an artifact.
#[derive(Debug, Clone)]
pub(crate) enum Sha256 {
    /// The digest for whichever architecture is asked for.
    One(Digest),
    /// Digests by architecture.
    Each(BTreeMap<Arch, Digest>),
}

impl Sha256 {
    /// Returns the digest for `arch`.
    pub(crate) fn of(&self, arch: Arch) -> Option<Digest> {
        match self {
            Sha256::One(digest) => Some(*digest),
            Sha256::Each(digests) => digests.get(&arch).copied(),
        }
    }
}

/// Paths of one file or several.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(pub Vec<PathBuf>);

/// Client certificates: a file that holds both, or a pair of certificate and key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clients(pub Vec<(PathBuf, Option<PathBuf>)>);

/// Implements `Deserialize` by a visitor, because the untagged enums of serde lose line and column.
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

pub(super) use visit;

visit!(Scalar, "a number or a text of one line", |_| json_schema!({"type": ["integer", "string"]}), {
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
        if value.is_empty() {
            return Err(E::custom("is empty, which the kernel refuses"));
        }
        // sysctl.d(5) strips spaces at the ends: another value would be set than the spec's.
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
            let bound = |text: &str| match text {
                "infinity" => Some(u64::MAX),
                number => number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit())),
            };
            let bounds: Option<Vec<u64>> = value.split(':').map(bound).collect();
            match bounds.as_deref() {
                Some([0, ..]) => Err(E::custom("a service with a limit of 0 can open no file")),
                Some([soft, hard]) if soft > hard => {
                    Err(E::custom("the soft limit is above the hard one, and systemd ignores both"))
                }
                Some([_] | [_, _]) => Ok(Limit(value.to_owned())),
                _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
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
