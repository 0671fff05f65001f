//! Which root it is, and whose: links to it, splits, umask, owners and privileges (rows R16 to R20).

use std::fs;
use std::path::PathBuf;

use rustix::fs::{XattrFlags, setxattr};

use super::{AT_ONCE, baked, fifo, installed};
use crate::kit;
use crate::kit::{Lab, acl, assert_same, executable, link, make_dir, mode, own, tree, write};

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
