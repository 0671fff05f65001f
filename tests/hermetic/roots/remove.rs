//! `remove` and upgrades: what was there comes back (row C16).

use super::{AT_ONCE, CONFIG, ENABLEMENT, RUNC_PATH, SPECIAL, baked};
use crate::kit;
use crate::kit::{
    CNI, Lab, Machine, Member, RUNC, assert_same, cni_members, elf, executable, gzip, link, make_dir, mode,
    own, tar, write,
};

#[test]
fn c16_remove_restores_the_tree() {
    let lab = Lab::new();
    let before = lab.tree();
    lab.apply().exits(0);
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn c16_remove_puts_back_what_was_there() {
    let lab = Lab::new();
    write(&lab.path(CONFIG), b"version = 2 # mine\n");
    mode(&lab.path(CONFIG), 0o640);
    own(&lab.path(CONFIG), 5, 6);
    mode(&lab.path("etc/containerd"), 0o711);
    write(&lab.path("etc/containerd/certs.d/docker.io/hosts.toml"), b"# mine\n");
    executable(&lab.path(RUNC_PATH), b"#!/bin/sh\n# mine\n");
    link("/opt/ctr", &lab.path("usr/local/bin/ctr"));
    link("/lib/systemd/system/containerd.service", &lab.path(ENABLEMENT));
    write(&lab.path("opt/cni/bin/flannel"), b"someone else's\n");
    write(&lab.path("etc/cni/net.d/10-mine.conflist"), b"{}\n");
    let before = lab.tree();
    lab.apply().exits(0);
    assert_eq!(lab.read("var/lib/nodebake/original/etc/containerd/config.toml"), b"version = 2 # mine\n");
    // A second run must not take its own files for the originals.
    lab.apply().exits(0);
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn c16_remove_puts_back_the_time_of_an_original() {
    let lab = Lab::new();
    write(&lab.path(CONFIG), b"version = 2 # mine\n");
    let before = lab.path(CONFIG).metadata().unwrap().modified().unwrap();
    lab.apply().exits(0);
    lab.remove().exits(0);
    assert_eq!(before, lab.path(CONFIG).metadata().unwrap().modified().unwrap());
}

#[test]
fn c16_remove_puts_back_special_files() {
    for (name, make) in SPECIAL {
        let lab = Lab::new();
        make_dir(lab.path(CONFIG).parent().unwrap());
        if let Err(error) = make(&lab.path(CONFIG)) {
            kit::skip(&format!("no {name} here: {error}"));
            continue;
        }
        let before = lab.tree();
        lab.apply().exits(0);
        lab.remove().within(AT_ONCE).exits(0);
        assert_same(&format!("the root with a {name}"), &before, &lab.tree());
    }
}

/// Directories that stood there before keep their mode, or get it back.
#[test]
fn c16_remove_puts_back_the_mode_of_a_directory() {
    let lab = Lab::new();
    make_dir(&lab.path("var/lib/containerd"));
    mode(&lab.path("var/lib/containerd"), 0o711);
    make_dir(&lab.path("etc/cni/net.d"));
    mode(&lab.path("etc/cni/net.d"), 0o700);
    let before = lab.tree();
    lab.apply().exits(0);
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn c16_remove_keeps_directories_that_others_use() {
    let lab = baked();
    write(&lab.path("opt/cni/bin/flannel"), b"came later\n");
    write(&lab.path("var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"), b"state\n");
    lab.remove().exits(0);
    assert_eq!(lab.read("opt/cni/bin/flannel"), b"came later\n");
    assert_eq!(lab.read("var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"), b"state\n");
    assert!(
        !lab.exists("opt/cni/bin/bridge") && !lab.exists("usr/local") && !lab.exists("var/lib/nodebake"),
        "{}",
        lab.tree()
    );
}

#[test]
fn c16_remove_then_apply_is_as_if_never_removed() {
    let lab = baked();
    let first = lab.tree();
    lab.remove().exits(0);
    lab.apply().exits(0);
    assert_same("the root", &first, &lab.tree());
}

#[test]
fn c16_remove_without_receipt_does_nothing() {
    let lab = Lab::new();
    let before = lab.tree();
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn c16_upgrade_sweeps_what_is_no_longer_planned() {
    let mut lab = baked_with_another_plugin();
    lab.ship(CNI, &gzip(&tar(&cni_members())));
    lab.apply().exits(0).mentions("/opt/cni/bin/dummy");
    assert_same("the upgraded root against a fresh one", &baked().tree(), &lab.tree());
    lab.verify().exits(0);
}

#[test]
fn c16_upgrade_keeps_an_unplanned_file_that_was_edited() {
    let mut lab = baked_with_another_plugin();
    executable(&lab.path("opt/cni/bin/dummy"), b"patched by hand\n");
    lab.ship(CNI, &gzip(&tar(&cni_members())));
    lab.apply().exits(0).mentions("/opt/cni/bin/dummy");
    assert_eq!(lab.read("opt/cni/bin/dummy"), b"patched by hand\n");
}

#[test]
fn c16_remove_after_an_upgrade_puts_back_the_first_original() {
    let mut lab = Lab::new();
    executable(&lab.path(RUNC_PATH), b"the distribution's runc\n");
    let before = lab.tree();
    lab.apply().exits(0);
    lab.ship(RUNC, &elf(Machine::X86_64, b"another runc"));
    lab.apply().exits(0);
    assert_eq!(lab.read(RUNC_PATH), elf(Machine::X86_64, b"another runc"));
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
}

#[track_caller]
fn baked_with_another_plugin() -> Lab {
    let mut lab = Lab::new();
    lab.ship(CNI, &gzip(&tar(&[cni_members(), vec![Member::plugin("./dummy")]].concat())));
    lab.apply().exits(0);
    assert!(lab.exists("opt/cni/bin/dummy"), "{}", lab.tree());
    lab
}
