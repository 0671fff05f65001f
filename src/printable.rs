//! What may be shown of text from outside: nothing that steers a terminal, no credentials.

use reqwest::Url;

/// Whether a terminal does something else with `c` than show it: control characters of both kinds, and
/// those that turn the direction of writing, so that a name reads as another one.
pub(crate) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` fit for a log: control characters and escapes made visible.
///
/// Names come from archives and roots that others made (RUSTSEC-2025-0055 is such a case).
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> =
                if steers(c) { Box::new(c.escape_default()) } else { Box::new(std::iter::once(c)) };
            escaped
        })
        .collect()
}

/// The text of a URL, well formed or not, without its credentials and its query.
pub(crate) fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// A URL without its credentials, for messages.
pub(crate) fn shown(url: &Url) -> String {
    redacted(url.as_str())
}
