//! dnf's variable `$releasever`, which is a minor version in some roots where a repository has a major one.
//!
//! This module must not read a root: `distribution.rs` reads the variable. Source: dnf.conf(5), VARIABLES.

use crate::error::Failure;
use crate::packages::manager::distribution::Distribution;
use crate::printable::printable;
use crate::process::protocol::Answer;

/// The variable in a URL.
const VARIABLE: &str = "$releasever";

/// What dnf says before the URL of a file that the server does not have.
const NOT_FOUND: &str = "Status code: 404 for ";

/// Returns what stands for the release in the URL of a repository that has major versions only: the variable, or the
/// major version where the root's variable, or its os-release, has a minor one.
pub(super) fn of_major(distribution: &Distribution) -> String {
    let of_root = [&distribution.releasever, &distribution.version].into_iter().find(|text| !text.is_empty());
    match of_root.and_then(|text| major(text)) {
        Some(major) => major.to_owned(),
        None => VARIABLE.to_owned(),
    }
}

/// Returns the major version of a version that has a minor one.
fn major(version: &str) -> Option<&str> {
    let (major, _) = version.split_once('.')?;
    (!major.is_empty() && major.chars().all(|c| c.is_ascii_digit())).then_some(major)
}

/// Returns what the URLs in `sources`, the text of a sources file, have before the variable.
pub(super) fn before_variable(sources: &str) -> Vec<String> {
    let urls = sources.lines().filter_map(|line| Some(line.split_once("://")?.1));
    let before = urls.filter_map(|url| Some(url.split_once(VARIABLE)?.0.to_owned()));
    // Another variable before it has a value that is not known here.
    before.filter(|before| !before.contains('$')).collect()
}

/// Adds the variable's value to `failure`, if a file was not found whose URL has it. `before` is what
/// [`before_variable`] returns for all repositories.
pub(super) fn explained(failure: Failure, answer: &Answer, before: &[String]) -> Failure {
    let said = format!("{}\n{}", answer.stderr, answer.stdout);
    let value = before.iter().find_map(|before| value(&said, before));
    let Some(value) = value else { return failure };
    let shown = printable(value);
    let help = match major(value) {
        Some(major) => format!(
            "name the repository by its URL with `/{major}/` in place of `{VARIABLE}`, if it has major versions only"
        ),
        None => {
            format!("see which releases the repository has, and name one in its URL in place of `{VARIABLE}`")
        }
    };
    Failure::new(failure.kind, format!("{failure}; `{VARIABLE}` is {shown} in this root")).help(help)
}

/// Finds the value of the variable in a message of a file that was not found below `before`.
fn value<'a>(said: &'a str, before: &str) -> Option<&'a str> {
    let urls = said.split(NOT_FOUND).skip(1).filter_map(|text| text.split_whitespace().next());
    let mut below = urls.filter_map(|url| url.split_once("://")?.1.strip_prefix(before));
    below.find_map(|rest| rest.split('/').next().filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::{before_variable, explained, major};

    use crate::error::{Failure, Kind};
    use crate::process::protocol::Answer;

    #[test]
    fn only_a_version_with_a_minor_one_has_a_major_one() {
        for (version, expected) in [("9.4", Some("9")), ("10.0", Some("10")), ("9", None), ("rawhide", None)]
        {
            assert_eq!(major(version), expected, "{version}");
        }
    }

    #[test]
    fn a_file_that_is_not_found_names_the_variable() {
        let sources = "[docker]\nbaseurl=http://127.0.0.1:18080/linux/rhel/$releasever/$basearch/stable\n\
                       [other]\nbaseurl=https://mirror.example/$basearch/$releasever\n";
        let before = before_variable(sources);
        assert_eq!(before, ["127.0.0.1:18080/linux/rhel/"]);
        let told = |url: &str| {
            let stderr =
                format!("Errors during downloading metadata:\n  - Status code: 404 for {url} (IP: ::1)\n");
            let answer = Answer { code: Some(1), stdout: String::new(), stderr };
            let failure = Failure::new(Kind::Fetch, "reading the package lists").help("run again");
            let failure = explained(failure, &answer, &before);
            (failure.to_string(), failure.help.unwrap())
        };
        let (message, help) = told("http://127.0.0.1:18080/linux/rhel/9.4/x86_64/stable/repodata/repomd.xml");
        assert!(message.ends_with("; `$releasever` is 9.4 in this root"), "{message}");
        assert!(help.contains("`/9/`"), "{help}");
        let (message, help) = told("http://127.0.0.1:18080/linux/rhel/41/x86_64/repodata/repomd.xml");
        assert!(message.contains("is 41") && help.contains("which releases"), "{message} {help}");
        let (message, help) = told("http://127.0.0.1:18080/other/9.4/repodata/repomd.xml");
        assert_eq!((message.as_str(), help.as_str()), ("reading the package lists", "run again"));
    }
}
