//! The syntax of unit files: their settings, the words of a value, and what a unit's name says (systemd.syntax(7),
//! systemd.unit(5)).
//!
//! This module must not know any unit.

use crate::format::lines::joined;

/// Setting of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Number of the line, from 1.
    pub line: usize,
    /// Section without its brackets.
    pub section: String,
    /// Key.
    pub key: String,
    /// Value, without the spaces around it.
    pub value: String,
}

/// Returns the settings of a unit file or a drop-in, in its order.
pub(crate) fn settings(text: &str) -> impl Iterator<Item = Setting> {
    let mut section = String::new();
    joined(text).filter_map(move |(line, text)| {
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
            return None;
        }
        let (key, value) = text.split_once('=')?;
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        Some(Setting { line, section: section.clone(), key, value })
    })
}

/// Splits a value into words: quotes hold a word together, a backslash takes the next character as it is, and `%%` is a
/// percent sign.
pub(crate) fn words(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            _ if c.is_whitespace() && quote.is_none() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words.into_iter().map(|word| word.replace("%%", "%")).collect()
}

/// Returns the variables of an EnvironmentFile=: name and value of each line, quotes and escapes taken away
/// (systemd.exec(5)).
pub(crate) fn environment(text: &str) -> impl Iterator<Item = (usize, String, String)> {
    let variable = |(line, text): (usize, std::borrow::Cow<str>)| {
        let (name, value) = text.split_once('=')?;
        Some((line, name.trim().to_owned(), words(&value.replace('%', "%%")).join(" ")))
    };
    joined(text).filter_map(variable)
}

/// Returns the names of the directories whose drop-ins belong to a unit, the most specific first: those of the unit, of
/// its prefixes at each dash, and of its type (systemd's src/shared/dropin.c).
pub(crate) fn drop_in_directories(unit: &str) -> Vec<String> {
    let Some((name, kind)) = unit.rsplit_once('.') else { return Vec::new() };
    let mut directories = vec![format!("{unit}.d")];
    let dashes = name.match_indices('-').map(|(at, _)| at).filter(|at| *at > 0 && at + 1 < name.len());
    let prefixes: Vec<usize> = dashes.collect();
    directories.extend(prefixes.iter().rev().map(|at| format!("{}.{kind}.d", &name[..=*at])));
    directories.push(format!("{kind}.d"));
    directories
}

/// Returns the path that the name of a mount unit stands for (systemd-escape(1)); none if it is no mount unit.
pub(crate) fn mount_point(unit: &str) -> Option<String> {
    let name = unit.strip_suffix(".mount")?;
    if name == "-" {
        return Some("/".to_owned());
    }
    let (mut bytes, mut rest) = (vec![b'/'], name.as_bytes());
    while let Some((first, next)) = rest.split_first() {
        let hex = rest.strip_prefix(b"\\x").and_then(|digits| std::str::from_utf8(digits.get(..2)?).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(if *first == b'-' { b'/' } else { *first });
                rest = next;
            }
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{drop_in_directories, environment, mount_point, settings, words};

    use crate::format::systemd::{environment_quoted, quoted};

    #[test]
    fn settings_have_their_section_and_line() {
        let text =
            "; a\n[Unit]\nAfter = a\n\n[Service]\nExecStart=\nExecStart=/bin/a \\\n# b\n  --c\nnonsense\n";
        let found: Vec<_> = settings(text).collect();
        let found: Vec<_> =
            found.iter().map(|s| (s.line, s.section.as_str(), s.key.as_str(), s.value.as_str())).collect();
        let exec = "ExecStart";
        assert_eq!(
            found,
            [(3, "Unit", "After", "a"), (6, "Service", exec, ""), (7, "Service", exec, "/bin/a  --c")]
        );
    }

    #[test]
    fn what_is_quoted_reads_back() {
        for value in ["a", "a b", r#"h"%n\x"#, "p%40ss'$w`", ""] {
            assert_eq!(words(&quoted(value)), [value]);
            let text = format!("A={}\n", environment_quoted(value));
            assert_eq!(environment(&text).collect::<Vec<_>>(), [(1, "A".to_owned(), value.to_owned())]);
        }
        assert_eq!(words(" \"A=b c\" 'd\"e' f%%g "), ["A=b c", "d\"e", "f%g"]);
    }

    #[test]
    fn the_directories_of_drop_ins_are_those_of_systemd() {
        assert_eq!(drop_in_directories("containerd.service"), ["containerd.service.d", "service.d"]);
        assert_eq!(
            drop_in_directories("a-b-c.service"),
            ["a-b-c.service.d", "a-b-.service.d", "a-.service.d", "service.d"]
        );
    }

    #[test]
    fn a_mount_unit_is_named_by_its_path() {
        for (unit, path) in [
            ("usr-local.mount", "/usr/local"),
            ("-.mount", "/"),
            ("mnt-with\\x20a\\x2ddash.mount", "/mnt/with a-dash"),
            ("mnt-\\xc3\\xbc.mount", "/mnt/ü"),
            ("mnt-\\x2.mount", "/mnt/\\x2"),
        ] {
            assert_eq!(mount_point(unit).as_deref(), Some(path));
        }
        assert_eq!(mount_point("usr-local.automount"), None);
    }
}
