//! Links, what blocks a path and what stands in the place of a file (rows R1 to R10).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{AT_ONCE, CONFIG, ENABLEMENT, RECEIPT, RUNC_PATH, SPECIAL, fifo, mounted, mounts_work};
use crate::kit;
use crate::kit::{Lab, Run, assert_same, link, make_dir, write};

// ---------------------------------------------------------------- R1 to R8: links and what blocks

#[test]
fn r1_absolute_link_to_the_host_is_refused() {
    let lab = Lab::new();
    link(lab.host.join("etc"), &lab.path("etc"));
    refused(&lab, 6, "/etc").says("help:");
}

#[test]
fn r1_absolute_link_deep_in_the_root_is_refused() {
    for (place, target) in [
        ("usr/local", "usr/local"),
        ("etc/containerd", "etc/containerd"),
        ("opt/cni", "etc"),
        ("var/lib/nodebake", "root"),
    ] {
        let lab = Lab::new();
        link(lab.host.join(target), &lab.path(place));
        refused(&lab, 6, place);
    }
}

#[test]
fn r2_relative_link_to_the_host_is_refused() {
    for target in ["../../host/etc", "../host/etc", "../../../../../../../../../tmp"] {
        let lab = Lab::new();
        // A root that has /tmp would make the last one a good link.
        fs::remove_dir(lab.path("tmp")).unwrap();
        link(target, &lab.path("etc"));
        refused(&lab, 6, "/etc").says("help:");
    }
}

#[test]
fn r3_absolute_link_within_the_root_is_followed() {
    link_within_the_root("/var/usrlocal");
}

#[test]
fn r4_relative_link_within_the_root_is_followed() {
    link_within_the_root("../var/usrlocal");
}

#[test]
fn r4_link_that_would_leave_stops_at_the_root() {
    link_within_the_root("../../../../../../../../var/usrlocal");
}

#[test]
fn r4_ostree_root_is_warned_that_files_land_in_var() {
    let lab = Lab::new();
    make_dir(&lab.path("sysroot/ostree"));
    link("sysroot/ostree", &lab.path("ostree"));
    make_dir(&lab.path("var/usrlocal"));
    link("../var/usrlocal", &lab.path("usr/local"));
    lab.apply().exits(0).says("/var");
}

#[test]
fn r5_final_symlink_is_replaced() {
    let lab = Lab::new();
    link(lab.host.join("usr/local/bin/containerd"), &lab.path("usr/local/bin/containerd"));
    link(lab.host.join("etc/containerd/config.toml"), &lab.path(CONFIG));
    link("../../../../../host/root/key", &lab.path(RUNC_PATH));
    link("/etc/passwd", &lab.path("etc/crictl.yaml"));
    link("/nowhere/at/all", &lab.path("etc/modules-load.d/nodebake.conf"));
    lab.apply().exits(0);
    for replaced in
        ["usr/local/bin/containerd", CONFIG, RUNC_PATH, "etc/crictl.yaml", "etc/modules-load.d/nodebake.conf"]
    {
        lab.read(replaced);
    }
    assert_eq!(lab.read("etc/passwd"), b"root:x:0:0:root:/root:/bin/sh\n");
    assert!(!lab.exists("nowhere"));
}

/// Whoever may write into the root could also guess the temporary names.
#[test]
fn r5_link_at_a_temporary_name_or_in_the_state_directory_leads_nowhere() {
    let key = |lab: &Lab| lab.host.join("root/key");
    let mut odd = Vec::new();
    for place in [
        "usr/local/sbin/.nodebake-runc.tmp",
        "etc/containerd/.nodebake-config.toml.tmp",
        "var/lib/nodebake/.lock",
        "var/lib/nodebake/pending.json",
        RECEIPT,
    ] {
        let lab = Lab::new();
        link(key(&lab), &lab.path(place));
        let run = lab.apply();
        run.within(AT_ONCE);
        lab.remove().within(AT_ONCE);
        lab.host_is_untouched();
        if !matches!(run.code, Some(0 | 3 | 6)) {
            odd.push(format!("{place}\n{run}"));
        }
    }
    assert!(odd.is_empty(), "neither 0, 3 nor 6: {}", odd.join("\n"));
}

#[test]
fn r6_symlink_loop_is_refused() {
    let lab = Lab::new();
    link("b", &lab.path("etc/containerd"));
    link("containerd", &lab.path("etc/b"));
    refused(&lab, 6, "/etc/containerd");

    let lab = Lab::new();
    link("local", &lab.path("usr/local"));
    refused(&lab, 6, "/usr/local");
}

#[test]
fn r7_magic_link_is_refused() {
    let lab = Lab::new();
    link(format!("/proc/1/root{}", lab.host.join("etc").display()), &lab.path("etc"));
    refused(&lab, 6, "/etc");
}

#[test]
fn r7_magic_link_is_refused_where_the_root_has_proc() {
    if !mounts_work() {
        return;
    }
    // A sandbox may hide the first process even from root; the run's own root it cannot hide.
    let readable = fs::read_link("/proc/1/root").is_ok();
    for process in ["self", "1"].into_iter().filter(|process| readable || *process == "self") {
        for place in ["etc", "usr/local", "opt"] {
            let lab = Lab::new();
            make_dir(&lab.path("proc"));
            link(format!("/proc/{process}/root{}", lab.host.join("etc").display()), &lab.path(place));
            let before = lab.tree();
            mounted(&lab, &format!("mount -t proc proc {}", lab.path("proc").display())).exits(6).says(place);
            assert_same("the root", &before, &lab.tree());
        }
    }
}

#[test]
fn r8_parent_that_is_no_directory_is_refused() {
    for place in ["etc/containerd", "usr/local", "opt/cni/bin", "etc/systemd", "var/lib/nodebake"] {
        let lab = Lab::new();
        write(&lab.path(place), b"in the way\n");
        refused(&lab, 6, place);
    }
}

#[test]
fn r8_final_path_that_is_a_directory_is_refused() {
    for place in [RUNC_PATH, CONFIG, "/usr/local/bin/containerd", ENABLEMENT, "/opt/cni/bin/bridge"] {
        let empty = Lab::new();
        make_dir(&empty.path(place));
        refused(&empty, 6, place);

        let full = Lab::new();
        write(&full.path(place).join("file"), b"someone's\n");
        refused(&full, 6, place);
    }
}

#[test]
fn r8_dangling_parent_is_refused_and_its_target_not_created() {
    for (place, target) in [
        ("usr/local", "/var/usrlocal"),
        ("etc/containerd", "../srv/containerd"),
        ("opt", "/srv/opt"),
        ("var/lib/containerd", "/srv/containerd"),
    ] {
        let lab = Lab::new();
        link(target, &lab.path(place));
        refused(&lab, 6, place);
        assert!(!lab.exists("var/usrlocal") && !lab.exists("srv"), "{}", lab.tree());
    }
}

// ---------------------------------------------------------------- R9, R10: what stands there

#[test]
fn r9_fifo_socket_or_device_is_replaced_and_never_opened() {
    for place in [RUNC_PATH, CONFIG, "/etc/crictl.yaml", "/opt/cni/bin/bridge", ENABLEMENT] {
        for (name, make) in SPECIAL {
            let lab = Lab::new();
            make_dir(lab.path(place).parent().unwrap());
            if let Err(error) = make(&lab.path(place)) {
                kit::skip(&format!("no {name} here: {error}"));
                continue;
            }
            lab.plan().within(AT_ONCE).exits(10);
            lab.apply().within(AT_ONCE).exits(0);
            let meta = lab.path(place).symlink_metadata().unwrap();
            assert!(meta.is_file() || meta.is_symlink(), "{name} at {place}:\n{}", lab.tree());
            lab.verify().within(AT_ONCE).exits(0);
        }
    }
}

#[test]
fn r9_fifo_in_place_of_an_owned_file_hangs_nothing() {
    let lab = Lab::new();
    lab.apply().exits(0);
    fs::remove_file(lab.path(CONFIG)).unwrap();
    fifo(&lab.path(CONFIG)).unwrap();
    lab.verify().within(AT_ONCE).exits(10).mentions(CONFIG);
    lab.apply().within(AT_ONCE).exits(0);
    lab.verify().exits(0);
}

#[test]
fn r9_fifo_in_place_of_the_receipt_hangs_nothing() {
    let lab = Lab::new();
    make_dir(&lab.path("var/lib/nodebake"));
    fifo(&lab.path(RECEIPT)).unwrap();
    // Without a receipt that can be read, verify finds drift or an invalid receipt; apply may also
    // replace it, as any other path.
    for (run, expected) in [(lab.verify(), [3, 6, 10]), (lab.remove(), [0, 3, 6]), (lab.apply(), [0, 3, 6])] {
        run.within(AT_ONCE);
        assert!(expected.map(Some).contains(&run.code), "none of {expected:?}\n{run}");
    }
}

#[test]
fn r10_hard_link_to_a_host_file_gets_a_new_inode() {
    let lab = Lab::new();
    let theirs = lab.host.join("usr/local/bin/containerd");
    for ours in ["usr/local/bin/containerd", CONFIG, RUNC_PATH] {
        make_dir(lab.path(ours).parent().unwrap());
        fs::hard_link(&theirs, lab.path(ours)).unwrap();
    }
    lab.apply().exits(0);
    for ours in ["usr/local/bin/containerd", CONFIG, RUNC_PATH] {
        assert_ne!(
            lab.path(ours).symlink_metadata().unwrap().ino(),
            theirs.symlink_metadata().unwrap().ino()
        );
    }
    lab.host_is_untouched();
    lab.remove().exits(0);
}

/// apply is refused at once, names `place`, and leaves the root exactly as it was.
#[track_caller]
fn refused(lab: &Lab, code: i32, place: &str) -> Run {
    let before = lab.tree();
    let run = lab.apply();
    run.exits(code).says(place).within(AT_ONCE);
    assert_same("the root", &before, &lab.tree());
    run
}

/// /usr/local is a link to /var/usrlocal in the root: everything lands there.
#[track_caller]
fn link_within_the_root(target: &str) {
    let lab = Lab::new();
    make_dir(&lab.path("var/usrlocal"));
    link(target, &lab.path("usr/local"));
    let before = lab.tree();
    lab.apply().exits(0);
    for file in ["sbin/runc", "bin/containerd", "lib/systemd/system/containerd.service"] {
        let meta = lab.path("var/usrlocal").join(file).symlink_metadata();
        assert!(meta.is_ok_and(|meta| meta.is_file()), "no {file} in\n{}", lab.tree());
    }
    assert_eq!(fs::read_link(lab.path("usr/local")).unwrap(), Path::new(target));
    assert!(!Path::new("/var/usrlocal").exists(), "written to the host's /var");
    lab.verify().exits(0);
    lab.remove().exits(0);
    assert_same("the root after remove", &before, &lab.tree());
}
