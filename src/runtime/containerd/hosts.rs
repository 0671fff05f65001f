//! Writes hosts.toml for each registry of the spec, and the certificates beside it.
//!
//! A mistake in a hosts.toml makes containerd skip the mirror without a message and pull from upstream
//! (core/remotes/docker/config/hosts.go), so the file is built as a document, in the order of the spec. This module
//! must not answer which hosts are asked: `lookup` does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use semver::Version;
use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use crate::error::{Failure, Kind};
use crate::format::toml::string;
use crate::node::{Content, Want};
use crate::path::ImagePath;
use crate::printable::printable;
use crate::runtime::containerd::Release;
use crate::spec::value::{Clients, Files};
use crate::spec::{CertificateFile, Mirror, Registry, Spec};

/// Name of the file that says where the images of one registry are pulled from.
pub(crate) const FILE: &str = "hosts.toml";

/// Limit of the bytes of all certificates that are installed: each registry gets copies of those of its mirrors.
const LONGEST_COPIES: usize = 8 << 20;

/// Mode of files that only root may read: headers have credentials, client files have keys.
const SECRET: u32 = 0o600;

/// Mode of all other files.
const PUBLIC: u32 = 0o644;

/// Refuses mirrors that containerd `version` can't be told of: with a hosts.toml that it can't parse it asks upstream.
pub(crate) fn check(spec: &Spec, version: &str) -> Result<(), Failure> {
    if Release::parse(version)?.is_2() {
        return Ok(());
    }
    for (name, registry) in &spec.registries {
        // go-toml 1 takes no `]` in a table's name (containerd#10055). The last of `strict` stands in no such name.
        let in_names = registry.mirrors.len() - usize::from(registry.strict && !registry.mirrors.is_empty());
        let address = registry.mirrors.iter().take(in_names).find(|mirror| mirror.url.contains(['[', ']']));
        if let Some(Mirror { url, .. }) = address {
            let message = format!("registries.{name}: containerd {version} can't read the mirror `{url}`");
            return Err(Failure::new(Kind::Invalid, message)
                .help("use a host's name for the address, containerd 2, or `strict` with this one mirror"));
        }
    }
    Ok(())
}

/// Returns a message for each registry with a key that containerd `version` does not read.
pub(crate) fn without_effect(spec: &Spec, version: &str) -> Vec<String> {
    // 2.0.7 brought `dial_timeout` (core/remotes/docker/config/hosts.go).
    if version.parse::<Version>().is_ok_and(|version| version >= Version::new(2, 0, 7)) {
        return Vec::new();
    }
    let has_timeout =
        |registry: &Registry| registry.mirrors.iter().any(|mirror| mirror.dial_timeout.is_some());
    let named = spec.registries.iter().filter(|(_, registry)| has_timeout(registry));
    named
        .map(|(name, _)| {
            format!("`dial_timeout` in registries.{name} has no effect: containerd 2.0.7 and later read it, this is {version}")
        })
        .collect()
}

/// Tells why containerd `version` throws a hosts.toml away and asks upstream, though it is TOML.
pub(crate) fn unreadable(document: &DocumentMut, version: &str) -> Option<String> {
    let version: Version = version.parse().ok()?;
    let hosts = document.get("host").and_then(Item::as_table_like);
    let needs_table = version < Version::new(1, 7, 32);
    match hosts {
        None if needs_table => Some("has no `host` table".to_owned()),
        Some(hosts) if version.major < 2 => {
            let (url, _) = hosts.iter().find(|(url, _)| url.contains(']'))?;
            Some(format!("names `{}` in a table", printable(url)))
        }
        _ => None,
    }
}

/// Returns the files below `config_path`, containerd's one directory for registries.
pub(crate) fn entries(
    spec: &Spec,
    config_path: &ImagePath,
    certificates: &BTreeMap<PathBuf, CertificateFile>,
) -> Result<Vec<(ImagePath, Want)>, Failure> {
    let (mut entries, mut length) = (Vec::new(), 0);
    for (name, registry) in &spec.registries {
        let directory = config_path.join(&name.directory())?;
        let invalid = |why: String| Failure::new(Kind::Invalid, format!("registries.{name}: {why}"));
        let mut placed: BTreeMap<ImagePath, (&[u8], u32)> = BTreeMap::new();
        for (path, mode) in registry.mirrors.iter().flat_map(files) {
            let Some(CertificateFile { bytes, is_private }) = certificates.get(path) else { continue };
            let mode = if *is_private { SECRET } else { mode };
            let place = beside(&directory, path)?;
            match placed.get(&place) {
                Some((other, _)) if other != bytes => {
                    return Err(invalid(format!("two different files are called `{}`", place.name()))
                        .help("they go into one directory: give them different names"));
                }
                Some((_, other)) => drop(placed.insert(place, (bytes, mode.min(*other)))),
                None => drop(placed.insert(place, (bytes, mode))),
            }
        }
        for (path, (bytes, mode)) in placed {
            length += bytes.len();
            if length > LONGEST_COPIES {
                let why = format!("the certificates of all registries have more than {LONGEST_COPIES} bytes");
                return Err(
                    invalid(why).help("each registry gets copies: name the authority of each mirror alone")
                );
            }
            entries.push((path, Want::File { mode, content: Content::Text(bytes.to_vec()) }));
        }
        let secret = registry.mirrors.iter().any(|mirror| !mirror.headers.is_empty());
        let text = hosts(registry, &directory)?;
        entries.push((directory.join(FILE)?, Want::text(if secret { SECRET } else { PUBLIC }, text)));
    }
    Ok(entries)
}

/// Returns every file that a mirror names, with its mode in the image.
fn files(mirror: &Mirror) -> impl Iterator<Item = (&Path, u32)> {
    let authorities = mirror.ca.0.iter().map(|path| (path.as_path(), PUBLIC));
    let clients = mirror.client.0.iter().flat_map(|(certificate, key)| {
        let mode = if key.is_some() { PUBLIC } else { SECRET };
        std::iter::once((certificate.as_path(), mode)).chain(key.as_deref().map(|key| (key, SECRET)))
    });
    authorities.chain(clients)
}

fn beside(directory: &ImagePath, path: &Path) -> Result<ImagePath, Failure> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.as_str() {
        FILE => Err(Failure::new(Kind::Invalid, "a certificate can't be called `hosts.toml`")),
        name => directory.join(name),
    }
}

/// Writes one hosts.toml.
fn hosts(registry: &Registry, directory: &ImagePath) -> Result<String, Failure> {
    let mut document = DocumentMut::new();
    // With `strict` the last mirror replaces upstream: there is no host left to fall back to.
    let (mirrors, server) = match (registry.strict, registry.mirrors.split_last()) {
        (true, Some((last, others))) => (others, Some(last)),
        _ => (registry.mirrors.as_slice(), None),
    };
    if let Some(url) = server.map(|mirror| &mirror.url).or(registry.server.as_ref()) {
        document.insert("server", value(string(url)));
    }
    if let Some(mirror) = server {
        describe(document.as_table_mut(), mirror, directory)?;
    }
    let mut tables = Table::new();
    for mirror in mirrors {
        let mut table = Table::new();
        describe(&mut table, mirror, directory)?;
        tables.insert(&mirror.url, Item::Table(table));
    }
    // Without a `host` table 1.6 and 1.7.0 to 1.7.31 throw the file away and ask upstream ("invalid `host` tree",
    // containerd#10027); an empty one means the same as none to the others.
    tables.set_implicit(!mirrors.is_empty());
    document.insert("host", Item::Table(tables));
    Ok(format!("# Written by nodebake\n{document}"))
}

fn describe(table: &mut Table, mirror: &Mirror, directory: &ImagePath) -> Result<(), Failure> {
    let capabilities = mirror.capabilities.iter().map(|capability| capability.name());
    table.insert("capabilities", value(Array::from_iter(capabilities)));
    // Written only if true: any TLS setting, even `false`, makes containerd try an http:// mirror over https first.
    if mirror.skip_verify {
        table.insert("skip_verify", value(true));
    }
    if mirror.override_path {
        table.insert("override_path", value(true));
    }
    if let Some(ca) = authorities(&mirror.ca, directory)? {
        table.insert("ca", value(ca));
    }
    if let Some(client) = clients(&mirror.client, directory)? {
        table.insert("client", value(client));
    }
    if let Some(timeout) = &mirror.dial_timeout {
        table.insert("dial_timeout", value(string(timeout)));
    }
    if !mirror.headers.is_empty() {
        let mut headers = Table::new();
        for (name, text) in &mirror.headers {
            headers.insert(name, value(string(text)));
        }
        table.insert("header", Item::Table(headers));
    }
    Ok(())
}

fn authorities(files: &Files, directory: &ImagePath) -> Result<Option<Value>, Failure> {
    let paths: Vec<Value> = files.0.iter().map(|path| named(directory, path)).collect::<Result<_, _>>()?;
    Ok(match paths.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        several => Some(Value::Array(several.iter().cloned().collect())),
    })
}

fn clients(clients: &Clients, directory: &ImagePath) -> Result<Option<Value>, Failure> {
    let mut all = Array::new();
    for (certificate, key) in &clients.0 {
        let certificate = named(directory, certificate)?;
        match key {
            None => all.push(certificate),
            Some(key) => all.push(Value::Array(Array::from_iter([certificate, named(directory, key)?]))),
        }
    }
    Ok((!all.is_empty()).then_some(Value::Array(all)))
}

/// Returns the absolute path in the image. containerd resolves relative paths, too, but people search for these.
fn named(directory: &ImagePath, path: &Path) -> Result<Value, Failure> {
    beside(directory, path).map(|path| string(&path.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::path::PathBuf;

    use super::{entries, unreadable, without_effect};

    use crate::node::{Content, Want};
    use crate::path::ImagePath;
    use crate::runtime::containerd::lookup::{candidates, directories};
    use crate::spec::{CertificateFile, Spec};

    fn written(yaml: &str) -> BTreeMap<String, (u32, String)> {
        let spec = Spec::parse(yaml, "nodebake.yaml", Path::new(".")).unwrap();
        let certificates: BTreeMap<PathBuf, CertificateFile> =
            spec.certificate_paths().into_iter().map(|path| (path, CertificateFile::default())).collect();
        let entries = entries(&spec, &ImagePath::fixed("/etc/containerd/certs.d"), &certificates).unwrap();
        let text = |want| match want {
            Want::File { mode, content: Content::Text(bytes) } => (mode, String::from_utf8(bytes).unwrap()),
            other => panic!("{other:?}"),
        };
        entries.into_iter().map(|(path, want)| (path.to_string(), text(want))).collect()
    }

    #[test]
    fn mirrors_stand_in_the_order_given() {
        let files = written(
            "registries: {\"registry.example:5000\": {server: https://up.example, mirrors: [{url: 'https://b.example'}, {url: 'http://a.example:5000', skip_verify: true, dial_timeout: 5s}]}}",
        );
        let (mode, text) = &files["/etc/containerd/certs.d/registry.example_5000_/hosts.toml"];
        assert_eq!(*mode, 0o644);
        insta::assert_snapshot!("hosts_ordered", text);
    }

    #[test]
    fn strict_leaves_nothing_to_fall_back_to() {
        let files = written(
            "registries: {docker.io: {strict: true, mirrors: [{url: 'https://a.example'}, {url: 'https://m.example/v2/hub', override_path: true, ca: certs/ca.pem}]}}",
        );
        insta::assert_snapshot!("hosts_strict", files["/etc/containerd/certs.d/docker.io/hosts.toml"].1);
        assert!(files.contains_key("/etc/containerd/certs.d/docker.io/ca.pem"));
    }

    #[test]
    fn w2_a_timeout_that_a_release_does_not_know_is_told() {
        let yaml =
            "registries: {docker.io: {mirrors: [{url: 'https://m.example', dial_timeout: 5s}]}, quay.io: {}}";
        let spec = Spec::parse(yaml, "nodebake.yaml", Path::new(".")).unwrap();
        let told = ["1.7.24", "2.0.6", "2.0.7", "2.1.9"].map(|version| without_effect(&spec, version).len());
        assert_eq!(told, [1, 1, 0, 0]);
    }

    #[test]
    fn w2_a_file_always_has_a_table_of_hosts() {
        for registry in
            ["{strict: true, mirrors: [{url: 'https://m.example'}]}", "{server: 'https://m.example'}", "{}"]
        {
            let files = written(&format!("registries: {{docker.io: {registry}}}"));
            let text = &files["/etc/containerd/certs.d/docker.io/hosts.toml"].1;
            assert!(text.ends_with("[host]\n"), "{text}");
            let document = text.parse().unwrap();
            assert_eq!(
                ["1.6.39", "1.7.31", "2.1.9"].map(|version| unreadable(&document, version)),
                [None, None, None]
            );
        }
        let without = "server = 'https://m.example'".parse().unwrap();
        let unread =
            ["1.6.20", "1.7.31", "1.7.32", "2.0.0"].map(|version| unreadable(&without, version).is_some());
        assert_eq!(unread, [true, true, false, false]);
        let address = "[host.'http://[::1]:80']".parse().unwrap();
        assert!(unreadable(&address, "1.7.34").is_some() && unreadable(&address, "2.0.0").is_none());
    }

    #[test]
    fn secrets_are_for_root_alone() {
        let files = written(
            "registries: {_default: {mirrors: [{url: 'https://m.example', headers: {Authorization: 'Basic \"x\\y\"'}, client: [[c.pem, c.key], both.pem]}]}}",
        );
        let mode = |name: &str| files[&format!("/etc/containerd/certs.d/_default/{name}")].0;
        assert_eq!(
            [mode("hosts.toml"), mode("c.key"), mode("both.pem"), mode("c.pem")],
            [0o600, 0o600, 0o600, 0o644]
        );
        insta::assert_snapshot!("hosts_secret", files["/etc/containerd/certs.d/_default/hosts.toml"].1);
    }

    /// go-toml 1 does not read a string of several lines that ends in a quote.
    #[test]
    fn a_value_with_both_quotes_stands_on_one_line() {
        let files = written(
            r#"registries: {r.example: {mirrors: [{url: "https://m.example", headers: {X-A: "it's \"q\"", X-B: "\\ '"}, ca: "a'\""}]}}"#,
        );
        let text = &files["/etc/containerd/certs.d/r.example/hosts.toml"].1;
        for line in
            [r#"X-A = "it's \"q\"""#, r#"X-B = "\\ '""#, r#"ca = "/etc/containerd/certs.d/r.example/a'\"""#]
        {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_hosts_of_an_image_are_containerds() {
        assert_eq!(directories("harbor:5000"), ["harbor_5000_", "harbor:5000", "_default"]);
        let urls = |hosts: Option<&str>| -> Vec<(String, bool)> {
            candidates("docker.io", hosts).into_iter().map(|host| (host.url, host.is_mirror)).collect()
        };
        let upstream = ("https://registry-1.docker.io".to_owned(), false);
        assert_eq!(urls(None), std::slice::from_ref(&upstream));
        let ordered = "[host.\"https://b\"]\n[host.\"https://a\"]\n";
        assert_eq!(
            urls(Some(ordered)),
            [("https://b".to_owned(), true), ("https://a".to_owned(), true), upstream]
        );
        assert_eq!(urls(Some("server = \"https://strict\"\n")), [("https://strict".to_owned(), true)]);
        let limited = "[host.\"https://up\"]\ncapabilities = [\"push\"]\n[host.\"https://b\"]\ncapabilities = [\"pull\"]\n";
        let limited = candidates("quay.io", Some(limited));
        assert_eq!(limited.len(), 2, "nobody is asked for uploads alone: {limited:?}");
        assert!(!limited[0].resolves && limited[1].resolves);
    }
}
