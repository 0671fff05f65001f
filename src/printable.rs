//! Text from outside, made fit to be shown: nothing that steers a terminal, no credentials.
//!
//! This module must not decide what is shown.

use reqwest::Url;

/// Returns whether a terminal does something else with `c` than show it: control characters (C0 and C1), and
/// those that turn the direction of writing, so that a name reads as another one.
pub(crate) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Makes control characters and escapes of `text` visible.
///
/// Names come from archives and roots that others have made (RUSTSEC-2025-0055 is such a case).
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> =
                if steers(c) { Box::new(c.escape_default()) } else { Box::new(std::iter::once(c)) };
            escaped
        })
        .collect()
}

/// Removes credentials and query from the text of a URL, well formed or not.
pub(crate) fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Returns the text of a URL without credentials and query, for messages.
pub(crate) fn shown(url: &Url) -> String {
    redacted(url.as_str())
}
