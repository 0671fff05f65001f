//! Packages from files, and what can't be baked: refused with a remedy, and the root is as it was.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::kit::command::{errors, expect, run, text};
use crate::kit::node::{Node, artifacts};
use crate::kit::repository::{
    chroot, flat, give_mirror, is_package, key, node, outside_the_database, package_file, rpms, serve,
    suites, write_spec,
};
use crate::kit::seen::{CONFIG, assert_packaged, expect_nothing_to_do, installed, receipt, refused};
use crate::kit::{NODEBAKE, assert_same, sha256, tree};

// ---------------------------------------------------------------- files

#[test]
#[ignore = "needs tests/lab/prepare"]
fn local_packages_need_a_lock_and_no_network() {
    let cases = [("bookworm", "deb/pool/bookworm"), ("trixie", "deb/pool/trixie"), ("rocky", "rpm")];
    for (root, folder) in cases {
        let node = node(root, "repository: {path: packages}, version: 1.7.24", "");
        let packages = node.folder.path().join("packages");
        fs::create_dir(&packages).unwrap();
        let file = package_file(folder, "1.7.24");
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        symlink(&file, packages.join(&name)).unwrap();
        fs::remove_file(packages.join(&name)).unwrap();
        fs::copy(&file, packages.join(&name)).unwrap();
        let said = refused(&node, 5, &[]);
        assert!(said.contains(&name) && said.contains("nodebake lock"), "{said}");
        let lock = Command::new(NODEBAKE)
            .args(["lock", "--spec", &node.spec(), "--arch", "amd64"])
            .output()
            .unwrap();
        expect(0, lock);
        let locked = fs::read_to_string(node.folder.path().join("nodebake.lock")).unwrap();
        assert!(locked.contains(&sha256(&fs::read(&file).unwrap())), "{locked}");
        let planned = text(expect(0, node.nodebake("plan", &["--offline"])));
        assert!(planned.contains("+ package containerd.io 1.7.24"), "{planned}");
        // one bit of it
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(packages.join(&name), bytes).unwrap();
        assert!(refused(&node, 5, &["--offline"]).contains(&name));
        fs::copy(&file, packages.join(&name)).unwrap();
        // no address but loopback, and nobody there
        let mut alone = Command::new("unshare");
        alone
            .args(["--net", NODEBAKE, "apply", "--offline", "--root"])
            .arg(node.root())
            .args(["--spec", &node.spec()]);
        expect(0, alone.output().unwrap());
        assert_packaged(&node, "1.7.24");
        expect_nothing_to_do(&node);
        assert!(node.path("/etc/apt/sources.list.d/nodebake.sources").symlink_metadata().is_err());
        expect(0, node.nodebake("remove", &["--execute"]));
        assert_eq!(installed(&node, "containerd.io"), "");
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_single_package_file_is_enough() {
    let file = package_file("deb/pool/trixie", "2.1.9");
    let node = node("trixie", &format!("repository: {{path: {}}}", file.display()), "");
    expect(
        0,
        Command::new(NODEBAKE).args(["lock", "--spec", &node.spec(), "--arch", "amd64"]).output().unwrap(),
    );
    node.apply();
    assert_packaged(&node, "2.1.9");
}

// ---------------------------------------------------------------- what can't be

#[test]
#[ignore = "needs tests/lab/prepare"]
fn what_no_repository_has_is_refused() {
    let server = serve();
    for (root, good, broken) in [
        ("bookworm", suites(&server), flat(&server, "deb-broken")),
        ("trixie", suites(&server), flat(&server, "deb-broken")),
        ("rocky", rpms(&server, "rpm"), rpms(&server, "rpm-broken")),
    ] {
        let node = node(root, &format!("repository: {good}, version: 9.9.9"), "");
        let said = refused(&node, 9, &[]);
        assert!(
            said.contains("9.9.9") && said.contains("containerd.io") && said.contains("1.7.24"),
            "{said}"
        );
        write_spec(&node, &format!("repository: {good}, name: lab-nothing"), "");
        assert!(refused(&node, 9, &[]).contains("lab-nothing"));
        write_spec(&node, &format!("repository: {broken}"), "");
        assert!(refused(&node, 9, &[]).contains("lab-has-no-such-package"));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_root_without_a_known_package_manager_is_refused() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}", suites(&server)), "");
    fs::write(node.path("/usr/lib/os-release"), "ID=alpine\nVERSION_ID=3.20\n").unwrap();
    let said = refused(&node, 9, &[]);
    assert!(said.contains("alpine") && said.contains("install: archive"), "{said}");
}

/// A bake that would be futile ends before a package is installed.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_mount_that_hides_what_is_baked_is_refused_before_the_packages() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}", suites(&server)), "");
    fs::write(node.path("/etc/fstab"), "/dev/sdb1 /etc/systemd ext4 defaults 0 2\n").unwrap();
    let said = refused(&node, 9, &[]);
    assert!(said.contains("/etc/fstab:1") && said.contains("while baking"), "{said}");
    fs::write(node.path("/etc/fstab"), "/dev/sdb1 /srv ext4 defaults 0 2\n").unwrap();
    node.apply();
    assert_packaged(&node, "2.1.9");
    // Another unit before the package's, and a drop-in of all services.
    for (path, words) in [
        ("/usr/local/lib/systemd/system/containerd.service", "hides the unit"),
        ("/usr/local/lib/systemd/system/service.d/90.conf", "in place of /usr/bin/containerd"),
    ] {
        fs::create_dir_all(node.path(path).parent().unwrap()).unwrap();
        fs::write(node.path(path), "[Service]\nExecStart=\nExecStart=/usr/bin/true\n").unwrap();
        assert!(errors(&node.apply()).contains(words), "no warning of {path}");
        let found = text(expect(10, node.nodebake("verify", &[])));
        assert!(found.contains(path) && found.contains(words), "{found}");
        fs::remove_file(node.path(path)).unwrap();
    }
    expect(0, node.nodebake("verify", &[]));
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn another_architecture_is_refused() {
    let node = node("trixie-arm64", "", "");
    fs::write(node.spec(), "components: {cni-plugins: false}\ncontainerd: {install: package}\n").unwrap();
    // which the lab's has not
    fs::copy(node.path("/usr/bin/true"), node.path("/usr/bin/apt-get")).unwrap();
    let before = tree(&node.root());
    let said = errors(&expect(9, node.nodebake("apply", &[])));
    assert!(said.contains("another architecture"), "{said}");
    assert_same("the root", &before, &tree(&node.root()));
}

/// A node has one containerd: whichever is there first, the other is refused before anything changes.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn conflicts_are_seen_in_both_directions() {
    let server = serve();
    let io = format!("repository: {}, version: 1.7.24", suites(&server));
    let install = |node: &Node, name: &str| {
        let apt = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "sh",
            "-c",
            &format!("apt-get -q update && apt-get -q -y install --no-install-recommends {name}"),
        ];
        fs::write(node.path("/etc/resolv.conf"), fs::read("/etc/resolv.conf").unwrap()).unwrap();
        fs::write(node.path("/usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n").unwrap();
        run("chmod", &["755", node.path("/usr/sbin/policy-rc.d").to_str().unwrap()]);
        expect(0, chroot(node, &apt));
        for path in ["/etc/resolv.conf", "/usr/sbin/policy-rc.d"] {
            fs::remove_file(node.path(path)).unwrap();
        }
        run(
            "sh",
            &[
                "-c",
                &format!(
                    "rm -rf {0}/run/* {0}/var/cache/apt/* {0}/var/lib/apt/lists/*",
                    node.root().display()
                ),
            ],
        );
    };
    // the distribution's containerd, or Docker of the distribution, is there
    for package in ["containerd", "docker.io"] {
        let node = node("trixie", &io, "");
        give_mirror(&node);
        install(&node, package);
        let said = refused(&node, 9, &[]);
        assert!(
            said.contains("containerd.io can't be installed") && said.contains("beside containerd "),
            "{package}: {said}"
        );
        node.write_spec("2.1", "");
        let said = refused(&node, 9, &[]);
        assert!(said.contains("containerd") && said.contains("install: package"), "{package}: {said}");
    }
    // containerd.io is there
    let node = node("trixie", "", "");
    give_mirror(&node);
    fs::copy(key("key.asc"), node.path("/etc/apt/keyrings/theirs.asc")).unwrap();
    let theirs = format!("deb [signed-by=/etc/apt/keyrings/theirs.asc] {}/deb trixie stable\n", server.url());
    fs::write(node.path("/etc/apt/sources.list.d/theirs.list"), theirs).unwrap();
    install(&node, "containerd.io");
    let said = refused(&node, 9, &[]);
    assert!(said.contains("containerd.io") && said.contains("beside"), "{said}");
    node.write_spec("2.1", "");
    assert!(refused(&node, 9, &[]).contains("containerd.io"));
    // a containerd of nobody's package is there
    let node = self::node("trixie", &io, "");
    let archive = fs::read_dir(artifacts("1.7")).unwrap().flatten().map(|entry| entry.path());
    let archive = archive.into_iter().find(|path| path.to_string_lossy().ends_with("amd64.tar.gz")).unwrap();
    run("tar", &["-xzf", archive.to_str().unwrap(), "-C", node.path("/usr/local").to_str().unwrap()]);
    assert!(refused(&node, 9, &[]).contains("/usr/local/bin/containerd"));
}

/// What was there before is taken on and left there.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_package_that_was_there_is_configured_and_survives_remove() {
    let server = serve();
    let package = format!("repository: {}, version: 1.7.24", suites(&server));
    let node = node("trixie", &package, "");
    let file = package_file("deb/pool/trixie", "1.7.24");
    fs::copy(file, node.path("/root/it.deb")).unwrap();
    expect(0, chroot(&node, &["dpkg", "--install", "/root/it.deb"]));
    fs::remove_file(node.path("/root/it.deb")).unwrap();
    let before = outside_the_database(&node);
    node.apply();
    assert_packaged(&node, "1.7.24");
    assert_eq!(receipt(&node)["packages"][0]["found"], true);
    assert!(!server.requests().iter().any(is_package), "nothing had to be fetched");
    expect(0, node.nodebake("remove", &["--execute"]));
    assert_eq!(installed(&node, "containerd.io"), "1.7.24-1~debian.13~trixie");
    assert_same("the root", &before, &outside_the_database(&node));
    assert!(fs::read_to_string(node.path(CONFIG)).unwrap().contains("disabled_plugins = [\"cri\"]"));
}
