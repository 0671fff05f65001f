//! What a chroot is asked, and what it answers: lines of JSON between two processes of this program.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Failure, Kind};

/// The folder in a chroot that is its own and holds what it is given.
pub(crate) const OWN: &str = "/tmp/nodebake";

/// The hidden command that runs in it.
pub(crate) const COMMAND: &str = "chroot-init";

/// What a chroot may do to its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    /// Nothing: what is written to /etc, /usr and /var goes away with it.
    Look,
    /// What its programs do stays.
    Change,
}

/// How a chroot is arranged: the first line that the processes in it read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Arrangement {
    /// The root on this host.
    pub host: PathBuf,
    /// Whether it is this process's own.
    pub is_own: bool,
    /// What may be done to it.
    pub access: Access,
    /// Leave no network.
    pub offline: bool,
    /// Files of this host that are copied to `packages/` below [`OWN`], and their digests.
    pub files: Vec<(PathBuf, Digest)>,
}

/// What a chroot is asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ChrootRequest {
    /// Writes a file below [`OWN`].
    Write {
        /// Its name, with folders.
        name: String,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// Runs a program.
    Run(Call),
}

/// A program and how it is run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its environment beside the search path.
    pub variables: Vec<(String, String)>,
    /// Seconds after which it is killed.
    pub limit: u64,
    /// Let it end when a signal arrives: what it does can't be undone halfway.
    pub to_its_end: bool,
}

/// What became of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// Why a chroot could not be arranged, or a request not be carried out.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChrootError {
    /// The exit code that it comes to.
    pub exit_code: u8,
    /// What went wrong.
    pub why: String,
    /// What to do.
    pub help: Option<String>,
}

impl From<ChrootError> for Failure {
    fn from(refusal: ChrootError) -> Failure {
        let kind = match refusal.exit_code {
            4 => Kind::Fetch,
            5 => Kind::Unverified,
            7 => Kind::Filesystem,
            _ => Kind::Unsupported,
        };
        let failure = Failure::new(kind, refusal.why);
        match refusal.help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
