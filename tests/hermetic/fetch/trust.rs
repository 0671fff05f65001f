//! Which certificates are believed, and runs that open no socket (rows H12, H14).

use std::fs;
use std::path::Path;

use super::{
    ONE_RETRY, answer, apply, apply_with, assert_baked, assert_refused, authority, cache, help, mirror, on,
    path, run_with, served,
};
use crate::kit;
use crate::kit::http::{Identity, Server, identity};
use crate::kit::{CONTAINERD, Lab, NODEBAKE, run, skip, strace_to, strace_works, works};

// ---------------------------------------------------------------- H12: trust

#[test]
fn h12_a_private_authority_needs_ca_file() {
    let lab = Lab::new();
    let before = lab.tree();
    let (server, identity) = tls_mirror(&lab);
    let run = apply(&lab, &server.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 4, &["certificate", &server.address.to_string()]);
    assert!(help(&run).contains("--ca-file"), "no remedy named\n{run}");
    assert!(server.requests().is_empty(), "a request went to a server that nobody trusts");

    let ca = authority(&lab, &identity);
    apply(&lab, &server.url(), &["--ca-file", &ca, "--retries", "0"]).exits(0);
    assert_baked(&lab);
}

#[test]
fn h12_a_certificate_for_another_name_is_refused() {
    let lab = Lab::new();
    let before = lab.tree();
    let identity = identity(&["elsewhere.invalid"]);
    let files = served(&lab);
    let server = Server::https(&identity, move |request, _| answer(&files, request));
    let ca = authority(&lab, &identity);
    let run = apply(&lab, &server.url(), &["--ca-file", &ca, "--retries", "0"]);
    assert_refused(&lab, &before, &run, 4, &["certificate"]);
    assert!(server.requests().is_empty());
}

#[test]
fn h12_works_without_any_trust_store() {
    let missing = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    let lab = Lab::new();
    let before = lab.tree();
    let (server, identity) = tls_mirror(&lab);
    let run = apply_with(&lab, &server.url(), &["--retries", "0"], &missing);
    assert_refused(&lab, &before, &run, 4, &["certificate"]);
    assert!(help(&run).contains("--ca-file"), "no remedy named\n{run}");
    let ca = authority(&lab, &identity);
    apply_with(&lab, &server.url(), &["--ca-file", &ca, "--retries", "0"], &missing).exits(0);
    assert_baked(&lab);

    let lab = Lab::new();
    let plain = mirror(&lab);
    apply_with(&lab, &plain.url(), &["--retries", "0"], &missing).exits(0);
    let lab = Lab::new();
    run_with(
        lab.command(["apply", "--offline"]).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec),
        &missing,
    )
    .exits(0);
}

#[test]
fn h12_works_where_etc_ssl_is_empty() {
    if !works(["unshare", "-m", "true"]) {
        return skip("unshare -m does not work here");
    }
    let lab = Lab::new();
    let (server, identity) = tls_mirror(&lab);
    let ca = authority(&lab, &identity);
    let empty = "mount -t tmpfs none /etc/ssl && exec \"$@\"";
    let mut command = lab.wrapped(["unshare", "-m", "sh", "-c", empty, "sh", NODEBAKE]);
    run(on(&lab, &mut command, "apply", &server.url()).args(["--ca-file", &ca, "--retries", "0"])).exits(0);
    assert_baked(&lab);
}

// ---------------------------------------------------------------- H14: no socket

#[test]
fn h14_offline_opens_no_socket() {
    if !strace_works() {
        return;
    }
    let lab = Lab::new();
    let from_directory = traced(&lab, &["apply", "--root", path(&lab.root), "--spec", path(&lab.spec)]);
    assert_eq!(from_directory, [""; 0], "a directory needs no socket");
    assert_baked(&lab);

    let lab = Lab::new();
    let server = mirror(&lab);
    let source = server.url();
    let cache = cache(&lab);
    let fetch = |root: &Path, flags: &[&str]| {
        let line = [
            "apply",
            "--root",
            path(root),
            "--spec",
            path(&lab.spec),
            "--source",
            &source,
            "--cache-dir",
            &cache,
        ];
        traced(&lab, &[&line, flags].concat())
    };
    assert_ne!(fetch(&lab.root, &[]), [""; 0], "the trace sees a download's socket");
    assert_eq!(fetch(&lab.root, &[]), [""; 0], "nothing to do needs no socket");
    let second = lab.another_root("second");
    assert_eq!(fetch(&second, &["--offline"]), [""; 0], "the cache needs no socket");
    assert_eq!(kit::tree(&second), lab.tree());
}

#[test]
fn h14_offline_without_the_bytes_says_so() {
    let lab = Lab::new();
    let before = lab.tree();
    let server = mirror(&lab);
    let run = apply(&lab, &server.url(), &["--offline"]);
    assert_refused(&lab, &before, &run, 4, &["offline", CONTAINERD.file]);
    assert!(server.requests().is_empty(), "{run}");
}

#[test]
fn h14_works_without_any_network() {
    if !works(["unshare", "-n", "true"]) {
        return skip("unshare -n does not work here");
    }
    let lab = Lab::new();
    lab.apply_under(["unshare", "-n"]).exits(0);
    assert_baked(&lab);
}

/// Runs under strace and returns the lines about Internet sockets.
fn traced(lab: &Lab, words: &[&str]) -> Vec<String> {
    let log = lab.dir.join("trace");
    let mut command = lab.wrapped(strace_to(&log, ["trace=network"]));
    run(command.arg(NODEBAKE).args(words)).exits(0);
    let text = fs::read_to_string(log).unwrap();
    text.lines().filter(|line| line.contains("AF_INET")).map(str::to_owned).collect()
}

fn tls_mirror(lab: &Lab) -> (Server, Identity) {
    let identity = identity(&["127.0.0.1"]);
    let files = served(lab);
    (Server::https(&identity, move |request, _| answer(&files, request)), identity)
}
