//! What packages get wrong: scripts that start or fail, configurations of their own, versions that come and go.

use std::fs;

use crate::kit::assert_same;
use crate::kit::command::{errors, expect, run, text};
use crate::kit::node::Node;
use crate::kit::repository::{chroot, flat, node, outside_the_database, rpms, serve, suites, write_spec};
use crate::kit::seen::{BINARY, CONFIG, assert_packaged, assert_quiet, expect_nothing_to_do, installed};

#[test]
#[ignore = "needs tests/lab/prepare"]
fn what_was_put_right_is_said() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}, version: 2.1.9", suites(&server)), "");
    let said = node.apply();
    assert!(errors(&said).contains("disables the CRI"), "{}", errors(&said));
    let changes = text(said);
    for line in ["+ package containerd.io 2.1.9", "+ /opt/cni/bin/bridge", "/etc/containerd/config.toml"] {
        assert!(changes.contains(line), "{changes}");
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn nothing_that_a_package_starts_outlives_the_bake() {
    let server = serve();
    for (root, repository) in
        [("bookworm", flat(&server, "deb-eager")), ("rocky", rpms(&server, "rpm-eager"))]
    {
        let node = node(root, &format!("repository: {repository}"), "");
        node.apply();
        assert_packaged(&node, "1.7.24");
        assert!(node.path("/run/containerd").symlink_metadata().is_err());
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_maintainer_script_that_fails_is_told_and_the_next_run_converges() {
    let server = serve();
    for (root, failing, good) in [
        ("trixie", flat(&server, "deb-failing"), suites(&server)),
        ("rocky", rpms(&server, "rpm-failing"), rpms(&server, "rpm")),
    ] {
        let node = node(root, &format!("repository: {failing}"), "");
        let before = outside_the_database(&node);
        let failed = node.nodebake("apply", &[]);
        let said = errors(&failed);
        // rpm goes on after a %post that fails
        if root == "trixie" {
            expect(9, failed);
            assert!(said.contains("post-installation script") && said.contains("containerd.io"), "{said}");
        }
        assert_quiet_but_pending(&node);
        write_spec(&node, &format!("repository: {good}, version: 1.7.24"), "");
        node.apply();
        assert_packaged(&node, "1.7.24");
        expect_nothing_to_do(&node);
        expect(0, node.nodebake("remove", &["--execute"]));
        assert_same("the root", &before, &outside_the_database(&node));
    }
}

/// [`assert_quiet`], where the intent of an unfinished run may still be there.
#[track_caller]
fn assert_quiet_but_pending(node: &Node) {
    let pending = node.path("/var/lib/nodebake/pending.json");
    let aside = node.folder.path().join("pending.json");
    let there = pending.is_file();
    if there {
        fs::rename(&pending, &aside).unwrap();
    }
    assert_quiet(node);
    if there {
        fs::rename(&aside, &pending).unwrap();
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_newer_packages_configuration_never_replaces_ours() {
    let server = serve();
    let more = "registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n";
    let node = node("bookworm", &format!("repository: {}, version: 1.7.24", suites(&server)), more);
    node.apply();
    let ours = fs::read(node.path(CONFIG)).unwrap();
    // as somebody's unattended upgrade does it, who has heard of no option of ours
    let upgrade = "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confdef install containerd.io </dev/null";
    expect(0, chroot(&node, &["sh", "-c", upgrade]));
    assert_eq!(installed(&node, "containerd.io"), "2.1.9-1~debian.12~bookworm");
    assert_eq!(fs::read(node.path(CONFIG)).unwrap(), ours);
    let verified = text(expect(10, node.nodebake("verify", &["--execute"])));
    assert!(verified.contains("2.1.9"), "{verified}");
    fs::remove_file(node.path("/etc/containerd/config.toml.dpkg-dist")).unwrap();
    run("sh", &["-c", &format!("rm -rf {0}/var/cache/apt/* {0}/var/lib/apt/lists/*", node.root().display())]);
    // our own upgrade does not ask, leaves nothing beside it, and renders for the new version
    write_spec(&node, &format!("repository: {}, version: 2.1.9", suites(&server)), more);
    node.apply();
    assert_packaged(&node, "2.1.9");
    assert!(fs::read_to_string(node.path(CONFIG)).unwrap().contains("version = 3"));
    let beside: Vec<String> = fs::read_dir(node.path("/etc/containerd"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(!beside.iter().any(|name| name.contains("dpkg") || name.contains("rpmnew")), "{beside:?}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn up_and_down_render_the_configuration_of_what_is_installed() {
    let server = serve();
    for (root, repository) in [("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let node = node(root, "", "");
        for version in ["1.7.24", "2.1.9", "1.7.24"] {
            write_spec(&node, &format!("repository: {repository}, version: {version}"), "");
            node.apply();
            assert_packaged(&node, version);
            assert!(installed(&node, "containerd.io").starts_with(version));
        }
        expect_nothing_to_do(&node);
    }
}

/// An edit of the user's is saved before apply replaces it, and never lost by the package manager.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_edited_configuration_is_kept_aside_by_apply_and_in_place_by_remove() {
    let server = serve();
    for (root, repository) in [("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
        node.apply();
        let edit = fs::read_to_string(node.path(CONFIG)).unwrap() + "# by hand\n";
        fs::write(node.path(CONFIG), &edit).unwrap();
        expect(10, node.nodebake("verify", &["--execute"]));
        write_spec(&node, &format!("repository: {repository}, version: 2.1.9"), "");
        let said = node.apply();
        assert!(text(said).contains("edit is kept"));
        assert_eq!(
            fs::read_to_string(node.path("/var/lib/nodebake/edited/etc/containerd/config.toml")).unwrap(),
            edit
        );
        assert_packaged(&node, "2.1.9");
        let edit = fs::read_to_string(node.path(CONFIG)).unwrap() + "# by hand\n";
        fs::write(node.path(CONFIG), &edit).unwrap();
        let said = expect(0, node.nodebake("remove", &["--execute"]));
        assert!((text(said.clone()) + &errors(&said)).contains(CONFIG));
        let left = fs::read_to_string(node.path(CONFIG)).unwrap_or_default();
        assert_eq!(left, edit, "{root}: the edit is left");
        assert!(node.path(BINARY).symlink_metadata().is_err());
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_hold_keeps_the_version_until_the_spec_says_otherwise() {
    let server = serve();
    let spec_of = |version: &str, hold: bool| {
        format!("repository: {}, version: {version}, hold: {hold}", suites(&server))
    };
    let node = node("trixie", &spec_of("1.7.24", true), "");
    let held = || text(expect(0, chroot(&node, &["apt-mark", "showhold"]))).trim().to_owned();
    node.apply();
    assert_eq!(held(), "containerd.io");
    expect_nothing_to_do(&node);
    let upgrade = "apt-get -q update && apt-get -q -y -s dist-upgrade </dev/null";
    let said = text(expect(0, chroot(&node, &["sh", "-c", upgrade])));
    assert!(!said.contains("Inst containerd.io"), "{said}");
    run("sh", &["-c", &format!("rm -rf {0}/var/cache/apt/* {0}/var/lib/apt/lists/*", node.root().display())]);
    // an upgrade of ours lifts it and sets it again
    write_spec(&node, &spec_of("2.1.9", true), "");
    node.apply();
    assert_packaged(&node, "2.1.9");
    assert_eq!(held(), "containerd.io");
    // somebody lifts it
    expect(0, chroot(&node, &["apt-mark", "unhold", "containerd.io"]));
    let said = text(expect(10, node.nodebake("verify", &["--execute"])));
    assert!(said.contains("held"), "{said}");
    node.apply();
    assert_eq!(held(), "containerd.io");
    write_spec(&node, &spec_of("2.1.9", false), "");
    node.apply();
    assert_eq!(held(), "");
    write_spec(&node, &spec_of("2.1.9", true), "");
    node.apply();
    expect(0, node.nodebake("remove", &["--execute"]));
    assert_eq!((held(), installed(&node, "containerd.io")), (String::new(), String::new()));
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn dnf_holds_by_versionlock() {
    let server = serve();
    let node =
        node("rocky", &format!("repository: {}, version: 1.7.24, hold: true", rpms(&server, "rpm")), "");
    let locks = || fs::read_to_string(node.path("/etc/dnf/plugins/versionlock.list")).unwrap_or_default();
    node.apply();
    assert!(locks().contains("containerd.io-0:1.7.24-1.el9.*"), "{}", locks());
    expect_nothing_to_do(&node);
    write_spec(&node, &format!("repository: {}, version: 2.1.9, hold: true", rpms(&server, "rpm")), "");
    node.apply();
    assert!(locks().contains("containerd.io-0:2.1.9-1.el9.*") && !locks().contains("1.7.24"), "{}", locks());
    expect(0, node.nodebake("remove", &["--execute"]));
    assert!(!locks().contains("containerd.io"), "{}", locks());
}
