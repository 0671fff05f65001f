//! Answers with which keys of the server for exec, attach and port-forward containerd ends, or has no CRI.
//!
//! This module must not look for a file.
//!
//! Source: `getStreamListenerMode` and `streamServerConfig` in internal/cri/streamingserver and pkg/cri/server/streaming.go.

use std::net::IpAddr;

use toml_edit::{DocumentMut, Item};

use crate::format::toml;
use crate::printable::printable;
use crate::runtime::containerd::CRI;
use crate::runtime::containerd::validate::{Problem, problem};

/// Finds an address or a port at which no server can listen, and half of a pair of certificate and key.
pub(super) fn streaming_problems(document: &DocumentMut) -> Vec<Problem> {
    let text = |path: &[&str]| {
        toml::find(document.as_item(), &[&["plugins", CRI], path].concat()).and_then(Item::as_str)
    };
    let mut problems = Vec::new();
    let port = text(&["stream_server_port"]).filter(|port| port.parse::<u16>().is_err());
    problems.extend(port.map(|port| {
        let why = format!("`stream_server_port` is `{}`, which is no port: containerd ends", printable(port));
        problem(why, "write a number in quotes, or `0` for any")
    }));
    let is_host = |host: &str| {
        host.is_empty() || host.parse::<IpAddr>().is_ok() || host.ends_with(|c: char| c.is_ascii_alphabetic())
    };
    let address = text(&["stream_server_address"]).filter(|address| !is_host(address));
    problems.extend(address.map(|address| {
        let why = format!(
            "`stream_server_address` is `{}`, which is no address: containerd ends",
            printable(address)
        );
        problem(why, "write an address of the node, such as 127.0.0.1")
    }));
    let has = |key| text(&["x509_key_pair_streaming", key]).is_some_and(|path| !path.is_empty());
    if has("tls_cert_file") != has("tls_key_file") {
        let why =
            "`x509_key_pair_streaming` has one of `tls_cert_file` and `tls_key_file`: the CRI is not loaded";
        problems.push(problem(why, "set both or none"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::streaming_problems;

    /// Daemons of 1.6.20, 1.7.24 and 2.1.9 end with the first four, and start with the others.
    #[test]
    fn a_server_that_can_not_listen_is_found() {
        for (keys, is_found) in [
            ("stream_server_port = 'x'", true),
            ("stream_server_port = '65536'", true),
            ("stream_server_address = '127.0.0.300'", true),
            ("enable_tls_streaming = true\nx509_key_pair_streaming.tls_cert_file = '/c'", true),
            ("stream_server_port = '10010'\nstream_server_address = '127.0.0.1'", false),
            ("stream_server_address = '::1'\nstream_server_port = '0'", false),
            ("stream_server_address = 'localhost'", false),
            ("stream_server_address = ''", false),
            ("x509_key_pair_streaming = {tls_cert_file = '/c', tls_key_file = '/k'}", false),
        ] {
            let text = format!("[plugins.'io.containerd.grpc.v1.cri']\n{keys}\n");
            assert_eq!(!streaming_problems(&text.parse().unwrap()).is_empty(), is_found, "{keys}");
        }
    }
}
