//! Answers which hosts containerd asks for an image, and in which order.
//!
//! This module must not ask one of them.

use toml_edit::Item;

use crate::format::image_name::DOCKER_HUB;
use crate::format::toml::document;

/// A host that containerd may ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// URL of the host.
    pub url: String,
    /// URL under which it is asked for repositories.
    pub api: String,
    /// hosts.toml names the host in place of upstream.
    pub is_mirror: bool,
    /// The host may be asked which digest a tag has.
    pub resolves: bool,
}

/// Returns the names of the directories that containerd looks for; the first that exists decides (hostPaths in
/// core/remotes/docker/config/config_unix.go).
pub(crate) fn directories(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names.extend([registry.to_owned(), "_default".to_owned()]);
    names
}

/// Returns the hosts that containerd asks for an image of `registry`, in order: the mirrors of `hosts`, which is
/// the text of its hosts.toml, then the server that the text names, or else the registry itself. A mirror with the
/// capability to push alone is not asked.
pub(crate) fn candidates(registry: &str, hosts: Option<&str>) -> Vec<Host> {
    let document = hosts.and_then(|text| document(text).ok()).unwrap_or_default();
    let tables =
        document.get("host").and_then(Item::as_table_like).into_iter().flat_map(|hosts| hosts.iter());
    let mut candidates: Vec<Host> = tables
        .filter_map(|(url, table)| {
            // A mirror without the key has all capabilities.
            let named = table.get("capabilities").and_then(Item::as_array);
            let can =
                |what: &str| named.is_none_or(|named| named.iter().any(|value| value.as_str() == Some(what)));
            let asked = can("pull") || can("resolve");
            let has_path = table.get("override_path").and_then(Item::as_bool) == Some(true);
            let api = api(url, has_path);
            asked.then(|| Host { url: url.to_owned(), api, is_mirror: true, resolves: can("resolve") })
        })
        .collect();
    let upstream = if registry == DOCKER_HUB { "registry-1.docker.io" } else { registry };
    let server = document.get("server").and_then(Item::as_str);
    let is_upstream =
        server.is_none_or(|server| server.trim_end_matches('/').ends_with(&format!("//{upstream}")));
    let url = server.map_or_else(|| format!("https://{upstream}"), str::to_owned);
    let has_path = server.is_some() && document.get("override_path").and_then(Item::as_bool) == Some(true);
    let api = api(&url, has_path);
    candidates.push(Host { url, api, is_mirror: !is_upstream, resolves: true });
    candidates
}

/// Returns the URL under which containerd looks for the repositories of the host at `url` (`parseHostConfig` in
/// core/remotes/docker/config/hosts.go). `has_path` tells that the URL's path is the API's already.
fn api(url: &str, has_path: bool) -> String {
    let url = if url.starts_with("http") { url.to_owned() } else { format!("https://{url}") };
    let url = url.trim_end_matches('/');
    if has_path || url.ends_with("/v2") { url.to_owned() } else { format!("{url}/v2") }
}
