//! Secrets: which keys, texts and files can hold one.
//!
//! This module must not decide what happens then: `plan` chooses modes, `cli/report.rs` what is shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use toml_edit::{Item, TableLike, Value};

use crate::redacted::names_user;

/// Names of keys that hold a secret, lower case and without separators.
const NAMES: [&str; 6] = ["auth", "header", "headers", "pass", "psk", "pwd"];

/// Parts of such names.
const PARTS: [&str; 11] = [
    "apikey",
    "accesskey",
    "authorization",
    "clientkey",
    "cookie",
    "credential",
    "passphrase",
    "passw",
    "privatekey",
    "secret",
    "token",
];

/// Ends of names that say where a secret is and not what it is.
const LOCATIONS: [&str; 10] =
    ["dir", "file", "files", "helper", "name", "path", "paths", "provider", "type", "url"];

/// Keys of the spec below which a text of the user's can be anything.
const FREE: [&str; 2] = ["proxy", "merge"];

/// Base64 digits that show what a DER file is.
const DER_DIGITS: usize = 40;

/// Returns whether the value of the key, header or variable `name` can be a secret.
pub(crate) fn is_key(name: &str) -> bool {
    let bare: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let bare = bare.to_ascii_lowercase();
    NAMES.contains(&bare.as_str())
        || (PARTS.iter().any(|part| bare.contains(part)) && !LOCATIONS.iter().any(|end| bare.ends_with(end)))
}

/// Returns whether a value at `path`, keys of the spec with dots between them, can be a secret.
pub(crate) fn is_in_key(path: &str) -> bool {
    path.split(['.', '[', ':', ' ']).any(|key| FREE.contains(&key) || is_key(key))
}

/// Returns whether a proxy's URL, or a list of hosts, names a user, with or without a password, or has a query that can
/// be a token.
pub(crate) fn has_credentials(text: &str) -> bool {
    text.contains(['@', '?'])
}

/// Returns whether a text of any format that has a key and its value on one line holds a secret.
pub(crate) fn is_in(text: &str) -> bool {
    let mut below_secret = false;
    text.lines().any(|line| {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let name = header.split(']').next().unwrap_or_default();
            below_secret = is_key(name.rsplit('.').next().unwrap_or_default());
        }
        let assigns = |(at, _): (usize, &str)| {
            let (before, after) = (&line[..at], &line[at + 1..]);
            is_value(after) && (below_secret || is_key(last_word(before)))
        };
        line.match_indices(['=', ':']).any(assigns) || names_user(line)
    }) || private_key(text.as_bytes()).is_some()
}

/// Returns whether a TOML document holds a secret, however its keys are spelled.
pub(crate) fn is_in_toml(table: &dyn TableLike) -> bool {
    table.iter().any(|(key, item)| is_in_item(item, is_key(key)))
}

fn is_in_item(item: &Item, below_secret: bool) -> bool {
    match item {
        Item::None => false,
        Item::Value(value) => is_in_value(value, below_secret),
        Item::Table(table) => is_below(table, below_secret),
        Item::ArrayOfTables(tables) => tables.iter().any(|table| is_below(table, below_secret)),
    }
}

fn is_in_value(value: &Value, below_secret: bool) -> bool {
    match value {
        Value::String(text) => {
            let text = text.value();
            !text.is_empty() && (below_secret || is_in(text) || (text.starts_with('-') && is_key(text)))
        }
        Value::Boolean(_) => false,
        Value::Array(values) => values.iter().any(|value| is_in_value(value, below_secret)),
        Value::InlineTable(table) => is_below(table, below_secret),
        Value::Integer(_) | Value::Float(_) | Value::Datetime(_) => below_secret,
    }
}

fn is_below(table: &dyn TableLike, below_secret: bool) -> bool {
    table.iter().any(|(key, item)| is_in_item(item, below_secret || is_key(key)))
}

/// Returns the last word of `text`, without quotes around it.
fn last_word(text: &str) -> &str {
    let text = text.trim_end_matches([' ', '\t', '"', '\'']);
    let start = text.rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
    start.map_or(text, |at| text[at..].trim_start_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// Returns whether an assigned text is more than nothing, a truth value, a comment or what follows in `auth://`.
fn is_value(text: &str) -> bool {
    let text = text.trim();
    if text.starts_with("\"\"\"") || text.starts_with("'''") {
        return true;
    }
    let bare = text.trim_matches(['"', '\'', '[', ']', '{', '}', ',', ' ']);
    !matches!(bare, "" | "true" | "false") && !text.starts_with('#') && !text.starts_with("//")
}

/// Returns the kind of the first private key in a file, such as `EC PRIVATE KEY`: PEM with any label, in UTF-16 or
/// between other text as well, and DER with or without its PEM lines.
pub(crate) fn private_key(bytes: &[u8]) -> Option<String> {
    if is_der_key(bytes) {
        return Some("PRIVATE KEY in DER".to_owned());
    }
    // UTF-16 has a NUL beside each ASCII byte.
    let plain: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    plain.split(|byte| matches!(byte, b'\n' | b'\r')).find_map(key_in_line)
}

fn key_in_line(line: &[u8]) -> Option<String> {
    let letters: Vec<u8> = line.iter().filter(|byte| byte.is_ascii_alphanumeric()).copied().collect();
    let upper = String::from_utf8_lossy(&letters).to_ascii_uppercase();
    if line.contains(&b'-')
        && let Some((_, rest)) = upper.split_once("BEGIN")
        && let Some((kind, _)) = rest.split_once("PRIVATEKEY")
    {
        let known = ["DSA", "EC", "ENCRYPTED", "OPENSSH", "PGP", "RSA"].contains(&kind);
        return Some(if known { format!("{kind} PRIVATE KEY") } else { "PRIVATE KEY".to_owned() });
    }
    let digits = letters_of_base64(line)?;
    let der = STANDARD.decode(digits).ok()?;
    is_der_key(&der).then(|| "PRIVATE KEY without its label".to_owned())
}

/// Returns the first digits of a line that can be the begin of DER in base64.
fn letters_of_base64(line: &[u8]) -> Option<&[u8]> {
    let digits = line.trim_ascii().get(..DER_DIGITS)?;
    digits.starts_with(b"M").then_some(digits)
}

/// Returns whether DER begins as a private key does: PKCS #1, SEC 1, PKCS #8, encrypted PKCS #8 (RFC 5958) or
/// PKCS #12. A certificate has two sequences there and then no object identifier.
fn is_der_key(der: &[u8]) -> bool {
    let Some(content) = sequence(der) else { return false };
    let versions: [&[u8]; 5] =
        [&[2, 1, 0, 2], &[2, 1, 0, 0x30], &[2, 1, 1, 4], &[2, 1, 1, 0x30], &[2, 1, 3, 0x30]];
    // 1.2.840.113549.1.5 (PKCS #5) and 1.2.840.113549.1.12.1 (PKCS #12), without the last arc.
    let ciphers: [&[u8]; 2] = [
        &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5],
        &[6, 10, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1],
    ];
    versions.iter().any(|version| content.starts_with(version))
        || sequence(content).is_some_and(|inner| ciphers.iter().any(|cipher| inner.starts_with(cipher)))
}

/// Returns the content of a DER sequence.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    match der {
        [0x30, 0x81, _, content @ ..] | [0x30, 0x82, _, _, content @ ..] => Some(content),
        [0x30, length, content @ ..] if *length < 0x80 => Some(content),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_in, is_in_key, is_in_toml, is_key, private_key};

    #[test]
    fn k1_keys_that_can_hold_a_secret() {
        for key in [
            "password",
            "Password",
            "registry_passwd",
            "identitytoken",
            "identity_token",
            "auth",
            "X-Auth-Token",
            "Authorization",
            "Proxy-Authorization",
            "header",
            "headers",
            "client_secret",
            "aws_secret_access_key",
            "client_key",
            "clientkey",
            "private-key",
            "api_key",
            "X-Api-Key",
            "cookie",
            "passphrase",
            "credentials",
        ] {
            assert!(is_key(key), "{key}");
        }
        for key in [
            "username",
            "sandbox_image",
            "key_file",
            "tls_key_file",
            "client_key_file",
            "token_url",
            "secret_name",
            "key_model",
            "auths",
            "author",
            "bypass",
            "credential_helper",
            "max_container_log_line_size",
        ] {
            assert!(!is_key(key), "{key}");
        }
        assert!(
            is_in_key("registries.docker.io.mirrors[0].headers.X-Node") && is_in_key("containerd.proxy.http")
        );
        assert!(!is_in_key("containerd.limit_nofile"));
    }

    #[test]
    fn k1_texts_that_hold_a_secret() {
        for text in [
            "[a.auth]\nusername = \"u\"",
            "password = \"p\"",
            "password = \"\"\"\np\"\"\"",
            "\"password\"=1",
            "a = { b = 1, token = 'x' }",
            "# password: old",
            "[host.\"https://m\".header]\nX-Node = [\"a\"]",
            "env = [\"A=b\", \"API_TOKEN=x\"]",
            "url = \"https://u:p@host\"",
            "url = \"https://u:p/w@host\"",
            "password = \"/9j4AAQSkZJRg\"",
            "password = \"#hash\"",
            "deb https://u@host/x y",
            "-----BEGIN EC PRIVATE KEY-----",
        ] {
            assert!(is_in(text), "{text}");
        }
        for text in [
            "[a.headers]\n[b]\nx = 1",
            "password = \"\"",
            "use_token = false",
            "key_file = \"/etc/key.pem\"",
            "password = # none",
            "auth://host",
            "url = \"https://host:5000/a\"",
            "mail = \"me@example.org\"",
            "args = [\"--decryption-keys-path\", \"/etc/keys\"]",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert!(!is_in(text), "{text}");
        }
        let toml = |text: &str| is_in_toml(text.parse::<toml_edit::DocumentMut>().unwrap().as_table());
        assert!(toml("[a.\"pass\\u0077ord\"]\nx = 1") && toml("a.b = [{c = {'auth' = \"x\"}}]"));
        assert!(toml("args = [\"--token\", \"x\"]") && toml("args = [\"--token=x\"]"));
        assert!(!toml("auth = \"\"\ntoken = true\n[headers]\n"));
    }

    #[test]
    fn k2_private_keys_in_any_dress() {
        let utf16: Vec<u8> =
            "-----BEGIN PRIVATE KEY-----".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for key in [
            &b"-----BEGIN PRIVATE KEY-----\nAAAA"[..],
            b"x\r\n-----BEGIN RSA PRIVATE KEY-----\r\n",
            b"junk-----BEGIN OPENSSH PRIVATE KEY-----",
            b"-----begin encrypted private key-----\r",
            b"-----BEGIN PGP PRIVATE KEY BLOCK-----",
            b"----BEGIN  ANY_PRIVATE KEY----",
            b"-----BEGIN CERTIFICATE-----\nMC4CAQAwBQYDK2VwBCIEIFqBEyQUXyPxoBFWH6kcrAyXsDsHRjYqSpdqPmhsnSz7\n",
            b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7",
            &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6],
            &utf16,
        ] {
            assert!(private_key(key).is_some(), "{}", key.escape_ascii());
        }
        for other in [
            &b"-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa\n"[..],
            b"# there is no private key in it\n",
            b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEexampleexample\n",
            b"-----BEGIN CERTIFICATE-----\nYm90aA==\n",
        ] {
            assert_eq!(private_key(other), None, "{}", other.escape_ascii());
        }
    }
}
