//! Values of a bake: what is baked, the same for every root, and the outcome for each root.
//!
//! This module must not do anything with them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::artifact::lockfile::Lockfile;
use crate::commit::SavedEdits;
use crate::commit::diff::Diff;
use crate::source::fetch::Fetcher;
use crate::spec::{CertificateFile, Spec};

/// Bake of one or several roots: everything that is the same for all.
pub(crate) struct Job {
    /// Spec of the user.
    pub spec: Spec,
    /// Artifacts and packages pinned by `nodebake.lock`.
    pub lock: Lockfile,
    /// Certificates and keys that the spec names, by their path in it.
    pub certificates: BTreeMap<PathBuf, CertificateFile>,
    /// Fetcher of artifacts.
    pub fetcher: Fetcher,
    /// Directory of this host for decoded members that can't be written to a root's own filesystem.
    pub scratch: PathBuf,
    /// Time to wait for a root that another run has locked.
    pub lock_timeout: Duration,
    /// The caller allows programs of the roots to run (`--execute`).
    pub execute: bool,
    /// The caller allows roots of another architecture than the spec's (`--foreign`).
    pub foreign: bool,
    /// Modification time of installed files, seconds since 1970.
    pub mtime: i64,
    /// Day that warnings go by, YYYY-MM-DD.
    pub today: String,
}

/// Outcome of a bake for one root.
pub(crate) struct Outcome {
    /// Root as the user named it.
    pub host: PathBuf,
    /// Changes in the root, or the failure.
    pub result: anyhow::Result<Report>,
}

/// Changes that were made in a root, or would be.
pub(crate) struct Report {
    /// Difference between plan and root, path by path.
    pub diff: Diff,
    /// Edits that were saved before they were replaced.
    pub kept: SavedEdits,
    /// Warnings about the root.
    pub warnings: Vec<String>,
    /// Outcome of `--start`; none without that flag.
    pub started: Option<anyhow::Result<String>>,
}
