//! `nodebake goss`: Debian's real goss judges what was baked, in the root and in a booted node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::kit::command::{expect, text};
use crate::kit::guest::{Layer, boot};
use crate::kit::lab::lab;
use crate::kit::node::Node;

/// Puts goss and a goss file for the node into its root.
fn carry_goss(node: &Node, more: &[&str]) {
    fs::create_dir_all(node.path("/opt/lab")).unwrap();
    fs::copy(lab().join("tools/goss"), node.path("/opt/lab/goss")).unwrap();
    let gossfile = text(expect(0, node.nodebake("goss", more)));
    fs::write(node.path("/opt/lab/goss.yaml"), gossfile).unwrap();
}

fn validate(node: &Node) -> Output {
    let goss = ["/opt/lab/goss", "--gossfile", "/opt/lab/goss.yaml", "validate", "--no-color"];
    Command::new("chroot").arg(node.root()).args(goss).output().unwrap()
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s9_goss_finds_a_baked_root_as_it_should_be_and_a_changed_one_not() {
    for (root, generation) in [("bookworm", "1.6"), ("trixie", "2.1")] {
        let node = Node::new(root, generation, "");
        node.apply();
        carry_goss(&node, &[]);
        let said = text(expect(0, validate(&node)));
        assert!(said.contains("Failed: 0, Skipped: 0") && !said.contains("Count: 0"), "{said}");
        fs::set_permissions(node.path("/usr/local/sbin/runc"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_file(node.path("/etc/systemd/system/multi-user.target.wants/containerd.service")).unwrap();
        fs::write(node.path("/etc/containerd/config.toml"), "version = 1\n").unwrap();
        let said = text(expect(1, validate(&node)));
        for what in ["runc: mode", "config.toml: sha256", "containerd.service: exists", "containerd: enabled"]
        {
            assert!(said.contains(what), "{what} in {said}");
        }
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s9_goss_finds_a_booted_node_up() {
    let node = Node::new("trixie", "2.1", "");
    node.apply();
    carry_goss(&node, &["--live"]);
    let script = "
        t goss /opt/lab/goss --gossfile /opt/lab/goss.yaml validate --no-color
        systemctl stop containerd
        t stopped /opt/lab/goss --gossfile /opt/lab/goss.yaml validate --no-color
    ";
    let report = boot(&node, Layer::CONTAINER, &[], &[], script).remove(0);
    assert!(report.expect("goss", 0).contains("Failed: 0, Skipped: 0"), "{report}");
    let stopped = report.expect("stopped", 1);
    assert!(stopped.contains("containerd: running") && stopped.contains("containerd answers"), "{report}");
}
