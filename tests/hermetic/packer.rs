//! The shell scripts of `packer/` by themselves: what cleaning must remove, must keep and must not
//! follow, and which binary the wrapper takes. The templates are run by the suite `boot`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::lab::repository;
use crate::kit::{Run, assert_same, executable, mode, run, tree};

/// A root that a script may damage.
fn small_root(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    for path in ["etc/ssh", "var/log", "var/lib/dbus", "tmp", "var/tmp", "root/.ssh"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    root
}

/// In a directory whose names are not the root's.
fn clean(root: &Path) -> (Option<i32>, String) {
    let script = repository().join("packer/clean.sh");
    let mut clean = Command::new("sh");
    clean.arg(script).env("NODEBAKE_ROOT", root).current_dir(repository());
    let path = format!("{}:{}", root.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let run = run(clean.env("PATH", path));
    (run.code, run.stdout)
}

/// `name` in front of the system's programs.
fn fake(folder: &Path, name: &str, script: &str) {
    executable(&folder.join(name), format!("#!/bin/sh\n{script}\n").as_bytes());
}

#[test]
fn what_could_not_be_removed_fails_the_build() {
    let folder = tempfile::tempdir().unwrap();
    let root = small_root(folder.path());
    let left = [
        "usr/bin/cloud-init",
        "etc/ssh/ssh_host_rsa_key",
        "var/lib/systemd/random-seed",
        "var/lib/cloud/data/instance-id",
        "var/lib/apt/lists/main_Packages",
        "var/log/journal/machine",
        "tmp/packer-shell1",
    ];
    for file in left {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), "").unwrap();
        mode(&root.join(file), 0o755);
    }
    for program in ["rm", "find"] {
        fake(folder.path(), program, "");
    }
    let (code, said) = clean(&root);
    assert_eq!(code, Some(1), "{said}");
    for file in &left[1..] {
        assert!(said.contains(&format!("/{file} is still there")), "{file} in\n{said}");
    }
    for program in ["rm", "find"] {
        fs::remove_file(folder.path().join(program)).unwrap();
    }
    assert_eq!(clean(&root), (Some(0), "clean.sh: the image is clean\n".to_owned()));
}

#[test]
fn host_keys_that_nothing_makes_anew_fail_the_build() {
    let folder = tempfile::tempdir().unwrap();
    let root = small_root(folder.path());
    fs::write(root.join("etc/ssh/ssh_host_rsa_key"), "key").unwrap();
    let (code, said) = clean(&root);
    assert!(code == Some(1) && said.contains("nothing makes others at boot"), "{code:?} {said}");
    assert!(root.join("etc/ssh/ssh_host_rsa_key").exists(), "sshd would not start");
    let unit = root.join("etc/systemd/system/keys.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(unit, "[Service]\nExecStart=/usr/bin/ssh-keygen -A\n").unwrap();
    assert_eq!(clean(&root).0, Some(0));
    assert!(!root.join("etc/ssh/ssh_host_rsa_key").exists());
}

/// In a root filesystem on the build host an absolute link leads to the host's own files.
#[test]
fn cleaning_never_follows_a_link_out_of_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let root = small_root(folder.path());
    let host = folder.path().join("host");
    fs::create_dir_all(host.join("lists")).unwrap();
    for file in ["syslog", "machine-id", "authorized_keys", "lists/a_Packages"] {
        fs::write(host.join(file), "of the host packer_1\n").unwrap();
    }
    for (link, target) in [("var/log", ""), ("var/tmp", ""), ("root/.ssh", ""), ("var/lib/apt", "")] {
        let _ = fs::remove_dir(root.join(link));
        symlink(host.join(target), root.join(link)).unwrap();
    }
    fs::remove_file(root.join("etc/machine-id")).unwrap();
    symlink(host.join("machine-id"), root.join("etc/machine-id")).unwrap();
    let before = tree(&host);
    let (code, said) = clean(&root);
    assert_same("the host", &before, &tree(&host));
    assert!(
        code == Some(1) && said.contains("/var/log is a link that leads out of the root"),
        "{code:?} {said}"
    );
}

#[test]
fn the_wrapper_takes_the_binary_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    fake(folder.path(), "uname", "echo aarch64");
    let wrapper = || -> Run {
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut wrapper = Command::new("sh");
        wrapper.arg(repository().join("packer/nodebake.sh")).arg("verify").env("PATH", path);
        run(wrapper.env("NODEBAKE_FILES", folder.path()).env("NODEBAKE_ROOT", folder.path()))
    };
    let missing = wrapper().exits(1).stdout.clone();
    assert!(missing.contains("bin/nodebake-linux-arm64 was not uploaded"), "{missing}");
    fake(
        folder.path(),
        "bin/nodebake-linux-arm64",
        "echo seen; echo 'nodebake: error: no' >&2; echo '  help: none' >&2; exit 4",
    );
    let failed = wrapper().exits(4).stdout.clone();
    assert_eq!(
        failed.lines().collect::<Vec<_>>(),
        ["seen", "nodebake: error: no", "  help: none", "nodebake: error: no"]
    );
}
