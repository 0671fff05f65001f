//! `verify`, `remove`, and the way from packages to archives and back.

use std::fs;

use serde_json::Value;

use crate::kit::assert_same;
use crate::kit::command::{errors, expect, run, text};
use crate::kit::node::Node;
use crate::kit::repository::{
    chroot, give_mirror, install_what_needs, node, outside_the_database, rpms, serve, suites, write_spec,
};
use crate::kit::seen::{BINARY, assert_enabled, assert_packaged, assert_quiet, installed, pristine};

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
        let said = text(expect(10, node.nodebake("verify", &["--execute"])));
        assert!(said.contains("containerd-shim-runc-v2") && said.contains("containerd.io"), "{said}");
        fs::write(&shim, &bytes).unwrap();
        run("chmod", &["755", shim.to_str().unwrap()]);
        fs::remove_file(node.path("/usr/bin/runc")).unwrap();
        assert!(text(expect(10, node.nodebake("verify", &["--execute"]))).contains("/usr/bin/runc"));
        node.apply();
        assert_packaged(&node, "1.7.24");
        // somebody takes the package away
        let erase: &[&str] = if root == "rocky" {
            &["rpm", "-e", "containerd.io"]
        } else {
            &["dpkg", "--purge", "containerd.io"]
        };
        expect(0, chroot(&node, erase));
        let said = text(expect(10, node.nodebake("verify", &["--execute"])));
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
            serde_json::from_slice(&expect(0, node.nodebake("remove", &["--json", "--execute"])).stdout)
                .unwrap();
        assert!(json.to_string().contains("containerd.io"), "{json:#}");
        assert_eq!(installed(&node, "containerd.io"), "");
        assert_same(root, &before, &outside_the_database(&node));
        assert_quiet(&node);
        expect(0, node.nodebake("remove", &["--execute"]));
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
    let said = expect(0, node.nodebake("remove", &["--execute"]));
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
        let planned = text(expect(0, node.nodebake("plan", &["--execute"])));
        assert!(
            planned.contains("- package containerd.io") && planned.contains("+ /usr/local/bin/containerd"),
            "{planned}"
        );
        expect(0, node.nodebake("apply", &["--execute"]));
        assert_eq!(installed(&node, "containerd.io"), "");
        assert!(node.path(BINARY).symlink_metadata().is_err());
        assert_enabled(&node);
        assert_same("the way of archives", &archived, &without_receipt(&node));
        expect(0, node.nodebake("verify", &["--execute"]));
        expect(0, node.nodebake("remove", &["--execute"]));
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
