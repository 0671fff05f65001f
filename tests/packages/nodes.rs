//! Each way from a package ends in a node that boots: Debian's containerd from the mirror that this machine's
//! apt is configured with, and packages in the shape of Docker's from the lab's own signed repositories.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::kit::command::{errors, expect, run, text};
use crate::kit::guest::{
    Layer, PULLS, assert_pulled, boot_beside_registry, carry_cni_configuration, carry_nodebake, mirror,
};
use crate::kit::lab::lab;
use crate::kit::node::Node;
use crate::kit::ready::{PROOF, complaints};
use crate::kit::repository::{chroot, flat, give_mirror, key, node, rpms, serve, spec, suites, write_spec};
use crate::kit::seen::{
    BINARY, assert_enabled, assert_packaged, assert_quiet, expect_nothing_to_do, in_a_container, installed,
    receipt, refused,
};
use crate::kit::{assert_same, paths, tree};

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

/// What will be there after the package's files is no change of them.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_plan_and_its_bake_name_the_same_changes() {
    let server = serve();
    for (root, repository) in [("bookworm", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
        let changes = |said: &str| -> Vec<String> {
            let is_change = |line: &&str| line.starts_with(['+', '~', '-']);
            let mut changes: Vec<String> = said.lines().filter(is_change).map(str::to_owned).collect();
            let counts = said.lines().last().unwrap_or_default();
            changes.push(counts.replace("to create", "created").replace("to change", "changed"));
            changes
        };
        let planned = changes(&text(expect(0, node.nodebake("plan", &[])))).join("\n");
        let baked = changes(&text(node.apply())).join("\n");
        assert_same(root, &planned.replace("to remove", "removed"), &baked);
        assert!(baked.contains("\n+ /etc/containerd/config.toml "), "{baked}");
    }
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
    expect(0, node.nodebake("remove", &["--execute"]));
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
