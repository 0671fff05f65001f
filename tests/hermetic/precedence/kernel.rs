//! Kernel parameters and modules.

use std::fs;
use std::time::Duration;

use super::{document, is_noticed, is_silent, noticed, silent, with};

use crate::kit::{link, write};

/// More than a run of the unoptimised binary on a loaded machine needs.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn w5_a_parameter_that_a_later_file_sets_is_noticed() {
    for (file, line) in [
        ("etc/sysctl.d/99-cis.conf", "net.ipv4.ip_forward = 0"),
        ("etc/sysctl.d/99-cis.conf", "net/ipv4/ip_forward=0"),
        ("etc/sysctl.d/99-cis.conf", "-net.ipv4.ip_forward=0"),
        ("usr/lib/sysctl.d/95-vendor.conf", "net.bridge.bridge-nf-call-iptables = 0"),
        ("usr/local/lib/sysctl.d/91.conf", "net.ipv4.conf.all.forwarding = 0"),
        ("run/sysctl.d/99.conf", "net.ipv4.conf.*.forwarding = 0"),
        ("etc/sysctl.d/99-cis.conf", "-net.ipv4.ip_forward"),
    ] {
        let text = format!("# required\n\n{line}\n");
        is_noticed(&[(file, &text)], &[&format!("/{file}:3"), "90-nodebake.conf"]);
    }
    let files = [("etc/sysctl.conf", "net.ipv4.ip_forward=0\n")];
    let lab = with(&files);
    link("../sysctl.conf", &lab.path("etc/sysctl.d/99-sysctl.conf"));
    noticed(&lab, &["/etc/sysctl.d/99-sysctl.conf:1", "`net.ipv4.ip_forward` to `0`"]);
}

#[test]
fn w5_a_parameter_that_is_ours_at_last_is_not_noticed() {
    is_silent(&[
        ("etc/sysctl.d/10-early.conf", "net.ipv4.ip_forward = 0\nnet.ipv4.conf.all.forwarding = 0\n"),
        ("etc/sysctl.d/99-same.conf", "net/ipv4/ip_forward=1\n"),
        ("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n"),
        ("usr/lib/sysctl.d/99-protect-links.conf", "fs.protected_fifos = 1\n# Soci\u{e9}t\u{e9}\n"),
        ("etc/sysctl.d/99-pattern.conf", "net.ipv4.ip_forwar? = 0\nnet.bridge.* = 0\n"),
        ("etc/sysctl.d/README", "net.ipv4.ip_forward = 0\n"),
        ("etc/sysctl.conf", "# net.ipv4.ip_forward=0\n"),
    ]);
    let hidden = with(&[("usr/lib/sysctl.d/99-cis.conf", "net.ipv4.ip_forward = 0\n")]);
    link("/dev/null", &hidden.path("etc/sysctl.d/99-cis.conf"));
    silent(&hidden);
}

/// systemd does not read /etc/sysctl.conf, but `sysctl --system` does.
#[test]
fn w5_a_parameter_of_sysctl_conf_alone_is_told_and_no_finding() {
    let lab = with(&[("etc/sysctl.conf", "\nnet.ipv4.ip_forward=0\n")]);
    lab.apply().exits(0).says("/etc/sysctl.conf:2").says("sysctl --system");
    lab.verify().exits(0);
}

#[test]
fn w5_a_finding_has_its_line_in_json() {
    let lab = with(&[("etc/sysctl.d/99-cis.conf", "\nnet.ipv4.ip_forward=0\n")]);
    lab.apply().exits(0);
    let finding = document(&lab)["findings"][0].clone();
    assert_eq!(finding["check"], "sysctl");
    assert_eq!((&finding["path"], &finding["line"]), (&"/etc/sysctl.d/99-cis.conf".into(), &2.into()));
}

#[test]
fn w5_a_module_that_modprobe_does_not_load_is_noticed() {
    for (file, line) in [
        ("etc/modprobe.d/overlay.conf", "install overlay /bin/false"),
        ("usr/lib/modprobe.d/cis.conf", "install overlay \\\n /usr/sbin/nologin"),
        ("etc/modprobe.d/cis.conf", "blacklist br-netfilter"),
        ("usr/local/lib/modprobe.d/cis.conf", "install br_* /bin/true"),
        ("etc/modprobe.d/cis.conf", "alias overlay off"),
    ] {
        is_noticed(&[(file, &format!("# CIS\n{line}\n"))], &[&format!("/{file}:2"), "module"]);
    }
    is_silent(&[
        ("etc/modprobe.d/cis.conf", "blacklist overlayfs\ninstall cramfs /bin/false\n# blacklist overlay\n"),
        (
            "usr/lib/modprobe.d/10.conf",
            "install overlay /sbin/modprobe --ignore-install overlay $CMDLINE_OPTS\n",
        ),
        ("usr/lib/modprobe.d/20.conf", "install overlay /bin/false\n"),
        ("usr/lib/modprobe.d/aliases.conf", "alias block-major-2-* floppy\noptions overlay metacopy=off\n"),
    ]);
}

/// depmod writes modules.dep, the kernel's build modules.builtin.
#[test]
fn w5_a_kernel_without_a_module_is_noticed() {
    const DEP: &str = "usr/lib/modules/6.1.0-1/modules.dep";
    const BUILTIN: &str = "usr/lib/modules/6.1.0-1/modules.builtin";
    let overlay = ("usr/lib/modules/6.1.0-1/kernel/fs/overlay.ko.xz", "");
    let bridge = ("usr/lib/modules/6.1.0-1/kernel/net/br_netfilter.ko", "");
    let both = "kernel/fs/overlay.ko.xz:\nkernel/net/br_netfilter.ko: kernel/net/bridge.ko\n";
    is_silent(&[(DEP, both), overlay, bridge]);
    is_silent(&[(DEP, ""), (BUILTIN, "kernel/fs/overlay.ko\nkernel/net/br_netfilter.ko\n")]);
    // What is left of a kernel that was removed.
    is_silent(&[("usr/lib/modules/5.0/updates/own.ko", "")]);
    is_noticed(
        &[(DEP, "kernel/fs/overlay.ko.xz:\n"), overlay],
        &["6.1.0-1", "br_netfilter", "kernel-modules-extra"],
    );
    is_noticed(&[(DEP, both), bridge], &["/usr/lib/modules/6.1.0-1/modules.dep:1", "overlay", "depmod"]);
    is_noticed(&[overlay, bridge], &["6.1.0-1", "no modules.dep", "depmod"]);
    // Of two kernels the one that lacks it.
    let older = ("usr/lib/modules/5.9.0-2/modules.dep", "kernel/fs/overlay.ko:\n");
    let file = ("usr/lib/modules/5.9.0-2/kernel/fs/overlay.ko", "");
    is_noticed(&[(DEP, both), overlay, bridge, older, file], &["5.9.0-2", "br_netfilter"]);
}

#[test]
fn w5_a_mask_of_what_sets_the_kernel_up_is_noticed() {
    for unit in ["systemd-sysctl.service", "systemd-modules-load.service"] {
        let lab = with(&[(&format!("usr/lib/systemd/system/{unit}"), "[Service]\n")]);
        link("/dev/null", &lab.path(&format!("etc/systemd/system/{unit}")));
        noticed(&lab, &[&format!("/etc/systemd/system/{unit}"), "masks"]);
    }
}

/// Time and memory are those of every run of a test; see `kit::MEMORY`.
#[test]
fn w5_hostile_files_of_the_kernel_take_no_time() {
    let lab = with(&[("etc/sysctl.d/99.conf", &"net.ipv4.conf.*?*?*?.forwarding = 1\n".repeat(20_000))]);
    fs::write(lab.path("etc/sysctl.d/a\u{1b}[2Jb.conf"), "net.ipv4.ip_forward=0\n").unwrap();
    lab.apply().exits(0).is_printable();
    lab.verify().exits(0).within(SOON);
    let many: String = (0..120_000).map(|n| format!("a{n}=\n")).collect();
    write(&lab.path("etc/sysctl.d/99.conf"), many.as_bytes());
    let pattern = format!("install {} /bin/false\n", "*?".repeat(100)).repeat(4000);
    write(&lab.path("etc/modprobe.d/99.conf"), pattern.as_bytes());
    let many: String = (0..300_000).map(|n| format!("{n}.ko:\n")).collect();
    for kernel in 0..3 {
        write(&lab.path(&format!("usr/lib/modules/{kernel}/modules.dep")), many.as_bytes());
        write(&lab.path(&format!("usr/lib/modules/{kernel}/modules.builtin")), many.as_bytes());
    }
    lab.verify().exits(10).within(SOON);
    // More than any distribution has.
    write(&lab.path("etc/sysctl.d/98.conf"), &b"a=1\n".repeat(600_000));
    lab.verify().exits(10).mentions("98.conf").mentions("more than").within(SOON);
}

/// Directories and files that no boot could read either.
#[test]
fn w5_what_can_not_be_read_stops_neither_a_bake_nor_a_check() {
    let lab = with(&[("etc/modprobe.d", "a file\n"), ("usr/local/lib/systemd/x", ""), ("etc/fstab/x", "")]);
    link("loop", &lab.path("usr/lib/sysctl.d/loop"));
    link("loop", &lab.path("usr/lib/modules"));
    link("../systemd/system.control", &lab.path("etc/systemd/system.control"));
    link("missing", &lab.path("etc/sysctl.d/99-dangling.conf"));
    link("99-loop.conf", &lab.path("etc/sysctl.d/99-loop.conf"));
    lab.apply().exits(0).says("/etc/modprobe.d` is not read");
    lab.verify().exits(10).mentions("/etc/modprobe.d: is not read");
    lab.remove().exits(0);
}
