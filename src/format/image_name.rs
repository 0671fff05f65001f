//! Names of container images, `registry/repository:tag@digest`, as the runtimes read them.
//!
//! This module must not ask a registry.
//!
//! Source: reference/regexp.go and reference/normalize.go of distribution/reference, which containerd, the kubelet and
//! CRI-O use.

/// Registry of images that name none.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// Hosts that belong to Docker Hub and that no image's registry is: an older name of [`DOCKER_HUB`], which is replaced
/// by it, and web sites.
pub(crate) const DOCKER_SITES: [&str; 6] =
    ["docker.io", "index.docker.io", "hub.docker.com", "www.docker.com", "www.docker.io", "docker.com"];

/// Longest name without tag and digest.
const LONGEST: usize = 255;

/// Length of an image's ID, which is no name.
const LENGTH_OF_ID: usize = 64;

/// Parts of an image's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageName<'a> {
    /// The registry, which a name without one leaves to [`DOCKER_HUB`].
    pub registry: &'a str,
    /// The tag.
    pub tag: Option<&'a str>,
    /// The digest, with its algorithm.
    pub digest: Option<&'a str>,
}

/// Parses the name of an image. The error says which part is wrong.
pub(crate) fn parse(text: &str) -> Result<ImageName<'_>, &'static str> {
    if text.contains("://") {
        return Err("an image's name has no scheme");
    }
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("its digest is not `sha256:` and 64 hexadecimal digits");
    }
    let in_last = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[in_last..].split_once(':') {
        Some((last, tag)) => (&name[..in_last + last.len()], Some(tag)),
        None => (name, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("its tag has a character that no tag has");
    }
    if text.len() == LENGTH_OF_ID && text.bytes().all(is_hexadecimal) {
        return Err("it is an image's ID");
    }
    let (registry, repository) = split_registry(name);
    if !is_registry(registry) {
        return Err("its registry is no host's name");
    }
    if name.len() > LONGEST || !repository.split('/').all(is_path_component) {
        return Err("its repository is not in lower case letters, digits, `.`, `_`, `-` and `/`");
    }
    Ok(ImageName { registry, tag, digest })
}

/// Returns the registry of an image, and the rest of its name.
pub(crate) fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", repository)) => (DOCKER_HUB, repository),
        Some((first, repository)) if names_registry(first) => (first, repository),
        _ => (DOCKER_HUB, name),
    }
}

/// Returns whether the first part of an image's name is a registry and not a part of a repository of Docker Hub.
pub(crate) fn names_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase)
}

/// Returns whether `text` has the form of a registry in an image's name: a host, and a port where it has one.
pub(crate) fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rfind(':').filter(|_| !text.ends_with(']')) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    is_host(host) && port.is_none_or(is_port)
}

/// Returns whether `text` is a host's name, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        // An address that ends as one of IPv4 has dots, which no name of an image has in brackets.
        return !address.contains('.') && address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_component = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.split('.').all(is_component)
}

/// Returns whether `text` is a part of a repository: words of lower case letters and digits with `.`, `_`, `__` or any
/// number of `-` between them.
fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let mut separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_word(*first) && is_word(*last) && separators.all(|between| between.is_empty() || is_separator(between))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    (1..=128).contains(&bytes.len())
        && is_word(bytes[0])
        && bytes.iter().all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let length = match text.split_once(':') {
        Some(("sha256", digits)) => (digits, 64),
        Some(("sha384", digits)) => (digits, 96),
        Some(("sha512", digits)) => (digits, 128),
        _ => return false,
    };
    length.0.len() == length.1 && length.0.bytes().all(is_hexadecimal)
}

fn is_hexadecimal(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::{is_registry, names_registry, parse};

    #[test]
    fn the_registry_of_a_name_is_distributions() {
        for (image, registry) in [
            ("nginx", "docker.io"),
            ("library/nginx:alpine", "docker.io"),
            ("harbor/nginx", "docker.io"),
            ("index.docker.io/library/nginx", "docker.io"),
            ("registry-1.docker.io/library/nginx", "registry-1.docker.io"),
            ("localhost/x", "localhost"),
            ("harbor:5000/a/b", "harbor:5000"),
            ("[::1]:5000/a", "[::1]:5000"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io"),
        ] {
            assert_eq!(parse(image).unwrap().registry, registry, "{image}");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!("r.example/a__b--c.d_e:v1.0_x@{digest}");
        let name = parse(&text).unwrap();
        assert_eq!((name.tag, name.digest), (Some("v1.0_x"), Some(digest.as_str())));
        assert!(parse(&format!("{}:tag", "0".repeat(64))).is_ok());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for image in [
            "",
            "https://r.example/a",
            "r.example/A",
            "r.example/a:",
            "r.example/a:b c",
            "r.example/a b",
            "r.example//a",
            "r.example/a_-b",
            "r.example/-a",
            "a:b:c",
            "r_x:5000/a",
            "r.example:0/a",
            "r.example:x/a",
            "fd00::2/a",
            "r.example/a@sha256:abc",
            "r.example/a@",
            "r.example/a:.b",
            "[::ffff:1.2.3.4]/a",
            &"a".repeat(64),
        ] {
            assert!(parse(image).is_err(), "{image}");
        }
        assert!(
            !is_registry("registry.example:5000:1")
                && !is_registry("r.example:+5")
                && !is_registry("fd00::2")
        );
        assert!(!names_registry("harbor") && names_registry("harbor:443"));
    }
}
