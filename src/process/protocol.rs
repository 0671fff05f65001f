//! Requests to a sandbox and its responses: lines of JSON between processes of this program.
//!
//! This module must not carry a request out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Failure, Kind};

/// Directory in a sandbox that holds the files which this program writes there.
pub(crate) const OWN: &str = "/tmp/nodebake";

/// Directory in a sandbox that holds the files of [`HostFile`].
pub(crate) const FILES: &str = "/tmp/nodebake/files";

/// Hidden command of this program that runs in a sandbox.
pub(super) const COMMAND: &str = "sandbox-init";

/// Access of a sandbox to its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    /// Programs answer a question: nothing but libraries and configuration is visible, read-only; no user, no
    /// capability, no network, little memory.
    Ask,
    /// Programs of root's rights look at the root: it is read-only, and writes to /etc, /usr and /var are lost when
    /// the sandbox ends.
    Look,
    /// Programs of root's rights change the root.
    Change,
}

/// Settings of a sandbox: the first line that its processes read. Their working directory is the root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Access to the root.
    pub access: Access,
    /// Programs get no network.
    pub offline: bool,
    /// Files that are copied to [`FILES`].
    pub files: Vec<HostFile>,
}

/// File of this host that a sandbox gets a copy of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostFile {
    /// Path on this host.
    pub path: PathBuf,
    /// Name of the copy.
    pub name: String,
    /// Digest that the copy must have.
    pub sha256: Digest,
    /// Mode of the copy.
    pub mode: u32,
}

/// A request to a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
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

/// A failure to set up a sandbox or to carry out a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SandboxError {
    /// The exit code of the failure's kind.
    pub exit_code: u8,
    /// The message.
    pub why: String,
    /// The remedy.
    pub help: Option<String>,
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Failure {
        let kinds = [Kind::Fetch, Kind::Unverified, Kind::Filesystem];
        let kind = kinds.into_iter().find(|kind| kind.exit_code() == error.exit_code);
        let failure = Failure::new(kind.unwrap_or(Kind::Unsupported), error.why);
        match error.help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
