//! Policy for the entries of an archive: regular files and directories with plain relative names.
//!
//! This module must not read a member's content.

use std::collections::BTreeSet;
use std::io::{self, Read};

use rustix::io::Errno;
use tar::EntryType;

use crate::error::{Failure, Kind};
use crate::path::LONGEST_COMPONENT;
use crate::printable::{printable, steers};

/// Bytes to which an archive may inflate; containerd's has 0.15 GB.
pub(super) const LARGEST: u64 = 1 << 30;

/// Bytes of the longest name that is accepted.
const LONGEST_NAME: usize = 255;

/// Components of the deepest name that is accepted.
const DEEPEST_NAME: usize = 8;

/// Kinds of entries that are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Directory,
}

/// Returns the kind of an entry; fails if a release can't have an entry of its type, mode or size.
pub(super) fn admit<R: Read>(entry: &mut tar::Entry<R>, label: &str) -> Result<EntryKind, Failure> {
    let shown = printable(&String::from_utf8_lossy(&entry.path_bytes()));
    let refuse = |why: &str| Err(refuse(label, &format!("member `{shown}` {why}")));
    let kind = match entry.header().entry_type() {
        EntryType::Directory => EntryKind::Directory,
        EntryType::Regular | EntryType::Continuous => EntryKind::File,
        EntryType::Symlink => return refuse("is a symlink"),
        EntryType::Link => return refuse("is a hard link"),
        EntryType::GNUSparse => return refuse("is a sparse file"),
        other => return refuse(&format!("is of type {:?}", printable(&format!("{other:?}")))),
    };
    if is_pax_sparse(entry) {
        return refuse("is a sparse file");
    }
    if has_hidden_name(entry.header()) {
        return refuse("has a NUL in its name");
    }
    let mode = entry.header().mode().map_err(|error| corrupt(label, &error))?;
    if mode & 0o7000 != 0 && kind == EntryKind::File {
        return refuse(&format!("has mode {mode:04o}: setuid, setgid or sticky"));
    }
    match entry.size() {
        size if size > LARGEST => refuse(&format!("has {size} bytes; at most {LARGEST} are read")),
        _ => Ok(kind),
    }
}

/// Names that an archive has used so far.
#[derive(Default)]
pub(super) struct Names {
    files: BTreeSet<String>,
    directories: BTreeSet<String>,
}

impl Names {
    /// Adds an entry's name and returns it if it is a regular file's; fails if the name was used before.
    pub(super) fn file<R: Read>(
        &mut self,
        entry: &tar::Entry<R>,
        kind: EntryKind,
        label: &str,
    ) -> Result<Option<String>, Failure> {
        let raw = entry.path_bytes();
        let shown = printable(&String::from_utf8_lossy(&raw));
        let refuse = |why: &str| refuse(label, &format!("member `{shown}` {why}"));
        let Some(name) = normalise(&raw).map_err(|why| refuse(&why))? else { return Ok(None) };
        // GNU tar repeats the name of a directory when it appends to an archive.
        let fits = match kind {
            EntryKind::Directory => !self.files.contains(&name),
            EntryKind::File => !self.files.contains(&name) && !self.directories.contains(&name),
        };
        if !fits {
            return Err(refuse("stands in the archive twice"));
        }
        match kind {
            EntryKind::Directory => {
                self.directories.insert(name);
                Ok(None)
            }
            EntryKind::File => {
                self.files.insert(name.clone());
                Ok(Some(name))
            }
        }
    }
}

fn is_pax_sparse<R: Read>(entry: &mut tar::Entry<R>) -> bool {
    let Ok(Some(records)) = entry.pax_extensions() else { return false };
    records.flatten().any(|record| record.key_bytes().starts_with(b"GNU.sparse"))
}

/// Returns whether a field of the name goes on behind a NUL: readers disagree about what such a member is called.
fn has_hidden_name(header: &tar::Header) -> bool {
    let goes_on = |field: &[u8]| field.iter().skip_while(|byte| **byte != 0).any(|byte| *byte != 0);
    // GNU's header has other things in the prefix's place.
    goes_on(&header.as_old().name) || header.as_ustar().is_some_and(|ustar| goes_on(&ustar.prefix))
}

/// Returns a member's name without `./` and trailing slash; `None` for the name `./` itself.
fn normalise(raw: &[u8]) -> Result<Option<String>, String> {
    let name = std::str::from_utf8(raw).map_err(|_| "has a name that is not UTF-8")?;
    if name.is_empty() || name.chars().any(steers) {
        return Err("has an empty name or a control character in it".to_owned());
    }
    if name.starts_with('/') {
        return Err("has an absolute name".to_owned());
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err("has `..` in its name".to_owned());
    }
    let too_long = name.len() > LONGEST_NAME || parts.iter().any(|part| part.len() > LONGEST_COMPONENT);
    if too_long || parts.len() > DEEPEST_NAME {
        return Err(format!(
            "has a name of more than {LONGEST_NAME} bytes, {LONGEST_COMPONENT} in one part, or {DEEPEST_NAME} levels"
        ));
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// Returns the failure of an archive that the policy forbids.
pub(super) fn refuse(label: &str, why: &str) -> Failure {
    Failure::new(Kind::Unsafe, format!("{label}: {why}"))
        .help("nothing of it was installed; get the archive that upstream published")
}

/// Returns the failure for an error of reading an archive: policy, disk, truncated or corrupt.
pub(super) fn corrupt(label: &str, error: &io::Error) -> Failure {
    if let Some(limit) = error.get_ref().and_then(|inner| inner.downcast_ref::<LimitExceeded>()) {
        return refuse(label, &limit.0);
    }
    if let Some(errno) = system_error(error) {
        return Failure::filesystem("reading", label, errno);
    }
    if error.to_string().contains("overflow") {
        return refuse(label, "a member has an impossible size");
    }
    let truncated = error.kind() == io::ErrorKind::UnexpectedEof
        || error.to_string().contains("failed to read entire block");
    let why = if truncated {
        "truncated".to_owned()
    } else {
        format!("corrupt: {}", printable(&error.to_string()))
    };
    Failure::new(Kind::Unverified, format!("{label} is {why}"))
        .help("fetch it again; what it should be is pinned by its digest")
}

/// Returns the disk's error that the decoders have wrapped, if there is one.
pub(super) fn system_error(error: &io::Error) -> Option<Errno> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        let found = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if let Some(number) = found {
            return Some(Errno::from_raw_os_error(number));
        }
        cause = inner.source();
    }
    None
}

/// An exceeded limit, which a reader can only report as an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LimitExceeded(pub(super) String);
