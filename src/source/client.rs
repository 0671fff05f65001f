//! The HTTP client: which certificates it trusts, which redirects it follows, how its errors read.
//!
//! This module must not send a request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Certificate, Client, redirect};

use crate::error::{Failure, Kind};
use crate::source::open::{self, LONGEST_CERTIFICATES};

/// Limit of redirects in a row.
const MOST_REDIRECTS: usize = 10;

/// Settings of the network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Number of tries after the first.
    pub retries: u32,
    /// Time that a connection may give (almost) nothing.
    pub stall: Duration,
    /// File of certificates that are trusted beside the system's and the embedded ones.
    pub ca_file: Option<PathBuf>,
}

/// Returns the embedded certificates and those of `--ca-file` in PEM, for other programs.
pub(crate) fn pem(network: &Network) -> Result<String, Failure> {
    let mut text = String::new();
    for der in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let base64 = STANDARD.encode(der);
        let lines: Vec<&str> =
            (0..base64.len()).step_by(64).map(|at| &base64[at..base64.len().min(at + 64)]).collect();
        text += &format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    }
    if let Some(path) = &network.ca_file {
        text += &String::from_utf8_lossy(&ca_file(path)?);
    }
    Ok(text)
}

/// Reads the file of `--ca-file`.
fn ca_file(path: &Path) -> Result<Vec<u8>, Failure> {
    open::read(path, LONGEST_CERTIFICATES).map_err(|error| refused(path, &error.to_string()))
}

fn refused(path: &Path, why: &str) -> Failure {
    Failure::new(Kind::Usage, format!("--ca-file `{}`: {why}", path.display()))
        .help("give certificates in PEM")
}

/// Makes the client.
pub(super) fn client(network: &Network) -> Result<Client, Failure> {
    // ring builds with a C compiler alone, also for musl. A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut certificates: Vec<Certificate> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect();
    if let Some(path) = &network.ca_file {
        let own = Certificate::from_pem_bundle(&ca_file(path)?)
            .map_err(|error| refused(path, &error.to_string()))?;
        if own.is_empty() {
            return Err(refused(path, "holds no certificate"));
        }
        certificates.extend(own);
    }
    let builder = Client::builder()
        .user_agent(concat!("nodebake/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(network.stall)
        .read_timeout(network.stall)
        .redirect(redirect::Policy::custom(follow))
        .referer(false)
        .tls_certs_merge(certificates);
    // NO_PROXY=* means no proxy at all for curl; reqwest applies the star to host names only.
    let direct =
        ["no_proxy", "NO_PROXY"].iter().any(|name| std::env::var(name).is_ok_and(|list| list.trim() == "*"));
    let builder = if direct { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| Failure::new(Kind::Fetch, format!("setting up TLS: {}", causes(&error))))
}

/// Follows a redirect to http or https, but not from https to http and not more than [`MOST_REDIRECTS`].
fn follow(attempt: redirect::Attempt) -> redirect::Action {
    let secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    let refusal = match attempt.url().scheme() {
        _ if attempt.previous().len() > MOST_REDIRECTS => Some("too many redirects"),
        "https" => None,
        "http" if !secure => None,
        "http" => Some("refused a redirect from https to http"),
        _ => Some("refused a redirect to another scheme than http and https"),
    };
    match refusal {
        Some(why) => attempt.error(why),
        None => attempt.follow(),
    }
}

/// Joins the causes of a network error, without URLs: they may hold credentials.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut parts = Vec::new();
    if error.is_timeout() {
        parts.push("stalled: no answer in time".to_owned());
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        parts.push(inner.to_string());
        cause = inner.source();
    }
    parts.dedup();
    if parts.is_empty() { "connection failed".to_owned() } else { parts.join(": ") }
}
