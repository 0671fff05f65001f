//! Kinds of strings that say how a proxy is reached, as Go's HTTP client reads them: past one that it can't parse it goes
//! without a message.
//!
//! This module must not look at other keys.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use crate::format::go_url;
use crate::redacted::redacted;
use crate::spec::network::{has_schemes, is_broken_address, unreachable_host};
use crate::spec::scalar::checked_text;

/// Schemes of a proxy that Go's HTTP client speaks (`dialConn` in net/http/transport.go).
const PROXY_SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

checked_text!(
    /// URL of a proxy as Go's HTTP client reads it.
    ProxyUrl, "http://proxy.example:3128", |text| match unreadable_proxy(&text) {
        None => Ok(text),
        Some(why) => Err(format!(
            "is not a proxy that containerd can use: {why}; expected for example http://proxy.example:3128; special \
             characters of a user or a password are written as % and two hexadecimal digits, `%` as %25"
        )),
    }
);

checked_text!(
    /// Hosts that are reached without the proxy, with commas between them.
    NoProxy, "localhost,.svc,10.0.0.0/8", |text| {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        for entry in entries {
            if let Some(why) = unmatched(entry) {
                return Err(format!("`{}` matches no host: {why}", redacted(entry).escape_default()));
            }
        }
        match text.chars().any(char::is_control) {
            true => Err("has a line break or a control character".to_owned()),
            false => Ok(text),
        }
    }
);

/// Tells why Go's HTTP client does not use the proxy `text`, or uses another one, without showing it: it can have a
/// password. Go tries a text again behind `http://` (`parseProxy` in golang.org/x/net/http/httpproxy).
fn unreadable_proxy(text: &str) -> Option<&'static str> {
    let behind_scheme = format!("http://{text}");
    let url = match go_url::parse(text) {
        Ok(url) if !url.scheme.is_empty() && !url.host.is_empty() => url,
        Err(why) if text.contains("://") => return Some(why),
        _ if text.contains("://") => return Some("it has no host"),
        _ => match go_url::parse(&behind_scheme) {
            Ok(url) => url,
            Err(why) => return Some(why),
        },
    };
    match () {
        () if !PROXY_SCHEMES.contains(&&*url.scheme) => {
            Some("its scheme is none of http, https, socks5 and socks5h")
        }
        () if url.has_query || url.has_fragment => Some("a `?` or `#` ends its host"),
        () if has_schemes(text) => Some("it has more than one scheme"),
        () => unreachable_host(url.host, url.port),
    }
}

/// Tells why an entry of NO_PROXY matches no host (`config.init` in golang.org/x/net/http/httpproxy).
fn unmatched(entry: &str) -> Option<&'static str> {
    let is_network = |text: &str| {
        text.split_once('/').is_some_and(|(address, bits)| {
            let most = match address.parse() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.len() <= 3
                && bits.bytes().all(|byte| byte.is_ascii_digit())
                && bits.parse().is_ok_and(|bits: u8| bits <= most)
        })
    };
    match () {
        () if entry == "*" || is_network(entry) || entry.parse::<IpAddr>().is_ok() => None,
        () if entry.contains(char::is_whitespace) || entry.contains(';') => {
            Some("hosts are separated by commas")
        }
        () if entry.contains("://") => Some("it is a URL; expected a host, a domain or a network"),
        () if entry.contains('@') => Some("it names a user"),
        () if entry.contains('/') => Some("it is no network such as 10.0.0.0/8"),
        () => unmatched_host(entry),
    }
}

/// Tells why a host or a domain, and a port where it has one, matches no host.
fn unmatched_host(entry: &str) -> Option<&'static str> {
    let (host, port) = entry.rsplit_once(':').map_or((entry, None), |(host, port)| (host, Some(port)));
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let domain = host.strip_prefix('*').filter(|domain| domain.starts_with('.')).unwrap_or(host);
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') || !c.is_ascii();
    match () {
        () if entry.ends_with(']') => Some("an IPv6 address without a port stands without brackets"),
        () if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) => {
            Some("its port is not between 1 and 65535")
        }
        () if address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) => None,
        () if host.is_empty() => Some("a host is missing before the port"),
        () if domain.contains('*') => Some("a `*` stands alone or before a dot at the begin"),
        () if !domain.chars().all(is_of_name) => Some("it has a character that no host has"),
        () if domain.split('.').any(str::is_empty) => {
            Some("a part of its name is empty, or a dot stands at its end")
        }
        () if is_broken_address(domain) => Some("it is no IPv4 address, and no name ends in a number"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{NoProxy, ProxyUrl};

    fn refused<T: TryFrom<String, Error = String>>(text: &str) -> String {
        T::try_from(text.to_owned()).err().unwrap_or_else(|| panic!("`{text}` was accepted"))
    }

    #[test]
    fn a_proxy_is_one_that_go_uses() {
        for text in [
            "http://proxy.example:3128",
            "proxy.example:3128",
            "10.0.0.1:3128",
            "socks5://[::1]:1080",
            "HTTPS://p.example/",
            "http://DOM%5Cuser:p%40ss%2Fw%22$x@proxy.example:3128",
            "http://u:a@b@proxy.example:3128",
        ] {
            assert!(ProxyUrl::try_from(text.to_owned()).is_ok(), "{text}");
        }
        for text in [
            "http://svc:abc%G4g@proxy.example:3128",
            "http://u:examplepass%@p.example",
            "http://u:p#ss@p.example",
            "http://u:pa ss@p.example",
            "http://u:p/ss@p.example",
            "http://u:p?ss@p.example",
            "http://u:pä@p.example",
            "http://",
            "ftp://p.example",
            "http://p.example:x",
            "",
            "u:p%@p.example:3128",
            "http://http://p.example:3128",
            "http://10.0.0.300:3128",
            "http://p..example:3128",
        ] {
            assert!(!refused::<ProxyUrl>(text).contains("ss@"), "{text}");
        }
    }

    #[test]
    fn no_proxy_has_entries_that_match() {
        let all = "localhost, 127.0.0.1,.svc,*.example.com,10.0.0.0/8,fd00::/8,[fd00::1]:443,fd00::1,host:80,10.0.0.1:443,*.svc:443,a_b,münchen.example,*,";
        assert!(NoProxy::try_from(all.to_owned()).is_ok());
        for text in [
            "a b",
            "a;b",
            "http://a",
            "10.0.0.0/33",
            "10.0.0/8",
            "*a.example",
            "10.0.*",
            ":80",
            "a\nb",
            "u:p@a",
            "[fd00::1]",
            "fd00::1:x",
            "fe80::1%eth0",
            "a:b:80",
            "a:x",
            "a:0",
            "a:99999",
            "\"a\"",
            "'a'",
            "<local>",
            "$no_proxy",
            "a..b",
            "*.",
            ".",
            "..a",
            "cluster.local.",
            "10.0.0.256",
            "192.168.",
            "10.0",
            "10.0.0.1-9",
        ] {
            refused::<NoProxy>(text);
        }
    }
}
