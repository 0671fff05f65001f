//! Shows URLs without the secrets in them.
//!
//! This module must not judge a URL.

use reqwest::Url;

/// Removes credentials, query and fragment from the text of a URL, well formed or not.
pub(crate) fn redacted(text: &str) -> String {
    let Parts { scheme, host, .. } = parts(text);
    let host = host.split(['?', '#']).next().unwrap_or_default();
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

/// Returns whether a URL in `text` names a user.
pub(crate) fn names_user(text: &str) -> bool {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    let mut urls = text.split("://").skip(1).map(|rest| rest.split(is_end).next().unwrap_or_default());
    urls.any(|rest| parts(rest).has_user)
}

/// Parts of the text of a URL, well formed or not.
struct Parts<'text> {
    scheme: &'text str,
    /// The URL names a user, with or without a password.
    has_user: bool,
    /// The host and all that follows.
    host: &'text str,
}

fn parts(text: &str) -> Parts<'_> {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let port = authority.rsplit_once(':').filter(|(host, _)| !host.starts_with('[') || host.ends_with(']'));
    let has_port = port.is_none_or(|(_, port)| port.chars().all(|c| c.is_ascii_digit()));
    // What stands after the colon is a password with a `/`, `?` or `#` in it, and the host comes later.
    let behind = if authority.contains('@') || has_port { authority.rfind('@') } else { rest.rfind('@') };
    let has_user = behind.is_some();
    let host = match (behind, port) {
        (Some(at), _) => &rest[at + 1..],
        (None, Some((host, _))) if !has_port => host,
        (None, _) => rest,
    };
    Parts { scheme, has_user, host }
}

/// Removes credentials, query and fragment from each URL in a message.
pub(crate) fn without_credentials(message: &str) -> String {
    words(message, |word| word.contains("://"))
}

/// Removes them from what can be a URL that its user has mistyped as well: `user:password@host`.
pub(crate) fn without_any_credentials(message: &str) -> String {
    words(message, |word| word.contains("://") || word.contains('@'))
}

fn words(message: &str, is_url: impl Fn(&str) -> bool) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'');
    let shown = |part: &str| {
        let word = part.trim_end_matches(ends);
        let shown = if is_url(word) { redacted(word) } else { word.to_owned() };
        shown + &part[word.len()..]
    };
    message.split_inclusive(ends).map(shown).collect()
}

/// Returns the text of a URL without credentials, query and fragment, for messages.
pub(crate) fn shown(url: &Url) -> String {
    redacted(url.as_str())
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn k1_a_url_is_shown_without_its_secrets() {
        for (text, shown) in [
            ("https://u:p@host:99999/a?X-Amz-Signature=s", "https://host:99999/a"),
            ("ftp://u:p@w@host", "ftp://host"),
            ("https://host/a@b", "https://host/a@b"),
            ("https://host:5000/a@b", "https://host:5000/a@b"),
            ("https://u:p/w@host/a", "https://host/a"),
            ("https://u:p?w@host/a", "https://host/a"),
            ("https://u:p#w@host/a", "https://host/a"),
            ("https://u:pass%40host/a", "https://u"),
            ("https://host#token", "https://host"),
            ("https://[fd00::2]:5000/a?t=s", "https://[fd00::2]:5000/a"),
            ("https://[fd00::2]/a", "https://[fd00::2]/a"),
            ("u:p@host/a?t=s", "host/a"),
            ("harbor.local", "harbor.local"),
            ("harbor.local:5000/x", "harbor.local:5000/x"),
        ] {
            assert_eq!(redacted(text), shown, "{text}");
        }
    }
}
