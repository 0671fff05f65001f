//! Answers which files a config.toml names that containerd reads when it starts.
//!
//! This module must not look for a file: its caller does.

use toml_edit::{DocumentMut, Item};

use crate::format::toml;
use crate::runtime::containerd::{CRI, RUNTIME};

/// Tables of certificates: the key that switches them on, and those that name files.
const CERTIFICATES: [(&[&str], &[&str], &[&str]); 3] = [
    (
        &["plugins", CRI],
        &["enable_tls_streaming"],
        &["x509_key_pair_streaming.tls_cert_file", "x509_key_pair_streaming.tls_key_file"],
    ),
    (&["grpc"], &["tcp_address"], &["tcp_tls_ca", "tcp_tls_cert", "tcp_tls_key"]),
    (&["plugins", "io.containerd.server.v1.grpc-tcp"], &["address"], &["tls_ca", "tls_cert", "tls_key"]),
];

/// Returns the files without which containerd does not start, or does not load the CRI: each with its key.
pub(crate) fn named_files(document: &DocumentMut) -> Vec<(String, String)> {
    let at = |path: &[&str]| toml::find(document.as_item(), path);
    let mut named = Vec::new();
    for (table, switch, keys) in CERTIFICATES {
        let Some(table) = at(table) else { continue };
        let below = |key: &str| toml::find(table, &key.split('.').collect::<Vec<_>>());
        let is_on = switch.iter().filter_map(|key| below(key)).any(|item| {
            item.as_bool() == Some(true) || item.as_str().is_some_and(|address| !address.is_empty())
        });
        let files = keys.iter().filter(|_| is_on).filter_map(|key| Some((*key, below(key)?.as_str()?)));
        named.extend(files.map(|(key, file)| (key.to_owned(), file.to_owned())));
    }
    for plugin in [RUNTIME, CRI] {
        let runtimes = at(&["plugins", plugin, "containerd", "runtimes"]).and_then(Item::as_table_like);
        for (name, item) in runtimes.into_iter().flat_map(|runtimes| runtimes.iter()) {
            let file = toml::find(item, &["base_runtime_spec"]).and_then(Item::as_str);
            named.extend(file.map(|file| (format!("runtimes.{name}.base_runtime_spec"), file.to_owned())));
        }
    }
    named.retain(|(_, file)| !file.is_empty());
    named
}

#[cfg(test)]
mod tests {
    use super::named_files;

    #[test]
    fn files_that_are_read_at_the_start_are_named() {
        let text = "\
[grpc]
tcp_address = '127.0.0.1:1'
tcp_tls_cert = '/c'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
base_runtime_spec = '/s.json'
[plugins.'io.containerd.grpc.v1.cri']
enable_tls_streaming = true
x509_key_pair_streaming = {tls_cert_file = '/a', tls_key_file = '/b'}
";
        let files = |text: &str| -> Vec<String> {
            named_files(&text.parse().unwrap()).into_iter().map(|(_, file)| file).collect()
        };
        assert_eq!(files(text), ["/a", "/b", "/c", "/s.json"]);
        let off = text.replace("127.0.0.1:1", "").replace("true", "false");
        assert_eq!(files(&off), ["/s.json"]);
    }
}
