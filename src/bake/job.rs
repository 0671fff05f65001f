//! What is baked, the same for every root, and what came of each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::artifact::lockfile::Lockfile;
use crate::commit::SavedEdits;
use crate::commit::diff::Diff;
use crate::source::fetch::Fetcher;
use crate::spec::Spec;

/// What is baked, the same for every root.
pub(crate) struct Job {
    /// What the user wrote.
    pub spec: Spec,
    /// What is pinned.
    pub lock: Lockfile,
    /// The certificates that the spec names, by their path in it.
    pub certificates: BTreeMap<PathBuf, Vec<u8>>,
    /// How artifacts are fetched.
    pub fetcher: Fetcher,
    /// Where decoded members go that can't go to a root's own filesystem.
    pub scratch: PathBuf,
    /// How long to wait for a root that another run has locked.
    pub lock_timeout: Duration,
    /// Modification time of installed files, seconds since 1970.
    pub mtime: i64,
}

/// What came of one root.
pub(crate) struct Outcome {
    /// The root, as the user gave it.
    pub host: PathBuf,
    /// Its changes, or why there are none.
    pub result: anyhow::Result<Report>,
}

/// What was, or would be, done in a root.
pub(crate) struct Report {
    /// Every path.
    pub diff: Diff,
    /// Edits that were saved before they were replaced.
    pub kept: SavedEdits,
    /// What the user should know of the root.
    pub warnings: Vec<String>,
    /// What came of starting the service, where that was asked for.
    pub started: Option<anyhow::Result<String>>,
}
