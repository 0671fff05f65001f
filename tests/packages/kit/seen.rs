//! What is seen from outside of a root with packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::command::{errors, expect, run, text};
use crate::kit::http::Server;
use crate::kit::lab::lab;
use crate::kit::node::Node;
use crate::kit::repository::outside_the_database;
use crate::kit::{NODEBAKE, assert_same, paths, times, tree};

pub const BINARY: &str = "/usr/bin/containerd";
pub const CONFIG: &str = "/etc/containerd/config.toml";
pub const WANTS: &str = "/etc/systemd/system/multi-user.target.wants/containerd.service";

/// A container may be without CAP_SYS_RESOURCE, and then no process can lower its OOM score.
pub const IN_A_CONTAINER_1: &str = "  config:\n    merge: |\n      [plugins.\"io.containerd.grpc.v1.cri\"]\n      restrict_oom_score_adj = true\n";
pub const IN_A_CONTAINER_2: &str = "  config:\n    merge: |\n      [plugins.\"io.containerd.cri.v1.runtime\"]\n      restrict_oom_score_adj = true\n";

pub fn in_a_container(version: &str) -> &'static str {
    if version.starts_with("1.") { IN_A_CONTAINER_1 } else { IN_A_CONTAINER_2 }
}

/// Nothing is mounted below the root, nobody lives in it, and no list, package or placeholder of a
/// session lies about.
#[track_caller]
pub fn assert_quiet(node: &Node) {
    let root = node.root().display().to_string();
    let deadline = Instant::now() + Duration::from_secs(5);
    // A namespace goes with its last process, some milliseconds after a kill.
    let strangers = || -> Vec<String> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let numbered = processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
        let lives = |path: PathBuf| {
            let place = |name: &str| fs::read_link(path.join(name)).unwrap_or_default().starts_with(&root);
            let mounts = fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
            (place("root") || place("cwd") || place("exe") || mounts.contains(&root)).then(|| {
                format!("{} {}", path.display(), fs::read_to_string(path.join("comm")).unwrap_or_default())
            })
        };
        numbered.filter_map(|entry| lives(entry.path())).collect()
    };
    while !strangers().is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(strangers(), [""; 0], "these live in the root or have it mounted");
    for folder in ["var/lib/apt/lists", "var/cache/apt", "var/cache/dnf", "run", "tmp", "proc", "sys", "dev"]
    {
        let left: Vec<_> = paths(&node.path(folder))
            .into_iter()
            .skip(1)
            .filter(|path| path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()))
            // A root may come with devices and a lock or two of its own.
            .filter(|path| {
                lab_root(node).join(path.strip_prefix(node.root()).unwrap()).symlink_metadata().is_err()
            })
            .collect();
        assert!(left.is_empty(), "left in /{folder}: {left:?}");
    }
    for path in ["/etc/resolv.conf", "/usr/sbin/policy-rc.d", "/var/lib/nodebake/pending.json"] {
        assert!(node.path(path).symlink_metadata().is_err(), "{path} is left behind");
    }
}

/// The root that the node is a copy of, as far as it can be told: devices and locks are in all of them.
pub fn lab_root(node: &Node) -> PathBuf {
    let release = fs::read_to_string(node.path("/etc/os-release")).unwrap_or_default();
    let name = ["bookworm", "trixie"].into_iter().find(|name| release.contains(name)).unwrap_or("rocky");
    lab().join("roots").join(name)
}

/// `apply` is refused with `code`, `plan` says so too, and the root is as it was.
#[track_caller]
pub fn refused(node: &Node, code: i32, more: &[&str]) -> String {
    let before = tree(&node.root());
    let planned = expect(code, node.nodebake("plan", more));
    assert_same("the root after plan", &before, &tree(&node.root()));
    let applied = expect(code, node.nodebake("apply", more));
    assert_same("the root after apply", &before, &tree(&node.root()));
    assert_quiet(node);
    errors(&planned) + &errors(&applied)
}

/// One containerd, one unit, ours enabled and configured: what the archive way leaves, in a package's
/// places.
#[track_caller]
pub fn assert_packaged(node: &Node, version: &str) {
    assert!(node.path(BINARY).is_file());
    for gone in [
        "/usr/local/bin/containerd",
        "/usr/local/sbin/runc",
        "/usr/local/lib/systemd/system/containerd.service",
        "/etc/systemd/system/containerd.service",
    ] {
        assert!(node.path(gone).symlink_metadata().is_err(), "{gone} is there as well");
    }
    let config = fs::read_to_string(node.path(CONFIG)).unwrap();
    assert!(!config.contains("disabled_plugins = [\"cri\"]"), "{config}");
    assert!(
        config.contains(if version.starts_with("1.") { "version = 2" } else { "version = 3" }),
        "{config}"
    );
    assert_enabled(node);
    let receipt = receipt(node);
    let packages = receipt["packages"].as_array().unwrap();
    let ours = packages.iter().find(|package| package["version"].as_str().unwrap().contains(version));
    assert!(ours.is_some_and(|package| package["architecture"].is_string()), "{receipt:#}");
    assert!(node.path("/opt/cni/bin/bridge").is_file());
    assert_eq!(cni_folders(node, version), ["/opt/cni/bin"]);
    let verified = text(expect(0, node.nodebake("verify", &["--execute"])));
    assert!(!verified.contains("FAILED") && !verified.contains("not checked"), "{verified}");
    assert_quiet(node);
}

#[track_caller]
pub fn assert_enabled(node: &Node) {
    let root = format!("--root={}", node.root().display());
    assert_eq!(run("systemctl", &[&root, "is-enabled", "containerd.service"]).trim(), "enabled");
    let unit = fs::read_link(node.path(WANTS)).unwrap();
    assert!(node.path(unit.to_str().unwrap()).is_file(), "{} leads nowhere", unit.display());
}

pub fn receipt(node: &Node) -> Value {
    serde_json::from_slice(&fs::read(node.path("/var/lib/nodebake/receipt.json")).unwrap()).unwrap()
}

/// Where the packaged containerd really looks for CNI plugins.
pub fn cni_folders(node: &Node, version: &str) -> Vec<String> {
    let dump = Command::new("chroot").arg(node.root()).args([BINARY, "config", "dump"]).output().unwrap();
    let config: toml_edit::DocumentMut = text(expect(0, dump)).parse().unwrap();
    let plugins = &config["plugins"];
    match version.starts_with("1.") {
        true => vec![plugins["io.containerd.grpc.v1.cri"]["cni"]["bin_dir"].as_str().unwrap().to_owned()],
        false => {
            let folders = plugins["io.containerd.cri.v1.runtime"]["cni"]["bin_dirs"].as_array().unwrap();
            folders.iter().map(|folder| folder.as_str().unwrap().to_owned()).collect()
        }
    }
}

/// What dpkg or rpm has of a package: its version, empty if it is not there.
pub fn installed(node: &Node, name: &str) -> String {
    let root = node.root().display().to_string();
    if node.path("/var/lib/dpkg/status").is_file() {
        let query = ["dpkg-query", "-W", "-f", "${Version} ${db:Status-Abbrev}", name];
        let output = Command::new("chroot").arg(root).args(query).output().unwrap();
        let text = text(output);
        let (version, state) = text.trim().rsplit_once(' ').unwrap_or_default();
        return if ["ii", "hi"].contains(&state) { version.to_owned() } else { String::new() };
    }
    let query = ["rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", name];
    let output = Command::new("chroot").arg(root).args(query).output().unwrap();
    if output.status.success() { text(output) } else { String::new() }
}

#[track_caller]
pub fn expect_nothing_to_do(node: &Node) {
    let before = times(&node.root());
    let trace = node.folder.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=network", "-o"]).arg(&trace);
    strace.args([NODEBAKE, "apply", "--root"]).arg(node.root()).args(["--spec", &node.spec()]);
    let again = text(expect(0, strace.output().unwrap()));
    assert!(again.contains("0 created, 0 changed, 0 removed") && !again.contains("package "), "{again}");
    let sockets = fs::read_to_string(&trace).unwrap();
    assert!(!sockets.contains("AF_INET"), "{sockets}");
    assert_eq!(times(&node.root()), before, "nothing is touched");
    expect(0, node.nodebake("apply", &["--offline"]));
    expect(0, node.nodebake("plan", &["--detailed-exitcode"]));
}

/// `repository:` with a key of the caller's choice.
pub fn signed(server: &Server, folder: &str, key: &str, fingerprint: &str) -> String {
    let suite = if folder == "deb" || folder.starts_with("rpm") { "" } else { ", suite: ./" };
    let fingerprint =
        if fingerprint.is_empty() { String::new() } else { format!(", fingerprint: {fingerprint}") };
    format!(
        "repository: {{url: '{}/{folder}', key: '{key}'{fingerprint}{suite}}}, version: 1.7.24",
        server.url()
    )
}

/// [`outside_the_database`] of a root that nothing was done to.
pub fn pristine(root: &str) -> String {
    static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    if let Some(tree) = KNOWN.lock().unwrap().get(root) {
        return tree.clone();
    }
    let tree = outside_the_database(&Node::new(root, "2.1", ""));
    KNOWN.lock().unwrap().insert(root.to_owned(), tree.clone());
    tree
}
