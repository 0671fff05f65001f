//! What rpm has installed in a root: asked through rpm, whose database is its own business.
//!
//! Source: rpm(8).

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Failure;
use crate::packages::manager::database::{Database, Record};
use crate::packages::manager::dnf::{QUESTION, call, failure};
use crate::packages::manager::options::Options;
use crate::path::ImagePath;
use crate::process::protocol::{Answer, Call};
use crate::root::{LONGEST_TEXT, Root};

/// One line a package.
const QUERY: &str = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%{ARCH}\n";

/// Keys that are trusted are packages of one name: their version tells them apart.
const KEY: &str = "gpg-pubkey";

/// Where a containerd's package has files.
const TORN: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/lib/systemd/system", "/etc/containerd"];

/// Where the versionlock plugin of dnf 4, and dnf 5, keep what is held.
const HELD: [&str; 2] = ["/etc/dnf/plugins/versionlock.list", "/etc/dnf/versionlock.toml"];

/// What to ask rpm for [`database`]: all packages, then the files of those called `names`.
pub(crate) fn questions(options: &Options, names: &[&str]) -> Vec<Call> {
    let all = ["rpm", "--query", "--all", "--queryformat", QUERY];
    let files = names.iter().map(|name| call(options, &["rpm", "--query", "--dump", name], QUESTION, true));
    std::iter::once(call(options, &all, QUESTION, true)).chain(files).collect()
}

/// The answers to [`questions`].
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
            // A transaction that was killed leaves the old one beside the new.
            is_whole: !database.records.contains_key(&name),
            is_held,
            ..Record::default()
        };
        database.records.insert(name, record);
    }
    for (name, answer) in names.iter().zip(files).filter(|(_, answer)| answer.code == Some(0)) {
        if let Some(record) = database.records.get_mut(*name) {
            (record.files, record.digests) = dump(&answer.stdout);
        }
    }
    Ok(database)
}

/// The names of what is held.
fn held(root: &Root) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    for path in HELD.map(ImagePath::fixed) {
        let text = root.linked_text(&path, LONGEST_TEXT)?.unwrap_or_default();
        names.extend(text.lines().filter_map(held_name).map(str::to_owned));
    }
    Ok(names)
}

/// `NAME-EPOCH:VERSION-RELEASE.ARCH`, in which anything but the name may be a pattern, or dnf 5's
/// `name = "NAME"`. With `!` before it a version is kept away, and none is held.
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

/// `PATH SIZE MTIME DIGEST MODE OWNER GROUP CONFIG DOC RDEV LINK`; a path may have spaces.
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

/// Files of a containerd that a killed rpm had not renamed yet, `NAME;` and eight hexadecimal digits: no
/// later run of rpm takes them away.
pub(crate) fn torn(root: &Root) -> Result<Vec<ImagePath>, Failure> {
    let mut torn = Vec::new();
    for directory in TORN.map(ImagePath::fixed) {
        for name in root.names(&directory)?.unwrap_or_default() {
            let Some((name_of, digits)) = name.rsplit_once(';') else { continue };
            let is_torn = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_torn
                && ["containerd", "ctr", "runc", "config.toml"].iter().any(|start| name_of.starts_with(start))
            {
                torn.push(directory.join(&name)?);
            }
        }
    }
    Ok(torn)
}
