//! What is signed by which key: nothing is asked of, or taken from, a repository that the pinned key does not vouch
//! for.

use std::fs;
use std::process::Command;

use crate::kit::command::{errors, expect};
use crate::kit::http::{Reply, Server, identity};
use crate::kit::repository::{fingerprint, is_package, key, node, outside_the_database, serve, write_spec};
use crate::kit::seen::{assert_packaged, assert_quiet, expect_nothing_to_do, installed, refused, signed};
use crate::kit::{NODEBAKE, assert_same, tree};

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_key_that_is_not_the_pinned_one_is_refused_before_anything_is_asked() {
    let server = serve();
    for root in ["trixie", "rocky"] {
        let folder = if root == "rocky" { "rpm" } else { "deb" };
        let file = key("key.asc").display().to_string();
        let node = node(root, &signed(&server, folder, &file, &fingerprint("other")), "");
        let said = refused(&node, 5, &[]);
        assert!(said.contains(&fingerprint("key")) && said.contains(&fingerprint("other")), "{said}");
        assert_eq!(server.requests().len(), 0);
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_key_from_a_url_needs_its_fingerprint() {
    let server = serve();
    let url = format!("{}/keys/key.asc", server.url());
    let node = node("trixie", &signed(&server, "deb", &url, ""), "");
    assert!(refused(&node, 3, &[]).contains("fingerprint"));
    write_spec(&node, &signed(&server, "deb", &url, &fingerprint("other")), "");
    assert!(refused(&node, 5, &[]).contains(&fingerprint("key")));
    write_spec(
        &node,
        &signed(&server, "deb", &format!("{}/keys/none", server.url()), &fingerprint("key")),
        "",
    );
    refused(&node, 4, &["--retries", "0"]);
    write_spec(&node, &signed(&server, "deb", &url, &fingerprint("key")), "");
    node.apply();
    assert_packaged(&node, "1.7.24");
    expect_nothing_to_do(&node);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_file_that_is_no_key_is_refused() {
    let server = serve();
    let node = node("trixie", &signed(&server, "deb", "nodebake.yaml", ""), "");
    refused(&node, 5, &[]);
}

/// The repository's signature, and the hashes that it vouches for, by two verifiers: gpgv and sqv.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn what_the_key_does_not_vouch_for_is_refused() {
    let server = serve();
    let good = key("key.asc").display().to_string();
    for root in ["bookworm", "trixie"] {
        let node = node(root, "", "");
        for folder in ["deb-other", "deb-evil-release", "deb-evil-index", "deb-unsigned"] {
            write_spec(&node, &signed(&server, folder, &good, ""), "");
            let said = refused(&node, 5, &[]);
            assert!(said.contains("help: "), "{folder}: {said}");
            assert!(!server.requests().iter().any(is_package), "{folder}");
        }
        write_spec(&node, &signed(&server, "deb", &key("other.asc").display().to_string(), ""), "");
        refused(&node, 5, &[]);
    }
    // trixie's sqv asks whether the key was valid when it signed
    let node =
        node("bookworm", &signed(&server, "deb-expired", &key("expired.asc").display().to_string(), ""), "");
    refused(&node, 5, &[]);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_package_that_was_tampered_with_is_refused() {
    let server = serve();
    let good = key("key.asc").display().to_string();
    for (root, folder) in [
        ("bookworm", "deb-evil-package"),
        ("trixie", "deb-evil-package"),
        ("rocky", "rpm-evil-package"),
        ("rocky", "rpm-unsigned"),
        ("rocky", "rpm-other"),
    ] {
        let node = node(root, &signed(&server, folder, &good, ""), "");
        // the lists are right, so that only the package itself can tell
        expect(0, node.nodebake("plan", &[]));
        let before = outside_the_database(&node);
        let said = errors(&expect(5, node.nodebake("apply", &["--retries", "1"])));
        assert!(said.contains("containerd.io"), "{folder}: {said}");
        assert_same("the root", &before, &outside_the_database(&node));
        assert_eq!(installed(&node, "containerd.io"), "");
        assert_quiet(&node);
    }
}

/// Whoever stands between this machine and Docker has no key with Docker's fingerprint.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn dockers_key_is_pinned() {
    let identity = identity(&["download.docker.com"]);
    let docker = Server::https(&identity, |_, _| Reply::ok(fs::read(key("key.asc")).unwrap()));
    let to = docker.address;
    let proxy = Server::http(move |_, _| Reply::tunnel(to));
    for root in ["trixie", "rocky"] {
        let node = node(root, "repository: docker", "");
        let ca = node.folder.path().join("ca.pem");
        fs::write(&ca, &identity.authority).unwrap();
        let before = tree(&node.root());
        let mut nodebake = Command::new(NODEBAKE);
        nodebake
            .args(["apply", "--root"])
            .arg(node.root())
            .args(["--spec", &node.spec(), "--ca-file"])
            .arg(ca);
        let said = errors(&expect(5, nodebake.env("https_proxy", proxy.url()).output().unwrap()));
        let pinned = if root == "rocky" {
            "060A61C51B558A7F742B77AAC52FEB6B621E9F35"
        } else {
            "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
        };
        assert!(said.contains(pinned) && said.contains(&fingerprint("key")), "{said}");
        assert_same("the root", &before, &tree(&node.root()));
        let asked: Vec<String> = docker.requests().iter().map(|request| request.target.clone()).collect();
        assert!(asked.iter().all(|target| target.ends_with("/gpg")), "{asked:?}");
    }
}
