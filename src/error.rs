//! Failures, sorted by what the caller should do about them.
//!
//! A [`Failure`] carries the exit code and the remedy; everything around it is plain `anyhow` context. This module
//! must not know which module fails.

use std::fmt::Display;
use std::io::ErrorKind;

use rustix::io::Errno;

/// Reason why a run failed, one variant for each exit code of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line can't be used as it is.
    Usage,
    /// The spec, the lock, the receipt or a configuration is invalid.
    Invalid,
    /// Bytes could not be fetched; the same call may work later.
    Fetch,
    /// Bytes were read and are not what is pinned; never retried.
    Unverified,
    /// An archive or a root would lead outside of where it may write.
    Unsafe,
    /// The filesystem refused.
    Filesystem,
    /// Another run holds the root.
    Locked,
    /// This machine or this root lacks what is needed.
    Unsupported,
    /// The root is not what the receipt or the plan says.
    Drift,
    /// A signal asked to stop.
    Interrupted(i32),
}

impl Kind {
    /// Returns the process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::Invalid => 3,
            Kind::Fetch => 4,
            Kind::Unverified => 5,
            Kind::Unsafe => 6,
            Kind::Filesystem => 7,
            Kind::Locked => 8,
            Kind::Unsupported => 9,
            Kind::Drift => 10,
            Kind::Interrupted(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
        }
    }
}

/// Error with its kind and, where one is known, its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Kind, which decides the exit code.
    pub kind: Kind,
    message: String,
    /// Remedy in one line: what the user can do.
    pub help: Option<String>,
    /// The file that was asked for does not exist: no failure to a caller that can do without it.
    pub absent: bool,
}

impl Failure {
    /// Makes a failure from a message: lower case, no full stop, values in backticks.
    pub fn new(kind: Kind, message: impl Display) -> Self {
        Failure { kind, message: message.to_string(), help: None, absent: false }
    }

    /// Adds the remedy.
    pub fn help(mut self, help: impl Display) -> Self {
        self.help = Some(help.to_string());
        self
    }

    /// Marks the failure as one of a file that does not exist.
    pub fn absent(mut self) -> Self {
        self.absent = true;
        self
    }

    /// Adds lines of another program's log below the message.
    pub fn with_log(mut self, lines: &[String]) -> Self {
        for line in lines {
            self.message += &format!("\n  log: {line}");
        }
        self
    }

    /// Puts the name of the file that is wrong in front of the message.
    pub fn in_file(mut self, name: &str) -> Self {
        self.message = format!("{name}: {}", self.message);
        self
    }

    /// Returns the failure that `error` is, such as that of a signal, or makes one that says what went wrong.
    pub fn from_error(error: anyhow::Error, make: impl FnOnce(anyhow::Error) -> Failure) -> Self {
        error.downcast::<Failure>().unwrap_or_else(make)
    }

    /// Fails if one of several steps has failed that do not depend on each other: with every message, and with the kind
    /// and the remedy of the first.
    pub fn join(failures: Vec<Failure>) -> Result<(), Failure> {
        let messages: Vec<_> = failures.iter().map(|failure| failure.message.clone()).collect();
        match failures.into_iter().next() {
            Some(first) => Err(Failure { message: messages.join("; "), ..first }),
            None => Ok(()),
        }
    }

    /// Makes the failure of a system call on `what` (a path or a description) while `doing`.
    pub fn filesystem(doing: &str, what: impl Display, errno: impl Into<Errno>) -> Self {
        let errno = errno.into();
        let failure = |kind| Failure::new(kind, format!("{doing} `{what}`: {}", describe(errno)));
        match errno {
            Errno::PERM | Errno::ACCESS if !rustix::process::geteuid().is_root() => {
                failure(Kind::Unsupported).help("run as root, for example with sudo")
            }
            Errno::NOSPC | Errno::DQUOT => failure(Kind::Filesystem)
                .help("free some space or inodes in the root filesystem and run again"),
            Errno::ROFS => failure(Kind::Filesystem).help("mount the root filesystem writable"),
            Errno::PERM => {
                failure(Kind::Filesystem).help("see whether the file is immutable: lsattr, chattr -i")
            }
            _ => failure(Kind::Filesystem),
        }
    }
}

/// Returns the kind of the outermost [`Failure`] in `error`, if it has one.
pub fn kind(error: &anyhow::Error) -> Option<Kind> {
    failure(error).map(|failure| failure.kind)
}

/// Returns whether `error` says that the file that was asked for does not exist.
pub fn is_absent(error: &anyhow::Error) -> bool {
    failure(error).is_some_and(|failure| failure.absent)
}

/// Returns the [`Failure`] that decides `error`'s exit code.
pub fn failure(error: &anyhow::Error) -> Option<&Failure> {
    error.chain().find_map(|cause| cause.downcast_ref::<Failure>())
}

/// Returns the errno of `error`, for [`Failure::filesystem`]. An error that another one is wrapped in has only its kind.
pub fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or_else(|| {
        let known = KINDS.iter().find(|(kind, _)| *kind == error.kind());
        known.map_or(Errno::IO, |(_, errno)| *errno)
    })
}

/// Errno that each kind of error stands for.
const KINDS: [(ErrorKind, Errno); 13] = [
    (ErrorKind::NotFound, Errno::NOENT),
    (ErrorKind::PermissionDenied, Errno::ACCESS),
    (ErrorKind::AlreadyExists, Errno::EXIST),
    (ErrorKind::NotADirectory, Errno::NOTDIR),
    (ErrorKind::IsADirectory, Errno::ISDIR),
    (ErrorKind::DirectoryNotEmpty, Errno::NOTEMPTY),
    (ErrorKind::ReadOnlyFilesystem, Errno::ROFS),
    (ErrorKind::StorageFull, Errno::NOSPC),
    (ErrorKind::QuotaExceeded, Errno::DQUOT),
    (ErrorKind::FileTooLarge, Errno::FBIG),
    (ErrorKind::InvalidFilename, Errno::NAMETOOLONG),
    (ErrorKind::StaleNetworkFileHandle, Errno::STALE),
    (ErrorKind::ResourceBusy, Errno::BUSY),
];

/// Returns the system's message for an errno, in lower case and without its number.
pub fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_ascii_lowercase()
}
