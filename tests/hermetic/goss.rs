//! `nodebake goss`: a spec and the root that it bakes are described alike. What Debian's goss makes of
//! the description is shown by the suite `boot`.

use std::fs;
use std::process::Command;

use crate::kit::lab::lab;
use crate::kit::{Lab, run};

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
