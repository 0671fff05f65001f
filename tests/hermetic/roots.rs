//! Rows R1 to R20 of the test matrix, and the contract around them: hostile and unusual roots,
//! idempotence, reproducibility, remove, drift, locks, several roots. Every test ends by comparing
//! the host's sentinel with what it was (see `Lab`).

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags, makedev, mknodat, renameat_with, setxattr};

use crate::kit;
use crate::kit::{CNI, CONTAINERD, Lab, Machine, Member, RUNC, Run};
use crate::kit::{
    StopOnDrop, acl, assert_same, cni_members, elf, executable, gzip, link, make_dir, mode, own, strace,
    strace_works, tar, times, tree, write,
};

/// A refusal, or anything else that must not hang.
const AT_ONCE: Duration = Duration::from_secs(5);

const RUNC_PATH: &str = "/usr/local/sbin/runc";
const CONFIG: &str = "/etc/containerd/config.toml";
const ENABLEMENT: &str = "/etc/systemd/system/multi-user.target.wants/containerd.service";
const RECEIPT: &str = "/var/lib/nodebake/receipt.json";

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

// ---------------------------------------------------------------- R11: races

#[test]
fn r11_race_of_directories_and_links_never_escapes() {
    let lab = Lab::new();
    make_dir(&lab.path("usr/local"));
    link(lab.host.join("etc"), &lab.path("etc.evil"));
    link("../../host/usr/local", &lab.path("usr/local.evil"));
    // Held open, because by name it may be the host's at any moment.
    let etc = fs::File::open(lab.path("etc")).unwrap();
    let stop = AtomicBool::new(false);
    let mut odd = Vec::new();
    thread::scope(|scope| {
        let end = StopOnDrop(&stop);
        for place in ["etc", "usr/local"] {
            let (real, evil) = (lab.path(place), lab.path(&format!("{place}.evil")));
            let stop = &stop;
            scope.spawn(move || exchange(&real, &evil, stop));
        }
        let started = Instant::now();
        for round in 0..200 {
            let run = lab.apply();
            if !matches!(run.code, Some(0 | 6)) {
                odd.push(format!("round {round}: {run}"));
            }
            // Otherwise the first success would leave nothing to write.
            let _ = fs::remove_dir_all(format!("/proc/self/fd/{}/containerd", etc.as_raw_fd()));
        }
        drop(end);
        assert!(started.elapsed() < Duration::from_secs(120), "200 runs took {:?}", started.elapsed());
    });
    lab.host_is_untouched();
    lab.apply().exits(0);
    lab.has_no_leftovers();
    lab.verify().exits(0);
    assert!(
        odd.is_empty(),
        "{} of 200 runs ended neither with 0 nor with 6, the first:\n{}",
        odd.len(),
        odd[0]
    );
}

/// Swaps the directory and the link and back again, so that it ends as it began.
fn exchange(real: &Path, evil: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..2 {
            renameat_with(CWD, real, CWD, evil, RenameFlags::EXCHANGE).unwrap();
        }
        thread::sleep(Duration::from_micros(100));
    }
}

// ---------------------------------------------------------------- R12 to R15: kernels and mounts

#[test]
fn r12_without_openat2_the_result_is_the_same() {
    let expected = baked().tree();
    for error in ["ENOSYS", "EPERM"] {
        let Some(inject) = injector(error) else {
            return;
        };
        let lab = Lab::new();
        lab.apply_under(&inject).exits(0);
        assert_same("the root", &expected, &lab.tree());
    }
}

#[test]
fn r12_without_openat2_links_within_the_root_are_followed() {
    let Some(inject) = injector("ENOSYS") else {
        return;
    };
    for target in ["/var/usrlocal", "../var/usrlocal"] {
        let lab = Lab::new();
        make_dir(&lab.path("var/usrlocal"));
        link(target, &lab.path("usr/local"));
        lab.apply_under(&inject).exits(0);
        assert!(lab.path("var/usrlocal/sbin/runc").is_file(), "{}", lab.tree());
    }
}

#[test]
fn r12_without_openat2_nothing_escapes() {
    for error in ["ENOSYS", "EPERM"] {
        let Some(inject) = injector(error) else {
            return;
        };
        let hostile: [(&str, Target); 5] = [
            ("etc", |lab| lab.host.join("etc")),
            ("etc", |_| "../../host/etc".into()),
            ("usr/local", |lab| lab.host.join("usr/local")),
            ("opt", |lab| format!("/proc/1/root{}", lab.host.display()).into()),
            ("etc/containerd", |_| "containerd".into()),
        ];
        for (place, target) in hostile {
            let lab = Lab::new();
            link(target(&lab), &lab.path(place));
            let before = lab.tree();
            lab.apply_under(&inject).exits(6).says(place);
            assert_same("the root", &before, &lab.tree());
        }
    }
}

#[test]
fn r13_endless_eagain_ends() {
    let Some(inject) = injector("EAGAIN") else {
        return;
    };
    let lab = Lab::new();
    let before = lab.tree();
    lab.apply_under(&inject).exits(7).within(Duration::from_secs(10));
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn r14_empty_chroot_without_proc_is_baked() {
    let lab = Lab::new();
    let jail = jail(&lab);
    let run = kit::run(lab.wrapped(["chroot", &kit::text(&jail)]).args(IN_JAIL));
    run.exits(0);
    let baked = tree(&jail);
    for line in [
        "-rwxr-xr-x root:root usr/local/sbin/runc sha256:",
        "drwxr-xr-x root:root etc/cni/net.d\n",
        "-rw-r--r-- root:root var/lib/nodebake/receipt.json",
    ] {
        assert!(baked.contains(line), "no `{line}` in\n{baked}");
    }
    assert!(!jail.join("proc").exists(), "{baked}");
    let again = kit::run(lab.wrapped(["chroot", &kit::text(&jail)]).args(IN_JAIL));
    again.exits(0);
    assert_same("the jail after a second run", &baked, &tree(&jail));
}

#[test]
fn r14_fallback_without_proc_is_unsupported() {
    let Some(inject) = injector("ENOSYS") else {
        return;
    };
    let lab = Lab::new();
    let jail = jail(&lab);
    let before = tree(&jail);
    let mut command = lab.wrapped(&inject);
    let run = kit::run(command.arg("chroot").arg(&jail).args(IN_JAIL));
    run.exits(9).says("/proc");
    assert_same("the jail", &before, &tree(&jail));
}

#[test]
fn r15_mount_point_below_the_root_is_used_and_reported() {
    if !mounts_work() {
        return;
    }
    let lab = Lab::new();
    let (volume, mount) = volume(&lab);
    let run = mounted(&lab, &mount);
    run.exits(0).says("/usr/local");
    assert!(run.errors().contains("mount"), "the mount point is not reported\n{run}");
    assert!(
        volume.join("sbin/runc").is_file() && volume.join("bin/containerd").is_file(),
        "{}",
        tree(&volume)
    );
    assert!(!tree(&volume).contains(".nodebake-"), "{}", tree(&volume));
}

/// A mount point can't be taken away: `remove` leaves it empty, says so and has done its work.
#[test]
fn r15_state_on_a_mount_of_its_own_is_emptied() {
    if !mounts_work() {
        return;
    }
    for mount in ["mount -t tmpfs none", "mount --bind $PWD/volume"] {
        let lab = Lab::new();
        make_dir(&lab.dir.join("volume"));
        make_dir(&lab.path("var/lib/nodebake"));
        let before = lab.tree();
        let (root, spec) = (lab.root.display(), lab.spec.display());
        let nodebake = kit::NODEBAKE;
        let script = format!(
            "cd {}; {mount} {root}/var/lib/nodebake; {nodebake} apply --root {root} --spec {spec} >&2
            {nodebake} remove --root {root}; {nodebake} remove --root {root} >&2
            ls -A {root}/var/lib/nodebake >left",
            lab.dir.display()
        );
        let run = kit::run(&mut lab.wrapped(["unshare", "-m", "sh", "-ec", &script]));
        run.exits(0).says("/var/lib/nodebake is a mount point and stays");
        assert_eq!(fs::read_to_string(lab.dir.join("left")).unwrap(), "", "{run}");
        assert_same("the root", &before, &lab.tree());
    }
}

/// Original files cannot be moved off another filesystem, only copied.
#[test]
fn r15_original_on_another_mount_is_put_back() {
    if !mounts_work() {
        return;
    }
    let lab = Lab::new();
    let (volume, mount) = volume(&lab);
    write(&volume.join("sbin/runc"), b"the volume's own runc\n");
    mode(&volume.join("sbin/runc"), 0o700);
    own(&volume.join("sbin/runc"), 3, 4);
    link("/opt/ctr", &volume.join("bin/ctr"));
    let before = [lab.tree(), tree(&volume)];
    mounted(&lab, &mount).exits(0);
    let script = format!("{mount}; exec {} remove --root {}", kit::NODEBAKE, lab.root.display());
    kit::run(&mut lab.wrapped(["unshare", "-m", "sh", "-ec", &script])).exits(0);
    assert_same("the volume", &before[1], &tree(&volume));
    assert_same("the root", &before[0], &lab.tree());
}

// ---------------------------------------------------------------- R16 to R20: which root, and whose

#[test]
fn r16_root_that_is_a_symlink_is_followed() {
    let lab = Lab::new();
    let expected = baked().tree();
    for (name, target) in [("absolute", lab.root.clone()), ("relative", PathBuf::from("root"))] {
        let alias = lab.dir.join(name);
        link(&target, &alias);
        lab.run(["apply"], &alias).exits(0);
        assert!(alias.symlink_metadata().unwrap().is_symlink());
        assert_same("the root", &expected, &lab.tree());
    }
}

#[test]
fn r16_root_that_is_no_directory_is_unsupported() {
    let lab = Lab::new();
    let file = lab.dir.join("file");
    write(&file, b"not a root\n");
    link("nowhere", &lab.dir.join("dangling"));
    fifo(&lab.dir.join("fifo")).unwrap();
    let before = tree(&lab.dir);
    for name in ["missing", "file", "dangling", "fifo", "file/below"] {
        for command in ["apply", "plan"] {
            lab.run([command], &lab.dir.join(name)).exits(9).says(name).within(AT_ONCE);
        }
        for command in ["verify", "remove"] {
            kit::run(lab.command([command, "--root"]).arg(lab.dir.join(name)))
                .exits(9)
                .says(name)
                .within(AT_ONCE);
        }
    }
    assert_same("everything", &before, &tree(&lab.dir));
}

#[test]
fn r16_root_has_no_default() {
    let lab = Lab::new();
    for command in ["apply", "plan"] {
        kit::run(lab.command([command, "--spec"]).arg(&lab.spec)).exits(2).says("--root");
    }
    for command in ["verify", "remove"] {
        kit::run(&mut lab.command([command])).exits(2).says("--root");
    }
}

#[test]
fn r17_split_root_is_baked() {
    let lab = Lab::new();
    for dir in ["bin", "sbin", "lib"] {
        fs::remove_file(lab.path(dir)).unwrap();
        make_dir(&lab.path(dir));
    }
    fs::rename(lab.path("usr/bin/sh"), lab.path("bin/sh")).unwrap();
    lab.apply().exits(0);
    lab.verify().exits(0);
    assert!(lab.path("bin").symlink_metadata().unwrap().is_dir());
    assert_same("what was installed", &installed(&baked().tree()), &installed(&lab.tree()));
}

#[test]
fn r17_empty_root_is_baked_for_the_specs_architecture() {
    let mut lab = Lab::new();
    fs::remove_dir_all(&lab.root).unwrap();
    fs::create_dir(&lab.root).unwrap();
    mode(&lab.root, 0o755);
    let before = lab.tree();
    let unknown = lab.apply();
    assert!(matches!(unknown.code, Some(3 | 9)), "the architecture can't be known\n{unknown}");
    unknown.says("arch");
    assert_same("the root", &before, &lab.tree());

    lab.arch("amd64");
    lab.apply().exits(0);
    let odd: Vec<_> = lab
        .tree()
        .lines()
        .filter(|line| line.starts_with('d') && !line.starts_with("drwxr-xr-x root:root "))
        .map(str::to_owned)
        .collect();
    assert_eq!(odd, ["drwx------ root:root var/lib/containerd"], "directories with another mode or owner");
    lab.verify().exits(0);
    lab.remove().exits(0);
    assert_same("the root after remove", &before, &lab.tree());
}

#[test]
fn r18_umask_changes_nothing() {
    let expected = baked().tree();
    for umask in ["077", "027", "000", "777"] {
        let lab = Lab::new();
        lab.apply_under(["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"]).exits(0);
        assert_same(&format!("the root under umask {umask}"), &expected, &lab.tree());
    }
}

#[test]
fn r18_modes_are_the_contracts() {
    let lab = baked();
    let tree = lab.tree();
    for line in [
        "-rwxr-xr-x root:root usr/local/bin/containerd sha256:",
        "-rwxr-xr-x root:root usr/local/bin/containerd-shim-runc-v2 sha256:",
        "-rwxr-xr-x root:root usr/local/bin/ctr sha256:",
        "-rwxr-xr-x root:root usr/local/sbin/runc sha256:",
        "-rwxr-xr-x root:root opt/cni/bin/bridge sha256:",
        "-rwxr-xr-x root:root opt/cni/bin/host-local sha256:",
        "-rwxr-xr-x root:root opt/cni/bin/loopback sha256:",
        "-rwxr-xr-x root:root opt/cni/bin/portmap sha256:",
        "-rw-r--r-- root:root usr/local/lib/systemd/system/containerd.service sha256:",
        "-rw-r--r-- root:root etc/systemd/system-preset/10-nodebake.preset sha256:",
        "lrwxrwxrwx root:root etc/systemd/system/multi-user.target.wants/containerd.service -> /usr/local/lib/systemd/system/containerd.service\n",
        "-rw-r--r-- root:root etc/containerd/config.toml sha256:",
        "-rw-r--r-- root:root etc/modules-load.d/nodebake.conf sha256:",
        "-rw-r--r-- root:root etc/sysctl.d/90-nodebake.conf sha256:",
        "-rw-r--r-- root:root etc/crictl.yaml sha256:",
        "drwxr-xr-x root:root etc/cni/net.d\n",
        "drwx------ root:root var/lib/containerd\n",
        "-rw-r--r-- root:root var/lib/nodebake/receipt.json sha256:",
    ] {
        assert!(tree.contains(&format!("\n{line}")), "no line `{}` in\n{tree}", line.trim_end());
    }
    assert!(!tree.contains("LICENSE") && !tree.contains("README"), "{tree}");
}

#[test]
fn r19_setgid_and_sticky_parents_change_nothing_below() {
    let lab = Lab::new();
    for (dir, bits) in
        [("usr/local", 0o2775), ("opt", 0o1777), ("etc/containerd", 0o2770), ("var/lib", 0o2755)]
    {
        make_dir(&lab.path(dir));
        own(&lab.path(dir), 0, 50);
        mode(&lab.path(dir), bits);
    }
    lab.apply().exits(0);
    let ours = |tree: &str| -> String {
        let theirs = [
            " usr/local\n",
            " opt\n",
            " etc/containerd\n",
            " var/lib\n",
            " var/lib/nodebake/receipt.json sha256:",
        ];
        tree.lines()
            .map(|line| format!("{line}\n"))
            .filter(|line| !theirs.iter().any(|end| line.contains(end)))
            .collect()
    };
    assert_same("what was created", &ours(&baked().tree()), &ours(&lab.tree()));
    for line in
        ["drwxrwsr-x root:50 usr/local\n", "drwxrwxrwt root:50 opt\n", "drwxrws--- root:50 etc/containerd\n"]
    {
        assert!(lab.tree().contains(line), "changed: {line}\n{}", lab.tree());
    }
}

#[test]
fn r19_default_acl_changes_no_mode() {
    let lab = Lab::new();
    make_dir(&lab.path("opt"));
    for dir in ["etc", "usr", "opt", "var/lib"] {
        if let Err(error) =
            setxattr(lab.path(dir), "system.posix_acl_default", &acl([7, 7, 7, 7]), XattrFlags::empty())
        {
            return kit::skip(&format!("no ACLs here: {error}"));
        }
    }
    lab.apply().exits(0);
    assert_same("what was installed", &installed(&baked().tree()), &installed(&lab.tree()));
}

#[test]
fn r20_root_of_a_user_namespace_works_or_is_unsupported() {
    if !kit::works(["unshare", "-Ur", "true"]) {
        return kit::skip("no user namespaces here");
    }
    let lab = Lab::new();
    let before = lab.tree();
    let run = lab.apply_under(["unshare", "-Ur"]);
    match run.code {
        Some(0) => assert_same("the root", &baked().tree(), &lab.tree()),
        Some(9) => assert_same("the root", &before, &lab.tree()),
        _ => panic!("neither 0 nor 9\n{run}"),
    }
}

#[test]
fn r20_plain_user_is_unsupported() {
    if !kit::works(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"]) {
        return kit::skip("no setpriv here");
    }
    let lab = Lab::new();
    mode(&lab.dir, 0o755);
    // Reachable for nobody, unlike cargo's target directory.
    let binary = lab.dir.join("nodebake");
    executable(&binary, &fs::read(kit::NODEBAKE).unwrap());
    let before = lab.tree();
    let mut command = lab.wrapped(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    kit::run(command.arg(&binary).arg("apply").arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec))
        .exits(9)
        .says("root");
    assert_same("the root", &before, &lab.tree());
}

// ---------------------------------------------------------------- C9: the lock

#[test]
fn c9_held_lock_is_reported_at_once() {
    let lab = Lab::new();
    let lock = lab.hold_lock();
    let before = lab.tree();
    lab.apply().exits(8).says("lock").within(AT_ONCE);
    assert_same("the root", &before, &lab.tree());
    lock.unlock().unwrap();
    lab.apply().exits(0);

    lock.lock().unwrap();
    let before = lab.tree();
    lab.remove().exits(8).within(AT_ONCE);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn c9_lock_that_is_released_in_time_is_waited_for() {
    let lab = Lab::new();
    let lock = lab.hold_lock();
    let run = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(1));
            lock.unlock().unwrap();
        });
        lab.run(["apply", "--lock-timeout", "5"], &lab.root)
    });
    run.exits(0).within(AT_ONCE);
    assert!(run.took > Duration::from_millis(900), "did not wait\n{run}");
}

#[test]
fn c9_lock_that_is_not_released_in_time_is_reported() {
    let lab = Lab::new();
    let _lock = lab.hold_lock();
    let run = lab.run(["apply", "--lock-timeout", "1"], &lab.root);
    run.exits(8).within(AT_ONCE);
    assert!(run.took > Duration::from_millis(900), "did not wait\n{run}");
}

// ---------------------------------------------------------------- C13, C14: twice

#[test]
fn c13_second_run_changes_nothing() {
    let lab = baked();
    let before = (lab.tree(), times(&lab.root));
    lab.plan().exits(0);
    lab.apply().exits(0);
    assert_same("the root", &before.0, &lab.tree());
    let after = times(&lab.root);
    let touched: Vec<_> = before
        .1
        .iter()
        .filter(|(path, times)| after.get(*path) != Some(times))
        .map(|(path, _)| path)
        .collect();
    assert!(touched.is_empty() && after.len() == before.1.len(), "touched: {touched:#?}");
}

#[test]
fn c13_plan_changes_nothing_and_names_every_path() {
    let lab = Lab::new();
    let (before, stamps) = (lab.tree(), times(&lab.root));
    let plan = lab.plan();
    plan.exits(10);
    assert_same("the root", &before, &lab.tree());
    assert_eq!(stamps, times(&lab.root), "plan touched the root");

    lab.apply().exits(0);
    let old: BTreeSet<_> = before.lines().collect();
    for line in lab.tree().lines().filter(|line| !line.starts_with('d') && !old.contains(line)) {
        let path = line.split(' ').nth(2).unwrap();
        let ours = path.starts_with("var/lib/nodebake/");
        assert!(ours || plan.stdout.contains(&format!("/{path}")), "the plan lacks `/{path}`\n{plan}");
    }
}

#[test]
fn c14_two_bakes_of_the_same_inputs_are_identical() {
    let (first, second) = (baked(), baked());
    assert_same("the second root", &first.tree(), &second.tree());
    assert_eq!(first.read(RECEIPT), second.read(RECEIPT));
    assert_eq!(mtimes(&first), mtimes(&second));
    let receipt = String::from_utf8(first.read(RECEIPT)).unwrap();
    assert!(!receipt.contains(&kit::text(&first.dir)), "a path of the build host in the receipt:\n{receipt}");
}

#[test]
fn c14_source_date_epoch_is_the_mtime() {
    let lab = Lab::new();
    let before = kit::paths(&lab.root);
    let run = kit::run(
        lab.command(["apply"])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .arg("--root")
            .arg(&lab.root)
            .arg("--spec")
            .arg(&lab.spec),
    );
    run.exits(0);
    let created: Vec<_> = mtimes(&lab)
        .into_iter()
        .filter(|(path, _)| !before.contains(&lab.path(path)) && !path.starts_with("var/lib/nodebake"))
        .collect();
    assert!(created.len() > 10, "{created:?}");
    let odd: Vec<_> = created.iter().filter(|(_, mtime)| *mtime != (1_700_000_000, 0)).collect();
    assert!(odd.is_empty(), "another mtime: {odd:#?}");
    // The clock is no drift.
    lab.verify().exits(0);
}

#[test]
fn c14_without_source_date_epoch_the_mtime_is_0() {
    let lab = baked();
    for path in [RUNC_PATH, CONFIG, "/usr/local/bin/containerd", "/opt/cni/bin/bridge", "/etc/crictl.yaml"] {
        assert_eq!(lab.path(path).metadata().unwrap().modified().unwrap(), SystemTime::UNIX_EPOCH, "{path}");
    }
}

// ---------------------------------------------------------------- C16: remove

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

// ---------------------------------------------------------------- edits and drift

#[test]
fn contract_apply_saves_an_edited_file_and_says_so() {
    for (path, bits) in [(CONFIG, 0o600), (RUNC_PATH, 0o755), ("/etc/sysctl.d/90-nodebake.conf", 0o644)] {
        let lab = baked();
        let expected = lab.tree();
        write(&lab.path(path), b"edited by hand\n");
        mode(&lab.path(path), bits);
        lab.plan().exits(10).mentions(path);
        lab.apply().exits(0).mentions(path).mentions("/var/lib/nodebake/edited");
        let saved = format!("/var/lib/nodebake/edited{path}");
        assert_eq!(lab.read(&saved), b"edited by hand\n");
        assert_eq!(lab.path(&saved).metadata().unwrap().mode() & 0o7777, bits, "mode of the saved edit");
        let now: String = lab
            .tree()
            .lines()
            .filter(|line| !line.contains("var/lib/nodebake/edited"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_same("everything else", &expected, &now);
        lab.verify().exits(0);
    }
}

#[test]
fn contract_apply_repairs_what_has_no_content_to_save() {
    let damages: [(&str, Damage<Lab>); 4] = [
        ("a deleted file", |lab| fs::remove_file(lab.path(RUNC_PATH)).unwrap()),
        ("another mode", |lab| mode(&lab.path(RUNC_PATH), 0o700)),
        ("a retargeted link", |lab| link("/dev/null", &lab.path(ENABLEMENT))),
        ("a deleted directory", |lab| fs::remove_dir(lab.path("etc/cni/net.d")).unwrap()),
    ];
    for (damage, cause) in damages {
        let lab = baked();
        let expected = installed(&lab.tree());
        cause(&lab);
        lab.plan().exits(10);
        lab.apply().exits(0);
        assert_same(&format!("the root after {damage}"), &expected, &installed(&lab.tree()));
        lab.verify().exits(0);
    }
}

#[test]
fn contract_remove_keeps_and_names_an_edited_file() {
    let lab = baked();
    write(&lab.path(CONFIG), b"edited by hand\n");
    lab.remove().exits(0).mentions(CONFIG);
    assert_eq!(lab.read(CONFIG), b"edited by hand\n");
    assert!(!lab.exists(RUNC_PATH) && !lab.exists(ENABLEMENT), "{}", lab.tree());
}

#[test]
fn contract_verify_without_receipt_is_drift() {
    let lab = Lab::new();
    let before = lab.tree();
    lab.verify().exits(10);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn contract_verify_after_apply_finds_nothing_and_changes_nothing() {
    let lab = baked();
    let before = times(&lab.root);
    lab.verify().exits(0);
    assert_eq!(before, times(&lab.root), "verify touched the root");
}

#[test]
fn contract_verify_names_what_has_drifted() {
    let damages: [(&str, &str, Damage<Path>); 8] = [
        ("one byte", RUNC_PATH, |path| flip_last_byte(path)),
        ("one byte of text", "/etc/crictl.yaml", |path| flip_last_byte(path)),
        ("mode", "/usr/local/bin/containerd", |path| mode(path, 0o775)),
        ("mode of text", CONFIG, |path| mode(path, 0o600)),
        ("deleted", "/opt/cni/bin/loopback", |path| fs::remove_file(path).unwrap()),
        ("deleted link", ENABLEMENT, |path| fs::remove_file(path).unwrap()),
        ("retargeted link", ENABLEMENT, |path| link("/lib/systemd/system/containerd.service", path)),
        ("file moved behind a link", RUNC_PATH, |path| {
            fs::rename(path, path.with_extension("real")).unwrap();
            link("runc.real", path);
        }),
    ];
    for (damage, path, cause) in damages {
        let lab = baked();
        cause(&lab.path(path));
        let before = lab.tree();
        let run = lab.verify();
        assert_eq!(run.code, Some(10), "{damage}\n{run}");
        run.mentions(path);
        assert_same("the root", &before, &lab.tree());
        let json = kit::run(lab.command(["verify", "--json", "--root"]).arg(&lab.root));
        json.exits(10);
        let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert!(document.to_string().contains(path), "{damage}\n{json}");
    }
}

#[test]
fn contract_corrupt_receipt_is_invalid_and_changes_nothing() {
    let lab = baked();
    let good = lab.read(RECEIPT);
    let traversal =
        String::from_utf8(good.clone()).unwrap().replace(RUNC_PATH, "/../../../../../../etc/hostname");
    for bad in [
        &b""[..],
        b"{",
        b"not JSON\n",
        b"[]",
        b"{}",
        b"\xff\xfe",
        &good[..good.len() / 2],
        traversal.as_bytes(),
    ] {
        write(&lab.path(RECEIPT), bad);
        let before = lab.tree();
        for run in [lab.apply(), lab.verify(), lab.remove(), lab.plan()] {
            run.exits(3).says("receipt").is_printable();
        }
        assert_same("the root", &before, &lab.tree());
    }
}

// ---------------------------------------------------------------- several roots

#[test]
fn contract_several_roots_are_as_one() {
    let lab = Lab::new();
    let roots = ["second", "third"].map(|name| lab.another_root(name));
    apply_to(&lab, &[&lab.root, &roots[0], &roots[1]]).exits(0);
    let expected = baked().tree();
    for root in [&lab.root, &roots[0], &roots[1]] {
        assert_same("a root", &expected, &tree(root));
    }
}

#[test]
fn contract_broken_root_does_not_stop_the_others() {
    let expected = baked().tree();
    for broken_first in [false, true] {
        let lab = Lab::new();
        let file = lab.dir.join("file");
        write(&file, b"not a root\n");
        let roots: [&Path; 2] = if broken_first { [&file, &lab.root] } else { [&lab.root, &file] };
        apply_to(&lab, &roots).exits(9).says("file");
        assert_same("the good root", &expected, &lab.tree());
    }
}

#[test]
fn contract_unsafe_root_does_not_stop_the_others() {
    let expected = baked().tree();
    let lab = Lab::new();
    let unsafe_root = lab.another_root("unsafe");
    link(lab.host.join("etc"), &unsafe_root.join("etc"));
    let before = tree(&unsafe_root);
    apply_to(&lab, &[&unsafe_root, &lab.root, &lab.dir.join("missing")]).exits(6);
    assert_same("the good root", &expected, &lab.tree());
    assert_same("the unsafe root", &before, &tree(&unsafe_root));
}

// ---------------------------------------------------------------- what the tests say

/// A fresh lab after one apply.
#[track_caller]
fn baked() -> Lab {
    let lab = Lab::new();
    lab.apply().exits(0);
    lab.has_no_leftovers();
    lab
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

#[track_caller]
fn apply_to(lab: &Lab, roots: &[&Path]) -> Run {
    let mut command = lab.command(["apply", "--spec"]);
    command.arg(&lab.spec);
    for root in roots {
        command.arg("--root").arg(root);
    }
    kit::run(&mut command)
}

/// What nodebake installed, without its own state and without the architecture's shell.
fn installed(tree: &str) -> String {
    let ours = [
        " usr/local",
        " opt",
        " etc/containerd",
        " etc/systemd",
        " etc/modules-load.d",
        " etc/sysctl.d",
        " etc/crictl.yaml",
        " etc/cni",
        " var/lib/containerd",
    ];
    tree.lines()
        .filter(|line| ours.iter().any(|start| line.contains(start)))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Path and mtime of every regular file that was not there before nodebake.
fn mtimes(lab: &Lab) -> Vec<(String, (i64, i64))> {
    let pristine = Lab::new();
    let files = kit::paths(&lab.root).into_iter().filter_map(|path| {
        let meta = path.symlink_metadata().unwrap();
        let inside = kit::text(path.strip_prefix(&lab.root).unwrap());
        (meta.is_file() && !pristine.exists(&inside)).then(|| (inside, (meta.mtime(), meta.mtime_nsec())))
    });
    files.collect()
}

#[track_caller]
fn baked_with_another_plugin() -> Lab {
    let mut lab = Lab::new();
    lab.ship(CNI, &gzip(&tar(&[cni_members(), vec![Member::plugin("./dummy")]].concat())));
    lab.apply().exits(0);
    assert!(lab.exists("opt/cni/bin/dummy"), "{}", lab.tree());
    lab
}

fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

// ---------------------------------------------------------------- fixtures

/// Where a hostile link points, given the lab.
type Target = fn(&Lab) -> PathBuf;

/// What somebody does to a baked root or to one path in it.
type Damage<On> = fn(&On);

type MakeSpecial = fn(&Path) -> std::io::Result<()>;

const SPECIAL: [(&str, MakeSpecial); 4] = [
    ("FIFO", fifo),
    ("socket", socket),
    ("character device", character_device),
    ("block device", block_device),
];

fn fifo(path: &Path) -> std::io::Result<()> {
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::from(0o644), 0)?)
}

fn socket(path: &Path) -> std::io::Result<()> {
    UnixListener::bind(path).map(drop)
}

/// /dev/zero, which never ends.
fn character_device(path: &Path) -> std::io::Result<()> {
    Ok(mknodat(CWD, path, FileType::CharacterDevice, Mode::from(0o644), makedev(1, 5))?)
}

fn block_device(path: &Path) -> std::io::Result<()> {
    Ok(mknodat(CWD, path, FileType::BlockDevice, Mode::from(0o644), makedev(7, 0))?)
}

/// A directory beside the root, and the command that mounts it at the root's /usr/local.
fn volume(lab: &Lab) -> (PathBuf, String) {
    let volume = lab.dir.join("volume");
    make_dir(&volume);
    make_dir(&lab.path("usr/local"));
    let mount = format!("mount --bind {} {}", volume.display(), lab.path("usr/local").display());
    (volume, mount)
}

/// apply in a mount namespace of its own, after `script`.
fn mounted(lab: &Lab, script: &str) -> Run {
    lab.apply_under(["unshare", "-m", "sh", "-ec", &format!("{script}; exec \"$@\""), "sh"])
}

fn mounts_work() -> bool {
    let works = kit::works(["unshare", "-m", "sh", "-ec", "mount --bind /usr /mnt"]);
    if !works {
        kit::skip("no mount namespaces here");
    }
    works
}

/// The words that make every openat2 fail with `error`, if strace can do that here.
fn injector(error: &str) -> Option<Vec<String>> {
    strace_works().then(|| strace(["trace=openat2", &format!("inject=openat2:error={error}")]))
}

const IN_JAIL: [&str; 7] = ["/nodebake", "apply", "--root", "/", "--spec", "/nodebake.yaml", "--offline"];

/// An otherwise empty directory with the binary, what the binary loads, the spec and the artifacts.
fn jail(lab: &Lab) -> PathBuf {
    let jail = lab.dir.join("jail");
    make_dir(&jail);
    let (binary, libraries) = match static_build() {
        Some(binary) => (binary, Vec::new()),
        None => (PathBuf::from(kit::NODEBAKE), libraries()),
    };
    executable(&jail.join("nodebake"), &fs::read(binary).unwrap());
    for library in libraries {
        executable(&jail.join(library.trim_start_matches('/')), &fs::read(&library).unwrap());
    }
    write(
        &jail.join("nodebake.yaml"),
        format!("arch: amd64\n{}", fs::read_to_string(&lab.spec).unwrap()).as_bytes(),
    );
    for artifact in [CONTAINERD, RUNC, CNI] {
        write(
            &jail.join("artifacts").join(artifact.file),
            &fs::read(lab.artifacts.join(artifact.file)).unwrap(),
        );
    }
    jail
}

/// A static build newer than the one under test, if someone made it.
fn static_build() -> Option<PathBuf> {
    let tested = Path::new(kit::NODEBAKE);
    let age = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let target = tested.parent()?.parent()?;
    ["debug", "release"]
        .map(|profile| target.join("x86_64-unknown-linux-musl").join(profile).join("nodebake"))
        .into_iter()
        .find(|path| path.is_file() && age(path) >= age(tested))
}

fn libraries() -> Vec<String> {
    let run = kit::run(std::process::Command::new("ldd").arg(kit::NODEBAKE));
    run.stdout.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}
