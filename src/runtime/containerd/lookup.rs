//! Answers which hosts containerd asks for an image, and in which order.
//!
//! This module must not ask one of them.

use toml_edit::Item;

use crate::format::toml::document;

/// A host that containerd may ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// URL of the host.
    pub url: String,
    /// hosts.toml names the host in place of upstream.
    pub is_mirror: bool,
    /// The host may be asked which digest a tag has.
    pub resolves: bool,
}

/// Returns the registry of an image reference: the part before the first slash if it looks like a host, else
/// docker.io (distribution's reference/normalize.go).
pub(crate) fn of_image(image: &str) -> &str {
    match image.split_once('/') {
        // The older name of docker.io.
        Some(("index.docker.io", _)) => "docker.io",
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
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
            asked.then(|| Host { url: url.to_owned(), is_mirror: true, resolves: can("resolve") })
        })
        .collect();
    let upstream = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let server = document.get("server").and_then(Item::as_str);
    let is_upstream =
        server.is_none_or(|server| server.trim_end_matches('/').ends_with(&format!("//{upstream}")));
    let url = server.map_or_else(|| format!("https://{upstream}"), str::to_owned);
    candidates.push(Host { url, is_mirror: !is_upstream, resolves: true });
    candidates
}
