//! Packages that nodebake has brought go away again, with real apt and dnf: what others came to need stays,
//! and an edited configuration outlives whatever happens meanwhile. Needs `tests/lab/prepare`.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::kit::command::{errors, expect, text};
use crate::kit::node::Node;
use crate::kit::repository::{
    chroot, flat, give_mirror, install_what_needs, node, rpms, serve, suites, write_spec,
};
use crate::kit::{NODEBAKE, paths};

const BINARY: &str = "/usr/bin/containerd";
const CONFIG: &str = "/etc/containerd/config.toml";
const EDIT: &str = "/var/lib/nodebake/edited/etc/containerd/config.toml";

/// What dpkg says of a package; nothing where it is not there.
fn status(node: &Node, name: &str) -> String {
    let query = chroot(node, &["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]);
    if query.status.success() { text(query) } else { String::new() }
}

/// The containerd goes and an archive takes its place; a library that came with it and is needed by now stays.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_library_that_others_need_stays_and_does_not_block() {
    let server = serve();
    let node = node("bookworm", &format!("repository: {}", flat(&server, "deb-needy")), "");
    give_mirror(&node);
    node.apply();
    assert_eq!(status(&node, "libnl-genl-3-200"), "installed");
    install_what_needs(&node, "libnl-3-200");

    node.write_spec("1.6", "");
    let planned = text(expect(0, node.nodebake("plan", &["--execute"])));
    assert!(planned.contains("- package containerd.io") && planned.contains("libnl-3-200"), "{planned}");
    let said = expect(0, node.nodebake("apply", &["--execute"]));
    assert!((text(said.clone()) + &errors(&said)).contains("libnl-3-200"), "it is named");
    assert!(
        node.path(BINARY).symlink_metadata().is_err() && node.path("/usr/local/bin/containerd").is_file()
    );
    for (name, expected) in [("containerd.io", ""), ("libnl-genl-3-200", ""), ("libnl-3-200", "installed")] {
        assert_eq!(status(&node, name), expected, "{name}");
    }
    expect(0, node.nodebake("verify", &["--execute"]));
    let again = text(expect(0, node.nodebake("apply", &[])));
    assert!(again.contains("0 created, 0 changed, 0 removed"), "{again}");
    expect(0, node.nodebake("remove", &["--execute"]));
    assert_eq!(status(&node, "libnl-3-200"), "installed");
    assert!(node.path("/var/lib/nodebake").symlink_metadata().is_err());
}

/// Runs nodebake and kills it as soon as the package manager has taken the configuration away.
fn killed_while_the_configuration_is_away(node: &Node, words: &[&str]) {
    // dpkg takes a configuration file away and then asks the package's script for the rest.
    let script = node.path("/var/lib/dpkg/info/containerd.io.postrm");
    if script.is_file() {
        let slow =
            fs::read_to_string(&script).unwrap().replacen('\n', "\n[ \"$1\" != purge ] || sleep 9\n", 1);
        fs::write(&script, slow).unwrap();
    }
    let mut nodebake = Command::new(NODEBAKE);
    nodebake.args(words).arg("--root").arg(node.root());
    if words[0] == "apply" {
        nodebake.args(["--spec", &node.spec()]);
    }
    let mut child = nodebake.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while node.path(CONFIG).symlink_metadata().is_ok() {
        assert!(Instant::now() < deadline, "the configuration is not taken away");
        thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the kill came too late");
    assert!(node.path(CONFIG).symlink_metadata().is_err(), "the kill came too late");
}

fn edit(node: &Node) -> String {
    let edited = fs::read_to_string(node.path(CONFIG)).unwrap() + "# by hand\n";
    fs::write(node.path(CONFIG), &edited).unwrap();
    edited
}

/// Killed in the middle of `remove`: the next one leaves the edit where it was.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_edit_outlives_a_removal_that_is_killed() {
    let server = serve();
    for (root, repository) in [("trixie", suites(&server)), ("rocky", rpms(&server, "rpm"))] {
        let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
        node.apply();
        let edited = edit(&node);
        killed_while_the_configuration_is_away(&node, &["remove", "--execute"]);
        expect(0, node.nodebake("remove", &["--execute"]));
        assert_eq!(fs::read_to_string(node.path(CONFIG)).unwrap(), edited, "{root}");
        assert_left(&node, &["config.toml"]);
        assert!(node.path("/var/lib/nodebake").symlink_metadata().is_err(), "{root}");
        assert_forgotten(&node);
    }
}

/// Killed in the middle of the way from a package to an archive, then each way from there.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_edit_outlives_a_switch_that_is_killed() {
    let server = serve();
    for (root, generation, repository) in
        [("trixie", "2.1", suites(&server)), ("rocky", "1.6", rpms(&server, "rpm"))]
    {
        let package = format!("repository: {repository}, version: 1.7.24");
        for next in ["archive", "package", "remove"] {
            let node = node(root, &package, "");
            node.apply();
            let edited = edit(&node);
            node.write_spec(generation, "");
            killed_while_the_configuration_is_away(&node, &["apply", "--execute"]);
            match next {
                "package" => write_spec(&node, &package, ""),
                "remove" => {
                    expect(0, node.nodebake("remove", &["--execute"]));
                    assert_eq!(fs::read_to_string(node.path(CONFIG)).unwrap(), edited, "{root}");
                    assert_left(&node, &["config.toml"]);
                    assert_forgotten(&node);
                    continue;
                }
                _ => {}
            }
            expect(0, node.nodebake("apply", &["--execute"]));
            assert_eq!(fs::read_to_string(node.path(EDIT)).unwrap(), edited, "{root}, then {next}");
            assert!(!fs::read_to_string(node.path(CONFIG)).unwrap().contains("by hand"), "{root}, {next}");
            assert_left(&node, &["certs.d", "config.toml"]);
            expect(0, node.nodebake("verify", &["--execute"]));
        }
    }
}

/// dpkg has no trace of the package either: its scripts have run to their end.
#[track_caller]
fn assert_forgotten(node: &Node) {
    assert_eq!(status(node, "containerd.io"), "");
    let info = paths(&node.path("/var/lib/dpkg/info"));
    assert!(!info.iter().any(|path| path.to_str().unwrap().contains("/containerd.io.")), "{info:?}");
}

/// Names in /etc/containerd.
#[track_caller]
fn assert_left(node: &Node, names: &[&str]) {
    let found = fs::read_dir(node.path("/etc/containerd")).unwrap().flatten();
    let mut found: Vec<String> = found.map(|entry| entry.file_name().into_string().unwrap()).collect();
    found.sort();
    assert!(found.iter().all(|name| names.contains(&name.as_str())), "{found:?}");
}
