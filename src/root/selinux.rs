//! SELinux labels: reads a root's own policy, and reads and sets the extended attribute that holds a label.
//!
//! A label is set before a file gets its final name, so that no file is ever installed without one. If it
//! can't be set, the next boot has to do it: see [`RELABEL`]. This module must not look for the files to
//! label, which `root/label.rs` does.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, lgetxattr, lsetxattr};
use rustix::io::Errno;

use crate::error::errno;
use crate::format::file_contexts::{FileContexts, FileKind, Texts};
use crate::path::ImagePath;
use crate::root::resolver::Resolver;

/// File that makes the next boot with SELinux label the whole root, remove the file and reboot.
///
/// No receipt owns this file: it vanishes at that boot, which is no drift, and other programs create it, too.
pub(crate) const RELABEL: &str = "/.autorelabel";

/// Policy that libselinux uses if the configuration names none.
const DEFAULT_POLICY: &str = "targeted";

/// Length of the longest policy file that is read; Fedora's file_contexts has 430,000 bytes.
const LONGEST_POLICY_FILE: u64 = 4 << 20;

/// Limit of the types in customizable_types; Fedora's has 20.
const MOST_TYPES: usize = 10_000;

const ATTRIBUTE: &str = "security.selinux";

/// The policy of one root, and whether all files could be labelled by it.
#[derive(Debug)]
pub(crate) struct Labels {
    policy: Policy,
    lacking: AtomicBool,
}

#[derive(Debug)]
enum Policy {
    /// The root has no policy: labels are left as they are.
    None,
    /// The root has a policy that can't be read: only a boot can set the labels.
    Unreadable,
    Known {
        contexts: FileContexts,
        /// Types that an administrator may set instead of the policy's (customizable_types).
        customizable: Vec<String>,
    },
}

/// A file, directory or symlink whose label is read or set.
pub(super) enum Labelled<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// The path of a symlink through /proc, because fgetxattr does not work on a symlink.
    Link(String),
}

/// Result of comparing a file's label with the policy's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// The label is the policy's, or the policy has none for the file.
    Same,
    /// The label has another type: the found label (`None` if there is none) and the wanted one.
    Differs(Option<String>, String),
    /// The label or the policy can't be read here.
    Unknown,
}

impl Labels {
    /// Reads the policy that the root's configuration names.
    pub(super) fn read(root: &Resolver) -> Labels {
        let policy = read(root).unwrap_or(Policy::Unreadable);
        Labels { policy, lacking: AtomicBool::new(false) }
    }

    /// Returns whether the root has a policy.
    pub(crate) fn are_wanted(&self) -> bool {
        !matches!(self.policy, Policy::None)
    }

    /// Returns whether the policy could be read.
    pub(crate) fn are_known(&self) -> bool {
        matches!(self.policy, Policy::Known { .. })
    }

    /// Returns whether a file was created that could not be given its label.
    pub(super) fn are_lacking(&self) -> bool {
        self.lacking.load(Ordering::Relaxed)
    }

    /// Sets the policy's label for `path` on a file; remembers, without an error, that it can't be set here.
    pub(super) fn set(&self, on: &Labelled, path: &str, kind: FileKind) -> Result<(), Errno> {
        let wanted = match &self.policy {
            Policy::None => return Ok(()),
            Policy::Unreadable => Err(()),
            Policy::Known { contexts, .. } => contexts.label(path, kind).map_err(drop),
        };
        let set = match wanted {
            Ok(None) => return Ok(()),
            // libselinux writes the terminating NUL, too.
            Ok(Some(label)) => on.set(format!("{label}\0").as_bytes()),
            Err(()) => Ok(false),
        };
        if !set? {
            self.lacking.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Compares the label of a file with the policy's for `path`. Only the type counts, as for restorecon.
    pub(super) fn compare(&self, found: &Labelled, path: &str, kind: FileKind) -> Result<Comparison, Errno> {
        let Policy::Known { contexts, customizable } = &self.policy else { return Ok(Comparison::Unknown) };
        let wanted = match contexts.label(path, kind) {
            Ok(Some(label)) => label.to_owned(),
            Ok(None) => return Ok(Comparison::Same),
            Err(_) => return Ok(Comparison::Unknown),
        };
        let found = match found.label() {
            Ok(label) => label.map(|label| String::from_utf8_lossy(&label).trim_end_matches('\0').to_owned()),
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::NOENT) => {
                return Ok(Comparison::Unknown);
            }
            Err(errno) => return Err(errno),
        };
        let chosen = found.as_deref().and_then(type_of);
        let same = chosen == type_of(&wanted)
            || chosen.is_some_and(|chosen| customizable.iter().any(|other| other == chosen));
        Ok(if same { Comparison::Same } else { Comparison::Differs(found, wanted) })
    }
}

impl Labelled<'_> {
    /// Wraps an open file or directory.
    pub(super) fn open(file: &impl AsFd) -> Labelled<'_> {
        Labelled::Open(file.as_fd())
    }

    /// Reads the label as it is stored; `None` if there is none.
    pub(super) fn label(&self) -> Result<Option<Vec<u8>>, Errno> {
        let mut label = vec![0; 4096];
        let read = match self {
            Labelled::Open(file) => fgetxattr(file, ATTRIBUTE, &mut label[..]),
            Labelled::Link(name) => lgetxattr(name.as_str(), ATTRIBUTE, &mut label[..]),
        };
        match read {
            Ok(length) => {
                label.truncate(length);
                Ok(Some(label))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Sets a label. Returns false if it can't be set here: the filesystem has no attributes, this process
    /// has no right to, the running kernel's policy does not know the type, or /proc is missing for a symlink.
    pub(super) fn set(&self, label: &[u8]) -> Result<bool, Errno> {
        let set = match self {
            Labelled::Open(file) => fsetxattr(file, ATTRIBUTE, label, XattrFlags::empty()),
            Labelled::Link(name) => lsetxattr(name.as_str(), ATTRIBUTE, label, XattrFlags::empty()),
        };
        match set {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

fn read(root: &Resolver) -> Result<Policy, Errno> {
    let Some(config) = text(root, "/etc/selinux/config")? else { return Ok(Policy::None) };
    let folder = format!("/etc/selinux/{}/contexts", policy_type(&config));
    let file = |name: &str| text(root, &format!("{folder}/{name}"));
    let Some(base) = file("files/file_contexts")? else {
        // A policy that exists only in compiled form can't be read here.
        let compiled = file_in(root, &format!("{folder}/files/file_contexts.bin"))?;
        return Ok(if compiled.is_some() { Policy::Unreadable } else { Policy::None });
    };
    let texts = Texts {
        base,
        homedirs: file("files/file_contexts.homedirs")?.unwrap_or_default(),
        local: file("files/file_contexts.local")?.unwrap_or_default(),
        substitutions: file("files/file_contexts.subs_dist")?.unwrap_or_default(),
        local_substitutions: file("files/file_contexts.subs")?.unwrap_or_default(),
    };
    let customizable = file("customizable_types")?.unwrap_or_default();
    let customizable: Vec<_> =
        customizable.lines().take(MOST_TYPES + 1).map(|line| line.trim().to_owned()).collect();
    if customizable.len() > MOST_TYPES {
        return Ok(Policy::Unreadable);
    }
    let known = FileContexts::parse(&texts).map(|contexts| Policy::Known { contexts, customizable });
    Ok(known.unwrap_or(Policy::Unreadable))
}

/// Returns SELINUXTYPE of `/etc/selinux/config`.
fn policy_type(config: &str) -> &str {
    let named = config.lines().filter_map(|line| line.trim_start().strip_prefix("SELINUXTYPE=")).next_back();
    named.map(str::trim).filter(|name| !name.is_empty()).unwrap_or(DEFAULT_POLICY)
}

/// Reads the text at `path`, links followed inside the root. Bytes that are not UTF-8 are replaced: they
/// stand in patterns for paths that nodebake does not write.
fn text(root: &Resolver, path: &str) -> Result<Option<String>, Errno> {
    let Some(file) = file_in(root, path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(LONGEST_POLICY_FILE + 1).read_to_end(&mut bytes).map_err(|error| errno(&error))?;
    if bytes.len() as u64 > LONGEST_POLICY_FILE {
        return Err(Errno::FBIG);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Opens the file at `path`, which contains text from the root's configuration and so must be validated.
fn file_in(root: &Resolver, path: &str) -> Result<Option<File>, Errno> {
    let path = ImagePath::new(path).map_err(|_| Errno::INVAL)?;
    root.file(path.relative())
}

/// Returns the type of a label: `bin_t` of `system_u:object_r:bin_t:s0`.
fn type_of(label: &str) -> Option<&str> {
    label.split(':').nth(2)
}

#[cfg(test)]
mod tests {
    use super::{policy_type, type_of};

    #[test]
    fn the_configuration_names_the_policy() {
        for (config, name) in [
            ("SELINUX=enforcing\nSELINUXTYPE=mls \n", "mls"),
            ("# SELINUXTYPE=src\nSELINUX=disabled\n", "targeted"),
            ("SELINUXTYPE=\n", "targeted"),
        ] {
            assert_eq!(policy_type(config), name);
        }
        assert_eq!(type_of("system_u:object_r:bin_t:s0:c0.c1023"), Some("bin_t"));
    }
}
