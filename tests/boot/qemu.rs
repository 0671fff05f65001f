//! The baked root boots with the distribution's own kernel in QEMU; about a minute for a boot without hardware
//! virtualisation. It shows what `nspawn.rs` can't: kernel modules and version 2 of cgroups. Needs
//! `tests/lab/prepare` and `make dist`. `make test` runs what proves most; `make test-all` the other pairs of root and
//! containerd, a first boot with presets, and `make boot`.

use std::fs;

use crate::kit::command::{expect, text};
use crate::kit::guest::{
    Layer, PULLS, Report, assert_pulled, boot, boot_beside_registry, carry_cni_configuration, carry_nodebake,
    mirror,
};
use crate::kit::node::Node;
use crate::kit::ready::{PROOF, complaints};

fn node(root: &str, generation: &'static str, extra: &str) -> Node {
    let node = Node::bootable(root, generation, extra);
    node.apply();
    carry_nodebake(&node);
    carry_cni_configuration(&node);
    node
}

/// What only a kernel of the guest's own can show.
const MACHINE: &str = "
    t kernel uname -r
    t modules lsmod
    t cgroups stat --file-system --format %T /sys/fs/cgroup
    t machine-id systemd-id128 machine-id
";

#[track_caller]
fn assert_ready(report: &Report) {
    assert_eq!(complaints(report), [""; 0], "{report}");
    let modules = report.expect("modules", 0);
    for module in ["overlay", "br_netfilter"] {
        assert!(modules.lines().any(|line| line.starts_with(&format!("{module} "))), "{module}\n{report}");
    }
    assert_eq!(report.output("cgroups"), "cgroup2fs", "{report}");
    assert!(report.output("kernel").ends_with("cloud-amd64"), "the root's own kernel: {report}");
}

fn boots_ready(root: &str, generation: &'static str) {
    let node = node(root, generation, "");
    assert_ready(&boot(&node, Layer::MACHINE, &[], &[], &format!("{MACHINE}{PROOF}"))[0]);
}

/// The whole tutorial, in a machine whose images come from the mirror of the spec.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn s8_trixie_boots_ready_with_containerd_2_1_and_pulls_through_the_mirror() {
    let node = node("trixie-vm", "2.1", &mirror(Layer::MACHINE));
    let script = format!("{MACHINE}{PROOF}{PULLS}t images ctr -n k8s.io images ls -q\n");
    let (report, requests) = boot_beside_registry(&node, Layer::MACHINE, &script);
    assert_ready(&report);
    assert_pulled(Layer::MACHINE, &report, &requests);
    assert!(report.output("images").contains("docker.io/library/nginx:alpine"), "{report}");
}

/// What `verify` finds offline in other files of the root is what the boot does, and each finding names its file.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn w5_w6_w7_what_is_found_in_a_root_is_what_its_boot_does() {
    let node = node("trixie-vm", "2.1", "");
    let files = [
        ("/etc/sysctl.d/99-cis.conf", "# required\nnet.ipv4.ip_forward = 0\n"),
        ("/etc/modprobe.d/hardening.conf", "install br_netfilter /bin/false\n"),
        (
            "/etc/systemd/system/containerd.service.d/override.conf",
            "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /etc/containerd/config.toml\n",
        ),
        ("/etc/fstab", "tmpfs /opt/cni tmpfs defaults 0 0\n"),
    ];
    for (path, text) in files {
        fs::create_dir_all(node.path(path).parent().unwrap()).unwrap();
        let old = fs::read_to_string(node.path(path)).unwrap_or_default();
        fs::write(node.path(path), format!("{old}{text}")).unwrap();
    }
    let verified = text(expect(10, node.nodebake("verify", &[])));
    for (path, _) in files {
        assert!(verified.contains(path), "{path} is not named\n{verified}");
    }
    let script = "
        t forward sysctl -n net.ipv4.ip_forward
        t modules lsmod
        t active systemctl is-active containerd
        t plugins ls /opt/cni
    ";
    let report = &boot(&node, Layer::MACHINE, &[], &[], script)[0];
    assert_eq!(report.output("forward"), "0", "{report}");
    assert!(!report.expect("modules", 0).contains("br_netfilter"), "{report}");
    assert_ne!(report.output("active"), "active", "{report}");
    assert_eq!(report.expect("plugins", 0), "", "{report}");
}

mod slow {
    use std::fs;
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::{MACHINE, assert_ready, boots_ready, node};
    use crate::kit::command::{expect, text};
    use crate::kit::guest::{Layer, boot};
    use crate::kit::lab::{repository, static_binary};
    use crate::kit::ready::PROOF;

    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn s8_bookworm_boots_ready_with_containerd_1_7() {
        boots_ready("bookworm-vm", "1.7");
    }

    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn s8_trixie_boots_ready_with_containerd_1_7() {
        boots_ready("trixie-vm", "1.7");
    }

    /// An image's first boot, with no machine-id and a distribution that disables what no preset names, and
    /// the boot after it.
    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn s8_bookworm_boots_ready_with_containerd_2_1_though_presets_disable_everything() {
        let node = node("bookworm-vm", "2.1", "");
        let _ = fs::remove_file(node.path("/etc/machine-id"));
        fs::write(node.path("/usr/lib/systemd/system-preset/99-default.preset"), "disable *\n").unwrap();
        // The second boot comes after what Fedora's and Azure Linux's systemd do at the first one.
        let presets = "[[ $1 != 1 ]] || t preset-all systemctl preset-all\n";
        let first_boot =
            "t first-boot systemctl show --property=ConditionResult --value first-boot-complete.target\n";
        let script = format!("{MACHINE}{PROOF}{first_boot}{presets}");
        let reports = boot(&node, Layer::MACHINE, &[], &["--boots", "2"], &script);
        let [first, second] = reports.as_slice() else { panic!("{} boots", reports.len()) };
        first.expect("preset-all", 0);
        assert_ready(first);
        assert_ready(second);
        assert_eq!(first.output("machine-id"), second.output("machine-id"));
        assert_eq!(first.output("machine-id").len(), 32, "{first}");
    }

    /// `make boot` for somebody who types: root's shell on the console, and a node to look at.
    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn make_boot_leaves_root_at_the_console_of_a_ready_node() {
        let mut boot = Command::new(repository().join("tests/lab/boot"));
        boot.env("NODEBAKE", static_binary("x86_64-unknown-linux-musl"));
        boot.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut boot = boot.spawn().unwrap();
        let typed = "
            systemctl is-active containerd
            ctr -n k8s.io images import pause.tar
            nodebake verify --root / --live --pod
            echo \"code=$?\"
        ";
        boot.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let console = text(expect(0, boot.wait_with_output().unwrap()));
        let said = |line: &str| console.lines().any(|found| found.trim() == line);
        assert!(said("active") && said("/: verified") && said("code=0"), "{console}");
    }
}
