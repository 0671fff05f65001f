//! SELinux labels in a root: what the root's own policy says, and the extended attribute that holds it.
//!
//! A label is set before a file gets its name, so that nothing is ever in place without one. Where it
//! can't be set, the next boot has to: see [`RELABEL`]. Things are found and opened by `root/label.rs`.

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

/// A boot with SELinux that finds this file labels the whole root, takes it away and starts once more.
///
/// It is not owned: it is gone after that boot, which is no drift, and others set it as well.
pub(crate) const RELABEL: &str = "/.autorelabel";

/// What libselinux takes where the configuration names no policy.
const DEFAULT_POLICY: &str = "targeted";

/// Fedora's file_contexts has 430,000 bytes.
const LONGEST: u64 = 4 << 20;

const ATTRIBUTE: &str = "security.selinux";

/// The policy of one root, and what came of its labels.
#[derive(Debug)]
pub(crate) struct Labels {
    policy: Policy,
    lacking: AtomicBool,
}

#[derive(Debug)]
enum Policy {
    /// The root has none: labels are left alone.
    None,
    /// There is one that can't be read: only a boot can tell the labels.
    Unreadable,
    Known {
        contexts: FileContexts,
        /// Types that an administrator may choose instead of the policy's.
        customizable: Vec<String>,
    },
}

/// What a label is read from and set on.
pub(crate) enum Labelled<'a> {
    /// A file or a directory, open.
    Open(BorrowedFd<'a>),
    /// A symlink, which can't be opened for it: its name, through /proc.
    Link(String),
}

/// What a label is, compared with what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// As the policy says, or the policy says nothing.
    Same,
    /// Another type: found, wanted. None where there is no label.
    Differs(Option<String>, String),
    /// It can't be told here.
    Unknown,
}

impl Labels {
    /// What the policy of the root says: that which its configuration names.
    pub(crate) fn read(root: &Resolver) -> Labels {
        let policy = read(root).unwrap_or(Policy::Unreadable);
        Labels { policy, lacking: AtomicBool::new(false) }
    }

    /// Whether the root has a policy.
    pub(crate) fn are_wanted(&self) -> bool {
        !matches!(self.policy, Policy::None)
    }

    /// Whether the policy can be read.
    pub(crate) fn are_known(&self) -> bool {
        matches!(self.policy, Policy::Known { .. })
    }

    /// Whether something was made that could not be given its label.
    pub(crate) fn are_lacking(&self) -> bool {
        self.lacking.load(Ordering::Relaxed)
    }

    /// Gives what lies at `path` the label of the policy. That it can't be set here is no error.
    pub(crate) fn set(&self, on: &Labelled, path: &str, kind: FileKind) -> Result<(), Errno> {
        let wanted = match &self.policy {
            Policy::None => return Ok(()),
            Policy::Unreadable => Err(()),
            Policy::Known { contexts, .. } => contexts.label(path, kind).map_err(drop),
        };
        let set = match wanted {
            Ok(None) => return Ok(()),
            // As libselinux writes it, with its end.
            Ok(Some(label)) => on.set(format!("{label}\0").as_bytes()),
            Err(()) => Ok(false),
        };
        if !set? {
            self.lacking.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What the label of the thing at `path` is, by the policy. Only the type counts, as for restorecon.
    pub(crate) fn compare(&self, found: &Labelled, path: &str, kind: FileKind) -> Result<Comparison, Errno> {
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
    /// An open file or directory.
    pub(crate) fn open(file: &impl AsFd) -> Labelled<'_> {
        Labelled::Open(file.as_fd())
    }

    /// The label as it is stored.
    pub(crate) fn label(&self) -> Result<Option<Vec<u8>>, Errno> {
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

    /// Stores a label. False: it can't be set here: the filesystem has no attributes, this process may
    /// not, the running kernel knows the type from no policy, or there is no /proc for a symlink.
    pub(crate) fn set(&self, label: &[u8]) -> Result<bool, Errno> {
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
        // Compiled alone, it is there and can't be read.
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
    let customizable = customizable.lines().map(|line| line.trim().to_owned()).collect();
    let known = FileContexts::parse(&texts).map(|contexts| Policy::Known { contexts, customizable });
    Ok(known.unwrap_or(Policy::Unreadable))
}

/// SELINUXTYPE of `/etc/selinux/config`.
fn policy_type(config: &str) -> &str {
    let named = config.lines().filter_map(|line| line.trim_start().strip_prefix("SELINUXTYPE=")).next_back();
    named.map(str::trim).filter(|name| !name.is_empty()).unwrap_or(DEFAULT_POLICY)
}

/// The text at `path`, through links inside the root. Other characters than UTF-8's match nothing of ours.
fn text(root: &Resolver, path: &str) -> Result<Option<String>, Errno> {
    let Some(file) = file_in(root, path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| errno(&error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Errno::FBIG);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// A part of a path is what the root's configuration says: no other than a plain path is opened.
fn file_in(root: &Resolver, path: &str) -> Result<Option<File>, Errno> {
    let path = ImagePath::new(path).map_err(|_| Errno::INVAL)?;
    root.file(path.relative())
}

/// `bin_t` of `system_u:object_r:bin_t:s0`.
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
