//! `nodebake goss`: Debian's real goss judges what was baked, in the root and in a booted node.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests set up their own host")]

mod kit;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use kit::guest::{Layer, boot};
use kit::real::{Node, expect, lab, text};
use kit::{Lab, run};

#[test]
fn a_spec_and_what_it_bakes_give_the_same_file() {
    let lab = Lab::new();
    let by_spec = || run(lab.command(["goss", "--live"]).arg("--spec").arg(&lab.spec));
    let by_root = || run(lab.command(["goss", "--live"]).arg("--root").arg(&lab.root));
    by_root().exits(10).says("has no receipt");
    let planned = by_spec();
    planned.exits(0);
    assert!(!lab.exists("/var/lib/nodebake"), "describing a spec bakes nothing");
    lab.apply().exits(0);
    assert_eq!(by_root().exits(0).stdout, planned.stdout);
    let gossfile: serde_yaml::Value = serde_yaml::from_str(&planned.stdout).unwrap();
    let file = &gossfile["file"];
    assert_eq!(file["/usr/local/sbin/runc"]["mode"], "0755");
    let wants = "/etc/systemd/system/multi-user.target.wants/containerd.service";
    assert_eq!(file[wants]["linked-to"], "/usr/local/lib/systemd/system/containerd.service");
    assert_eq!(file["/var/lib/containerd"]["filetype"], "directory");
    assert_eq!(gossfile["service"]["containerd"]["running"], true);
    assert_eq!(gossfile["kernel-param"]["net.ipv4.ip_forward"]["value"], "1");
    let still = run(lab.command(["goss"]).arg("--root").arg(&lab.root)).exits(0).stdout.clone();
    assert!(!still.contains("kernel-param") && !still.contains("running"), "an image is not up: {still}");
    run(lab.command(["goss"]).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec)).exits(2);
}

/// The words of upstream's own builds, which the lab has not.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn the_versions_that_upstream_prints_are_understood() {
    let lab_dir = Lab::new();
    let described = run(lab_dir.command(["goss"]).arg("--spec").arg(&lab_dir.spec)).exits(0).stdout.clone();
    let says = |line: &str| {
        let gossfile: serde_yaml::Value = serde_yaml::from_str(&described).unwrap();
        let mut command = gossfile["command"]["containerd --version"].clone();
        command["exec"] = format!("echo '{line}'").into();
        let only = format!("command: {{version: {}}}\n", serde_json::to_string(&command).unwrap());
        let file = lab_dir.dir.join("goss.yaml");
        fs::write(&file, only).unwrap();
        let goss =
            Command::new(lab().join("tools/goss")).arg("--gossfile").arg(file).arg("validate").output();
        goss.unwrap().status.success()
    };
    assert!(says("containerd github.com/containerd/containerd/v2 v2.1.9 6f5a4e1b0c"));
    assert!(says("containerd github.com/containerd/containerd/v2 2.1.9+unknown "));
    assert!(!says("containerd github.com/containerd/containerd/v2 v2.1.90 6f5a4e1b0c"));
    assert!(!says("containerd github.com/containerd/containerd v1.7.24 6f5a4e1b0c"));
}

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
    let report = boot(&node, Layer::Container, &[], &[], script).remove(0);
    assert!(report.expect("goss", 0).contains("Failed: 0, Skipped: 0"), "{report}");
    let stopped = report.expect("stopped", 1);
    assert!(stopped.contains("containerd: running") && stopped.contains("containerd answers"), "{report}");
}
