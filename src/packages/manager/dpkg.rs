//! Reads dpkg's database from its files in the root.
//!
//! This module must not execute anything of the root.
//!
//! Sources: dpkg(1), deb-control(5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::error::{Failure, Kind};
use crate::packages::manager::database::{Database, Record};
use crate::path::ImagePath;
use crate::root::Root;

/// File with a paragraph for each package.
const STATUS: &str = "/var/lib/dpkg/status";

/// Directory of the changes that dpkg has not written into [`STATUS`] yet.
const UPDATES: &str = "/var/lib/dpkg/updates";

/// Directory of each package's list of files and digests.
const INFO: &str = "/var/lib/dpkg/info";

/// Limit of the status file's bytes: every package of a large desktop fits.
const LONGEST: u64 = 64 << 20;

/// Limit of one package's list of files: that of Debian's linux-headers has 2 MB.
const LONGEST_LIST: u64 = 8 << 20;

/// Limit of one package's paragraph.
const LONGEST_PARAGRAPH: u64 = 1 << 20;

/// Reads the packages of `root`, with the files of the packages called `names`.
pub(crate) fn database(root: &Root, names: &[&str]) -> Result<Database, Failure> {
    let mut database = records(root, |_| true)?;
    for (name, record) in database.records.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        list(root, name, record)?;
    }
    Ok(database)
}

/// Returns the package among `names` that owns `path`. Only the records of `names` are kept in memory, because the root
/// may be hostile.
pub(crate) fn owner(
    root: &Root,
    names: &[&str],
    path: &ImagePath,
) -> Result<Option<(String, Record)>, Failure> {
    for (name, mut record) in records(root, |name| names.contains(&name))?.records {
        list(root, &name, &mut record)?;
        if record.files.contains(path) {
            return Ok(Some((name, record)));
        }
    }
    Ok(None)
}

/// Reads the packages whose names are `wanted`.
fn records(root: &Root, wanted: impl Fn(&str) -> bool) -> Result<Database, Failure> {
    let updates = updates(root)?;
    let mut database = Database { is_interrupted: !updates.is_empty(), ..Database::default() };
    for path in std::iter::once(ImagePath::fixed(STATUS)).chain(updates) {
        let Some(file) = root.file(&path)? else { continue };
        let read = each_paragraph(file, |paragraph| match record(paragraph) {
            Some((name, Some(record))) if wanted(&name) => drop(database.records.insert(name, record)),
            Some((name, None)) => drop(database.records.remove(&name)),
            _ => {}
        });
        read.map_err(|error| {
            Failure::new(Kind::Invalid, format!("`{}` is no database of dpkg's: {error}", root.shown(&path)))
        })?;
    }
    Ok(database)
}

/// Calls `each` with every paragraph of a file.
fn each_paragraph(file: File, mut each: impl FnMut(&str)) -> std::io::Result<()> {
    let too_long = || std::io::Error::other("it is too long");
    let (mut reader, mut read, mut paragraph) = (BufReader::new(file), 0, Vec::new());
    loop {
        let start = paragraph.len();
        let length = reader.by_ref().take(LONGEST_PARAGRAPH).read_until(b'\n', &mut paragraph)?;
        read += length;
        if paragraph.len() as u64 >= LONGEST_PARAGRAPH || read as u64 > LONGEST {
            return Err(too_long());
        }
        if length == 0 || paragraph[start..] == *b"\n" {
            each(&String::from_utf8_lossy(&paragraph));
            paragraph.clear();
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// Returns the changes that a killed dpkg has not written into its status file, in order.
fn updates(root: &Root) -> Result<Vec<ImagePath>, Failure> {
    let directory = ImagePath::fixed(UPDATES);
    let names = root.names(&directory)?.unwrap_or_default();
    let numbers = names.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers.map(|name| directory.join(name)).collect()
}

/// Reads a paragraph of dpkg's status file: the package's name and its record, which is none where at most the
/// configuration files are there.
pub(crate) fn record(paragraph: &str) -> Option<(String, Option<Record>)> {
    let field = |name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let name = field("Package")?.to_owned();
    let mut status = field("Status")?.split(' ');
    let (want, state) = (status.next()?, status.nth(1)?);
    // A purge was killed: dpkg has not removed the package's record yet.
    let is_going = want == "purge" && state == "config-files";
    if matches!(state, "not-installed" | "config-files") && !is_going {
        return Some((name, None));
    }
    let mut digests = BTreeMap::new();
    let conffiles = paragraph.lines().skip_while(|line| !line.starts_with("Conffiles:")).skip(1);
    for line in conffiles.take_while(|line| line.starts_with(' ')) {
        let mut words = line.split_whitespace();
        if let (Some(path), Some(digest)) =
            (words.next().and_then(|path| ImagePath::new(path).ok()), words.next())
        {
            digests.insert(path, digest.to_owned());
        }
    }
    let record = Record {
        // A package that was never wholly unpacked has no version.
        version: field("Version").unwrap_or_default().to_owned(),
        architecture: field("Architecture")?.to_owned(),
        is_whole: state == "installed",
        is_held: want == "hold",
        digests,
        ..Record::default()
    };
    Some((name, Some(record)))
}

/// Adds the paths and digests of a package's files to its record.
fn list(root: &Root, name: &str, record: &mut Record) -> Result<(), Failure> {
    // Packages that can be installed for several architectures have it in the file's name.
    for stem in [format!("{INFO}/{name}"), format!("{INFO}/{name}:{}", record.architecture)] {
        let read = |kind: &str| root.text(&ImagePath::new(&format!("{stem}.{kind}"))?, LONGEST_LIST);
        let lines = read("list")?.unwrap_or_default();
        record.files.extend(lines.lines().filter_map(|line| ImagePath::new(line).ok()));
        for line in read("md5sums")?.unwrap_or_default().lines() {
            if let Some((digest, path)) = line.split_once("  ")
                && let Ok(path) = ImagePath::new(&format!("/{path}"))
            {
                record.digests.insert(path, digest.to_owned());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::record;

    #[test]
    fn a_status_paragraph_is_read() {
        let text = "Package: containerd.io\nStatus: hold ok half-configured\nArchitecture: amd64\nVersion: 1.7.24-1\nConffiles:\n /etc/containerd/config.toml 0123456789abcdef0123456789abcdef\nDescription: x\n Version: 9\n";
        let (name, found) = record(text).unwrap();
        let found = found.unwrap();
        assert_eq!((name.as_str(), found.version.as_str()), ("containerd.io", "1.7.24-1"));
        assert!(found.is_held && !found.is_whole && found.digests.len() == 1);
        let gone = record(&text.replace("half-configured", "config-files"));
        assert!(matches!(gone, Some((_, None))));
        let going = text.replace("hold ok half-configured", "purge ok config-files");
        assert!(!record(&going).unwrap().1.unwrap().is_whole);
        assert!(record("").is_none());
    }
}
