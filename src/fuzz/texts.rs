//! Row S5: any value of the spec is read from the written files as it was given, or the spec is refused.
//!
//! This module must not read the files with nodebake's own code.

#[path = "../../tests/kit/readers.rs"]
#[allow(unreachable_pub, reason = "the integration tests have it as well")]
mod readers;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use readers::{environment, environment_file, settings};

use crate::arch::Arch;
use crate::error::{Failure, Kind};
use crate::format::sysctl::Parameters;
use crate::format::{fstab, modprobe, unit};
use crate::format::{go_duration, go_url, image_name, pem};
use crate::node::{Content, Want};
use crate::path::ImagePath;
use crate::plan::{crictl, kernel};
use crate::runtime::{Runtime, RuntimeInputs};
use crate::spec::{CertificateFile, Spec};

/// Value of the spec that reaches a file: its key, a prefix that makes it valid, and its reader.
struct Reached {
    yaml: &'static str,
    prefix: &'static str,
    read: fn(&Written) -> Vec<String>,
}

const REACHED: [Reached; 16] = [
    reached("containerd: {config: {sandbox_image: VALUE}}", "p", |files| {
        at(files, "config.toml", &["plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"])
    }),
    reached("containerd: {config: {registry_config_path: VALUE}}", "/c", |files| {
        at(files, "config.toml", &["plugins", "io.containerd.cri.v1.images", "registry", "config_path"])
    }),
    reached("registries: {r.example: {mirrors: [{url: VALUE}]}}", "https://m/", |files| {
        keys(files, &["host"])
    }),
    reached("registries: {r.example: {server: VALUE}}", "https://m/", |files| {
        at(files, "hosts.toml", &["server"])
    }),
    reached(
        "registries: {r.example: {mirrors: [{url: \"http://m\", headers: {VALUE: x}}]}}",
        "X-",
        |files| keys(files, &["host", "http://m", "header"]),
    ),
    reached("registries: {r.example: {mirrors: [{url: \"http://m\", headers: {k: VALUE}}]}}", "", |files| {
        at(files, "hosts.toml", &["host", "http://m", "header", "k"])
    }),
    reached(
        "registries: {r.example: {mirrors: [{url: \"http://m\", dial_timeout: VALUE}]}}",
        "5s",
        |files| at(files, "hosts.toml", &["host", "http://m", "dial_timeout"]),
    ),
    reached("registries: {r.example: {mirrors: [{url: \"http://m\", ca: VALUE}]}}", "c", |files| {
        base_names(at(files, "hosts.toml", &["host", "http://m", "ca"]))
    }),
    reached(
        "registries: {r.example: {mirrors: [{url: \"http://m\", client: [[a.pem, VALUE]]}]}}",
        "k",
        |files| {
            base_names(at(files, "hosts.toml", &["host", "http://m", "client"])).into_iter().skip(1).collect()
        },
    ),
    reached("containerd: {proxy: {http: VALUE}}", "http://p/", |files| variable(files, "HTTP_PROXY")),
    reached("containerd: {proxy: {https: VALUE}}", "http://p/", |files| variable(files, "HTTPS_PROXY")),
    reached("containerd: {proxy: {no_proxy: VALUE}}", "", |files| variable(files, "NO_PROXY")),
    reached("containerd: {limit_nofile: VALUE}", "1", |files| {
        let lines = files["10-nodebake.conf"].lines();
        lines.filter_map(|line| line.strip_prefix("LimitNOFILE=")).map(str::to_owned).collect()
    }),
    reached(
        "kernel: {sysctl: {net.bridge.bridge-nf-call-ip6tables: null, net.bridge.bridge-nf-call-iptables: null, net.ipv4.ip_forward: null, VALUE: 1}}",
        "vm.",
        |files| settings(&files["90-nodebake.conf"]).into_iter().map(|(name, _)| name).collect(),
    ),
    reached(
        "kernel: {sysctl: {net.bridge.bridge-nf-call-ip6tables: null, net.bridge.bridge-nf-call-iptables: null, net.ipv4.ip_forward: null, kernel.core_pattern: VALUE}}",
        "",
        |files| settings(&files["90-nodebake.conf"]).into_iter().map(|(_, value)| value).collect(),
    ),
    reached("kernel: {modules: {overlay: null, br_netfilter: null, VALUE: true}}", "", |files| {
        let lines = files["nodebake.conf"].lines();
        lines.filter(|line| !line.starts_with(['#', ';'])).map(str::to_owned).collect()
    }),
];

const fn reached(yaml: &'static str, prefix: &'static str, read: fn(&Written) -> Vec<String>) -> Reached {
    Reached { yaml, prefix, read }
}

/// Texts of the files that a spec gives, by base name.
type Written = BTreeMap<String, String>;

fn written(spec: &Spec) -> Result<Written, Failure> {
    let certificates =
        spec.certificate_paths().into_iter().map(|path| (path, CertificateFile::default())).collect();
    let runtime = Runtime::Containerd;
    let inputs = RuntimeInputs {
        version: "2.1.9",
        arch: Arch::Amd64,
        printed_default: None,
        cni_bin: None,
        packaged_unit: None,
    };
    let mut entries = runtime.registry_files(spec, None, &certificates)?;
    entries.extend(runtime.files(spec, inputs)?);
    entries.extend(kernel::entries(&spec.kernel));
    entries.extend(crictl::client_entries(runtime.facts().socket));
    let text = |(path, want): (ImagePath, Want)| match want {
        Want::File { content: Content::Text(bytes), .. } => {
            Some((path.name().to_owned(), String::from_utf8(bytes).unwrap()))
        }
        _ => None,
    };
    Ok(entries.into_iter().filter_map(text).collect())
}

fn at(files: &Written, file: &str, path: &[&str]) -> Vec<String> {
    let document: toml_edit::DocumentMut = files[file].parse().unwrap();
    let found = path.iter().try_fold(document.as_item(), |item, key| item.get(*key));
    found.and_then(|item| item.as_value()).map(texts).unwrap_or_default()
}

fn texts(value: &toml_edit::Value) -> Vec<String> {
    match value {
        toml_edit::Value::Array(list) => list.iter().flat_map(texts).collect(),
        text => text.as_str().map(str::to_owned).into_iter().collect(),
    }
}

fn keys(files: &Written, path: &[&str]) -> Vec<String> {
    let document: toml_edit::DocumentMut = files["hosts.toml"].parse().unwrap();
    let found = path.iter().try_fold(document.as_item(), |item, key| item.get(*key));
    let table = found.and_then(|item| item.as_table_like());
    table.map(|table| table.iter().map(|(key, _)| key.to_owned()).collect()).unwrap_or_default()
}

fn base_names(paths: Vec<String>) -> Vec<String> {
    paths.iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
}

fn variable(files: &Written, name: &str) -> Vec<String> {
    let mut all = environment(&files["10-nodebake.conf"]);
    all.extend(files.get("nodebake-proxy.env").into_iter().flat_map(|text| environment_file(text)));
    all.into_iter().filter(|(found, _)| found == name).map(|(_, value)| value).collect()
}

/// Quotes a value for YAML. Everything beyond ASCII is escaped, because YAML folds more line ends than ASCII's.
fn quoted(value: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    format!("\"{}\"", value.chars().map(escape).collect::<String>())
}

/// Returns the value as it is kept: a URL without slashes that its path does not need, a file's base name.
fn kept(yaml: &str, value: &str) -> String {
    let file = Path::new(value).file_name().map(|name| name.to_string_lossy().into_owned());
    match yaml {
        _ if yaml.contains("url: VALUE") || yaml.contains("server:") => {
            let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
            let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
            format!("{scheme}://{}", parts.join("/"))
        }
        _ if yaml.contains("ca:") || yaml.contains("client:") => file.unwrap_or_default(),
        _ => value.to_owned(),
    }
}

#[test]
fn s5_every_plain_value_is_accepted() {
    for Reached { yaml, prefix, read } in &REACHED {
        let value =
            format!("{prefix}{}", if yaml.contains("dial_timeout") || *prefix == "1" { "" } else { "a" });
        let text = yaml.replace("VALUE", &quoted(&value));
        let spec = Spec::parse(&text, "nodebake.yaml", Path::new(".")).unwrap();
        assert_eq!(read(&written(&spec).unwrap()), [kept(yaml, &value)], "{yaml}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Checks that a value that reaches a file is read there as it was given, or is refused.
    #[test]
    fn s5_any_value_is_escaped_or_refused(
        which in 0..REACHED.len(),
        value in r#"([a-z0-9:]{0,6}| |[ -~]|\PC|[\x00-\x1f\x7f\x{85}\x{2028}]|%[a-z]|"\n\[x\]|'{3}|\\){0,6}"#,
    ) {
        let Reached { yaml, prefix, read } = &REACHED[which];
        let value = format!("{prefix}{value}");
        let spec = Spec::parse(&yaml.replace("VALUE", &quoted(&value)), "nodebake.yaml", Path::new("."));
        match spec.and_then(|spec| written(&spec)) {
            Ok(files) => prop_assert_eq!(read(&files), [kept(yaml, &value)], "{:?}", files),
            // A name that no path can have is unsafe (6), everything else is invalid (3).
            Err(failure) => prop_assert!(matches!(failure.kind, Kind::Invalid | Kind::Unsafe), "{failure}"),
        }
    }

    /// Checks that a fragment of TOML keeps its meaning when it is merged.
    #[test]
    fn s5_any_fragment_is_merged_as_it_means(key in r"\PC{1,12}", text in r"(\PC|[\x00-\x1f\x7f]){0,12}") {
        let mut table = toml_edit::Table::new();
        table.insert(&key, toml_edit::value(text.as_str()));
        let mut fragment = toml_edit::DocumentMut::new();
        fragment.insert("extra", toml_edit::Item::Table(table));
        let yaml = format!("containerd: {{config: {{merge: {}}}}}", quoted(&fragment.to_string()));
        let spec = Spec::parse(&yaml, "nodebake.yaml", Path::new("."));
        if let Ok(files) = spec.and_then(|spec| written(&spec)) {
            prop_assert_eq!(at(&files, "config.toml", &["extra", &key]), [text]);
        }
    }

    /// Checks that the readers of a root's own configuration take any text.
    #[test]
    fn any_file_of_a_root_is_read(
        text in r#"(net/ipv4|\.ip_forward|alias |install |overlay|\[Service\]|ExecStart=|/opt|\\040|\\x2|[ -~]|\PC|[=\-*"'\\\n\t;#:]){0,40}"#,
    ) {
        let mut parameters = Parameters::default();
        parameters.read(0, &text);
        parameters.deciding("net.ipv4.ip_forward");
        prop_assert!(modprobe::commands(&text).all(|command| command.line > 0));
        prop_assert!(modprobe::indexed(&text).all(|(_, path)| text.contains(path)));
        prop_assert!(fstab::lines(&text).all(|line| line.point.starts_with('/')));
        prop_assert!(unit::settings(&text).all(|setting| !setting.key.contains('=')));
        prop_assert!(unit::environment(&text).all(|(line, _, _)| line > 0));
        prop_assert!(unit::words(&text).iter().all(|word| text.len() >= word.len()));
        let point = unit::mount_point(&format!("{text}.mount"));
        prop_assert!(point.is_some_and(|point| point.starts_with('/')));
    }

    /// Checks that the readers in Go's manner end for any text.
    #[test]
    fn s5_any_text_is_read_as_go_does(text in r"([a-z0-9]{0,4}|[:/@?#%.\[\]-]|://|%[0-9a-f]{2}|\PC|[\x00-\x1f]){0,12}") {
        let _ = (go_url::parse(&text), go_duration::parse(&text), image_name::parse(&text));
        let lines = format!("-----BEGIN {text}-----\n{text}\nAAAA\n-----END {text}-----\n{text}\n-----BEGIN ");
        prop_assert!(pem::blocks(lines.as_bytes()).len() <= 2);
    }
}
