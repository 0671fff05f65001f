//! Kinds of strings that say where images are pulled from, each by the grammar of its reader: what containerd can't
//! parse, it drops without a message and asks upstream.
//!
//! This module must not look at other keys.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::net::Ipv4Addr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use crate::format::go_url::{self, GoUrl};
use crate::format::image_name::{self, DOCKER_HUB, DOCKER_SITES};
use crate::redacted::redacted;
use crate::spec::scalar::checked_text;

/// Longest part of a host's name (RFC 1035, 2.3.4).
const LONGEST_PART: usize = 63;

/// Longest name of a host.
const LONGEST_NAME: usize = 253;

/// Headers that Go's HTTP client does not send as they are given (`reqWriteExcludeHeader` in net/http/request.go).
const NOT_SENT: [&str; 4] = ["host", "content-length", "transfer-encoding", "trailer"];

checked_text!(
    /// URL of a mirror: http:// or https:// with a host, without credentials, query or fragment; scheme and host in lower
    /// case.
    MirrorUrl, "https://harbor.example", |text| mirror_url(&text)
);

checked_text!(
    /// Name of a registry in image references, `host` or `host:port`, or `_default`.
    RegistryName, "docker.io", |text| match misnamed_registry(&text) {
        None => Ok(text),
        Some(why) => Err(format!("`{}` {why}", text.escape_default())),
    }
);

checked_text!(
    /// Name of an HTTP header.
    HeaderName, "Authorization", |text| {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if text.is_empty() || !text.chars().all(is_token) {
            return Err(format!(
                "`{}` is not a header's name: expected letters, digits and -, such as X-Token",
                text.escape_default()
            ));
        }
        match NOT_SENT.contains(&text.to_ascii_lowercase().as_str()) {
            true => Err(format!("`{text}` has no effect: containerd's HTTP client sets it itself")),
            false => Ok(text),
        }
    }
);

fn mirror_url(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err("credentials in a URL are not used by containerd; put them into `headers`".to_owned());
    }
    let shown = redacted(text).escape_default().to_string();
    if !text.contains("://") {
        return Err(format!("`{shown}` has no scheme; expected a URL such as https://{shown}"));
    }
    if has_schemes(text) {
        return Err(format!(
            "`{shown}` has more than one scheme; expected one, such as https://harbor.example"
        ));
    }
    let GoUrl { scheme, host, port, path, has_query, has_fragment, .. } =
        go_url::parse(text).map_err(|why| format!("`{shown}` is not a URL: {why}"))?;
    if !matches!(&*scheme, "http" | "https") {
        return Err(format!("scheme `{scheme}` is not supported; expected http or https"));
    }
    if has_query || has_fragment || text.chars().any(|c| c.is_whitespace() || matches!(c, '"' | '\\')) {
        return Err(format!("`{shown}` is not a plain URL of scheme, host, port and path"));
    }
    if let Some(why) = unreachable_host(host, port) {
        return Err(format!("`{shown}` is not a URL of a server: {why}"));
    }
    let path = path_of_api(path).map_err(|why| format!("`{shown}`: {why}"))?;
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{scheme}://{}{port}{path}", host.to_ascii_lowercase()))
}

/// Returns whether a URL has another one behind its scheme, whose scheme would be the host.
pub(super) fn has_schemes(text: &str) -> bool {
    text.matches("://").count() > 1
}

/// Tells why no server can be at a host.
pub(super) fn unreachable_host(host: &str, port: Option<&str>) -> Option<&'static str> {
    let has_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let name = host.strip_suffix('.').unwrap_or(host);
    match () {
        () if host.is_empty() => Some("it has no host"),
        () if !host.is_ascii() => Some("its host is not in ASCII: write the name that begins with xn--"),
        () if !has_port => Some("its port is not between 1 and 65535"),
        () if host.starts_with('[') => None,
        () if name.split('.').any(|part| part.is_empty() || part.len() > LONGEST_PART) => {
            Some("a part of its host's name is empty or too long")
        }
        () if name.len() > LONGEST_NAME => Some("its host's name is too long"),
        () if is_broken_address(name) => Some("its host is no IPv4 address, and no name ends in a number"),
        () => None,
    }
}

/// Returns whether a host ends in a number, as an address does, and is none.
pub(super) fn is_broken_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    // The name of one machine can be 10-0-0-1, and no domain ends in that.
    let is_name = !host.contains('.') && last.contains('-');
    let is_number =
        !is_name && last.starts_with(|c: char| c.is_ascii_digit()) && !last.contains(char::is_alphabetic);
    is_number && host.parse::<Ipv4Addr>().is_err()
}

/// Returns the path as containerd cleans it, without a slash at the end. containerd decodes a path and parses the URL
/// that it makes of it once more (`request.String` in core/remotes/docker/resolver.go).
fn path_of_api(path: &str) -> Result<String, &'static str> {
    let mut clean = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let decoded = go_url::unescaped(part)?;
        if matches!(&decoded[..], b"." | b"..") {
            return Err("its path has a part `.` or `..`, which containerd takes away");
        }
        if decoded.iter().any(|byte| matches!(byte, b'%' | b'?' | b'#' | b'/' | 0..=0x1f | 0x7f)) {
            return Err(
                "its path has an encoded `/`, `?`, `#` or `%`, which containerd decodes and reads again",
            );
        }
        clean = clean + "/" + part;
    }
    Ok(clean)
}

impl MirrorUrl {
    /// Returns the host, without the port.
    pub(super) fn host(&self) -> &str {
        go_url::parse(&self.0).map_or("", |url| url.host)
    }

    /// Returns the path, without a slash at the end.
    pub(super) fn path(&self) -> &str {
        go_url::parse(&self.0).map_or("", |url| url.path)
    }
}

/// Tells why no image is of the registry `text`, in words that follow the name.
fn misnamed_registry(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let is_site = DOCKER_SITES.contains(&lower.as_str());
    if text == "_default" || text == DOCKER_HUB {
        return None;
    }
    if is_site {
        return Some(format!(
            "is no image's registry: images of Docker Hub are {DOCKER_HUB}'s, use `{DOCKER_HUB}`"
        ));
    }
    if !image_name::is_registry(text) {
        let expected = "expected host or host:port as in an image reference, or _default";
        return Some(format!("is not a registry's name; {expected}"));
    }
    (!image_name::names_registry(text)).then(|| {
        format!(
            "is no image's registry: without a dot or a port the image `{text}/x` is {DOCKER_HUB}'s; expected a name such \
             as {text}.example or {text}:443"
        )
    })
}

impl RegistryName {
    /// Returns whether `name` has the alphabet of what [`RegistryName::directory`] returns.
    pub(crate) fn is_directory(name: &str) -> bool {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
        !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(allowed)
    }

    /// Returns the name of the directory below config_path: `host:port` becomes `host_port_` (containerd's
    /// core/remotes/docker/config/hosts.go, hostDirectory).
    pub(crate) fn directory(&self) -> String {
        match self.0.rsplit_once(':') {
            Some((host, port)) if !self.0.ends_with(']') => format!("{host}_{port}_"),
            _ => self.0.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HeaderName, MirrorUrl, RegistryName};

    fn refused<T: TryFrom<String, Error = String>>(text: &str) -> String {
        T::try_from(text.to_owned()).err().unwrap_or_else(|| panic!("`{text}` was accepted"))
    }

    #[test]
    fn a_mirror_is_written_as_it_was_understood() {
        for (text, written) in [
            ("HTTP://Harbor.example:15080", "http://harbor.example:15080"),
            ("https://m.example/", "https://m.example"),
            ("https://m.example//a///b/", "https://m.example/a/b"),
            ("http://[::1]:15081", "http://[::1]:15081"),
            ("https://10.0.0.1:5000", "https://10.0.0.1:5000"),
            ("https://10-0-0-1:5000", "https://10-0-0-1:5000"),
            ("https://m-1_a.example.", "https://m-1_a.example."),
            ("https://m.example/a_b-c~d+e,f(g)=h/münchen", "https://m.example/a_b-c~d+e,f(g)=h/münchen"),
        ] {
            assert_eq!(&*MirrorUrl::try_from(text.to_owned()).unwrap(), written);
        }
        for text in [
            "https://",
            "https:///m.example",
            "https://m.example/%zz",
            "https://m.example/a%2Fb",
            "https://m.example/%3fx",
            "https://m.example/../x",
            "https://m.example/%2e%2E/x",
            "https://m:0",
            "https://m:99999",
            "https://m:x",
            "https://münchen.example",
            "https://m%41.example",
            "https://u:p@m",
            "ftp://m",
            "m.example",
            "https://m\\x",
            "https://[fe80::1%25eth0]",
            "https://m?x",
            "https://m#x",
            "https://a b",
            "https://https://m.example",
            "https://m..example",
            "https://.m.example",
            "https://10.0.0.256",
            "https://10.0.0",
            &format!("https://{}.example", "a".repeat(64)),
            &format!("https://{}example", "a.".repeat(130)),
        ] {
            refused::<MirrorUrl>(text);
        }
    }

    #[test]
    fn a_registry_is_one_that_images_can_name() {
        for text in [
            "docker.io",
            "registry-1.docker.io",
            "harbor:5000",
            "[fd00::2]",
            "[::1]:5000",
            "localhost",
            "_default",
        ] {
            assert!(RegistryName::try_from(text.to_owned()).is_ok(), "{text}");
        }
        for text in ["index.docker.io", "Docker.io", "hub.docker.com"] {
            assert!(refused::<RegistryName>(text).contains("use `docker.io`"), "{text}");
        }
        assert!(refused::<RegistryName>("harbor").contains("harbor:443"));
        for text in [
            "fd00::2",
            "registry.example:5000:1",
            "r_x.example",
            "r.example:+5",
            "r.example:0",
            "*",
            "a..b",
            "-a.b",
        ] {
            refused::<RegistryName>(text);
        }
    }

    #[test]
    fn a_header_is_one_that_is_sent() {
        assert!(HeaderName::try_from("X-Team.a_b~c".to_owned()).is_ok());
        for text in ["Authorization:", "X Team", "", "Ünion", "Host", "transfer-encoding", "a(b)"] {
            refused::<HeaderName>(text);
        }
    }
}
