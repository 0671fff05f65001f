//! The syntax of systemd's files: quoting, the paths of units, the patterns of presets.
//!
//! This module must not know any unit's content.

/// Returns whether two paths are one unit on a usr-merged system, where /lib is a link to /usr/lib and systemd
/// and dpkg name either.
pub(crate) fn is_same_unit(a: &str, b: &str) -> bool {
    let bare = |path: &str| {
        path.strip_prefix("/usr").filter(|rest| rest.starts_with("/lib/")).unwrap_or(path).to_owned()
    };
    bare(a) == bare(b)
}

/// Quotes one word of a unit file: quotes and backslashes are escaped, `%` begins no specifier
/// (systemd.syntax(7)).
pub(crate) fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

/// Quotes a value of an EnvironmentFile=, where no specifier is known and a backslash stands for itself but before a few
/// characters (systemd.exec(5), systemd's src/basic/env-file.c).
pub(crate) fn environment_quoted(text: &str) -> String {
    let escape = |c: char| matches!(c, '"' | '\\' | '`' | '$').then_some('\\').into_iter().chain([c]);
    format!("\"{}\"", text.chars().flat_map(escape).collect::<String>())
}

/// Returns whether `name` matches `pattern` as systemd matches presets: fnmatch(3) with FNM_NOESCAPE in the C locale.
///
/// One pass over the pattern, because a root can contain any: the time grows with the product of the lengths.
pub(crate) fn glob(pattern: &str, name: &str) -> bool {
    let (mut pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // At index i: the pattern so far matches the first i bytes of the name.
    let mut matched = vec![false; name.len() + 1];
    matched[0] = true;
    while let Some((first, rest)) = pattern.split_first() {
        if *first == b'*' {
            let shortest = matched.iter().position(|matched| *matched).unwrap_or(matched.len());
            matched[shortest..].fill(true);
            pattern = rest;
            continue;
        }
        let (one, rest) = match first {
            b'?' => (One::Any, rest),
            b'[' => bracket(rest).unwrap_or((One::Byte(b'['), rest)),
            byte => (One::Byte(*byte), rest),
        };
        for end in (0..name.len()).rev() {
            matched[end + 1] = matched[end] && one.has(name[end]);
        }
        matched[0] = false;
        if !matched.contains(&true) {
            return false;
        }
        pattern = rest;
    }
    matched[name.len()]
}

/// The part of a pattern that stands for one byte.
enum One<'pattern> {
    /// `?`
    Any,
    /// The byte itself.
    Byte(u8),
    /// `[…]`: the text between the brackets, and whether it lists the bytes that do not match.
    Bracket(&'pattern [u8], bool),
}

impl One<'_> {
    fn has(&self, byte: u8) -> bool {
        match self {
            One::Any => true,
            One::Byte(own) => *own == byte,
            One::Bracket(list, negated) => lists(list, byte) != *negated,
        }
    }
}

/// Splits off a bracket expression, whose `[` has been read; none if it is never closed: then `[` is a plain byte.
fn bracket(text: &[u8]) -> Option<(One<'_>, &[u8])> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let list = &text[usize::from(negated)..];
    let mut end = 0;
    loop {
        match &list[end..] {
            [b'[', b':', rest @ ..] => end += 2 + class(rest).map_or(0, |name| name.len() + 2),
            // A bracket that stands first is listed.
            [b']', ..] if end > 0 => break,
            [_, ..] => end += 1,
            [] => return None,
        }
    }
    Some((One::Bracket(&list[..end], negated), &list[end + 1..]))
}

/// Returns the name of a class of characters, whose `[:` has been read; none if `:]` does not end it.
fn class(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| !byte.is_ascii_lowercase())?;
    text[end..].starts_with(b":]").then(|| &text[..end])
}

/// Returns whether the bytes, ranges and classes of a bracket expression list `byte`.
fn lists(mut list: &[u8], byte: u8) -> bool {
    loop {
        list = match list {
            [b'[', b':', rest @ ..] if class(rest).is_some() => {
                let name = class(rest).unwrap_or_default();
                if is_of_class(name, byte) {
                    return true;
                }
                &rest[name.len() + 2..]
            }
            [first, b'-', last, ..] if (*first..=*last).contains(&byte) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [first, ..] if *first == byte => return true,
            [_, rest @ ..] => rest,
            [] => return false,
        };
    }
}

fn is_of_class(name: &[u8], byte: u8) -> bool {
    match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::glob;

    #[test]
    fn presets_match_as_systemd_matches_them() {
        let matching = "* containerd.service container* *.service containerd?service *con*d.*ice ******* \
            containerd.s*rv*ce [a-d]ontainerd.service [!x]ontainerd.service [^x]ontainerd.service \
            containerd[.]service containerd[!a-z]service c[[:alpha:]]ntainerd[[:punct:]]service \
            [c]ontainerd.[s]ervice [xc-]ontainerd.service []c]ontainerd.service *[e-]";
        for pattern in matching.split_whitespace() {
            assert!(glob(pattern, "containerd.service"), "{pattern}");
        }
        let others = "docker.service containerd *.socket containerd.service? ?containerd.service \
            [!c]ontainerd.service [x]ontainerd.service [d-z]ontainerd.service [containerd.service \
            *[[:digit:]]* c\\ontainerd.service [[:nothing:]]ontainerd.service *[ []*";
        for pattern in others.split_whitespace().chain([""]) {
            assert!(!glob(pattern, "containerd.service"), "{pattern}");
        }
        assert!(glob("a[b", "a[b") && glob("a\\", "a\\") && glob("[[:x]", "x") && glob("", ""));
    }

    #[test]
    fn l1_a_hostile_pattern_takes_linear_time() {
        let began = Instant::now();
        for part in ["*", "*?", "*a", "[", "*[", "[[:", "[a-", "*[!x]", "[]", "?*"] {
            for end in ["", "X", "]", ":]"] {
                let pattern = format!("*{}{end}", part.repeat(20_000));
                glob(&pattern, "containerd.service");
                glob(&pattern, &"[".repeat(200));
            }
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
