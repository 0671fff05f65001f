//! One root, and how its packages are got.

use std::time::Duration;

use crate::arch::Arch;
use crate::artifact::lockfile::Lockfile;
use crate::root::Root;
use crate::source::fetch::Fetcher;
use crate::spec::Spec;
use crate::state::{Receipt, State};

/// One root and how its packages are got.
pub(crate) struct PackageInputs<'a> {
    /// What the user wrote.
    pub spec: &'a Spec,
    /// What is pinned.
    pub lock: &'a Lockfile,
    /// How keys are fetched, and how the network is used.
    pub fetcher: &'a Fetcher,
    /// How long to wait for another package manager.
    pub lock_timeout: Duration,
    /// The root.
    pub root: &'a Root,
    /// Its architecture.
    pub arch: Arch,
    /// Its locked state; none where nothing may change.
    pub state: Option<&'a State<'a>>,
    /// What is owned in it.
    pub receipt: Option<&'a Receipt>,
}
