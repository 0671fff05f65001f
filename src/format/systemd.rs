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

/// Returns whether `name` matches `pattern`, with `*` and `?` as in fnmatch(3); presets use little else.
pub(crate) fn glob(pattern: &str, name: &str) -> bool {
    match (pattern.as_bytes(), name.as_bytes()) {
        ([], []) => true,
        ([b'*', ..], _) if glob(&pattern[1..], name) => true,
        ([b'*', ..], [_, ..]) => glob(pattern, &name[1..]),
        ([b'?', ..], [_, ..]) => glob(&pattern[1..], &name[1..]),
        ([a, ..], [b, ..]) if a == b => glob(&pattern[1..], &name[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn presets_match_as_systemd_matches_them() {
        for pattern in ["*", "containerd.service", "container*", "*.service", "containerd?service"] {
            assert!(glob(pattern, "containerd.service"), "{pattern}");
        }
        for pattern in ["docker.service", "containerd", "*.socket", ""] {
            assert!(!glob(pattern, "containerd.service"), "{pattern}");
        }
    }
}
