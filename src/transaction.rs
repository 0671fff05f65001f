//! What is asked of a package manager, and what it would change.

use crate::receipt::Installed;

/// How the package manager is run.
#[derive(Debug, Clone)]
pub struct Request {
    /// Tries after a failed download.
    pub retries: u32,
    /// Seconds of silence after which a connection is given up.
    pub stall: u64,
    /// Seconds to wait for another package manager's lock.
    pub patience: u64,
    /// Read the root's own sources; else there are only package files.
    pub root_sources: bool,
    /// Certificates in PEM that are trusted in place of the root's.
    pub certificates: Option<String>,
    /// Its environment: proxies, and what keeps services from starting.
    pub variables: Vec<(String, String)>,
}

/// What a package manager would do.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// Packages that come, or come in another version.
    pub installed: Vec<Installed>,
    /// Names of packages that go.
    pub removed: Vec<String>,
}
