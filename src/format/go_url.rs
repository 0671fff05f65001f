//! URLs as Go's `net/url` reads them, which containerd and its HTTP client use.
//!
//! This module must not correct a URL: what Go refuses or reads in another way has to be seen by its writer. The errors
//! show nothing of the URL, which can have credentials.
//!
//! Source: `parse`, `parseAuthority`, `parseHost`, `unescape` and `validUserinfo` in Go's src/net/url/url.go.

/// Parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoUrl<'a> {
    /// Scheme in lower case; empty if there is none.
    pub scheme: String,
    /// A user is named, with or without a password.
    pub has_user: bool,
    /// Host as it is written, with the brackets of an IPv6 address; empty if there is none.
    pub host: &'a str,
    /// Port as it is written; none if there is none or it is empty.
    pub port: Option<&'a str>,
    /// Path as it is written.
    pub path: &'a str,
    /// There is a query.
    pub has_query: bool,
    /// There is a fragment.
    pub has_fragment: bool,
}

/// Parses a URL. The error says why Go refuses it.
pub(crate) fn parse(text: &str) -> Result<GoUrl<'_>, &'static str> {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("it has a control character");
    }
    let (rest, fragment) = cut(text, '#');
    unescaped(fragment.unwrap_or_default())?;
    let (scheme, rest) = scheme(rest)?;
    let (rest, query) = cut(rest, '?');
    let mut url = GoUrl {
        scheme: scheme.to_ascii_lowercase(),
        has_user: false,
        host: "",
        port: None,
        path: rest,
        has_query: query.is_some(),
        has_fragment: fragment.is_some(),
    };
    if !rest.starts_with('/') {
        // An opaque URL such as `mailto:x`; without a scheme the first segment has no colon.
        let first = rest.split('/').next().unwrap_or_default();
        return match scheme.is_empty() && first.contains(':') {
            true => Err("its first part has a colon and no scheme stands before it"),
            false => unescaped(if scheme.is_empty() { rest } else { "" }).map(|_| url),
        };
    }
    if let Some(behind) = rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) {
        let end = behind.find('/').unwrap_or(behind.len());
        (url.has_user, url.host, url.port) = authority(&behind[..end])?;
        url.path = &behind[end..];
    }
    unescaped(url.path)?;
    Ok(url)
}

/// Cuts `text` at the first `separator`.
fn cut(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Splits off the scheme, which ends at a colon.
fn scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("no scheme stands before the colon"),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// Returns whether a user is named, the host and the port of what stands between `//` and the path.
fn authority(text: &str) -> Result<(bool, &str, Option<&str>), &'static str> {
    let (user, host) = text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
    if let Some(user) = user {
        let allowed = |c: char| {
            c.is_ascii_alphanumeric()
                || matches!(
                    c,
                    '-' | '.'
                        | '_'
                        | ':'
                        | '~'
                        | '!'
                        | '$'
                        | '&'
                        | '\''
                        | '('
                        | ')'
                        | '*'
                        | '+'
                        | ','
                        | ';'
                        | '='
                        | '%'
                        | '@'
                )
        };
        if !user.chars().all(allowed) {
            return Err(
                "its user or password has a character that is written as % and two hexadecimal digits",
            );
        }
        unescaped(user)?;
    }
    let (host, port) = host_and_port(host)?;
    Ok((user.is_some(), host, port))
}

/// Splits the host from its port.
fn host_and_port(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    let (host, behind) = match text.starts_with('[') {
        true => {
            let end = text.rfind(']').ok_or("its IPv6 address has no closing bracket")?;
            let address = &text[1..end];
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("no IPv6 address stands between its brackets");
            }
            text.split_at(end + 1)
        }
        false => text.split_at(text.rfind(':').unwrap_or(text.len())),
    };
    let port = match behind.strip_prefix(':') {
        None if behind.is_empty() => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port).filter(|port| !port.is_empty())
        }
        _ => return Err("its port is no number"),
    };
    if !host.starts_with('[') && !host.chars().all(is_of_host) {
        return Err("its host has a character that no host has");
    }
    Ok((host, port))
}

/// Returns whether Go takes `c` in a host's name; all others, and `%`, are refused or have no server.
fn is_of_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~') || !c.is_ascii()
}

/// Decodes `%` and two hexadecimal digits.
pub(crate) fn unescaped(text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let byte = match bytes[at] {
            b'%' => {
                let digits = text
                    .get(at + 1..at + 3)
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                at += 2;
                digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(
                    "a `%` in it is not followed by two hexadecimal digits: `%` itself is written %25",
                )?
            }
            byte => byte,
        };
        decoded.push(byte);
        at += 1;
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_url_has_gos_parts() {
        let parts = |text: &str| {
            let url = parse(text).unwrap();
            format!("{} {} {} {:?} {}", url.scheme, url.has_user, url.host, url.port, url.path)
        };
        assert_eq!(
            parts("HTTP://Mirror.example:15080/a%20b"),
            "http false Mirror.example Some(\"15080\") /a%20b"
        );
        assert_eq!(parts("https://u:p%25@q@[::1]:80"), "https true [::1] Some(\"80\") ");
        assert_eq!(parts("//m.example/x"), " false m.example None /x");
        assert_eq!(parts("https:///m.example/x"), "https false  None /m.example/x");
        assert_eq!(parts("proxy.example:3128"), "proxy.example false  None 3128");
        assert_eq!(parts("https://m:/"), "https false m None /");
        assert!(parse("https://m?x").unwrap().has_query && parse("https://m#x").unwrap().has_fragment);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            ":x",
            "10.0.0.1:3128",
            "http://u:a%G4g@m",
            "http://m/%zz",
            "http://m/%4",
            "http://m/%",
            "http://u:a b@m",
            "http://u:a\"b@m",
            "http://u:é@m",
            "http://u\\d:p@m",
            "http://m:80x",
            "http://[::1",
            "http://[::1]80",
            "http://[m]",
            "http://[fe80::1%25eth0]",
            "http://a b",
            "http://a%41",
            "http://a:b:80",
            "http://m/\u{1}",
            "http://u:p#x@m",
            "http://u:p/x@m",
            "http://m#%z",
            "a%zz",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
