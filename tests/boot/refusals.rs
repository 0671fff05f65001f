//! What the planner refuses of config.toml is what containerd 1.6, 1.7 and 2.1 really do not start with, and what it lets
//! pass they start with. Needs `tests/lab/prepare`.

use std::fs;
use std::process::{Command, Output};

use crate::kit::command::{errors, expect, text};
use crate::kit::lab::repository;
use crate::kit::node::Node;

/// A change of the baked config.toml.
struct Change {
    /// Generations that it is for.
    of: &'static [&'static str],
    /// Keys above all tables, and tables; `CRI`, `IMAGES` and `RUNTIME` stand for the plugins.
    keys: &'static str,
    tables: &'static str,
    /// Words of containerd's log; none if it starts.
    log: Option<&'static str>,
}

const ALL: &[&str] = &["1.6", "1.7", "2.1"];
const OF_1: &[&str] = &["1.6", "1.7"];
const OF_2: &[&str] = &["2.1"];

const CHANGES: [Change; 15] = [
    change(
        ALL,
        "",
        "[IMAGES.registry.mirrors.'docker.io']\nendpoint = ['https://m.example']",
        Some("mirrors"),
    ),
    change(
        OF_1,
        "",
        "[CRI.registry.configs.'r.example'.tls]\ninsecure_skip_verify = true",
        Some("configs.tls"),
    ),
    change(OF_1, "", "[CRI.containerd]\ndefault_runtime_name = 'nvidia'", Some("nvidia")),
    change(OF_2, "", "[RUNTIME.containerd]\ndefault_runtime_name = 'nvidia'", Some("nvidia")),
    change(OF_1, "", "[CRI.containerd]\nsnapshotter = 'stargz'", Some("stargz")),
    change(
        OF_2,
        "",
        "[RUNTIME.containerd.runtimes.runc2]\nruntime_type = 'io.containerd.runc.v2'\nio_type = 'named_pipe'",
        Some("io_type"),
    ),
    change(
        &["1.7", "2.1"],
        "",
        "[RUNTIME.containerd.runtimes.runc2]\nruntime_type = 'io.containerd.runc.v2'\nprivileged_without_host_devices_all_devices_allowed = true",
        Some("privileged_without_host_devices"),
    ),
    change(ALL, "disabled_plugins = ['zfs']", "", Some("zfs")),
    change(ALL, "disabled_plugins = ['io.containerd.grpc.v1.cri']", "", Some("io.containerd.grpc.v1.cri")),
    change(ALL, "oom_score = '1'", "", Some("")),
    change(OF_2, "", "[RUNTIME]\ndrain_exec_sync_io_timeout = '1..5s'", Some("drain_exec_sync_io_timeout")),
    // What is let pass.
    change(ALL, "oom_score = 1", "[debug]\nlevel = 'info'", None),
    change(OF_1, "", "[CRI.containerd]\nsnapshotter = 'native'", None),
    change(
        OF_2,
        "",
        "[RUNTIME.containerd]\ndefault_runtime_name = 'other'\n[RUNTIME.containerd.runtimes.other]\nruntime_type = 'io.containerd.runc.v2'",
        None,
    ),
    change(OF_2, "", "[RUNTIME]\ndrain_exec_sync_io_timeout = '1m30s'\nenable_selinux = false", None),
];

const fn change(
    of: &'static [&'static str],
    keys: &'static str,
    tables: &'static str,
    log: Option<&'static str>,
) -> Change {
    Change { of, keys, tables, log }
}

impl Change {
    /// The text with the plugins' ids of `generation`.
    fn spelled(&self, text: &str, generation: &str) -> String {
        let cri = "plugins.'io.containerd.grpc.v1.cri'";
        let (images, runtime) = match generation {
            "2.1" => ("plugins.'io.containerd.cri.v1.images'", "plugins.'io.containerd.cri.v1.runtime'"),
            _ => (cri, cri),
        };
        text.replace("IMAGES", images).replace("RUNTIME", runtime).replace("CRI", cri)
    }
}

/// Starts the containerd of the node as it is.
fn start(node: &Node) -> (Output, String) {
    let folder = node.folder.path();
    let lab = repository().join("tests/lab/node");
    let output =
        Command::new(lab).arg(node.root()).arg(folder.join("out")).args(["ctr", "version"]).output().unwrap();
    (output, fs::read_to_string(folder.join("out/containerd.log")).unwrap())
}

#[track_caller]
fn assert_agreement(root: &str, generation: &'static str) {
    let node = Node::new(root, generation, "");
    node.apply();
    let path = node.path("/etc/containerd/config.toml");
    let baked = fs::read_to_string(&path).unwrap();
    for change in CHANGES.iter().filter(|change| change.of.contains(&generation)) {
        let (keys, tables) =
            (change.spelled(change.keys, generation), change.spelled(change.tables, generation));
        let version = baked.lines().find(|line| line.starts_with("version")).unwrap();
        let baked = baked.replace(version, &format!("{version}\n{keys}"));
        fs::write(&path, format!("{baked}\n{tables}\n")).unwrap();
        let (output, log) = start(&node);
        let verified = node.nodebake("verify", &[]);
        let found = text(verified).lines().any(|line| line.starts_with("config ") && line.contains("FAILED"));
        let shown = format!("containerd {generation} with {keys}{tables}\n{}\n{log}", errors(&output));
        match change.log {
            Some(words) => {
                assert_eq!(output.status.code(), Some(125), "it starts: {shown}");
                assert!(log.contains(words) && found, "found by verify: {found}; {shown}");
            }
            None => assert!(output.status.success() && !found, "found by verify: {found}; {shown}"),
        }
        let spec = format!(
            "containerd: {{config: {{merge: {}}}}}\n",
            serde_json::to_string(&format!("{keys}\n{tables}\n")).unwrap()
        );
        let planned = Node::new(root, generation, &spec);
        expect(if change.log.is_some() { 3 } else { 0 }, planned.nodebake("plan", &[]));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn w11_containerd_1_6_does_not_start_with_what_is_refused() {
    assert_agreement("bookworm", "1.6");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn w11_containerd_1_7_does_not_start_with_what_is_refused() {
    assert_agreement("trixie", "1.7");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn w11_containerd_2_1_does_not_start_with_what_is_refused() {
    assert_agreement("trixie", "2.1");
}

/// A file that containerd itself refuses is a finding where it may run, also of a kind that nodebake does not know.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn w10_a_file_that_containerd_refuses_is_a_finding() {
    for (root, generation) in [("bookworm", "1.6"), ("trixie", "1.7"), ("trixie", "2.1")] {
        let node = Node::new(root, generation, "");
        node.apply();
        let path = node.path("/etc/containerd/config.toml");
        let text_of = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text_of}\n[timeouts]\n'x' = 1\n")).unwrap();
        let verified = text(node.nodebake("verify", &["--execute"]));
        let line = verified.lines().find(|line| line.starts_with("effective-config")).unwrap_or_default();
        assert!(line.contains("FAILED") && line.contains("refuses"), "{generation}: {verified}");
    }
}
