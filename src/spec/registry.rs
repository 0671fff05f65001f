//! The `registries` key: which servers images are really pulled from.
//!
//! This module must not know hosts.toml beyond the names of its keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Failure, Kind};
use crate::format::image_name::DOCKER_SITES;
use crate::spec::Spec;
use crate::spec::network::{HeaderName, MirrorUrl, RegistryName};
use crate::spec::scalar::{Duration, OneLine};
use crate::spec::value::{Clients, Files, visit};

/// Registry as images name it, with the servers that its images are really pulled from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    /// The upstream that is tried after the mirrors; default: the registry itself
    pub server: Option<MirrorUrl>,
    /// Never fall back to the upstream
    pub strict: bool,
    /// Tried in this order
    pub mirrors: Vec<Mirror>,
}

/// File of certificates or a key, as it was read on the build host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CertificateFile {
    /// Content of the file.
    pub bytes: Vec<u8>,
    /// Others than its owner and its group can't read it.
    pub is_private: bool,
}

/// Most registries of a spec: each is a directory and a file in the root.
const MOST_REGISTRIES: usize = 1000;

/// Most mirrors of all registries, and most certificates: far more than a node's containerd can try.
const MOST_MIRRORS: usize = 4000;

impl Spec {
    /// Refuses more registries, mirrors and certificates than a root's plan has room for.
    pub(super) fn check_registries(&self) -> Result<(), Failure> {
        let mirrors = self.registries.values().map(|registry| registry.mirrors.len()).sum();
        let counts = [
            (self.registries.len(), MOST_REGISTRIES, "registries"),
            (mirrors, MOST_MIRRORS, "mirrors"),
            (self.certificate_paths().len(), MOST_REGISTRIES, "certificates and keys"),
        ];
        match counts.into_iter().find(|(count, most, _)| count > most) {
            Some((count, most, what)) => {
                let message = format!("registries: {count} {what}; at most {most} are supported");
                Err(Failure::new(Kind::Invalid, message)
                    .help("`_default` is for all registries that have the same mirrors"))
            }
            None => Ok(()),
        }
    }

    /// Returns the certificates and keys that mirrors name, relative to the spec's folder, sorted.
    pub(crate) fn certificate_paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.certificates().map(|(_, path)| path.clone()).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Iterates over the certificates and keys that mirrors name, each with its registry.
    pub(super) fn certificates(&self) -> impl Iterator<Item = (&RegistryName, &PathBuf)> {
        let mirrors = self
            .registries
            .iter()
            .flat_map(|(name, registry)| registry.mirrors.iter().map(move |mirror| (name, mirror)));
        mirrors.flat_map(|(name, Mirror { ca, client, .. })| {
            let clients =
                client.0.iter().flat_map(|(certificate, key)| std::iter::once(certificate).chain(key));
            ca.0.iter().chain(clients).map(move |path| (name, path))
        })
    }
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
pub(crate) struct Mirror {
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
    pub headers: BTreeMap<HeaderName, OneLine>,
    /// How long to wait for a connection, for example 5s
    pub dial_timeout: Option<Duration>,
}

/// What a mirror can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Capability {
    /// Fetch manifests and blobs by digest
    Pull,
    /// Turn a tag into a digest
    Resolve,
    /// Upload
    Push,
}

impl Capability {
    /// Returns the name in hosts.toml.
    pub(crate) fn name(self) -> &'static str {
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

visit!(
    Registry,
    "a map such as {mirrors: [{url: https://harbor.example}]}",
    |generator| generator.subschema_for::<RegistryKeys>(),
    {
        fn visit_unit<E: de::Error>(self) -> Result<Registry, E> {
            Ok(Registry::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Registry, A::Error> {
            let keys = RegistryKeys::deserialize(MapAccessDeserializer::new(map))?;
            let RegistryKeys { server, strict, mirrors } = keys;
            let registry = Registry { server, strict, mirrors };
            registry.check().map_err(de::Error::custom)?;
            Ok(registry)
        }
    }
);

/// Refuses Docker's web sites: they answer a request for an image with a page.
fn check_host(url: &MirrorUrl, key: &str) -> Result<(), String> {
    match DOCKER_SITES.contains(&url.host()) {
        true => Err(format!(
            "{key} `{url}` is a web site and not Docker Hub's registry; leave it out, since containerd asks \
             https://registry-1.docker.io by itself, or write that"
        )),
        false => Ok(()),
    }
}

/// Refuses a path that is wrong once containerd has appended `/v2` (`parseHostConfig` in
/// core/remotes/docker/config/hosts.go): it does so unless the path ends in it.
fn check_appended(url: &MirrorUrl, shown: &str, remedy: &str) -> Result<(), String> {
    let mut parts = url.path().rsplit('/');
    let last = parts.next().unwrap_or_default();
    let has_version = last == "v1" || (last != "v2" && parts.any(|part| part == "v2"));
    match has_version {
        true => Err(format!("{shown}: containerd appends /v2 to it and asks {url}/v2/REPOSITORY; {remedy}")),
        false => Ok(()),
    }
}

impl Mirror {
    /// Checks the keys against each other.
    fn check(&self) -> Result<(), String> {
        let shown = format!("mirror `{}`", self.url);
        if self.capabilities.is_empty() {
            return Err(format!("{shown} has no capability; expected pull, resolve or push"));
        }
        check_host(&self.url, "mirror")?;
        let end = self.url.path().rfind("/v2/").map_or("", |at| &self.url.path()[at..]);
        match self.override_path {
            true if self.url.path().is_empty() => {
                return Err(format!(
                    "{shown} has no path: with `override_path` it is that of the API, such as {}/v2",
                    self.url
                ));
            }
            true => {}
            false => {
                let remedy = format!("set `override_path: true`, or leave {end} out of the URL");
                check_appended(&self.url, &shown, &remedy)?;
            }
        }
        let mut names: Vec<String> = self.headers.keys().map(|name| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("{shown} has the header `{}` twice, in other letters", pair[0])),
            None => Ok(()),
        }
    }
}

impl Registry {
    /// Checks the keys against each other.
    fn check(&self) -> Result<(), String> {
        if self.strict && self.mirrors.is_empty() {
            return Err("`strict` needs at least one mirror".to_owned());
        }
        if self.strict && self.server.is_some() {
            return Err("`strict` makes the last mirror the server; leave out `server`".to_owned());
        }
        let can_pull = |mirror: &Mirror| mirror.capabilities.contains(&Capability::Pull);
        if self.strict && !self.mirrors.iter().any(can_pull) {
            return Err(
                "`strict`, and no mirror has the capability `pull`: no image could be pulled".to_owned()
            );
        }
        if let Some(server) = &self.server {
            check_host(server, "server")?;
            let remedy = "use `strict` with a mirror that has `override_path: true`";
            check_appended(server, &format!("server `{server}`"), remedy)?;
        }
        self.mirrors.iter().try_for_each(Mirror::check)?;
        let mut urls: Vec<_> = self.mirrors.iter().map(|mirror| &*mirror.url).collect();
        urls.sort_unstable();
        match urls.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("mirror `{}` stands there twice", pair[0])),
            None => Ok(()),
        }
    }
}
