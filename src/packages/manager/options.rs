//! How a package manager is run.

use std::time::Duration;

use crate::error::Failure;
use crate::path::ImagePath;
use crate::root::Root;
use crate::source::client::{self, Network};

/// How the package manager is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Tries after a failed download.
    pub retries: u32,
    /// Seconds of silence after which a connection is given up.
    pub stall: u64,
    /// Seconds to wait for another package manager's lock.
    pub lock_timeout: u64,
    /// Read the root's own sources; else there are only package files.
    pub root_sources: bool,
    /// Certificates in PEM that are trusted in place of the root's.
    pub certificates: Option<String>,
    /// Its environment: proxies, and what keeps services from starting.
    pub variables: Vec<(String, String)>,
}

/// What of this process's environment the package manager's network use depends on.
const PASSED_ON: [&str; 7] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"];

/// Where distributions keep the certificates that apt and dnf trust.
const CERTIFICATES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

impl Options {
    /// Without a network: for questions, and to take something away.
    pub(crate) fn offline(lock_timeout: Duration) -> Options {
        // systemctl then changes links and starts nothing (systemd's ENVIRONMENT.md).
        let variables = [("LC_ALL", "C"), ("HOME", "/root"), ("SYSTEMD_OFFLINE", "1"), ("TERM", "dumb")];
        Options {
            retries: 0,
            stall: 30,
            lock_timeout: lock_timeout.as_secs(),
            root_sources: false,
            certificates: None,
            variables: variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    /// With the root's own sources and this process's proxies; with the embedded certificates where `root`
    /// has none, or `--ca-file` is given.
    pub(crate) fn online(root: &Root, network: &Network, lock_timeout: Duration) -> Result<Options, Failure> {
        let mut options = Options::offline(lock_timeout);
        options.retries = network.retries;
        options.stall = network.stall.as_secs();
        options.root_sources = true;
        for name in PASSED_ON {
            options.variables.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        let mut own = false;
        for path in CERTIFICATES.map(ImagePath::fixed) {
            own |= root.file(&path)?.is_some();
        }
        if !own || network.ca_file.is_some() {
            options.certificates = Some(client::pem(network)?);
        }
        Ok(options)
    }
}
