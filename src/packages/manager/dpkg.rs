//! Reads dpkg's database from its files in the root.
//!
//! This module must not execute anything of the root.
//!
//! Sources: dpkg(1), deb-control(5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::error::{Failure, Kind};
use crate::interrupt;
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

/// Limit of the bytes of the lists of files and digests that are read; those of all packages that bring a runtime have
/// a tenth.
const LONGEST_LISTS: u64 = 1 << 20;

/// Limit of the files in [`UPDATES`]: dpkg writes them into its status file after 250.
const MOST_UPDATES: usize = 1000;

/// Limit of one package's paragraph.
const LONGEST_PARAGRAPH: u64 = 1 << 20;

/// Reads the packages of `root`, with the files of the packages called `names`.
pub(crate) fn database(root: &Root, names: &[&str]) -> Result<Database, Failure> {
    let mut database = records(root, names, |_| true)?;
    let mut left = LONGEST_LISTS;
    for (name, record) in database.records.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        list(root, name, record, &mut left)?;
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
    let mut left = LONGEST_LISTS;
    for (name, mut record) in records(root, names, |name| names.contains(&name))?.records {
        list(root, &name, &mut record, &mut left)?;
        if record.files.contains(path) {
            return Ok(Some((name, record)));
        }
    }
    Ok(None)
}

/// Reads the packages whose names are `wanted`, with the configuration files of those called `names`.
fn records(root: &Root, names: &[&str], wanted: impl Fn(&str) -> bool) -> Result<Database, Failure> {
    let updates = updates(root)?;
    let mut database = Database { is_interrupted: !updates.is_empty(), ..Database::default() };
    for path in std::iter::once(ImagePath::fixed(STATUS)).chain(updates) {
        let Some(file) = root.file(&path)? else { continue };
        let read = each_paragraph(file, |paragraph| {
            match record(paragraph) {
                Some((name, Some(mut record))) if wanted(&name) => {
                    if names.contains(&name.as_str()) {
                        record.digests = conffiles(paragraph);
                    }
                    database.add(name, record)?;
                }
                Some((name, None)) => drop(database.records.remove(&name)),
                _ => {}
            }
            Ok(())
        });
        let refuse = |error| {
            Failure::new(Kind::Invalid, format!("`{}` is no database of dpkg's: {error}", root.shown(&path)))
        };
        read.map_err(|error| Failure::from_error(error, refuse))?;
    }
    Ok(database)
}

/// Calls `each` with every paragraph of a file.
fn each_paragraph(file: File, mut each: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (mut reader, mut read, mut paragraph) = (BufReader::new(file), 0, Vec::new());
    loop {
        let start = paragraph.len();
        let length = reader.by_ref().take(LONGEST_PARAGRAPH).read_until(b'\n', &mut paragraph)?;
        read += length;
        if paragraph.len() as u64 >= LONGEST_PARAGRAPH || read as u64 > LONGEST {
            anyhow::bail!("it is too long");
        }
        if length == 0 || paragraph[start..] == *b"\n" {
            interrupt::check()?;
            each(&String::from_utf8_lossy(&paragraph))?;
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
    let names = root.names(&directory, |name| name.bytes().all(|byte| byte.is_ascii_digit()))?;
    if names.len() > MOST_UPDATES {
        let message = format!("`{}` has more than {MOST_UPDATES} files", root.shown(&directory));
        return Err(Failure::new(Kind::Invalid, message).help("run `dpkg --configure --pending` in the root"));
    }
    names.iter().map(|name| directory.join(name)).collect()
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
    let record = Record {
        // A package that was never wholly unpacked has no version.
        version: field("Version").unwrap_or_default().to_owned(),
        architecture: field("Architecture")?.to_owned(),
        is_whole: state == "installed",
        is_held: want == "hold",
        ..Record::default()
    };
    Some((name, Some(record)))
}

/// Reads the digests of a package's configuration files from its paragraph.
fn conffiles(paragraph: &str) -> BTreeMap<ImagePath, String> {
    let lines = paragraph.lines().skip_while(|line| !line.starts_with("Conffiles:")).skip(1);
    let parsed = lines.take_while(|line| line.starts_with(' ')).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((ImagePath::new(words.next()?).ok()?, words.next()?.to_owned()))
    });
    parsed.collect()
}

/// Adds the paths and digests of a package's files to its record. Reads at most `left` bytes, and subtracts what it has
/// read.
fn list(root: &Root, name: &str, record: &mut Record, left: &mut u64) -> Result<(), Failure> {
    // Packages that can be installed for several architectures have it in the file's name.
    for stem in [format!("{INFO}/{name}"), format!("{INFO}/{name}:{}", record.architecture)] {
        let mut read = |kind: &str| -> Result<Option<String>, Failure> {
            let text = root.text(&ImagePath::new(&format!("{stem}.{kind}"))?, *left)?;
            *left -= text.as_ref().map_or(0, |text| text.len() as u64);
            Ok(text)
        };
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
    use super::{conffiles, record};

    #[test]
    fn a_status_paragraph_is_read() {
        let text = "Package: containerd.io\nStatus: hold ok half-configured\nArchitecture: amd64\nVersion: 1.7.24-1\nConffiles:\n /etc/containerd/config.toml 0123456789abcdef0123456789abcdef\nDescription: x\n Version: 9\n";
        let (name, found) = record(text).unwrap();
        let found = found.unwrap();
        assert_eq!((name.as_str(), found.version.as_str()), ("containerd.io", "1.7.24-1"));
        assert!(found.is_held && !found.is_whole && conffiles(text).len() == 1);
        let gone = record(&text.replace("half-configured", "config-files"));
        assert!(matches!(gone, Some((_, None))));
        let going = text.replace("hold ok half-configured", "purge ok config-files");
        assert!(!record(&going).unwrap().1.unwrap().is_whole);
        assert!(record("").is_none());
    }
}
