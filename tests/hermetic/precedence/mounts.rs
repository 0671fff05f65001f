//! Mounts of the boot.

use super::{is_refused, silent, with};

use crate::kit::{Lab, NODEBAKE, Run, link, run, skip, works, write};

/// Mounts tmpfs at a path of the root and runs nodebake there, in a mount namespace of its own.
fn while_mounted(lab: &Lab, point: &str, words: &str) -> Run {
    let script = format!(
        "mkdir -p \"$ROOT{point}\" && mount -t tmpfs tmpfs \"$ROOT{point}\" && \
         for step in {words}; do case $step in verify) \"$0\" verify --root \"$ROOT\";; \
         fstab) echo '/dev/sdb1 {point} ext4 nofail' > \"$ROOT/etc/fstab\";; \
         *) \"$0\" $step --root \"$ROOT\" --spec \"$SPEC\";; esac || exit; done"
    );
    let mut command = lab.wrapped(["unshare", "-m", "sh", "-c", &script, NODEBAKE]);
    run(command.env("ROOT", &lab.root).env("SPEC", &lab.spec))
}

fn fstab(text: &str) -> Lab {
    with(&[("etc/fstab", text)])
}

#[test]
fn w7_a_mount_that_hides_what_is_baked_is_refused() {
    for (line, point) in [
        ("/dev/sdb1 /opt ext4 defaults 0 2", "/opt"),
        ("/dev/sdb1 /usr/local/ btrfs subvol=/@/usr/local,nofail 0 0", "/usr/local"),
        ("/var/opt /opt none bind 0 0", "/opt"),
        ("server:/x /opt/cni nfs noauto,x-systemd.automount 0 0", "/opt/cni"),
        ("LABEL=usr /usr ext4 x-initrd.mount 0 0", "/usr"),
        ("tmpfs /etc/containerd tmpfs defaults 0 0", "/etc/containerd"),
    ] {
        is_refused(
            &fstab(&format!("# a\n{line}\n")),
            &["/etc/fstab:2` ", &format!("{point} "), "hides", "help: "],
        );
    }
    let help = |lab: &Lab| format!("mount it at {} while baking", lab.root.join("opt").display());
    let lab = fstab("/dev/sdb1 /opt ext4\n");
    is_refused(&lab, &[&help(&lab)]);
    // By a link, at another place of the image.
    let lab = fstab("/dev/sdb1 /var/usrlocal ext4 defaults 0 2\n");
    std::fs::create_dir(lab.path("var/usrlocal")).unwrap();
    link("../var/usrlocal", &lab.path("usr/local"));
    is_refused(&lab, &["mounts /var/usrlocal ", "/usr/local/bin"]);
}

#[test]
fn w7_verify_finds_a_mount_that_hides_what_is_baked() {
    let lab = Lab::new();
    lab.apply().exits(0);
    write(&lab.path("etc/fstab"), b"\n/dev/sdb1 /opt ext4 defaults 0 2\n");
    lab.verify().exits(10).mentions("mounts").mentions("/etc/fstab:2").mentions("/opt/cni/bin");
    lab.remove().exits(0);
}

#[test]
fn w7_a_mount_beside_what_is_baked_is_not_noticed() {
    silent(&fstab(
        "LABEL=cloudimg-rootfs / ext4 discard,commit=30,errors=remount-ro 0 1\n\
         LABEL=BOOT /boot ext4 defaults 0 2\n\
         LABEL=UEFI /boot/efi vfat umask=0077 0 1\n\
         tmpfs /tmp tmpfs rw 0 0\n\
         UUID=1 none swap sw 0 0\n\
         UUID=2 swap swap defaults 0 0\n\
         UUID=3 /home xfs defaults 0 0\n\
         UUID=4 /srv/opt xfs defaults 0 0\n\
         UUID=5 /opt/data xfs defaults 0 0\n\
         UUID=6 /opt ext4 noauto 0 0\n\
         /opt /opt none bind,ro 0 0\n\
         overlay /etc overlay lowerdir=/etc,upperdir=/x,workdir=/y 0 0\n\
         overlay /etc overlay lowerdir=/sysroot/x:/sysroot/etc,upperdir=/sysroot/y,x-initrd.mount 0 0\n\
         proc /proc proc defaults 0 0\n",
    ));
}

/// A disk of its own for images, or for /var, is common.
#[test]
fn w7_a_data_disk_is_told_and_no_finding() {
    for point in ["/var", "/var/lib", "/var/lib/containerd"] {
        let lab = fstab(&format!("UUID=1 {point} xfs defaults 0 0\n"));
        for run in [lab.plan(), lab.apply()] {
            run.says("/etc/fstab:1").says(&format!("mounts {point} at boot")).says("warning");
        }
        lab.verify().exits(0);
    }
}

#[test]
fn w7_a_unit_on_a_mount_that_comes_after_systemd_is_refused() {
    if !works(["unshare", "-m", "true"]) {
        return skip("unshare -m does not work here");
    }
    let late = "/dev/sdb1 /usr/local ext4 defaults 0 2\n";
    let lab = fstab(late);
    for words in ["plan", "apply"] {
        let run = while_mounted(&lab, "/usr/local", words);
        run.exits(9).says("/etc/fstab:1").says("x-initrd.mount").says("containerd.service");
    }
    let run = while_mounted(&Lab::new(), "/usr/local", "apply fstab verify");
    run.exits(10).mentions("mounts            FAILED       /etc/fstab:1: mounts /usr/local only after");
    // The initrd mounts it, or nothing of the unit is on it.
    for (line, point) in [
        ("/dev/sdb1 /usr/local ext4 x-initrd.mount 0 2\n", "/usr/local"),
        ("/dev/sdb1 /opt ext4 defaults 0 2\n", "/opt"),
        ("", "/usr/local"),
    ] {
        while_mounted(&fstab(line), point, "plan apply verify").exits(0).mentions("verified");
    }
}

#[test]
fn w7_a_mount_unit_counts_if_something_wants_it() {
    let unit = ("etc/systemd/system/opt.mount", "[Mount]\nWhat=/dev/sdb1\nWhere=/opt\n");
    silent(&with(&[unit]));
    let lab = with(&[unit]);
    link("../opt.mount", &lab.path("etc/systemd/system/local-fs.target.wants/opt.mount"));
    is_refused(&lab, &["/etc/systemd/system/opt.mount", "mounts /opt "]);
    let lab = with(&[("usr/lib/systemd/system/opt-cni.mount", "[Mount]\nType=tmpfs\n")]);
    link("/x", &lab.path("etc/systemd/system/local-fs.target.requires/opt-cni.automount"));
    is_refused(&lab, &["mounts an empty filesystem at /opt/cni "]);
    link("/dev/null", &lab.path("etc/systemd/system/opt-cni.mount"));
    silent(&lab);
}

/// What a bake is refused for does not keep it from being taken back.
#[test]
fn w7_remove_does_not_look_at_mounts() {
    let lab = Lab::new();
    let before = lab.tree();
    lab.apply().exits(0);
    write(&lab.path("etc/fstab"), b"/dev/sdb1 /opt ext4\n");
    lab.remove().exits(0);
    std::fs::remove_file(lab.path("etc/fstab")).unwrap();
    assert_eq!(before, lab.tree());
}
