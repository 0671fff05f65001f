//! `apply --start` on a booted node, with packages.

use std::fs;

use crate::kit::guest::{Layer, boot, carry_cni_configuration, carry_nodebake};
use crate::kit::lab::lab;
use crate::kit::node;
use crate::kit::repository::{key, node, rpms, serve, spec, suites};
use crate::kit::seen::{BINARY, IN_A_CONTAINER_1, IN_A_CONTAINER_2, in_a_container};

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
        bake() { nodebake apply --root / --spec /etc/nodebake/$1.yaml --start "${@:2}"; }
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
        t archive bake archive --execute
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
        t remove nodebake remove --root / --execute
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
