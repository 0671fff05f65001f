//! Repositories that can not be reached, are cut or fall silent.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::kit::assert_same;
use crate::kit::command::{errors, expect};
use crate::kit::http::{Reply, Request};
use crate::kit::repository::{
    is_package, key, node, outside_the_database, rpms, serve, serve_breakable, serve_changed, suites,
    write_spec,
};
use crate::kit::seen::{assert_packaged, assert_quiet, installed, refused};

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_repository_that_can_not_be_reached_is_exit_4() {
    let gone = serve().url();
    for (root, folder) in [("bookworm", "deb"), ("trixie", "deb"), ("rocky", "rpm")] {
        let file = key("key.asc").display().to_string();
        let at = |url: &str| format!("repository: {{url: '{url}/{folder}', key: '{file}'}}");
        let node = node(root, &at(&gone), "");
        let said = refused(&node, 4, &["--retries", "0"]);
        assert!(said.contains(gone.trim_start_matches("http://")), "{said}");
        write_spec(&node, &at("http://repository.invalid"), "");
        assert!(refused(&node, 4, &["--retries", "0"]).contains("repository.invalid"));
        let nothing = serve_changed(|_, _| Reply::error(404));
        write_spec(&node, &at(&nothing.url()), "");
        refused(&node, 4, &["--retries", "0"]);
    }
}

/// A root that is pinned to a minor release, and a repository of major ones, as Docker's is.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn w14_a_release_that_a_repository_does_not_have_is_told_with_its_variable() {
    let server = serve();
    let file = key("key.asc").display().to_string();
    let package = format!("repository: {{url: '{}/el/$releasever/rpm', key: '{file}'}}", server.url());
    let node = node("rocky", &package, "");
    fs::create_dir_all(node.path("/etc/dnf/vars")).unwrap();
    fs::write(node.path("/etc/dnf/vars/releasever"), "9.4\n").unwrap();
    let said = refused(&node, 4, &["--retries", "0"]);
    assert!(said.contains("`$releasever` is 9.4 in this root"), "{said}");
    assert!(said.contains("`/9/` in place of `$releasever`"), "{said}");
}

/// The line goes dead in the middle of a list or of a package; the next run finishes.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_network_that_is_cut_is_exit_4_and_the_next_run_converges() {
    let list = |request: &Request, reply: Reply| if is_package(request) { reply } else { reply.cut(40) };
    let package =
        |request: &Request, reply: Reply| if is_package(request) { reply.cut(1 << 20) } else { reply };
    let reset =
        |request: &Request, reply: Reply| if is_package(request) { reply.reset(1 << 20) } else { reply };
    type Cut = fn(&Request, Reply) -> Reply;
    let cases: [(&str, &str, Cut); 5] = [
        ("bookworm", "a list", list),
        ("bookworm", "a package", package),
        ("trixie", "a package, reset", reset),
        ("rocky", "a list", list),
        ("rocky", "a package", package),
    ];
    for (root, what, cut) in cases {
        let (server, broken) = serve_breakable(cut);
        let repository = if root == "rocky" { rpms(&server, "rpm") } else { suites(&server) };
        let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
        let before = outside_the_database(&node);
        let failed = expect(4, node.nodebake("apply", &["--retries", "1"]));
        assert!(errors(&failed).contains("help: "), "{root} {what}");
        assert_same(what, &before, &outside_the_database(&node));
        assert_eq!(installed(&node, "containerd.io"), "");
        assert_quiet(&node);
        broken.store(false, Ordering::Relaxed);
        node.apply();
        assert_packaged(&node, "1.7.24");
    }
}

/// A line that is up and says nothing: `--stall-timeout` ends the wait.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_repository_that_falls_silent_is_given_up() {
    for root in ["trixie", "rocky"] {
        let server =
            serve_changed(|request, reply| if is_package(request) { reply } else { reply.stall(10) });
        let repository = if root == "rocky" { rpms(&server, "rpm") } else { suites(&server) };
        let node = node(root, &format!("repository: {repository}"), "");
        let began = Instant::now();
        refused(&node, 4, &["--retries", "0", "--stall-timeout", "2"]);
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn offline_is_refused_where_a_package_has_to_be_fetched() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}", suites(&server)), "");
    let said = refused(&node, 4, &["--offline"]);
    assert!(said.contains("--offline"), "{said}");
    assert_eq!(server.requests().len(), 0);
}
