//! The `containerd.package` key: which package brings containerd, and from where.
//!
//! This module must not know a package manager: `packages/manager/repository.rs` writes the repository's files,
//! and `packages/install.rs` installs.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::format::openpgp::Fingerprint;
use crate::redacted::redacted;
use crate::spec::scalar::{OneLine, checked_text};
use crate::spec::value::visit;

/// The package that containerd comes with.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Package {
    /// Its name; default: containerd from the distribution, containerd.io from anywhere else
    pub name: Option<PackageName>,
    /// Its version, upstream's X.Y.Z or the package's own; default: the one in place, else the newest
    pub version: Option<PackageVersion>,
    /// Where it comes from
    pub repository: Repository,
    /// Keep upgrades of the system from replacing it
    pub hold: bool,
}

impl Package {
    /// Returns the package's name.
    pub(crate) fn name(&self) -> &str {
        match (&self.name, &self.repository) {
            (Some(name), _) => name,
            (None, Repository::Distro) => "containerd",
            (None, _) => "containerd.io",
        }
    }
}

/// Origin of a package.
#[derive(Debug, Clone, Default)]
pub(crate) enum Repository {
    /// The repositories that the root is configured with.
    #[default]
    Distro,
    /// Docker's own repository.
    Docker,
    /// Another repository, such as a mirror of Docker's.
    At(Box<Site>),
    /// A package file, or a directory of them.
    Files(PathBuf),
}

/// Repository that is not built in.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// URL of the repository; dnf's variables such as $basearch are left as they are.
    pub url: RepositoryUrl,
    /// OpenPGP key, a file beside the spec or a URL; none stands for Docker's.
    pub key: Option<OneLine>,
    /// Fingerprints that the key may have; empty accepts any key from a file.
    pub fingerprints: Vec<Fingerprint>,
    /// apt's suite; none stands for the root's codename.
    pub suite: Option<Word>,
    /// apt's components.
    pub components: Vec<Word>,
}

/// The keys of a repository, before it is known which kind it is.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Repository")]
struct RepositoryKeys {
    /// A .deb or .rpm file, or a directory of them; stands alone
    path: Option<PathBuf>,
    /// Where the repository is
    url: Option<RepositoryUrl>,
    /// Its OpenPGP key: a file beside the spec, or a URL; default: Docker's
    key: Option<OneLine>,
    /// Fingerprints that the key may have; needed where the key comes from a URL
    fingerprint: Fingerprints,
    /// apt's suite, ./ for a flat repository; default: the root's codename
    suite: Option<Word>,
    /// apt's components; default: stable
    components: Option<Vec<Word>>,
}

impl RepositoryKeys {
    /// Checks the keys against each other.
    fn repository(self) -> Result<Repository, String> {
        let RepositoryKeys { path, url, key, fingerprint: Fingerprints(fingerprints), suite, components } =
            self;
        let alone = url.is_none()
            && key.is_none()
            && fingerprints.is_empty()
            && suite.is_none()
            && components.is_none();
        match (path, url) {
            (Some(path), None) if alone => Ok(Repository::Files(path)),
            (Some(_), _) => Err("`path` stands alone: package files need no other key".to_owned()),
            (None, None) => Err("a repository needs `url`, or `path` for package files".to_owned()),
            (None, Some(url)) => {
                let remote = key.as_ref().is_some_and(|key| key.contains("://"));
                if remote && fingerprints.is_empty() {
                    return Err("`key` from a URL needs the `fingerprint` that it must have".to_owned());
                }
                let components = components.unwrap_or_else(|| vec![Word("stable".to_owned())]);
                Ok(Repository::At(Box::new(Site { url, key, fingerprints, suite, components })))
            }
        }
    }
}

checked_text!(
    /// Name of a package, in Debian's or RPM's alphabet.
    PackageName, "containerd.io", |text| {
        let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'));
        if plain { Ok(text) } else { Err(format!("`{}` is not a package's name", text.escape_default())) }
    }
);

checked_text!(
    /// Version of a package: upstream's, or with the package's own revision.
    PackageVersion, "1.7.24-1", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~' | ':' | '_' | '^');
        let plain = text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(allowed);
        if plain { Ok(text) } else { Err(format!("`{}` is not a package's version; expected for example 1.7.24 or 1.7.24-1", text.escape_default())) }
    }
);

checked_text!(
    /// Word of an apt sources file.
    Word, "bookworm", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~' | '_' | '/');
        let plain = !text.is_empty() && !text.starts_with('-') && text.chars().all(allowed);
        if plain { Ok(text) } else { Err(format!("`{}` is not one plain word", text.escape_default())) }
    }
);

checked_text!(
    /// URL of a repository: http://, https:// or file://, without credentials.
    RepositoryUrl, "https://mirror.example/docker/linux/debian", |text| {
        if text.contains('@') {
            return Err("credentials do not belong into a URL that is written into the image".to_owned());
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("http" | "https" | "file")) {
            return Err(format!("`{}` is no URL of a repository; expected http://, https:// or file://", redacted(&text).escape_default()));
        }
        match text.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | '#' | '?' | '[' | ']')) {
            true => Err(format!("`{}` is not a plain URL: it has a query, or a character that would need quotes", redacted(&text).escape_default())),
            false => Ok(text.trim_end_matches('/').to_owned()),
        }
    }
);

/// Fingerprints of the keys that are accepted.
#[derive(Default)]
struct Fingerprints(Vec<Fingerprint>);

visit!(
    Fingerprints,
    "the 40 hexadecimal digits of a fingerprint, or a list",
    |_| json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    {
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Fingerprints, E> {
            value.parse().map(|one| Fingerprints(vec![one])).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Fingerprints, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(sequence)).map(Fingerprints)
        }
    }
);

visit!(
    Repository,
    "distro, docker, {url: https://mirror.example/docker} or {path: ./packages}",
    |generator| {
        let keys = generator.subschema_for::<RepositoryKeys>();
        json_schema!({"anyOf": [{"enum": ["distro", "docker"]}, keys]})
    },
    {
        fn visit_str<E: de::Error>(self, name: &str) -> Result<Repository, E> {
            match name {
                "distro" => Ok(Repository::Distro),
                "docker" => Ok(Repository::Docker),
                _ => Err(E::invalid_value(de::Unexpected::Str(name), &self)),
            }
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Repository, A::Error> {
            let keys = RepositoryKeys::deserialize(MapAccessDeserializer::new(map))?;
            keys.repository().map_err(de::Error::custom)
        }
    }
);
