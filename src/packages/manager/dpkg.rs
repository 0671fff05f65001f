//! What dpkg has installed in a root, read from its files. Nothing is executed.
//!
//! Sources: dpkg(1), deb-control(5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::error::{Failure, Kind};
use crate::packages::manager::database::{Database, Record};
use crate::path::ImagePath;
use crate::root::Root;

const STATUS: &str = "/var/lib/dpkg/status";

const UPDATES: &str = "/var/lib/dpkg/updates";

const INFO: &str = "/var/lib/dpkg/info";

/// Every package of a large desktop fits.
const LONGEST: u64 = 64 << 20;

/// One package's files: those of Debian's linux-headers have 2 MB.
const LONGEST_LIST: u64 = 8 << 20;

/// One package's fields.
const LONGEST_PARAGRAPH: u64 = 1 << 20;

/// What dpkg has installed in `root`, with the files of the packages called `names`. Nothing is executed.
pub(crate) fn database(root: &Root, names: &[&str]) -> Result<Database, Failure> {
    let mut database = records(root, |_| true)?;
    for (name, record) in database.records.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        list(root, name, record)?;
    }
    Ok(database)
}

/// The package among those called `names` that `path` is of. Anybody may have made the root: no more is kept
/// than that takes.
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

/// The packages whose names are `wanted`.
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

/// Gives the paragraphs of a file to `each`, one at a time.
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

/// What a dpkg that did not end has not put into its status file yet, in order.
fn updates(root: &Root) -> Result<Vec<ImagePath>, Failure> {
    let directory = ImagePath::fixed(UPDATES);
    let names = root.names(&directory)?.unwrap_or_default();
    let numbers = names.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers.map(|name| directory.join(name)).collect()
}

/// A paragraph of dpkg's status file: a package's name, and what is there of it if more than its
/// configuration is.
pub(crate) fn record(paragraph: &str) -> Option<(String, Option<Record>)> {
    let field = |name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let name = field("Package")?.to_owned();
    let mut status = field("Status")?.split(' ');
    let (want, state) = (status.next()?, status.nth(1)?);
    // A purge that did not end: dpkg has still to forget it.
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
        // One that was never wholly unpacked has none.
        version: field("Version").unwrap_or_default().to_owned(),
        architecture: field("Architecture")?.to_owned(),
        is_whole: state == "installed",
        is_held: want == "hold",
        digests,
        ..Record::default()
    };
    Some((name, Some(record)))
}

/// Adds the paths and the digests of a package's files.
fn list(root: &Root, name: &str, record: &mut Record) -> Result<(), Failure> {
    // Packages that can be there for several architectures have it in the name.
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
