//! SELinux's file_contexts(5): which label a policy gives to a path, as libselinux reads it.
//!
//! This module must not open a file, and must not trust the texts: they come from a root that nobody vouches for,
//! so their cost is limited, and a label beyond a limit is unknown.

use std::sync::atomic::{AtomicUsize, Ordering};

use regex::bytes::{Regex, RegexBuilder};

/// Limit of rules in a policy; Fedora's has 6,700.
const MOST_RULES: usize = 50_000;

/// Limit of a compiled expression in bytes; the longest of Debian's and Fedora's policies needs a tenth.
const LARGEST_EXPRESSION: usize = 1 << 18;

/// Limit of the bytes of paths that are matched against expressions in one run; a bake needs about 200,000.
const BUDGET: usize = 4 << 20;

/// The longest label that the kernel takes, without its final NUL.
const LONGEST_LABEL: usize = 4095;

/// Kind of file that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// `--`
    File,
    /// `-d`
    Directory,
    /// `-l`
    Link,
    /// `-b`, `-c`, `-p` and `-s`, which nodebake never installs.
    Other,
}

/// Texts of the files in `contexts/files/`; one that a policy lacks is empty.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// `file_contexts`
    pub base: String,
    /// `file_contexts.homedirs`
    pub homedirs: String,
    /// `file_contexts.local`, the administrator's rules.
    pub local: String,
    /// `file_contexts.subs_dist`
    pub substitutions: String,
    /// `file_contexts.subs`, the administrator's aliases.
    pub local_substitutions: String,
}

/// Error for a label that can't be told: an expression is not understood, or costs too much.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown;

/// Rules of one policy.
#[derive(Debug)]
pub(crate) struct FileContexts {
    /// Sorted so that the last rule that matches decides.
    rules: Vec<LabelRule>,
    /// Aliases: the administrator's, then the distribution's; the last line of each is looked at first.
    substitutions: [Vec<(String, String)>; 2],
    /// Bytes of paths that have been matched.
    spent: AtomicUsize,
}

/// Line of a policy.
#[derive(Debug)]
struct LabelRule {
    expression: String,
    kind: Option<FileKind>,
    /// None for `<<none>>`: the path keeps the label that it has.
    label: Option<String>,
    /// The plain text that every match begins with.
    start: String,
    /// The plain text that every match ends with.
    end: String,
    /// The expression is a plain path.
    plain: bool,
}

impl FileContexts {
    /// Parses a policy; an error says that it has more rules than any real one.
    pub(crate) fn parse(texts: &Texts) -> Result<FileContexts, Unknown> {
        let lines = [&texts.base, &texts.homedirs, &texts.local].into_iter().flat_map(|text| text.lines());
        let mut rules: Vec<LabelRule> = lines.filter_map(LabelRule::parse).take(MOST_RULES + 1).collect();
        if rules.len() > MOST_RULES {
            return Err(Unknown);
        }
        // As libselinux sorts: plain paths after all expressions, otherwise in the order of the text.
        rules.sort_by_key(|rule| rule.plain);
        let substitutions = [&texts.local_substitutions, &texts.substitutions].map(|text| pairs(text));
        Ok(FileContexts { rules, substitutions, spent: AtomicUsize::new(0) })
    }

    /// Returns the label of `path`; none if the policy has none for it.
    pub(crate) fn label(&self, path: &str, kind: FileKind) -> Result<Option<&str>, Unknown> {
        let path = self.substituted(path);
        let fits = |rule: &&LabelRule| rule.kind.is_none_or(|other| other == kind) && rule.may_match(&path);
        for rule in self.rules.iter().rev().filter(fits) {
            if rule.plain || self.matches(rule, &path)? {
                return Ok(rule.label.as_deref());
            }
        }
        Ok(None)
    }

    fn matches(&self, rule: &LabelRule, path: &str) -> Result<bool, Unknown> {
        if self.spent.fetch_add(path.len(), Ordering::Relaxed) > BUDGET {
            return Err(Unknown);
        }
        Ok(rule.compiled()?.is_match(path.as_bytes()))
    }

    /// Replaces the aliases that `path` begins with.
    fn substituted(&self, path: &str) -> String {
        self.substitutions.iter().fold(path.to_owned(), |path, pairs| {
            let mut replaced = pairs.iter().rev().filter_map(|(from, to)| {
                let rest = path.strip_prefix(from.as_str())?;
                let rest = if to == "/" { rest.trim_start_matches('/') } else { rest };
                (path.len() == from.len() || path[from.len()..].starts_with('/'))
                    .then(|| format!("{to}{rest}"))
            });
            replaced.next().unwrap_or(path)
        })
    }
}

impl LabelRule {
    /// Parses `EXPRESSION [TYPE] LABEL`; none for any other line.
    fn parse(line: &str) -> Option<LabelRule> {
        let mut words = line.split_whitespace();
        let expression = words.next().filter(|word| !word.starts_with('#'))?;
        let (kind, label) = match (words.next()?, words.next()) {
            (label, None) => (None, label),
            (kind, Some(label)) => (Some(FileKind::parse(kind)?), label),
        };
        let label = match label {
            "<<none>>" => None,
            label if label.bytes().all(|byte| byte.is_ascii_graphic()) && label.len() <= LONGEST_LABEL => {
                Some(label.to_owned())
            }
            _ => return None,
        };
        let (start, end, plain) = edges(expression);
        Some(LabelRule { expression: expression.to_owned(), kind, label, start, end, plain })
    }

    /// Returns whether the plain ends of the expression fit. They do for few rules, and only those are compiled.
    fn may_match(&self, path: &str) -> bool {
        if self.plain {
            path == self.start
        } else {
            path.starts_with(&self.start) && path.ends_with(&self.end)
        }
    }

    /// Compiles the expression, anchored at both ends; a dot is any byte, as for libselinux.
    fn compiled(&self) -> Result<Regex, Unknown> {
        let mut builder = RegexBuilder::new(&format!("^(?:{})$", self.expression));
        builder.unicode(false).dot_matches_new_line(true).size_limit(LARGEST_EXPRESSION);
        builder.build().map_err(|_| Unknown)
    }
}

impl FileKind {
    fn parse(word: &str) -> Option<FileKind> {
        match word {
            "--" => Some(FileKind::File),
            "-d" => Some(FileKind::Directory),
            "-l" => Some(FileKind::Link),
            "-b" | "-c" | "-p" | "-s" => Some(FileKind::Other),
            _ => None,
        }
    }
}

/// Parses lines of `ALIAS PATH`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        let from = words.next().filter(|word| !word.starts_with('#'))?;
        Some((from.to_owned(), words.next()?.to_owned()))
    };
    text.lines().filter_map(pair).take(MOST_RULES).collect()
}

/// Returns the plain characters that every match of `expression` begins and ends with, and whether it has no
/// others.
fn edges(expression: &str) -> (String, String, bool) {
    let Some(atoms) = atoms(expression) else { return Default::default() };
    let text = |characters: Vec<char>| characters.into_iter().collect::<String>();
    let start: Vec<char> = atoms.iter().map_while(|atom| *atom).collect();
    let mut end: Vec<char> = atoms.iter().rev().map_while(|atom| *atom).collect();
    end.reverse();
    let plain = start.len() == atoms.len();
    (text(start), text(end), plain)
}

/// Returns the atoms of `expression`: a plain character, or none for anything that is not just itself. Returns
/// none for an expression that is a choice as a whole, or that has options.
fn atoms(expression: &str) -> Option<Vec<Option<char>>> {
    let mut atoms = Vec::new();
    if expression.contains("(?") {
        return None;
    }
    let mut characters = expression.chars();
    let mut depth = 0_usize;
    while let Some(character) = characters.next() {
        match character {
            '\\' => atoms.push(characters.next().filter(|escaped| !escaped.is_alphanumeric())),
            '|' if depth == 0 => return None,
            // A repeated atom may be absent from a match.
            '?' | '*' | '+' | '{' => {
                atoms.pop();
                atoms.push(None);
            }
            '(' => {
                depth += 1;
                atoms.push(None);
            }
            ')' => {
                depth = depth.saturating_sub(1);
                atoms.push(None);
            }
            // A class may hold characters that are operators elsewhere.
            '[' => {
                skip_class(&mut characters)?;
                atoms.push(None);
            }
            '.' | '^' | '$' | ']' | '}' | '|' => atoms.push(None),
            plain => atoms.push(Some(plain)),
        }
    }
    Some(atoms)
}

/// Skips to the end of a class such as `[^/]`; none if it has no end.
fn skip_class(characters: &mut std::str::Chars) -> Option<()> {
    let mut first = true;
    loop {
        match characters.next()? {
            '^' if first => continue,
            ']' if !first => return Some(()),
            '\\' => drop(characters.next()?),
            _ => {}
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::{FileContexts, FileKind, Texts, Unknown, edges};

    fn policy(base: &str) -> FileContexts {
        FileContexts::parse(&Texts { base: base.to_owned(), ..Texts::default() }).unwrap()
    }

    #[test]
    fn the_last_expression_that_matches_decides_and_a_plain_path_before_all() {
        let policy = policy(
            "/opt/cni\\.d x:x:plain_t:s0\n# comment\n\n/.* x:x:default_t:s0\n/opt/.* x:x:usr_t:s0\n\
             /opt/(.*/)?bin(/.*)?\tx:x:bin_t:s0\n/opt/cni.* x:x:late_t:s0\n",
        );
        for (path, label) in [
            ("/etc/x", "default_t"),
            ("/opt/a", "usr_t"),
            ("/opt/a/bin/b", "bin_t"),
            ("/opt/cni/bin/b", "late_t"),
            ("/opt/cni.d", "plain_t"),
        ] {
            assert_eq!(
                policy.label(path, FileKind::File),
                Ok(Some(format!("x:x:{label}:s0").as_str())),
                "{path}"
            );
        }
    }

    #[test]
    fn expressions_are_anchored_and_bound_to_a_kind() {
        let policy = policy("/a -d d\n/a -- f\n/a/b -l l\n/c <<none>>\n/x* -s s\n");
        assert_eq!(policy.label("/a", FileKind::File), Ok(Some("f")));
        assert_eq!(policy.label("/a", FileKind::Directory), Ok(Some("d")));
        assert_eq!(policy.label("/a", FileKind::Link), Ok(None));
        for none in ["/a/b", "/a/b/c", "/z/a", "/c", "/x"] {
            assert_eq!(policy.label(none, FileKind::File), Ok(None), "{none}");
        }
    }

    #[test]
    fn aliases_are_the_administrators_then_the_distributions() {
        let texts = Texts {
            base: "/usr/lib/x u\n/data/x d\n/x r\n".to_owned(),
            substitutions: "/lib /usr/lib\n/lib/data /data\n/deep /\n".to_owned(),
            local_substitutions: "/mine /lib\n".to_owned(),
            ..Texts::default()
        };
        let policy = FileContexts::parse(&texts).unwrap();
        for (path, label) in [
            ("/lib/x", Some("u")),
            ("/mine/x", Some("u")),
            ("/lib/data/x", Some("d")),
            ("/deep/x", Some("r")),
            ("/libx", None),
        ] {
            assert_eq!(policy.label(path, FileKind::File), Ok(label), "{path}");
        }
    }

    #[test]
    fn what_is_not_understood_or_costs_too_much_is_unknown() {
        for expression in ["/a(", "/a[", "/(?=a).*", "/(a{1000}){1000}", "/a\\1"] {
            let policy = policy(&format!("/.* all\n{expression} one\n"));
            assert_eq!(policy.label("/a", FileKind::File), Err(Unknown), "{expression}");
        }
        let many = policy(&"/.*(b|c) x\n".repeat(40_000));
        let path = format!("/{}", "a".repeat(200));
        let known = (0..2).map(|_| many.label(&path, FileKind::File)).filter(Result::is_ok).count();
        assert_eq!(known, 0);
        let texts = Texts { base: "/a x\n".repeat(50_001), ..Texts::default() };
        assert!(FileContexts::parse(&texts).is_err());
    }

    #[test]
    fn the_edges_of_an_expression_are_in_every_match() {
        for (expression, start, end) in [
            ("/usr/(s)?bin/runc", "/usr/", "bin/runc"),
            ("/usr/s?bin", "/usr/", "bin"),
            ("/a\\.so\\+", "/a.so+", "/a.so+"),
            ("/a\\dx", "/a", "x"),
            ("/a[]b)]c(d|e[(])f", "/a", "f"),
            ("/a|/b", "", ""),
            ("/a(?i)b", "", ""),
            ("/var/(lib|run)(/.*)?", "/var/", ""),
            ("/ab{2,3}", "/a", ""),
        ] {
            let (found_start, found_end, plain) = edges(expression);
            assert_eq!((found_start.as_str(), found_end.as_str()), (start, end), "{expression}");
            assert_eq!(plain, expression == "/a\\.so\\+", "{expression}");
        }
    }

    /// Compares the labels of a path made from each expression of Debian's policy, as a file, a directory and a
    /// link.
    #[test]
    #[ignore = "needs tests/lab/prepare"]
    #[expect(clippy::disallowed_methods, reason = "matchpathcon is the reference")]
    fn c15_lookups_are_those_of_matchpathcon() {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
        let selinux = target.join("lab/selinux");
        let files = selinux.join("etc/selinux/default/contexts/files");
        let text = |name: &str| fs::read_to_string(files.join(name)).unwrap();
        let texts = Texts {
            base: text("file_contexts"),
            homedirs: text("file_contexts.homedirs"),
            substitutions: text("file_contexts.subs_dist"),
            ..Texts::default()
        };
        let paths = paths_of(&texts);
        assert!(paths.len() > 4_000, "{}", paths.len());
        for (word, kind) in
            [("file", FileKind::File), ("dir", FileKind::Directory), ("lnk_file", FileKind::Link)]
        {
            let mut command = Command::new(selinux.join("usr/sbin/matchpathcon"));
            command.args(["-m", word, "-f"]).arg(files.join("file_contexts")).args(&paths);
            let output = command.output().unwrap();
            let theirs = String::from_utf8(output.stdout).unwrap();
            for chunk in theirs.lines().collect::<Vec<_>>().chunks(200) {
                // A policy for each chunk, with a budget of its own: a bake asks for a few dozen labels.
                let contexts = FileContexts::parse(&texts).unwrap();
                for line in chunk {
                    let (path, label) = line.split_once('\t').unwrap();
                    let ours = contexts.label(path, kind).unwrap().unwrap_or("<<none>>");
                    assert_eq!(ours, label, "{path} as {word}");
                }
            }
            assert_eq!(theirs.lines().count(), paths.len());
        }
    }

    /// Makes a path from each expression by replacing its operators.
    fn paths_of(texts: &Texts) -> Vec<String> {
        let mut paths: Vec<String> = [&texts.base, &texts.homedirs]
            .into_iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| line.split_whitespace().next())
            .map(|expression| {
                let mut path =
                    expression.replace("(/.*)?", "/x/y").replace("[^/]*", "a").replace("[^/]+", "b");
                for (from, to) in [("(.*/)?", "c/"), (".*", "d"), (".+", "e"), ("\\.", "."), ("[0-9]", "7")] {
                    path = path.replace(from, to);
                }
                path.chars()
                    .filter(|c| !"()?*+^$\\[]{}".contains(*c))
                    .map(|c| if c == '|' { '-' } else { c })
                    .collect()
            })
            .filter(|path: &String| path.starts_with('/') && !path.contains("//") && !path.contains("/./"))
            .map(|path| path.trim_end_matches('/').to_owned())
            .filter(|path| path.len() > 1 && path.bytes().all(|byte| byte.is_ascii_graphic()))
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }
}
