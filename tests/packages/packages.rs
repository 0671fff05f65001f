//! `install: package`: real apt and dnf in real roots, with Debian's containerd from the mirror that
//! this machine's apt is configured with, and with packages in the shape of Docker's from the lab's own
//! signed repositories. Needs `tests/lab/prepare` and `make dist`; run by `make test`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::kit::command::{errors, expect, run, text};
use crate::kit::guest::{
    Layer, PULLS, assert_pulled, boot, boot_beside_registry, carry_cni_configuration, carry_nodebake, mirror,
};
use crate::kit::http::{Reply, Request, Server, identity};
use crate::kit::lab::lab;
use crate::kit::node::{self, Node, artifacts};
use crate::kit::ready::{PROOF, complaints};
use crate::kit::repository::{
    chroot, fingerprint, flat, give_mirror, install_what_needs, is_package, key, node, outside_the_database,
    package_file, rpms, serve, serve_breakable, serve_changed, spec, suites, write_spec,
};
use crate::kit::{NODEBAKE, assert_same, paths, sha256, times, tree};
use serde_json::Value;

const BINARY: &str = "/usr/bin/containerd";
const CONFIG: &str = "/etc/containerd/config.toml";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants/containerd.service";

/// A container may be without CAP_SYS_RESOURCE, and then no process can lower its OOM score.
const IN_A_CONTAINER_1: &str = "  config:\n    merge: |\n      [plugins.\"io.containerd.grpc.v1.cri\"]\n      restrict_oom_score_adj = true\n";
const IN_A_CONTAINER_2: &str = "  config:\n    merge: |\n      [plugins.\"io.containerd.cri.v1.runtime\"]\n      restrict_oom_score_adj = true\n";

fn in_a_container(version: &str) -> &'static str {
    if version.starts_with("1.") { IN_A_CONTAINER_1 } else { IN_A_CONTAINER_2 }
}

// --- what is seen from outside ----------------------------------------------------------------------

/// Nothing is mounted below the root, nobody lives in it, and no list, package or placeholder of a
/// session lies about.
#[track_caller]
fn assert_quiet(node: &Node) {
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
fn lab_root(node: &Node) -> PathBuf {
    let release = fs::read_to_string(node.path("/etc/os-release")).unwrap_or_default();
    let name = ["bookworm", "trixie"].into_iter().find(|name| release.contains(name)).unwrap_or("rocky");
    lab().join("roots").join(name)
}

/// `apply` is refused with `code`, `plan` says so too, and the root is as it was.
#[track_caller]
fn refused(node: &Node, code: i32, more: &[&str]) -> String {
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
fn assert_packaged(node: &Node, version: &str) {
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
    let verified = text(expect(0, node.nodebake("verify", &[])));
    assert!(!verified.contains("FAILED") && !verified.contains("not checked"), "{verified}");
    assert_quiet(node);
}

#[track_caller]
fn assert_enabled(node: &Node) {
    let root = format!("--root={}", node.root().display());
    assert_eq!(run("systemctl", &[&root, "is-enabled", "containerd.service"]).trim(), "enabled");
    let unit = fs::read_link(node.path(WANTS)).unwrap();
    assert!(node.path(unit.to_str().unwrap()).is_file(), "{} leads nowhere", unit.display());
}

fn receipt(node: &Node) -> Value {
    serde_json::from_slice(&fs::read(node.path("/var/lib/nodebake/receipt.json")).unwrap()).unwrap()
}

/// Where the packaged containerd really looks for CNI plugins.
fn cni_folders(node: &Node, version: &str) -> Vec<String> {
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
fn installed(node: &Node, name: &str) -> String {
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
fn expect_nothing_to_do(node: &Node) {
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

// --- each way ends in a node that boots ---------------------------------------------------------------

/// Bakes, boots and pulls, as the tutorial does it by hand.
fn becomes_a_node(node: &Node, version: &str) {
    node.apply();
    assert_packaged(node, version);
    expect_nothing_to_do(node);
    carry_nodebake(node);
    carry_cni_configuration(node);
    let (report, requests) = boot_beside_registry(node, Layer::CONTAINER, &format!("{PROOF}{PULLS}"));
    assert_eq!(complaints(&report), [""; 0], "{report}");
    assert!(report.output("version").contains(version), "{report}");
    assert!(report.output("pod").contains("a pod of registry.k8s.io/pause:3."), "{report}");
    assert_pulled(Layer::CONTAINER, &report, &requests);
}

fn debians(root: &str, version: &str) {
    let more = format!("{}{}", in_a_container(version), mirror(Layer::CONTAINER));
    let node = node(root, "", &more);
    give_mirror(&node);
    becomes_a_node(&node, version);
    assert!(!installed(&node, "containerd").is_empty() && !installed(&node, "runc").is_empty());
    assert_eq!(installed(&node, "containernetworking-plugins"), "", "the plugins are the archive's");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn bookworms_own_containerd_becomes_a_node() {
    debians("bookworm", "1.6.20");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn trixies_own_containerd_becomes_a_node() {
    debians("trixie", "1.7.24");
}

/// containerd.io as Docker ships it: CRI off, no CNI plugins.
fn dockers(root: &str, version: &str) {
    let server = serve();
    let more = format!("{}{}", in_a_container(version), mirror(Layer::CONTAINER));
    let package = format!("repository: {}, version: {version}", suites(&server));
    let node = node(root, &package, &more);
    becomes_a_node(&node, version);
    assert!(installed(&node, "containerd.io").starts_with(&format!("{version}-1~debian")));
    let sources = fs::read_to_string(node.path("/etc/apt/sources.list.d/nodebake.sources")).unwrap();
    let fields = [
        "Types: deb",
        "Suites: ",
        "Components: stable",
        "Architectures: amd64",
        "Signed-By: /etc/apt/keyrings/nodebake.asc",
    ];
    for field in fields.map(str::to_owned).into_iter().chain([format!("URIs: {}/deb", server.url())]) {
        assert!(sources.contains(&field), "{sources}");
    }
    assert_eq!(
        fs::read(node.path("/etc/apt/keyrings/nodebake.asc")).unwrap(),
        fs::read(key("key.asc")).unwrap()
    );
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn containerd_io_1_7_becomes_a_node_on_bookworm() {
    dockers("bookworm", "1.7.24");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn containerd_io_2_1_becomes_a_node_on_bookworm() {
    dockers("bookworm", "2.1.9");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn containerd_io_1_7_becomes_a_node_on_trixie() {
    dockers("trixie", "1.7.24");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn containerd_io_2_1_becomes_a_node_on_trixie() {
    dockers("trixie", "2.1.9");
}

fn rockys(version: &str) {
    let server = serve();
    let more = format!("{}{}", in_a_container(version), mirror(Layer::CONTAINER));
    let package = format!("repository: {}, version: {version}", rpms(&server, "rpm"));
    let node = node("rocky", &package, &more);
    becomes_a_node(&node, version);
    assert_eq!(installed(&node, "containerd.io"), format!("{version}-1.el9"));
    let sources = fs::read_to_string(node.path("/etc/yum.repos.d/nodebake.repo")).unwrap();
    for line in [
        "gpgcheck=1",
        "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-nodebake",
        &format!("baseurl={}/rpm", server.url()),
    ] {
        assert!(sources.contains(line), "{sources}");
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn dnf_containerd_io_1_7_becomes_a_node() {
    rockys("1.7.24");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn dnf_containerd_io_2_1_becomes_a_node() {
    rockys("2.1.9");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn yum_is_taken_where_there_is_no_dnf() {
    let server = serve();
    let node = node("rocky", &format!("repository: {}, version: 1.7.24", rpms(&server, "rpm")), "");
    let dnf = fs::read_dir(node.path("/usr/bin")).unwrap().flatten().map(|entry| entry.file_name());
    let dnf: Vec<String> =
        dnf.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with("dnf")).collect();
    // Debian has no yum, and EL's has been another name of dnf for years.
    run(
        "cp",
        &["-L", node.path("/usr/bin/dnf").to_str().unwrap(), node.path("/usr/bin/yum").to_str().unwrap()],
    );
    dnf.iter().for_each(|name| fs::remove_file(node.path("/usr/bin").join(name)).unwrap());
    node.apply();
    assert_packaged(&node, "1.7.24");
}

/// The upstream version, the whole version and none: the newest.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_version_is_upstreams_the_packages_own_or_the_newest() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}", suites(&server)), "");
    let planned = |version: &str| {
        write_spec(&node, &format!("repository: {}{version}", suites(&server)), "");
        let json: Value =
            serde_json::from_slice(&expect(0, node.nodebake("plan", &["--json"])).stdout).unwrap();
        let package = &json["roots"][0]["packages"][0];
        assert_eq!(
            (&package["action"], &package["name"]),
            (&"install".into(), &"containerd.io".into()),
            "{json:#}"
        );
        assert_eq!(package["architecture"], "amd64");
        package["version"].as_str().unwrap().to_owned()
    };
    let before = tree(&node.root());
    assert_eq!(planned(""), "2.1.9-1~debian.13~trixie");
    assert_eq!(planned(", version: 1.7.24"), "1.7.24-1~debian.13~trixie");
    assert_eq!(planned(", version: 1.7.24-1"), "1.7.24-1~debian.13~trixie");
    assert_eq!(planned(", version: 1.7.24-1~debian.13~trixie"), "1.7.24-1~debian.13~trixie");
    let text = text(expect(10, node.nodebake("plan", &["--detailed-exitcode"])));
    assert!(text.contains("+ package containerd.io 1.7.24-1~debian.13~trixie (amd64)"), "{text}");
    assert_same("the root after plan", &before, &tree(&node.root()));
    assert_quiet(&node);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn dependencies_come_from_the_roots_own_sources() {
    let server = serve();
    let package = format!("repository: {}", flat(&server, "deb-needy"));
    let node = node("bookworm", &package, "");
    let said = refused(&node, 9, &[]);
    assert!(said.contains("libnl"), "{said}");
    give_mirror(&node);
    node.apply();
    assert_packaged(&node, "1.7.24");
    let receipt = receipt(&node);
    let has =
        |name: &str| receipt["packages"].as_array().unwrap().iter().any(|package| package["name"] == name);
    assert!(has("containerd.io") && has("libnl-3-200"), "{receipt:#}");
    expect(0, node.nodebake("remove", &[]));
    assert_eq!(
        (installed(&node, "containerd.io"), installed(&node, "libnl-3-200")),
        (String::new(), String::new())
    );
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_repository_inside_the_root_and_a_binary_key() {
    let node = node("bookworm", "", "");
    let inside = node.path("/srv/repository");
    run("cp", &["-r", lab().join("repositories/deb").to_str().unwrap(), inside.to_str().unwrap()]);
    let package = format!(
        "repository: {{url: 'file:///srv/repository', key: {}}}, version: 1.7.24",
        key("key.gpg").display()
    );
    write_spec(&node, &package, "");
    node.apply();
    assert_packaged(&node, "1.7.24");
    let sources = fs::read_to_string(node.path("/etc/apt/sources.list.d/nodebake.sources")).unwrap();
    assert!(sources.contains("Signed-By: /etc/apt/keyrings/nodebake.gpg"), "{sources}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn cni_plugins_can_be_left_out() {
    let server = serve();
    let node = node("trixie", "", "");
    let plain = spec(&format!("repository: {}, version: 2.1.9", suites(&server)), "");
    let line = plain.lines().find(|line| line.contains("cni-plugins:")).unwrap();
    fs::write(node.spec(), plain.replace(line, "  cni-plugins: false")).unwrap();
    node.apply();
    assert!(node.path("/opt/cni/bin/bridge").symlink_metadata().is_err());
    assert!(node.path(BINARY).is_file());
    assert_enabled(&node);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn several_roots_get_the_same_package() {
    let server = serve();
    let package = format!("repository: {}, version: 1.7.24", suites(&server));
    let [a, b] = ["trixie", "bookworm"].map(|root| node(root, &package, ""));
    let root = b.root().display().to_string();
    expect(0, a.nodebake("apply", &["--root", &root]));
    assert_packaged(&a, "1.7.24");
    assert_packaged(&b, "1.7.24");
}

/// What a package can't say of itself is in the drop-in of its unit, and nowhere else.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn the_packages_unit_is_changed_by_a_drop_in_only() {
    let server = serve();
    let more = "  limit_nofile: 65536\n  proxy: {http: 'http://proxy:3128'}\n";
    let node = node("trixie", &format!("repository: {}, version: 2.1.9", suites(&server)), more);
    node.apply();
    let dropin =
        fs::read_to_string(node.path("/etc/systemd/system/containerd.service.d/10-nodebake.conf")).unwrap();
    assert!(dropin.contains("LimitNOFILE=65536") && dropin.contains("http://proxy:3128"), "{dropin}");
    let units: Vec<PathBuf> = paths(&node.root())
        .into_iter()
        .filter(|path| path.ends_with("containerd.service") && path.symlink_metadata().unwrap().is_file())
        .filter(|path| !path.to_string_lossy().contains("deb-systemd-helper"))
        .collect();
    assert_eq!(units, [node.path("/usr/lib/systemd/system/containerd.service")]);
    let verify = ["verify", &format!("--root={}", node.root().display()), "containerd.service"];
    let said = errors(&expect(0, Command::new("systemd-analyze").args(verify).output().unwrap()));
    assert!(!said.lines().any(|line| line.contains("containerd")), "{said}");
}

/// What packages bring carries the labels of the root's own policy, as setfiles has them.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn what_packages_bring_carries_the_policys_labels() {
    let server = serve();
    for (root, repository) in [("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
        let selinux = lab().join("selinux");
        run(
            "cp",
            &["-a", selinux.join("etc/selinux").to_str().unwrap(), node.path("/etc/").to_str().unwrap()],
        );
        fs::write(node.path("/etc/selinux/config"), "SELINUX=permissive\nSELINUXTYPE=default\n").unwrap();
        node.apply();
        let files = match root {
            "rocky" => chroot(&node, &["rpm", "--query", "--list", "containerd.io"]),
            _ => chroot(&node, &["dpkg", "--listfiles", "containerd.io"]),
        };
        let files = text(expect(0, files));
        assert!(files.lines().any(|file| file == BINARY), "{files}");
        let place = node.root().display().to_string();
        let contexts = node.path("/etc/selinux/default/contexts/files/file_contexts");
        let setfiles = selinux.join("sbin/setfiles");
        let said = run(
            setfiles.to_str().unwrap(),
            &["-F", "-n", "-v", "-r", &place, contexts.to_str().unwrap(), &place],
        );
        let others = said.lines().filter(|line| line.contains("relabel"));
        let wrong: Vec<&str> = others
            .filter(|line| {
                let path = line.split_whitespace().nth(2).unwrap_or_default();
                let path = path.strip_prefix(&place).unwrap_or_default();
                files.lines().any(|file| file == path)
                    && node.path(path).symlink_metadata().unwrap().is_file()
            })
            .collect();
        assert!(said.contains("relabel"), "what is not ours has no labels\n{said}");
        assert!(wrong.is_empty(), "{root}: setfiles would change {wrong:#?}");
        assert!(node.path("/.autorelabel").symlink_metadata().is_err());
    }
}

// --- keys and signatures -----------------------------------------------------------------------------

/// `repository:` with a key of the caller's choice.
fn signed(server: &Server, folder: &str, key: &str, fingerprint: &str) -> String {
    let suite = if folder == "deb" || folder.starts_with("rpm") { "" } else { ", suite: ./" };
    let fingerprint =
        if fingerprint.is_empty() { String::new() } else { format!(", fingerprint: {fingerprint}") };
    format!(
        "repository: {{url: '{}/{folder}', key: '{key}'{fingerprint}{suite}}}, version: 1.7.24",
        server.url()
    )
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_key_that_is_not_the_pinned_one_is_refused_before_anything_is_asked() {
    let server = serve();
    for root in ["trixie", "rocky"] {
        let folder = if root == "rocky" { "rpm" } else { "deb" };
        let file = key("key.asc").display().to_string();
        let node = node(root, &signed(&server, folder, &file, &fingerprint("other")), "");
        let said = refused(&node, 5, &[]);
        assert!(said.contains(&fingerprint("key")) && said.contains(&fingerprint("other")), "{said}");
        assert_eq!(server.requests().len(), 0);
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_key_from_a_url_needs_its_fingerprint() {
    let server = serve();
    let url = format!("{}/keys/key.asc", server.url());
    let node = node("trixie", &signed(&server, "deb", &url, ""), "");
    assert!(refused(&node, 3, &[]).contains("fingerprint"));
    write_spec(&node, &signed(&server, "deb", &url, &fingerprint("other")), "");
    assert!(refused(&node, 5, &[]).contains(&fingerprint("key")));
    write_spec(
        &node,
        &signed(&server, "deb", &format!("{}/keys/none", server.url()), &fingerprint("key")),
        "",
    );
    refused(&node, 4, &["--retries", "0"]);
    write_spec(&node, &signed(&server, "deb", &url, &fingerprint("key")), "");
    node.apply();
    assert_packaged(&node, "1.7.24");
    expect_nothing_to_do(&node);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_file_that_is_no_key_is_refused() {
    let server = serve();
    let node = node("trixie", &signed(&server, "deb", "nodebake.yaml", ""), "");
    refused(&node, 5, &[]);
}

/// The repository's signature, and the hashes that it vouches for, by two verifiers: gpgv and sqv.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn what_the_key_does_not_vouch_for_is_refused() {
    let server = serve();
    let good = key("key.asc").display().to_string();
    for root in ["bookworm", "trixie"] {
        let node = node(root, "", "");
        for folder in ["deb-other", "deb-evil-release", "deb-evil-index", "deb-unsigned"] {
            write_spec(&node, &signed(&server, folder, &good, ""), "");
            let said = refused(&node, 5, &[]);
            assert!(said.contains("help: "), "{folder}: {said}");
            assert!(!server.requests().iter().any(is_package), "{folder}");
        }
        write_spec(&node, &signed(&server, "deb", &key("other.asc").display().to_string(), ""), "");
        refused(&node, 5, &[]);
    }
    // trixie's sqv asks whether the key was valid when it signed
    let node =
        node("bookworm", &signed(&server, "deb-expired", &key("expired.asc").display().to_string(), ""), "");
    refused(&node, 5, &[]);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_package_that_was_tampered_with_is_refused() {
    let server = serve();
    let good = key("key.asc").display().to_string();
    for (root, folder) in [
        ("bookworm", "deb-evil-package"),
        ("trixie", "deb-evil-package"),
        ("rocky", "rpm-evil-package"),
        ("rocky", "rpm-unsigned"),
        ("rocky", "rpm-other"),
    ] {
        let node = node(root, &signed(&server, folder, &good, ""), "");
        // the lists are right, so that only the package itself can tell
        expect(0, node.nodebake("plan", &[]));
        let before = outside_the_database(&node);
        let said = errors(&expect(5, node.nodebake("apply", &["--retries", "1"])));
        assert!(said.contains("containerd.io"), "{folder}: {said}");
        assert_same("the root", &before, &outside_the_database(&node));
        assert_eq!(installed(&node, "containerd.io"), "");
        assert_quiet(&node);
    }
}

/// Whoever stands between this machine and Docker has no key with Docker's fingerprint.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn dockers_key_is_pinned() {
    let identity = identity(&["download.docker.com"]);
    let docker = Server::https(&identity, |_, _| Reply::ok(fs::read(key("key.asc")).unwrap()));
    let to = docker.address;
    let proxy = Server::http(move |_, _| Reply::tunnel(to));
    for root in ["trixie", "rocky"] {
        let node = node(root, "repository: docker", "");
        let ca = node.folder.path().join("ca.pem");
        fs::write(&ca, &identity.authority).unwrap();
        let before = tree(&node.root());
        let mut nodebake = Command::new(NODEBAKE);
        nodebake
            .args(["apply", "--root"])
            .arg(node.root())
            .args(["--spec", &node.spec(), "--ca-file"])
            .arg(ca);
        let said = errors(&expect(5, nodebake.env("https_proxy", proxy.url()).output().unwrap()));
        let pinned = if root == "rocky" {
            "060A61C51B558A7F742B77AAC52FEB6B621E9F35"
        } else {
            "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
        };
        assert!(said.contains(pinned) && said.contains(&fingerprint("key")), "{said}");
        assert_same("the root", &before, &tree(&node.root()));
        let asked: Vec<String> = docker.requests().iter().map(|request| request.target.clone()).collect();
        assert!(asked.iter().all(|target| target.ends_with("/gpg")), "{asked:?}");
    }
}

// --- files -------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn local_packages_need_a_lock_and_no_network() {
    let cases = [("bookworm", "deb/pool/bookworm"), ("trixie", "deb/pool/trixie"), ("rocky", "rpm")];
    for (root, folder) in cases {
        let node = node(root, "repository: {path: packages}, version: 1.7.24", "");
        let packages = node.folder.path().join("packages");
        fs::create_dir(&packages).unwrap();
        let file = package_file(folder, "1.7.24");
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        symlink(&file, packages.join(&name)).unwrap();
        fs::remove_file(packages.join(&name)).unwrap();
        fs::copy(&file, packages.join(&name)).unwrap();
        let said = refused(&node, 5, &[]);
        assert!(said.contains(&name) && said.contains("nodebake lock"), "{said}");
        let lock = Command::new(NODEBAKE)
            .args(["lock", "--spec", &node.spec(), "--arch", "amd64"])
            .output()
            .unwrap();
        expect(0, lock);
        let locked = fs::read_to_string(node.folder.path().join("nodebake.lock")).unwrap();
        assert!(locked.contains(&sha256(&fs::read(&file).unwrap())), "{locked}");
        let planned = text(expect(0, node.nodebake("plan", &["--offline"])));
        assert!(planned.contains("+ package containerd.io 1.7.24"), "{planned}");
        // one bit of it
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(packages.join(&name), bytes).unwrap();
        assert!(refused(&node, 5, &["--offline"]).contains(&name));
        fs::copy(&file, packages.join(&name)).unwrap();
        // no address but loopback, and nobody there
        let mut alone = Command::new("unshare");
        alone
            .args(["--net", NODEBAKE, "apply", "--offline", "--root"])
            .arg(node.root())
            .args(["--spec", &node.spec()]);
        expect(0, alone.output().unwrap());
        assert_packaged(&node, "1.7.24");
        expect_nothing_to_do(&node);
        assert!(node.path("/etc/apt/sources.list.d/nodebake.sources").symlink_metadata().is_err());
        expect(0, node.nodebake("remove", &[]));
        assert_eq!(installed(&node, "containerd.io"), "");
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_single_package_file_is_enough() {
    let file = package_file("deb/pool/trixie", "2.1.9");
    let node = node("trixie", &format!("repository: {{path: {}}}", file.display()), "");
    expect(
        0,
        Command::new(NODEBAKE).args(["lock", "--spec", &node.spec(), "--arch", "amd64"]).output().unwrap(),
    );
    node.apply();
    assert_packaged(&node, "2.1.9");
}

// --- what can't be -----------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn what_no_repository_has_is_refused() {
    let server = serve();
    for (root, good, broken) in [
        ("bookworm", suites(&server), flat(&server, "deb-broken")),
        ("trixie", suites(&server), flat(&server, "deb-broken")),
        ("rocky", rpms(&server, "rpm"), rpms(&server, "rpm-broken")),
    ] {
        let node = node(root, &format!("repository: {good}, version: 9.9.9"), "");
        let said = refused(&node, 9, &[]);
        assert!(
            said.contains("9.9.9") && said.contains("containerd.io") && said.contains("1.7.24"),
            "{said}"
        );
        write_spec(&node, &format!("repository: {good}, name: lab-nothing"), "");
        assert!(refused(&node, 9, &[]).contains("lab-nothing"));
        write_spec(&node, &format!("repository: {broken}"), "");
        assert!(refused(&node, 9, &[]).contains("lab-has-no-such-package"));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_root_without_a_known_package_manager_is_refused() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}", suites(&server)), "");
    fs::write(node.path("/usr/lib/os-release"), "ID=alpine\nVERSION_ID=3.20\n").unwrap();
    let said = refused(&node, 9, &[]);
    assert!(said.contains("alpine") && said.contains("install: archive"), "{said}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn another_architecture_is_refused() {
    let node = node("trixie-arm64", "", "");
    fs::write(node.spec(), "components: {cni-plugins: false}\ncontainerd: {install: package}\n").unwrap();
    // which the lab's has not
    fs::copy(node.path("/usr/bin/true"), node.path("/usr/bin/apt-get")).unwrap();
    let before = tree(&node.root());
    let said = errors(&expect(9, node.nodebake("apply", &[])));
    assert!(said.contains("another architecture"), "{said}");
    assert_same("the root", &before, &tree(&node.root()));
}

/// A node has one containerd: whichever is there first, the other is refused before anything changes.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn conflicts_are_seen_in_both_directions() {
    let server = serve();
    let io = format!("repository: {}, version: 1.7.24", suites(&server));
    let install = |node: &Node, name: &str| {
        let apt = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "sh",
            "-c",
            &format!("apt-get -q update && apt-get -q -y install --no-install-recommends {name}"),
        ];
        fs::write(node.path("/etc/resolv.conf"), fs::read("/etc/resolv.conf").unwrap()).unwrap();
        fs::write(node.path("/usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n").unwrap();
        run("chmod", &["755", node.path("/usr/sbin/policy-rc.d").to_str().unwrap()]);
        expect(0, chroot(node, &apt));
        for path in ["/etc/resolv.conf", "/usr/sbin/policy-rc.d"] {
            fs::remove_file(node.path(path)).unwrap();
        }
        run(
            "sh",
            &[
                "-c",
                &format!(
                    "rm -rf {0}/run/* {0}/var/cache/apt/* {0}/var/lib/apt/lists/*",
                    node.root().display()
                ),
            ],
        );
    };
    // the distribution's containerd, or Docker of the distribution, is there
    for package in ["containerd", "docker.io"] {
        let node = node("trixie", &io, "");
        give_mirror(&node);
        install(&node, package);
        let said = refused(&node, 9, &[]);
        assert!(
            said.contains("containerd.io can't be installed") && said.contains("beside containerd "),
            "{package}: {said}"
        );
        node.write_spec("2.1", "");
        let said = refused(&node, 9, &[]);
        assert!(said.contains("containerd") && said.contains("install: package"), "{package}: {said}");
    }
    // containerd.io is there
    let node = node("trixie", "", "");
    give_mirror(&node);
    fs::copy(key("key.asc"), node.path("/etc/apt/keyrings/theirs.asc")).unwrap();
    let theirs = format!("deb [signed-by=/etc/apt/keyrings/theirs.asc] {}/deb trixie stable\n", server.url());
    fs::write(node.path("/etc/apt/sources.list.d/theirs.list"), theirs).unwrap();
    install(&node, "containerd.io");
    let said = refused(&node, 9, &[]);
    assert!(said.contains("containerd.io") && said.contains("beside"), "{said}");
    node.write_spec("2.1", "");
    assert!(refused(&node, 9, &[]).contains("containerd.io"));
    // a containerd of nobody's package is there
    let node = self::node("trixie", &io, "");
    let archive = fs::read_dir(artifacts("1.7")).unwrap().flatten().map(|entry| entry.path());
    let archive = archive.into_iter().find(|path| path.to_string_lossy().ends_with("amd64.tar.gz")).unwrap();
    run("tar", &["-xzf", archive.to_str().unwrap(), "-C", node.path("/usr/local").to_str().unwrap()]);
    assert!(refused(&node, 9, &[]).contains("/usr/local/bin/containerd"));
}

/// What was there before is taken on and left there.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_package_that_was_there_is_configured_and_survives_remove() {
    let server = serve();
    let package = format!("repository: {}, version: 1.7.24", suites(&server));
    let node = node("trixie", &package, "");
    let file = package_file("deb/pool/trixie", "1.7.24");
    fs::copy(file, node.path("/root/it.deb")).unwrap();
    expect(0, chroot(&node, &["dpkg", "--install", "/root/it.deb"]));
    fs::remove_file(node.path("/root/it.deb")).unwrap();
    let before = outside_the_database(&node);
    node.apply();
    assert_packaged(&node, "1.7.24");
    assert_eq!(receipt(&node)["packages"][0]["found"], true);
    assert!(!server.requests().iter().any(is_package), "nothing had to be fetched");
    expect(0, node.nodebake("remove", &[]));
    assert_eq!(installed(&node, "containerd.io"), "1.7.24-1~debian.13~trixie");
    assert_same("the root", &before, &outside_the_database(&node));
    assert!(fs::read_to_string(node.path(CONFIG)).unwrap().contains("disabled_plugins = [\"cri\"]"));
}

// --- what packages get wrong ---------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn what_was_put_right_is_said() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}, version: 2.1.9", suites(&server)), "");
    let said = node.apply();
    assert!(errors(&said).contains("disables the CRI"), "{}", errors(&said));
    let changes = text(said);
    for line in ["+ package containerd.io 2.1.9", "+ /opt/cni/bin/bridge", "/etc/containerd/config.toml"] {
        assert!(changes.contains(line), "{changes}");
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn nothing_that_a_package_starts_outlives_the_bake() {
    let server = serve();
    for (root, repository) in
        [("bookworm", flat(&server, "deb-eager")), ("rocky", rpms(&server, "rpm-eager"))]
    {
        let node = node(root, &format!("repository: {repository}"), "");
        node.apply();
        assert_packaged(&node, "1.7.24");
        assert!(node.path("/run/containerd").symlink_metadata().is_err());
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_maintainer_script_that_fails_is_told_and_the_next_run_converges() {
    let server = serve();
    for (root, failing, good) in [
        ("trixie", flat(&server, "deb-failing"), suites(&server)),
        ("rocky", rpms(&server, "rpm-failing"), rpms(&server, "rpm")),
    ] {
        let node = node(root, &format!("repository: {failing}"), "");
        let before = outside_the_database(&node);
        let failed = node.nodebake("apply", &[]);
        let said = errors(&failed);
        // rpm goes on after a %post that fails
        if root == "trixie" {
            expect(9, failed);
            assert!(said.contains("post-installation script") && said.contains("containerd.io"), "{said}");
        }
        assert_quiet_but_pending(&node);
        write_spec(&node, &format!("repository: {good}, version: 1.7.24"), "");
        node.apply();
        assert_packaged(&node, "1.7.24");
        expect_nothing_to_do(&node);
        expect(0, node.nodebake("remove", &[]));
        assert_same("the root", &before, &outside_the_database(&node));
    }
}

/// [`assert_quiet`], where the intent of an unfinished run may still be there.
#[track_caller]
fn assert_quiet_but_pending(node: &Node) {
    let pending = node.path("/var/lib/nodebake/pending.json");
    let aside = node.folder.path().join("pending.json");
    let there = pending.is_file();
    if there {
        fs::rename(&pending, &aside).unwrap();
    }
    assert_quiet(node);
    if there {
        fs::rename(&aside, &pending).unwrap();
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_newer_packages_configuration_never_replaces_ours() {
    let server = serve();
    let more = "registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n";
    let node = node("bookworm", &format!("repository: {}, version: 1.7.24", suites(&server)), more);
    node.apply();
    let ours = fs::read(node.path(CONFIG)).unwrap();
    // as somebody's unattended upgrade does it, who has heard of no option of ours
    let upgrade = "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confdef install containerd.io </dev/null";
    expect(0, chroot(&node, &["sh", "-c", upgrade]));
    assert_eq!(installed(&node, "containerd.io"), "2.1.9-1~debian.12~bookworm");
    assert_eq!(fs::read(node.path(CONFIG)).unwrap(), ours);
    let verified = text(expect(10, node.nodebake("verify", &[])));
    assert!(verified.contains("2.1.9"), "{verified}");
    fs::remove_file(node.path("/etc/containerd/config.toml.dpkg-dist")).unwrap();
    run("sh", &["-c", &format!("rm -rf {0}/var/cache/apt/* {0}/var/lib/apt/lists/*", node.root().display())]);
    // our own upgrade does not ask, leaves nothing beside it, and renders for the new version
    write_spec(&node, &format!("repository: {}, version: 2.1.9", suites(&server)), more);
    node.apply();
    assert_packaged(&node, "2.1.9");
    assert!(fs::read_to_string(node.path(CONFIG)).unwrap().contains("version = 3"));
    let beside: Vec<String> = fs::read_dir(node.path("/etc/containerd"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(!beside.iter().any(|name| name.contains("dpkg") || name.contains("rpmnew")), "{beside:?}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn up_and_down_render_the_configuration_of_what_is_installed() {
    let server = serve();
    for (root, repository) in [("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let node = node(root, "", "");
        for version in ["1.7.24", "2.1.9", "1.7.24"] {
            write_spec(&node, &format!("repository: {repository}, version: {version}"), "");
            node.apply();
            assert_packaged(&node, version);
            assert!(installed(&node, "containerd.io").starts_with(version));
        }
        expect_nothing_to_do(&node);
    }
}

/// An edit of the user's is saved before apply replaces it, and never lost by the package manager.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_edited_configuration_is_kept_aside_by_apply_and_in_place_by_remove() {
    let server = serve();
    for (root, repository) in [("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
        node.apply();
        let edit = fs::read_to_string(node.path(CONFIG)).unwrap() + "# by hand\n";
        fs::write(node.path(CONFIG), &edit).unwrap();
        expect(10, node.nodebake("verify", &[]));
        write_spec(&node, &format!("repository: {repository}, version: 2.1.9"), "");
        let said = node.apply();
        assert!(text(said).contains("edit is kept"));
        assert_eq!(
            fs::read_to_string(node.path("/var/lib/nodebake/edited/etc/containerd/config.toml")).unwrap(),
            edit
        );
        assert_packaged(&node, "2.1.9");
        let edit = fs::read_to_string(node.path(CONFIG)).unwrap() + "# by hand\n";
        fs::write(node.path(CONFIG), &edit).unwrap();
        let said = expect(0, node.nodebake("remove", &[]));
        assert!((text(said.clone()) + &errors(&said)).contains(CONFIG));
        let left = fs::read_to_string(node.path(CONFIG)).unwrap_or_default();
        assert_eq!(left, edit, "{root}: the edit is left");
        assert!(node.path(BINARY).symlink_metadata().is_err());
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_hold_keeps_the_version_until_the_spec_says_otherwise() {
    let server = serve();
    let spec_of = |version: &str, hold: bool| {
        format!("repository: {}, version: {version}, hold: {hold}", suites(&server))
    };
    let node = node("trixie", &spec_of("1.7.24", true), "");
    let held = || text(expect(0, chroot(&node, &["apt-mark", "showhold"]))).trim().to_owned();
    node.apply();
    assert_eq!(held(), "containerd.io");
    expect_nothing_to_do(&node);
    let upgrade = "apt-get -q update && apt-get -q -y -s dist-upgrade </dev/null";
    let said = text(expect(0, chroot(&node, &["sh", "-c", upgrade])));
    assert!(!said.contains("Inst containerd.io"), "{said}");
    run("sh", &["-c", &format!("rm -rf {0}/var/cache/apt/* {0}/var/lib/apt/lists/*", node.root().display())]);
    // an upgrade of ours lifts it and sets it again
    write_spec(&node, &spec_of("2.1.9", true), "");
    node.apply();
    assert_packaged(&node, "2.1.9");
    assert_eq!(held(), "containerd.io");
    // somebody lifts it
    expect(0, chroot(&node, &["apt-mark", "unhold", "containerd.io"]));
    let said = text(expect(10, node.nodebake("verify", &[])));
    assert!(said.contains("held"), "{said}");
    node.apply();
    assert_eq!(held(), "containerd.io");
    write_spec(&node, &spec_of("2.1.9", false), "");
    node.apply();
    assert_eq!(held(), "");
    write_spec(&node, &spec_of("2.1.9", true), "");
    node.apply();
    expect(0, node.nodebake("remove", &[]));
    assert_eq!((held(), installed(&node, "containerd.io")), (String::new(), String::new()));
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn dnf_holds_by_versionlock() {
    let server = serve();
    let node =
        node("rocky", &format!("repository: {}, version: 1.7.24, hold: true", rpms(&server, "rpm")), "");
    let locks = || fs::read_to_string(node.path("/etc/dnf/plugins/versionlock.list")).unwrap_or_default();
    node.apply();
    assert!(locks().contains("containerd.io-0:1.7.24-1.el9.*"), "{}", locks());
    expect_nothing_to_do(&node);
    write_spec(&node, &format!("repository: {}, version: 2.1.9, hold: true", rpms(&server, "rpm")), "");
    node.apply();
    assert!(locks().contains("containerd.io-0:2.1.9-1.el9.*") && !locks().contains("1.7.24"), "{}", locks());
    expect(0, node.nodebake("remove", &[]));
    assert!(!locks().contains("containerd.io"), "{}", locks());
}

// --- the network ---------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_repository_that_can_not_be_reached_is_exit_4() {
    let gone = serve().url();
    for (root, folder) in [("bookworm", "deb"), ("trixie", "deb"), ("rocky", "rpm")] {
        let file = key("key.asc").display().to_string();
        let at = |url: &str| format!("repository: {{url: '{url}/{folder}', key: '{file}'}}");
        let node = node(root, &at(&gone), "");
        let said = refused(&node, 4, &["--retries", "0"]);
        assert!(said.contains(gone.trim_start_matches("http://")), "{said}");
        write_spec(&node, &at("http://repository.invalid"), "");
        assert!(refused(&node, 4, &["--retries", "0"]).contains("repository.invalid"));
        let nothing = serve_changed(|_, _| Reply::error(404));
        write_spec(&node, &at(&nothing.url()), "");
        refused(&node, 4, &["--retries", "0"]);
    }
}

/// The line goes dead in the middle of a list or of a package; the next run finishes.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_network_that_is_cut_is_exit_4_and_the_next_run_converges() {
    let list = |request: &Request, reply: Reply| if is_package(request) { reply } else { reply.cut(40) };
    let package =
        |request: &Request, reply: Reply| if is_package(request) { reply.cut(1 << 20) } else { reply };
    let reset =
        |request: &Request, reply: Reply| if is_package(request) { reply.reset(1 << 20) } else { reply };
    type Cut = fn(&Request, Reply) -> Reply;
    let cases: [(&str, &str, Cut); 5] = [
        ("bookworm", "a list", list),
        ("bookworm", "a package", package),
        ("trixie", "a package, reset", reset),
        ("rocky", "a list", list),
        ("rocky", "a package", package),
    ];
    for (root, what, cut) in cases {
        let (server, broken) = serve_breakable(cut);
        let repository = if root == "rocky" { rpms(&server, "rpm") } else { suites(&server) };
        let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
        let before = outside_the_database(&node);
        let failed = expect(4, node.nodebake("apply", &["--retries", "1"]));
        assert!(errors(&failed).contains("help: "), "{root} {what}");
        assert_same(what, &before, &outside_the_database(&node));
        assert_eq!(installed(&node, "containerd.io"), "");
        assert_quiet(&node);
        broken.store(false, Ordering::Relaxed);
        node.apply();
        assert_packaged(&node, "1.7.24");
    }
}

/// A line that is up and says nothing: `--stall-timeout` ends the wait.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_repository_that_falls_silent_is_given_up() {
    for root in ["trixie", "rocky"] {
        let server =
            serve_changed(|request, reply| if is_package(request) { reply } else { reply.stall(10) });
        let repository = if root == "rocky" { rpms(&server, "rpm") } else { suites(&server) };
        let node = node(root, &format!("repository: {repository}"), "");
        let began = Instant::now();
        refused(&node, 4, &["--retries", "0", "--stall-timeout", "2"]);
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn offline_is_refused_where_a_package_has_to_be_fetched() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}", suites(&server)), "");
    let said = refused(&node, 4, &["--offline"]);
    assert!(said.contains("--offline"), "{said}");
    assert_eq!(server.requests().len(), 0);
}

// --- interrupted ---------------------------------------------------------------------------------------

/// Where a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The server says nothing to the first request.
    Lists,
    /// It stops in the middle of the package.
    Download,
    /// A maintainer script takes its time.
    Script,
}

/// Starts a bake, sends `signal` at `stage`, and gives the node, its server and what came of it.
fn stopped(
    root: &str,
    stage: Stage,
    signal: &str,
) -> (Node, Server, std::sync::Arc<std::sync::atomic::AtomicBool>, Output) {
    let (server, broken) = serve_breakable(move |request, reply| match stage {
        Stage::Lists => reply.stall(10),
        Stage::Download if is_package(request) => reply.stall(1 << 20),
        _ => reply,
    });
    let repository = match (root, stage) {
        ("rocky", Stage::Script) => rpms(&server, "rpm-slow"),
        ("rocky", _) => rpms(&server, "rpm"),
        (_, Stage::Script) => flat(&server, "deb-slow"),
        _ => suites(&server),
    };
    let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
    let mut nodebake = Command::new(NODEBAKE);
    nodebake.args(["apply", "--root"]).arg(node.root()).args(["--spec", &node.spec()]);
    let child = nodebake.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(&format!("{root} {stage:?}"), || match stage {
        Stage::Lists => !server.requests().is_empty(),
        Stage::Download => server.requests().iter().any(is_package),
        Stage::Script => node.path("/var/lib/lab-slow").is_file(),
    });
    // what was asked for is under way
    thread::sleep(Duration::from_millis(300));
    run("kill", &["-s", signal, &child.id().to_string()]);
    if stage == Stage::Script && signal != "KILL" {
        // dpkg and rpm are let end: a half-configured package is worse than half a minute
        thread::sleep(Duration::from_millis(500));
        let_it_go(&node);
    }
    let output = child.wait_with_output().unwrap();
    (node, server, broken, output)
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not reached");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The slow script has been slow enough.
fn let_it_go(node: &Node) {
    fs::write(node.path("/var/lib/lab-go"), "").unwrap();
}

/// What the slow script may have left when it was killed.
fn forget_it(node: &Node) {
    for path in ["/var/lib/lab-slow", "/var/lib/lab-go"] {
        let _ = fs::remove_file(node.path(path));
    }
}

/// Nothing stays mounted, nobody stays, and the next run gives what an undisturbed one does.
fn survives(root: &str, stage: Stage, signal: &str, code: Option<i32>) {
    let what = format!("{root} {stage:?} SIG{signal}");
    let (node, _server, broken, output) = stopped(root, stage, signal);
    assert_eq!(output.status.code(), code, "{what}\n{}", errors(&output));
    let interrupted_before_changes = stage != Stage::Script && signal != "KILL";
    if interrupted_before_changes {
        assert_quiet(&node);
        assert!(
            !node.path("/var/lib/nodebake").exists() || node.path("/var/lib/nodebake/.lock").exists(),
            "{what}"
        );
    } else {
        assert_no_mounts(&node);
    }
    broken.store(false, Ordering::Relaxed);
    let_it_go(&node);
    expect(0, node.nodebake("apply", &[]));
    forget_it(&node);
    assert_packaged(&node, "1.7.24");
    expect_nothing_to_do(&node);
    expect(0, node.nodebake("remove", &[]));
    assert_same(&what, &pristine(root), &outside_the_database(&node));
}

/// [`assert_quiet`] after a SIGKILL: files of the session may be left to the next run, processes and
/// mounts may not.
#[track_caller]
fn assert_no_mounts(node: &Node) {
    let root = node.root().display().to_string();
    let lives = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let path = entry.path();
            fs::read_link(path.join("root")).unwrap_or_default().starts_with(&root)
                || fs::read_to_string(path.join("mountinfo")).unwrap_or_default().contains(&root)
        })
    };
    wait_until("the end of all processes in the root", || !lives());
}

/// [`outside_the_database`] of a root that nothing was done to.
fn pristine(root: &str) -> String {
    static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    if let Some(tree) = KNOWN.lock().unwrap().get(root) {
        return tree.clone();
    }
    let tree = outside_the_database(&Node::new(root, "2.1", ""));
    KNOWN.lock().unwrap().insert(root.to_owned(), tree.clone());
    tree
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_interrupt_while_lists_or_packages_are_fetched_leaves_nothing() {
    for root in ["bookworm", "rocky"] {
        for stage in [Stage::Lists, Stage::Download] {
            survives(root, stage, "INT", Some(130));
            survives(root, stage, "TERM", Some(143));
        }
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_interrupt_while_dpkg_works_lets_it_end() {
    for root in ["trixie", "rocky"] {
        survives(root, Stage::Script, "INT", Some(130));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn apt_a_kill_at_any_stage_is_got_over() {
    for stage in [Stage::Lists, Stage::Download, Stage::Script] {
        survives("trixie", stage, "KILL", None);
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn dnf_a_kill_at_any_stage_is_got_over() {
    for stage in [Stage::Lists, Stage::Download, Stage::Script] {
        survives("rocky", stage, "KILL", None);
    }
}

/// dpkg is killed with half of a package's files unpacked, at a first installation and at an upgrade.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_package_that_is_half_unpacked_is_got_over() {
    let server = serve();
    for (earlier, wanted) in [(None, "1.7.24"), (Some("1.7.24"), "2.1.9"), (Some("1.7.24"), "1.7.24")] {
        let repository = suites(&server);
        let node = node("bookworm", &format!("repository: {repository}, version: {wanted}"), "");
        if let Some(version) = earlier {
            write_spec(&node, &format!("repository: {repository}, version: {version}"), "");
            node.apply();
        }
        // the last case: an upgrade was broken off, and the version from before is wanted back
        let upgrade = if earlier == Some(wanted) { "2.1.9" } else { wanted };
        write_spec(&node, &format!("repository: {repository}, version: {upgrade}"), "");
        let mut nodebake = Command::new(NODEBAKE);
        nodebake.args(["apply", "--root"]).arg(node.root()).args(["--spec", &node.spec()]);
        let mut child = nodebake.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("dpkg to unpack", || {
            node.path("/usr/bin/containerd.dpkg-new").exists() || child_ended(&child)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_no_mounts(&node);
        assert!(installed(&node, "containerd.io").is_empty(), "{earlier:?} {wanted}: the kill came too late");
        write_spec(&node, &format!("repository: {repository}, version: {wanted}"), "");
        node.apply();
        assert_packaged(&node, wanted);
        assert!(node.path("/usr/bin/containerd.dpkg-new").symlink_metadata().is_err());
        expect(0, node.nodebake("remove", &[]));
        assert_same("the root", &pristine("bookworm"), &outside_the_database(&node));
    }
}

fn child_ended(child: &std::process::Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    status.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z'))
}

/// `remove` of what a killed run has left.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn remove_takes_away_what_a_killed_run_has_left() {
    for root in ["trixie", "rocky"] {
        let (node, _server, _, _) = stopped(root, Stage::Script, "KILL");
        let_it_go(&node);
        expect(0, node.nodebake("remove", &[]));
        forget_it(&node);
        assert_eq!(installed(&node, "containerd.io"), "");
        assert_same("the root", &pristine(root), &outside_the_database(&node));
        assert_quiet(&node);
    }
}

/// Another apt or dnf works in the same root.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_locked_package_database_is_exit_8() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}, version: 1.7.24", suites(&server)), "");
    let lock = node.path("/var/lib/dpkg/lock-frontend");
    let hold = "import fcntl,sys,time\nf=open(sys.argv[1],'w')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint(flush=True)\ntime.sleep(60)";
    let mut other =
        Command::new("python3").args(["-c", hold]).arg(&lock).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read(other.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let before = outside_the_database(&node);
    expect(8, node.nodebake("apply", &[]));
    assert_same("the root", &before, &outside_the_database(&node));
    assert_quiet(&node);
    other.kill().unwrap();
    other.wait().unwrap();
    node.apply();
}

// --- verify, remove, switching -------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn verify_compares_with_the_package_database() {
    let server = serve();
    for (root, repository) in [("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
        node.apply();
        let shim = node.path("/usr/bin/containerd-shim-runc-v2");
        let bytes = fs::read(&shim).unwrap();
        fs::write(&shim, [&bytes[..], b"more"].concat()).unwrap();
        let said = text(expect(10, node.nodebake("verify", &[])));
        assert!(said.contains("containerd-shim-runc-v2") && said.contains("containerd.io"), "{said}");
        fs::write(&shim, &bytes).unwrap();
        run("chmod", &["755", shim.to_str().unwrap()]);
        fs::remove_file(node.path("/usr/bin/runc")).unwrap();
        assert!(text(expect(10, node.nodebake("verify", &[]))).contains("/usr/bin/runc"));
        node.apply();
        assert_packaged(&node, "1.7.24");
        // somebody takes the package away
        let erase: &[&str] = if root == "rocky" {
            &["rpm", "-e", "containerd.io"]
        } else {
            &["dpkg", "--purge", "containerd.io"]
        };
        expect(0, chroot(&node, erase));
        let said = text(expect(10, node.nodebake("verify", &[])));
        assert!(said.contains("containerd.io"), "{said}");
        node.apply();
        assert_packaged(&node, "1.7.24");
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn remove_gives_the_root_back() {
    let server = serve();
    for (root, repository) in
        [("bookworm", suites(&server)), ("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))]
    {
        let more =
            "  limit_nofile: 65536\nregistries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n";
        let node = node(root, &format!("repository: {repository}, version: 2.1.9"), more);
        let before = outside_the_database(&node);
        node.apply();
        let json: Value =
            serde_json::from_slice(&expect(0, node.nodebake("remove", &["--json"])).stdout).unwrap();
        assert!(json.to_string().contains("containerd.io"), "{json:#}");
        assert_eq!(installed(&node, "containerd.io"), "");
        assert_same(root, &before, &outside_the_database(&node));
        assert_quiet(&node);
        expect(0, node.nodebake("remove", &[]));
    }
}

/// Packages that others came to need stay.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn remove_leaves_what_others_need() {
    let server = serve();
    let node = node("bookworm", &format!("repository: {}, version: 1.7.24", suites(&server)), "");
    node.apply();
    install_what_needs(&node, "containerd.io");
    let said = expect(0, node.nodebake("remove", &[]));
    assert!(!installed(&node, "containerd.io").is_empty());
    assert!((text(said.clone()) + &errors(&said)).contains("containerd.io"), "it is named");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn archive_package_archive_never_leaves_two() {
    let server = serve();
    for (root, repository) in [("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let generation = if root == "rocky" { "1.6" } else { "2.1" };
        let fresh = Node::new(root, generation, "");
        fresh.apply();
        let archived = without_receipt(&fresh);
        let package = format!("repository: {repository}, version: 1.7.24");
        let fresh = node(root, &package, "");
        fresh.apply();
        let packaged = without_receipt(&fresh);

        let node = Node::new(root, generation, "");
        node.apply();
        write_spec(&node, &package, "");
        let planned = text(expect(0, node.nodebake("plan", &[])));
        assert!(
            planned.contains("+ package containerd.io") && planned.contains("- /usr/local/bin/containerd"),
            "{planned}"
        );
        node.apply();
        assert_packaged(&node, "1.7.24");
        assert_same("the way of packages", &packaged, &without_receipt(&node));
        node.write_spec(generation, "");
        let planned = text(expect(0, node.nodebake("plan", &[])));
        assert!(
            planned.contains("- package containerd.io") && planned.contains("+ /usr/local/bin/containerd"),
            "{planned}"
        );
        node.apply();
        assert_eq!(installed(&node, "containerd.io"), "");
        assert!(node.path(BINARY).symlink_metadata().is_err());
        assert_enabled(&node);
        assert_same("the way of archives", &archived, &without_receipt(&node));
        expect(0, node.nodebake("verify", &[]));
        expect(0, node.nodebake("remove", &[]));
        assert_same("the root", &pristine(root), &outside_the_database(&node));
    }
}

/// It says who made a directory first, which is another one after a switch.
fn without_receipt(node: &Node) -> String {
    let all = outside_the_database(node);
    all.lines()
        .filter(|line| !line.contains("nodebake/receipt.json"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// From Docker's package to the distribution's, and back.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn one_package_gives_way_to_another() {
    let server = serve();
    let io = format!("repository: {}, version: 2.1.9", suites(&server));
    let node = node("trixie", &io, "");
    give_mirror(&node);
    node.apply();
    write_spec(&node, "", "");
    node.apply();
    assert_packaged(&node, "1.7.24");
    assert_eq!(installed(&node, "containerd.io"), "");
    assert!(node.path("/etc/apt/sources.list.d/nodebake.sources").symlink_metadata().is_err());
    write_spec(&node, &io, "");
    node.apply();
    assert_packaged(&node, "2.1.9");
    assert_eq!(installed(&node, "containerd"), "");
}

// --- a system that runs ----------------------------------------------------------------------------------

/// The same without a chroot, on a system that systemd runs: the package starts nothing with its own
/// configuration, `--start` starts it once with ours, and a switch leaves one process.
fn live(root: &str, repository: &str, archive_generation: &str) {
    let node = node(root, "", "");
    carry_nodebake(&node);
    carry_cni_configuration(&node);
    fs::create_dir_all(node.path("/etc/nodebake")).unwrap();
    fs::copy(key("key.asc"), node.path("/etc/nodebake/key.asc")).unwrap();
    let inside = |text: String| {
        text.replace(key("key.asc").to_str().unwrap(), "key.asc").replace(lab().to_str().unwrap(), "/lab")
    };
    let write = |name: &str, text: String| {
        fs::write(node.path(&format!("/etc/nodebake/{name}.yaml")), inside(text)).unwrap()
    };
    let package = |version: &str| format!("repository: {repository}, version: {version}");
    write("first", spec(&package("1.7.24"), IN_A_CONTAINER_1));
    write("upgrade", spec(&package("2.1.9"), IN_A_CONTAINER_2));
    let archive =
        format!("containerd:\n{}", in_a_container(if archive_generation == "2.1" { "2.1" } else { "1.6" }));
    write("archive", node::spec(archive_generation, &archive));
    let script = r#"
        bake() { nodebake apply --root / --spec /etc/nodebake/$1.yaml --start; }
        starts() { journalctl --no-pager -o cat -u containerd | grep -c 'Started containerd'; }
        mounts() { cut -d' ' -f5 /proc/self/mountinfo | sort; }
        # Services have mounts of their own as they start and end.
        settled() {
          local now last=
          for _ in 1 2 3 4 5 6 7 8 9 10; do
            now=$(mounts)
            [[ $now != "$last" ]] || break
            last=$now
            sleep 2
          done
          echo "$now"
        }
        t mounts-before settled
        t first bake first
        t starts-first starts
        t cri-off grep -c disabled_plugins /etc/containerd/config.toml
        t again bake first
        t starts-again starts
        t import ctr -n k8s.io images import /lab/images/tiny.tar
        t run ctr -n k8s.io run --detach docker.io/library/tiny:1 kept /bin/sleep 600
        task() { ctr -n k8s.io tasks ls | awk '$1 == "kept" {print $2, $3}'; }
        t task task
        t upgrade bake upgrade
        t version ctr version
        t task-upgrade task
        t verify nodebake verify --root / --live
        t archive bake archive
        t processes pgrep -c -x containerd
        t exe readlink /proc/$(systemctl show --property=MainPID --value containerd)/exe
        t task-archive task
        t verify-archive nodebake verify --root / --live
        t back bake first
        t exe-back readlink /proc/$(systemctl show --property=MainPID --value containerd)/exe
        t verify-back nodebake verify --root / --live
        t failed systemctl --failed --no-legend --plain
        t mounts-after settled
        t left ls /usr/sbin/policy-rc.d
        t remove nodebake remove --root /
        t gone ls /usr/bin/containerd
    "#;
    let report = boot(&node, Layer::CONTAINER, &[], &["--keep-net", "--timeout", "300"], script).remove(0);
    report.expect("first", 0);
    assert_eq!(report.output("starts-first"), "1", "started once, with our configuration\n{report}");
    assert_eq!(report.output("cri-off"), "0", "{report}");
    assert!(report.expect("again", 0).contains("0 created, 0 changed, 0 removed"), "{report}");
    assert_eq!(report.output("starts-again"), "1", "{report}");
    let task = report.expect("task", 0);
    assert!(task.ends_with("RUNNING"), "{report}");
    report.expect("upgrade", 0);
    assert!(report.output("version").contains("2.1.9"), "{report}");
    assert_eq!(report.output("task-upgrade"), task, "{report}");
    report.expect("verify", 0);
    report.expect("archive", 0);
    assert_eq!(
        (report.output("processes"), report.output("exe")),
        ("1", "/usr/local/bin/containerd"),
        "{report}"
    );
    report.expect("verify-archive", 0);
    report.expect("back", 0);
    assert_eq!(report.output("exe-back"), BINARY, "{report}");
    report.expect("verify-back", 0);
    assert_eq!(report.output("failed"), "", "{report}");
    assert_eq!(report.output("mounts-before"), report.output("mounts-after"), "{report}");
    assert_ne!(report.code("left"), Some(0), "{report}");
    report.expect("remove", 0);
    assert_ne!(report.code("gone"), Some(0), "{report}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn apt_on_a_running_system() {
    let server = serve();
    live("trixie", &suites(&server), "2.1");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn dnf_on_a_running_system() {
    let server = serve();
    live("rocky", &rpms(&server, "rpm"), "1.6");
}
