//! Options of a package manager's run: network, lock, environment.
//!
//! This module must not know one package manager's command line: `apt.rs` and `dnf.rs` do.

use std::time::Duration;

use crate::error::Failure;
use crate::path::ImagePath;
use crate::root::Root;
use crate::source::client::{self, Network};

/// Variables of this process that the package manager gets.
const PROXY_VARIABLES: [&str; 7] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"];

/// Files of the certificates that apt and dnf trust.
const CERTIFICATES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Options of a package manager's run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Number of tries after a failed download.
    pub retries: u32,
    /// Seconds without data after which a connection is closed.
    pub stall: u64,
    /// Seconds to wait for another package manager's lock.
    pub lock_timeout: u64,
    /// The root's own sources are read; else there are only package files.
    pub root_sources: bool,
    /// Certificates in PEM to trust in place of the root's.
    pub certificates: Option<String>,
    /// Environment: proxies, and variables that keep services from starting.
    pub variables: Vec<(String, String)>,
}

impl Options {
    /// Returns options without a network, to read the database or remove packages.
    pub(crate) fn offline(lock_timeout: Duration) -> Options {
        // With SYSTEMD_OFFLINE systemctl changes links and starts nothing (systemd's ENVIRONMENT.md).
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

    /// Returns options with the root's own sources and this process's proxies. The embedded certificates are used
    /// where `root` has none, or `--ca-file` is given.
    pub(crate) fn online(root: &Root, network: &Network, lock_timeout: Duration) -> Result<Options, Failure> {
        let mut options = Options::offline(lock_timeout);
        options.retries = network.retries;
        options.stall = network.stall.as_secs();
        options.root_sources = true;
        for name in PROXY_VARIABLES {
            options.variables.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        let mut has_certificates = false;
        for path in CERTIFICATES.map(ImagePath::fixed) {
            has_certificates |= root.file(&path)?.is_some();
        }
        if !has_certificates || network.ca_file.is_some() {
            options.certificates = Some(client::pem(network)?);
        }
        Ok(options)
    }
}
