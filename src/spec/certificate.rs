//! What is in the certificate files that a spec names, as Go's `crypto/tls` reads them: with a file that it can't use,
//! containerd pulls nothing from the registry.
//!
//! This module must not know what day it is: its caller compares the dates.
//!
//! Sources: `AppendCertsFromPEM` in crypto/x509/cert_pool.go, `X509KeyPair` in crypto/tls/tls.go, and `updateTLSConfig...`
//! in containerd's core/remotes/docker/config/hosts.go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::{Failure, Kind};
use crate::format::pem::{self, BYTE_ORDER_MARK, Block};
use crate::printable::printable;
use crate::secret;
use crate::spec::key_pair::{mismatch, unread};
use crate::spec::{CertificateFile, Spec};

/// When a certificate of a file is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dates {
    /// File that the spec names.
    pub path: PathBuf,
    /// Subject of the certificate.
    pub subject: String,
    /// First second, since 1970.
    pub not_before: i64,
    /// Last second, since 1970.
    pub not_after: i64,
}

/// Why a file can't be used, and how to mend it.
type Refusal = (String, &'static str);

impl Spec {
    /// Refuses files without what containerd looks for in them: in a `ca` a certificate and no key, in a `client` both.
    /// Returns the dates of every certificate.
    pub(crate) fn check_certificate_files(
        &self,
        files: &BTreeMap<PathBuf, CertificateFile>,
    ) -> Result<Vec<Dates>, Failure> {
        let bytes = |path: &Path| files.get(path).map(|file| file.bytes.as_slice());
        let mut dates = Vec::new();
        for (name, registry) in &self.registries {
            let refuse = |key: &str, path: &Path, (why, help): Refusal| {
                let shown = printable(&path.to_string_lossy());
                Failure::new(Kind::Invalid, format!("registries.{name}: `{key}: {shown}` {why}")).help(help)
            };
            for mirror in &registry.mirrors {
                for path in &mirror.ca.0 {
                    let Some(bytes) = bytes(path) else { continue };
                    dates.extend(authorities(path, bytes).map_err(|why| refuse("ca", path, why))?);
                }
                for (certificate, key) in &mirror.client.0 {
                    let Some(first) = bytes(certificate) else { continue };
                    let refuse = |path: &Path, why| refuse("client", path, why);
                    let chain = chain(certificate, first).map_err(|why| refuse(certificate, why))?;
                    let holder = key.as_ref().unwrap_or(certificate);
                    let Some(second) = bytes(holder) else { continue };
                    check_key(&chain, second, key.is_some()).map_err(|why| refuse(holder, why))?;
                    dates.extend(chain.into_iter().map(|(_, dates)| dates));
                }
            }
        }
        dates.sort_by(|a, b| (&a.path, a.not_after).cmp(&(&b.path, b.not_after)));
        dates.dedup();
        Ok(dates)
    }
}

/// Returns the dates of the certificates of a file of authorities.
fn authorities(path: &Path, bytes: &[u8]) -> Result<Vec<Dates>, Refusal> {
    if let Some(key) = secret::private_key(bytes) {
        let help = "name a file that has nothing but certificates; a key belongs to `client`";
        return Err((format!("has a private key ({key})"), help));
    }
    Ok(certificates(path, bytes)?.into_iter().map(|(_, dates)| dates).collect())
}

/// Returns the certificates of a client's file. The first must be the client's own.
fn chain(path: &Path, bytes: &[u8]) -> Result<Vec<(Vec<u8>, Dates)>, Refusal> {
    let has_key_alone = pem::blocks(bytes).iter().all(is_key) && secret::private_key(bytes).is_some();
    match has_key_alone {
        true => Err((
            "has a key and no certificate".to_owned(),
            "a pair is a list in the list, the certificate first: client: [[client.crt, client.key]]",
        )),
        false => {
            let found = certificates(path, bytes)?;
            let first = pem::blocks(bytes).into_iter().find(|block| block.label == "CERTIFICATE");
            match first.is_some_and(|block| block.bytes == found[0].0) {
                true => Ok(found),
                false => Err((
                    "has a first certificate that containerd can't parse".to_owned(),
                    "the first certificate must be the client's own, before its authorities'",
                )),
            }
        }
    }
}

/// Returns the certificates that Go finds in a file, at least one, each with its dates.
fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<(Vec<u8>, Dates)>, Refusal> {
    if bytes.starts_with(BYTE_ORDER_MARK) {
        return Err((
            "begins with a byte order mark, behind which containerd does not find the first certificate"
                .to_owned(),
            "take the mark away: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE",
        ));
    }
    let mut blocks = pem::blocks(bytes);
    blocks.retain(|block| block.label == "CERTIFICATE" && !block.has_headers);
    let found: Vec<_> = blocks
        .iter()
        .filter_map(|block| dates(path, &block.bytes).map(|dates| (block.bytes.clone(), dates)))
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let broken = blocks.iter().find_map(|block| unread(&X509Certificate::from_der(&block.bytes).ok()?.1));
    if let Some(why) = broken {
        return Err((why.to_owned(), "have the authority issue another: containerd reads it as Go does"));
    }
    Err(match X509Certificate::from_der(bytes).is_ok() {
        true => (
            "is in DER, and containerd reads PEM".to_owned(),
            "convert it with openssl x509 -inform der -in FILE",
        ),
        false => (
            "has no certificate".to_owned(),
            "expected PEM: lines from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        ),
    })
}

/// Returns the dates of a certificate in DER; none if Go does not take it for one.
fn dates(path: &Path, der: &[u8]) -> Option<Dates> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() || unread(&certificate).is_some() {
        return None;
    }
    let validity = certificate.validity();
    Some(Dates {
        path: path.to_owned(),
        subject: printable(&certificate.subject().to_string()),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// Refuses a file without a key that goes with the first certificate of `chain`. `is_pair` tells that the spec names the
/// file beside the certificate's.
fn check_key(chain: &[(Vec<u8>, Dates)], bytes: &[u8], is_pair: bool) -> Result<(), Refusal> {
    let blocks = pem::blocks(bytes);
    let Some(key) = blocks.iter().find(|block| is_key(block)) else {
        let help = match is_pair {
            true => "the second file of a pair holds the key: client: [[client.crt, client.key]]",
            false => {
                "a file alone holds both; a pair is a list in the list: client: [[client.crt, client.key]]"
            }
        };
        return Err(("has no private key".to_owned(), help));
    };
    if key.has_headers || key.label.starts_with("ENCRYPTED") || key.label.starts_with("OPENSSH") {
        let why = format!("has a key that containerd can't read ({})", printable(&key.label));
        return Err((
            why,
            "give it without a passphrase, as PKCS #8: openssl pkcs8 -topk8 -nocrypt -in FILE",
        ));
    }
    match chain.first().and_then(|(der, _)| mismatch(der, &key.bytes)) {
        None => Ok(()),
        Some(why) => Err((
            why.to_owned(),
            "the first certificate must be the client's own, before its authorities', and its key RSA, ECDSA (P-256, P-384, P-521) or Ed25519",
        )),
    }
}

/// Returns whether Go takes a block for a key.
fn is_key(block: &Block) -> bool {
    block.label == "PRIVATE KEY" || block.label.ends_with(" PRIVATE KEY")
}
