//! Signals and kills at each stage of a package run: nothing stays mounted, nobody stays, the next run converges.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::kit::command::{errors, expect, run};
use crate::kit::http::Server;
use crate::kit::node::Node;
use crate::kit::repository::{
    flat, is_package, node, outside_the_database, rpms, serve, serve_breakable, suites, write_spec,
};
use crate::kit::seen::{assert_packaged, assert_quiet, expect_nothing_to_do, installed, pristine};
use crate::kit::{NODEBAKE, assert_same, wait_until};

/// Where a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The server says nothing to the first request.
    Lists,
    /// It stops in the middle of the package.
    Download,
    /// A maintainer script takes its time.
    Script,
}

/// Starts a bake, sends `signal` at `stage`, and gives the node, its server and what came of it.
fn stopped(
    root: &str,
    stage: Stage,
    signal: &str,
) -> (Node, Server, std::sync::Arc<std::sync::atomic::AtomicBool>, Output) {
    let (server, broken) = serve_breakable(move |request, reply| match stage {
        Stage::Lists => reply.stall(10),
        Stage::Download if is_package(request) => reply.stall(1 << 20),
        _ => reply,
    });
    let repository = match (root, stage) {
        ("rocky", Stage::Script) => rpms(&server, "rpm-slow"),
        ("rocky", _) => rpms(&server, "rpm"),
        (_, Stage::Script) => flat(&server, "deb-slow"),
        _ => suites(&server),
    };
    let node = node(root, &format!("repository: {repository}, version: 1.7.24"), "");
    let mut nodebake = Command::new(NODEBAKE);
    nodebake.args(["apply", "--root"]).arg(node.root()).args(["--spec", &node.spec()]);
    let child = nodebake.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(&format!("{root} {stage:?}"), || match stage {
        Stage::Lists => !server.requests().is_empty(),
        Stage::Download => server.requests().iter().any(is_package),
        Stage::Script => node.path("/var/lib/lab-slow").is_file(),
    });
    // what was asked for is under way
    thread::sleep(Duration::from_millis(300));
    run("kill", &["-s", signal, &child.id().to_string()]);
    if stage == Stage::Script && signal != "KILL" {
        // dpkg and rpm are let end: a half-configured package is worse than half a minute
        thread::sleep(Duration::from_millis(500));
        let_it_go(&node);
    }
    let output = child.wait_with_output().unwrap();
    (node, server, broken, output)
}

/// The slow script has been slow enough.
fn let_it_go(node: &Node) {
    fs::write(node.path("/var/lib/lab-go"), "").unwrap();
}

/// What the slow script may have left when it was killed.
fn forget_it(node: &Node) {
    for path in ["/var/lib/lab-slow", "/var/lib/lab-go"] {
        let _ = fs::remove_file(node.path(path));
    }
}

/// Nothing stays mounted, nobody stays, and the next run gives what an undisturbed one does.
fn survives(root: &str, stage: Stage, signal: &str, code: Option<i32>) {
    let what = format!("{root} {stage:?} SIG{signal}");
    let (node, _server, broken, output) = stopped(root, stage, signal);
    assert_eq!(output.status.code(), code, "{what}\n{}", errors(&output));
    let interrupted_before_changes = stage != Stage::Script && signal != "KILL";
    if interrupted_before_changes {
        assert_quiet(&node);
        assert!(
            !node.path("/var/lib/nodebake").exists() || node.path("/var/lib/nodebake/.lock").exists(),
            "{what}"
        );
    } else {
        assert_no_mounts(&node);
    }
    broken.store(false, Ordering::Relaxed);
    let_it_go(&node);
    expect(0, node.nodebake("apply", &[]));
    forget_it(&node);
    assert_packaged(&node, "1.7.24");
    expect_nothing_to_do(&node);
    expect(0, node.nodebake("remove", &["--execute"]));
    assert_same(&what, &pristine(root), &outside_the_database(&node));
}

/// [`assert_quiet`] after a SIGKILL: files of the session may be left to the next run, processes and
/// mounts may not.
#[track_caller]
fn assert_no_mounts(node: &Node) {
    let root = node.root().display().to_string();
    let lives = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let path = entry.path();
            fs::read_link(path.join("root")).unwrap_or_default().starts_with(&root)
                || fs::read_to_string(path.join("mountinfo")).unwrap_or_default().contains(&root)
        })
    };
    wait_until("the end of all processes in the root", || !lives());
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_interrupt_while_lists_or_packages_are_fetched_leaves_nothing() {
    for root in ["bookworm", "rocky"] {
        for stage in [Stage::Lists, Stage::Download] {
            survives(root, stage, "INT", Some(130));
            survives(root, stage, "TERM", Some(143));
        }
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_interrupt_while_dpkg_works_lets_it_end() {
    for root in ["trixie", "rocky"] {
        survives(root, Stage::Script, "INT", Some(130));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn apt_a_kill_at_any_stage_is_got_over() {
    for stage in [Stage::Lists, Stage::Download, Stage::Script] {
        survives("trixie", stage, "KILL", None);
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn dnf_a_kill_at_any_stage_is_got_over() {
    for stage in [Stage::Lists, Stage::Download, Stage::Script] {
        survives("rocky", stage, "KILL", None);
    }
}

/// dpkg is killed with half of a package's files unpacked, at a first installation and at an upgrade.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_package_that_is_half_unpacked_is_got_over() {
    let server = serve();
    for (earlier, wanted) in [(None, "1.7.24"), (Some("1.7.24"), "2.1.9"), (Some("1.7.24"), "1.7.24")] {
        let repository = suites(&server);
        let node = node("bookworm", &format!("repository: {repository}, version: {wanted}"), "");
        if let Some(version) = earlier {
            write_spec(&node, &format!("repository: {repository}, version: {version}"), "");
            node.apply();
        }
        // the last case: an upgrade was broken off, and the version from before is wanted back
        let upgrade = if earlier == Some(wanted) { "2.1.9" } else { wanted };
        write_spec(&node, &format!("repository: {repository}, version: {upgrade}"), "");
        let mut nodebake = Command::new(NODEBAKE);
        nodebake.args(["apply", "--root"]).arg(node.root()).args(["--spec", &node.spec()]);
        let mut child = nodebake.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("dpkg to unpack", || {
            node.path("/usr/bin/containerd.dpkg-new").exists() || child_ended(&child)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_no_mounts(&node);
        assert!(installed(&node, "containerd.io").is_empty(), "{earlier:?} {wanted}: the kill came too late");
        write_spec(&node, &format!("repository: {repository}, version: {wanted}"), "");
        node.apply();
        assert_packaged(&node, wanted);
        assert!(node.path("/usr/bin/containerd.dpkg-new").symlink_metadata().is_err());
        expect(0, node.nodebake("remove", &["--execute"]));
        assert_same("the root", &pristine("bookworm"), &outside_the_database(&node));
    }
}

fn child_ended(child: &std::process::Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    status.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z'))
}

/// `remove` of what a killed run has left.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn remove_takes_away_what_a_killed_run_has_left() {
    for root in ["trixie", "rocky"] {
        let (node, _server, _, _) = stopped(root, Stage::Script, "KILL");
        let_it_go(&node);
        expect(0, node.nodebake("remove", &["--execute"]));
        forget_it(&node);
        assert_eq!(installed(&node, "containerd.io"), "");
        assert_same("the root", &pristine(root), &outside_the_database(&node));
        assert_quiet(&node);
    }
}

/// Another apt or dnf works in the same root.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_locked_package_database_is_exit_8() {
    let server = serve();
    let node = node("trixie", &format!("repository: {}, version: 1.7.24", suites(&server)), "");
    let lock = node.path("/var/lib/dpkg/lock-frontend");
    let hold = "import fcntl,sys,time\nf=open(sys.argv[1],'w')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint(flush=True)\ntime.sleep(60)";
    let mut other =
        Command::new("python3").args(["-c", hold]).arg(&lock).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read(other.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let before = outside_the_database(&node);
    expect(8, node.nodebake("apply", &[]));
    assert_same("the root", &before, &outside_the_database(&node));
    assert_quiet(&node);
    other.kill().unwrap();
    other.wait().unwrap();
    node.apply();
}
