//! Whom containerd asks for an image, and in which order.

use toml_edit::{DocumentMut, Item};

/// A host that containerd may ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its URL.
    pub url: String,
    /// Whether hosts.toml names it in upstream's place.
    pub is_mirror: bool,
    /// Whether it may be asked which digest a tag has.
    pub resolves: bool,
}

/// The registry of an image reference: the part before the first slash where it looks like a host,
/// else docker.io (distribution's reference/normalize.go).
pub(crate) fn of_image(image: &str) -> &str {
    match image.split_once('/') {
        // Its older name.
        Some(("index.docker.io", _)) => "docker.io",
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// The directories that containerd looks for, the first that exists decides (hostPaths in
/// core/remotes/docker/config/config_unix.go).
pub(crate) fn directories(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':') {
        names.push(format!("{host}_{port}_"));
    }
    names.extend([registry.to_owned(), "_default".to_owned()]);
    names
}

/// Whom containerd asks for an image of `registry`, in order: the mirrors of `hosts`, the text of its
/// hosts.toml, then the server that it names, else the registry itself. A mirror for uploads alone is
/// none of them.
pub(crate) fn candidates(registry: &str, hosts: Option<&str>) -> Vec<Host> {
    let document = hosts.and_then(|text| text.parse::<DocumentMut>().ok()).unwrap_or_default();
    let tables =
        document.get("host").and_then(Item::as_table_like).into_iter().flat_map(|hosts| hosts.iter());
    let mut candidates: Vec<Host> = tables
        .filter_map(|(url, table)| {
            // Without the key it may do everything.
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
