//! Values that every step of a package's installation reads.
//!
//! This module must not change any of them.

use std::time::Duration;

use crate::arch::Arch;
use crate::artifact::lockfile::Lockfile;
use crate::root::Root;
use crate::runtime::Facts;
use crate::source::fetch::Fetcher;
use crate::spec::Spec;
use crate::state::{Receipt, State};

/// Inputs of one root's packages; the same during a whole run.
pub(crate) struct PackageInputs<'a> {
    /// Spec that the user wrote.
    pub spec: &'a Spec,
    /// Lock file beside the spec, with the digests of package files.
    pub lock: &'a Lockfile,
    /// Fetcher of repository keys; the package manager uses the same network settings.
    pub fetcher: &'a Fetcher,
    /// Time to wait for another package manager's lock.
    pub lock_timeout: Duration,
    /// Root that gets the packages.
    pub root: &'a Root,
    /// Architecture of the root.
    pub arch: Arch,
    /// Locked state of the root; none for `plan`, which changes nothing.
    pub state: Option<&'a State<'a>>,
    /// Receipt of the root's last bake.
    pub receipt: Option<&'a Receipt>,
}

impl PackageInputs<'_> {
    /// Returns the facts of the runtime that the spec names, or of the default one.
    pub(super) fn runtime(&self) -> &'static Facts {
        self.spec.runtime().unwrap_or_default().facts()
    }
}
