//! Text from outside, made fit to be shown: nothing that steers a terminal.
//!
//! This module must not decide what is shown.

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
