//! Reads rpm's database through rpm in the root, because its format differs between releases of rpm.
//!
//! This module must not change the root. Source: rpm(8).

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Failure, Kind};
use crate::packages::manager::database::{Database, Record};
use crate::packages::manager::dnf::{QUESTION, call, failure};
use crate::packages::manager::options::Options;
use crate::path::ImagePath;
use crate::process::protocol::{Answer, Call};
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::Runtime;

/// Format of a package's line in the answer of `rpm --query`.
const QUERY: &str = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%{ARCH}\n";

/// Name of the pseudo-packages that are rpm's trusted keys; the version tells them apart.
const KEY: &str = "gpg-pubkey";

/// Files with the held packages, of dnf 4's versionlock plugin and of dnf 5.
const HELD: [&str; 2] = ["/etc/dnf/plugins/versionlock.list", "/etc/dnf/versionlock.toml"];

/// Returns the calls for [`database`]: all packages, then the files of each package of `names`.
pub(crate) fn questions(options: &Options, names: &[&str]) -> Vec<Call> {
    let all = ["rpm", "--query", "--all", "--queryformat", QUERY];
    let files = names.iter().map(|name| call(options, &["rpm", "--query", "--dump", name], QUESTION, true));
    std::iter::once(call(options, &all, QUESTION, true)).chain(files).collect()
}

/// Reads the answers to [`questions`], and which packages are held.
pub(crate) fn database(root: &Root, names: &[&str], answers: &[Answer]) -> Result<Database, Failure> {
    let Some((all, files)) = answers.split_first() else { return Ok(Database::default()) };
    if all.code != Some(0) {
        return Err(failure("reading rpm's database", all));
    }
    let held = held(root)?;
    let mut database = Database::default();
    for line in all.stdout.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(version), Some(architecture)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let name = if name == KEY { format!("{KEY}-{version}") } else { name.to_owned() };
        let is_held = held.contains(&name);
        let record = Record {
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            // A transaction that was killed leaves the old version beside the new one.
            is_whole: !database.records.contains_key(&name),
            is_held,
            ..Record::default()
        };
        database.add(name, record).map_err(|why| {
            Failure::new(Kind::Invalid, format!("rpm's database in `{}`: {why}", root.host().display()))
        })?;
    }
    for (name, answer) in names.iter().zip(files).filter(|(_, answer)| answer.code == Some(0)) {
        if let Some(record) = database.records.get_mut(*name) {
            (record.files, record.digests) = dump(&answer.stdout);
        }
    }
    Ok(database)
}

/// Reads the names of the held packages.
fn held(root: &Root) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    for path in HELD.map(ImagePath::fixed) {
        let text = root.linked_text(&path, LONGEST_TEXT)?.unwrap_or_default();
        names.extend(text.lines().filter_map(held_name).map(str::to_owned));
    }
    Ok(names)
}

/// Reads the package's name from a line `NAME-EPOCH:VERSION-RELEASE.ARCH`, in which anything but the name may be a
/// pattern, or from dnf 5's `name = "NAME"`. A line that begins with `!` excludes a version and holds nothing.
pub(crate) fn held_name(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some((_, name)) = line.split_once('=').filter(|(key, _)| key.trim() == "name") {
        return Some(name.trim().trim_matches('"'));
    }
    let version = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '*' | '?' | '['));
    let (before, last) = line.rsplit_once('-')?;
    let name = match before.rsplit_once('-') {
        Some((name, middle)) if version(middle) => name,
        _ => Some(before).filter(|_| version(last))?,
    };
    (!name.starts_with(['#', '!'])).then_some(name)
}

/// Reads files and digests from lines `PATH SIZE MTIME DIGEST MODE OWNER GROUP CONFIG DOC RDEV LINK`; a path may have
/// spaces.
pub(crate) fn dump(text: &str) -> (Vec<ImagePath>, BTreeMap<ImagePath, String>) {
    let (mut files, mut digests) = (Vec::new(), BTreeMap::new());
    for line in text.lines() {
        let words: Vec<&str> = line.rsplitn(11, ' ').collect();
        let (Some(path), Some(digest)) =
            (words.get(10).and_then(|path| ImagePath::new(path).ok()), words.get(7))
        else {
            continue;
        };
        if digest.bytes().any(|byte| byte != b'0') && digest.len() >= 32 {
            digests.insert(path.clone(), (*digest).to_owned());
        }
        files.push(path);
    }
    (files, digests)
}

/// Returns temporary files of a runtime's package, `NAME;` and eight hexadecimal digits. A killed rpm leaves them, and
/// no later run of rpm removes them.
pub(crate) fn temporary_files(root: &Root) -> Result<Vec<ImagePath>, Failure> {
    let mut paths = Vec::new();
    for runtime in Runtime::ALL {
        let (directories, starts) = runtime.facts().package_files;
        for directory in directories.iter().map(|path| ImagePath::fixed(path)) {
            for name in root.names(&directory, |name| name.contains(';'))? {
                let Some((stem, digits)) = name.rsplit_once(';') else { continue };
                let is_temporary = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                if is_temporary && starts.iter().any(|start| stem.starts_with(start)) {
                    paths.push(directory.join(&name)?);
                }
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::{dump, held_name};

    #[test]
    fn a_dump_gives_files_and_digests() {
        let digest = "a".repeat(64);
        let text = format!(
            "/etc/containerd/config.toml 27 0 {digest} 0100644 root root 1 0 0 X\n/usr/bin 0 0 {} 040755 root root 0 0 0 X\n",
            "0".repeat(64)
        );
        let (files, digests) = dump(&text);
        assert_eq!(files.len(), 2);
        assert_eq!(digests.values().collect::<Vec<_>>(), [&digest]);
    }

    #[test]
    fn a_hold_is_of_one_package() {
        for (line, name) in [
            ("containerd.io-0:2.1.9-1.el9.*", Some("containerd.io")),
            ("java-1.8.0-headless-1:1.8.0-1.el9.*", Some("java-1.8.0-headless")),
            ("containerd.io-2.1.*", Some("containerd.io")),
            ("runc-*", Some("runc")),
            ("name = \"containerd.io\"", Some("containerd.io")),
            ("!containerd.io-0:2.2.0-1.el9.*", None),
            ("# Added lock on Mon Jan 1-1", None),
            ("[[packages]]", None),
            ("", None),
        ] {
            assert_eq!(held_name(line), name, "{line}");
        }
    }
}
