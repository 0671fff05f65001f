//! Lines of a configuration file in which a backslash at the end of a line continues it: those of systemd's units and
//! of modprobe.d.
//!
//! This module must not know what a line means.

use std::borrow::Cow;

/// Returns each line that is neither empty nor a comment, with the number of its first line from 1. Lines that a
/// backslash continues are joined; comments between them are left out (systemd.syntax(7), modprobe.d(5)).
pub(crate) fn joined(text: &str) -> impl Iterator<Item = (usize, Cow<'_, str>)> {
    let mut lines = text.lines().map(str::trim).enumerate();
    std::iter::from_fn(move || {
        let mut begun = None::<(usize, String)>;
        for (index, line) in lines.by_ref().filter(|(_, line)| !line.starts_with(['#', ';'])) {
            let is_continued = (line.len() - line.trim_end_matches('\\').len()) % 2 == 1;
            begun = match (begun.take(), is_continued) {
                (None, false) if line.is_empty() => None,
                (None, false) => return Some((index + 1, Cow::Borrowed(line))),
                (None, true) => Some((index + 1, without_end(line))),
                (Some((first, start)), true) => Some((first, start + &without_end(line))),
                (Some((first, start)), false) => return Some((first, Cow::Owned(start + line))),
            };
        }
        begun.map(|(first, start)| (first, Cow::Owned(start)))
    })
}

/// Puts a space in place of the backslash at the end of `line`.
fn without_end(line: &str) -> String {
    format!("{} ", &line[..line.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn a_backslash_continues_a_line_over_comments() {
        let text = "# one\n a \\\n; two\n  b \\\n c\n\nd \\\\\ne \\";
        let lines: Vec<_> = joined(text).collect();
        let lines: Vec<_> = lines.iter().map(|(line, text)| (*line, &**text)).collect();
        assert_eq!(lines, [(2, "a  b  c"), (7, "d \\\\"), (8, "e  ")]);
    }
}
