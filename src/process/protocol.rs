//! Requests to a chroot and its responses: lines of JSON between processes of this program.
//!
//! This module must not carry a request out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Failure, Kind};

/// Directory in a chroot that holds the files which this program writes there.
pub(crate) const OWN: &str = "/tmp/nodebake";

/// Hidden command of this program that runs in a chroot.
pub(super) const COMMAND: &str = "chroot-init";

/// Access of a chroot to its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    /// The root does not change: writes to /etc, /usr and /var are lost when the chroot ends.
    Look,
    /// Programs change the root.
    Change,
}

/// Settings of a chroot: the first line that its processes read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setup {
    /// Path of the root on this host.
    pub host: PathBuf,
    /// The root is the one that this process sees as `/`.
    pub is_own: bool,
    /// Access to the root.
    pub access: Access,
    /// Programs get no network.
    pub offline: bool,
    /// Files of this host that are copied to `packages/` below [`OWN`], and their digests.
    pub files: Vec<(PathBuf, Digest)>,
}

/// A request to a chroot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ChrootRequest {
    /// Writes a file below [`OWN`].
    Write {
        /// Path of the file below [`OWN`].
        name: String,
        /// Content of the file.
        bytes: Vec<u8>,
    },
    /// Runs a program.
    Run(Call),
}

/// A program to run, with its arguments, environment and limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Environment variables beside the search path.
    pub variables: Vec<(String, String)>,
    /// Seconds after which the program is killed.
    pub limit: u64,
    /// The program is not interrupted by a signal, because what it does can't be undone halfway.
    pub to_its_end: bool,
}

/// Output and exit code of a program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

/// A failure to set up a chroot or to carry out a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChrootError {
    /// The exit code of the failure's kind.
    pub exit_code: u8,
    /// The message.
    pub why: String,
    /// The remedy.
    pub help: Option<String>,
}

impl From<ChrootError> for Failure {
    fn from(error: ChrootError) -> Failure {
        let kinds = [Kind::Fetch, Kind::Unverified, Kind::Filesystem];
        let kind = kinds.into_iter().find(|kind| kind.exit_code() == error.exit_code);
        let failure = Failure::new(kind.unwrap_or(Kind::Unsupported), error.why);
        match error.help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
