//! A hostile root: a real one, baked, in which every executable has become a setuid program that tries to reach the
//! host (`program.c`).

use std::cell::RefCell;
use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::kit::NODEBAKE;
use crate::kit::command::{errors, run, text};
use crate::kit::node::{Folder, Node};
use crate::kit::repository::{node, rpms, serve};
use crate::kit::seen::assert_quiet;
use crate::kit::{assert_same, sha256, tree, wait_until};

/// What is called from each command. A command that is not here fails [`x1_no_command_runs_a_program_of_the_root`].
const CALLS: [(&str, &[&[&str]]); 10] = [
    ("plan", &[&["--root", "ROOT", "--spec", "SPEC"], &["--root", "ROOT", "--spec", "DEFAULT"]]),
    ("apply", &[&["--root", "ROOT", "--spec", "SPEC"], &["--root", "ROOT", "--spec", "DEFAULT"]]),
    ("verify", &[&["--root", "ROOT"], &["--root", "ROOT", "--json"], &["--root", "ROOT", "--spec", "SPEC"]]),
    ("goss", &[&["--root", "ROOT"], &["--spec", "SPEC"]]),
    ("remove", &[&["--root", "ROOT"]]),
    // Commands that see no root.
    ("lock", &[]),
    ("bundle", &[]),
    ("schema", &[]),
    ("completions", &[]),
    ("man", &[]),
];

/// The host as a program of the root may find it: open to everybody, so that nothing but the sandbox protects it.
struct Host {
    folder: Folder,
    listener: TcpListener,
    abstract_listener: UnixListener,
    sockets: Vec<UnixListener>,
    before: (String, Vec<String>),
}

impl Host {
    fn new() -> Host {
        let folder = Folder::on_disk();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("nodebake-hostile-{}", listener.local_addr().unwrap().port());
        let abstract_listener =
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(folder.path().join("sentinel"), "secret").unwrap();
        fs::set_permissions(folder.path().join("sentinel"), fs::Permissions::from_mode(0o666)).unwrap();
        listener.set_nonblocking(true).unwrap();
        abstract_listener.set_nonblocking(true).unwrap();
        let before = (tree(folder.path()), mounts());
        Host { folder, listener, abstract_listener, sockets: Vec::new(), before }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Compiles the hostile program, which knows where the host is.
    fn program(&self) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/hostile/program.c");
        // In a folder that nobody but root sees: it must not be what the program finds of the host.
        let program = self.folder.path().with_extension("program");
        let disk = fs::metadata(self.folder.path()).unwrap().dev();
        let define = [
            format!("-DHOST=\"{}\"", self.folder.path().display()),
            format!("-DDISK={disk}"),
            format!("-DPORT={}", self.port()),
        ];
        let mut words = vec!["-static", "-O1", "-Wall", "-o", program.to_str().unwrap()];
        words.extend(define.iter().map(String::as_str));
        words.push(source.to_str().unwrap());
        run("cc", &words);
        program
    }

    /// Nothing has been written, mounted, left running or connected to.
    #[track_caller]
    fn is_untouched(&self, node: &Node) {
        assert_quiet(node);
        let name = format!("hostile-{}", self.port());
        wait_until("the hostile processes to end", || !comms().contains(&name));
        assert_same("the host", &self.before.0, &tree(self.folder.path()));
        let root = node.root().display().to_string();
        let mine = |mounts: Vec<String>| -> Vec<String> {
            mounts.into_iter().filter(|mount| mount.contains(&root)).collect()
        };
        assert_eq!(mine(mounts()), mine(self.before.1.clone()), "mounts of the root");
        assert!(self.listener.accept().is_err(), "the network was reached");
        assert!(self.abstract_listener.accept().is_err(), "an abstract socket was reached");
        for socket in &self.sockets {
            assert!(socket.accept().is_err(), "{:?} was reached", socket.local_addr());
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.folder.path().with_extension("program"));
    }
}

fn mounts() -> Vec<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
}

/// Names of all processes.
fn comms() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

/// Replaces every executable of the node by the hostile program, and has the receipt say that this was baked; puts
/// disks and sockets of the host where a chroot build has them.
fn turn_hostile(node: &Node, host: &mut Host) {
    let program = host.program();
    let master = node.path("/usr/hostile");
    fs::copy(&program, &master).unwrap();
    fs::set_permissions(&master, fs::Permissions::from_mode(0o4755)).unwrap();
    // A hard link for each: a copy of 800 KB would be 800 MB.
    let script = "find -xdev . -type f -perm /111 ! -path ./usr/hostile ! -name '*.so*' ! -path './usr/local/*' ! -path './opt/*' -exec ln -f usr/hostile {} ';'";
    run(
        "sh",
        &[
            "-c",
            &format!("cd '{}' && {}", node.root().display(), script.replace("find -xdev .", "find . -xdev")),
        ],
    );
    let path = node.path("/usr/local/bin/containerd");
    if path.exists() {
        fs::copy(&program, &path).unwrap();
        let receipt = node.path("/var/lib/nodebake/receipt.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
        json["paths"]["/usr/local/bin/containerd"]["sha256"] = sha256(&fs::read(&path).unwrap()).into();
        fs::write(&receipt, serde_json::to_string(&json).unwrap()).unwrap();
    }
    let disk = fs::metadata(host.folder.path()).unwrap().dev();
    for folder in ["dev", "usr", "etc", "var"] {
        let file = node.path(&format!("/{folder}/hostdisk"));
        let device = (rustix::fs::major(disk).to_string(), rustix::fs::minor(disk).to_string());
        run("mknod", &["-m", "666", file.to_str().unwrap(), "b", &device.0, &device.1]);
    }
    for folder in ["run", "dev"] {
        let socket = UnixListener::bind(node.path(&format!("/{folder}/host.sock"))).unwrap();
        fs::set_permissions(node.path(&format!("/{folder}/host.sock")), fs::Permissions::from_mode(0o777))
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        host.sockets.push(socket);
    }
}

fn forget_sockets_and_disks(node: &Node) {
    for path in ["/dev/hostdisk", "/run/host.sock", "/dev/host.sock"] {
        fs::remove_file(node.path(path)).unwrap();
    }
}

/// nodebake under strace, which shows what it and its children execute and print.
fn traced(node: &Node, words: &[String]) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "--seccomp-bpf", "-qq", "-s", "256", "-e", "trace=execve,write", "-o"])
        .arg(trace(node))
        .arg(NODEBAKE);
    strace.args(words).stdin(Stdio::null());
    strace
}

fn trace(node: &Node) -> PathBuf {
    node.folder.path().join("trace")
}

/// Programs that were executed, without nodebake itself.
fn executed(node: &Node) -> Vec<String> {
    let trace = fs::read_to_string(trace(node)).unwrap();
    let started = trace.lines().filter(|line| line.contains("execve(") && line.ends_with("= 0"));
    started
        .filter(|line| !line.contains(NODEBAKE) && !line.contains("/proc/self/exe"))
        .map(str::to_owned)
        .collect()
}

/// Lines that the hostile program has printed.
fn said(node: &Node) -> Vec<String> {
    let trace = String::from_utf8_lossy(&fs::read(trace(node)).unwrap()).into_owned();
    let lines =
        trace.lines().filter_map(|line| Some(line.split_once("write(2, \"")?.1.split_once("\\n\"")?.0));
    let mut lines: Vec<String> = lines
        .filter(|line| ["ran", "done"].contains(line) || line.starts_with("escaped"))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

/// The commands that `nodebake --help` names.
fn commands() -> Vec<String> {
    let help = text(Command::new(NODEBAKE).arg("--help").output().unwrap());
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let starts = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    starts
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// A spec of the same components that starts from `containerd config default`.
fn default_spec(node: &Node) -> String {
    let path = node.folder.path().join("default.yaml");
    let spec = fs::read_to_string(node.spec()).unwrap();
    fs::write(&path, format!("{spec}containerd: {{config: {{base: default}}}}\n")).unwrap();
    path.display().to_string()
}

fn call(node: &Node, command: &str, words: &[&str]) -> Vec<String> {
    let root = node.root().display().to_string();
    let fill = |word: &&str| match *word {
        "ROOT" => root.clone(),
        "SPEC" => node.spec(),
        "DEFAULT" => default_spec(node),
        other => other.to_owned(),
    };
    std::iter::once(command.to_owned()).chain(words.iter().map(fill)).collect()
}

/// Nothing of a root runs unless the caller says so, whatever the root's state says.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn x1_no_command_runs_a_program_of_the_root() {
    for command in commands() {
        assert!(CALLS.iter().any(|(name, _)| *name == command), "give CALLS a call of `{command}`");
    }
    let server = serve();
    let packaged = node("rocky", &format!("repository: {}, version: 1.7.24", rpms(&server, "rpm")), "");
    packaged.apply();
    // From now on the spec asks for archives, so only the receipt in the root has packages.
    packaged.write_spec("1.6", "");
    let archived = Node::new("trixie", "2.1", "");
    archived.apply();
    for node in [archived, packaged] {
        let mut host = Host::new();
        turn_hostile(&node, &mut host);
        for (command, calls) in CALLS {
            for words in calls {
                let words = call(&node, command, words);
                let output = traced(&node, &words).output().unwrap();
                assert_ne!(
                    output.status.code(),
                    Some(2),
                    "nodebake {}: {}",
                    words.join(" "),
                    errors(&output)
                );
                assert_eq!(executed(&node), [""; 0], "nodebake {}", words.join(" "));
            }
        }
        forget_sockets_and_disks(&node);
        host.is_untouched(&node);
    }
}

/// A containerd that may be asked gets nothing but its own root, read-only, as nobody.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn x2_x4_a_containerd_that_is_asked_reaches_nothing() {
    let node = Node::new("trixie", "2.1", "");
    node.apply();
    let mut host = Host::new();
    turn_hostile(&node, &mut host);
    // A descriptor that the caller has left open.
    let left = OwnedFd::from(fs::File::open(host.folder.path().join("sentinel")).unwrap());
    rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).unwrap();
    assert!(left.as_raw_fd() > 2);
    let words = call(&node, "verify", &["--root", "ROOT", "--execute"]);
    let output = traced(&node, &words).output().unwrap();
    assert_eq!(said(&node), ["done", "ran"], "{}", text(output));
    forget_sockets_and_disks(&node);
    host.is_untouched(&node);
}

/// A package manager that may run has root's rights in the root, and none outside of it.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn x3_a_package_manager_that_may_run_reaches_nothing_outside() {
    let server = serve();
    let package = format!("repository: {}, version: 1.7.24", rpms(&server, "rpm"));
    let node = node("rocky", &package, "");
    node.apply();
    let mut host = Host::new();
    turn_hostile(&node, &mut host);
    for words in [
        call(&node, "verify", &["--root", "ROOT", "--execute"]),
        call(&node, "plan", &["--root", "ROOT", "--spec", "SPEC"]),
        call(&node, "apply", &["--root", "ROOT", "--spec", "SPEC"]),
        call(&node, "remove", &["--root", "ROOT", "--execute"]),
    ] {
        let _ = fs::remove_file(trace(&node));
        let output = traced(&node, &words).output().unwrap();
        // What it may do to its own root is its own affair; the network is the host's where packages are fetched.
        let outside: Vec<String> = said(&node)
            .into_iter()
            .filter(|line| !line.starts_with("escaped rights: ") && !["ran", "done"].contains(&line.as_str()))
            .collect();
        assert!(said(&node).iter().any(|line| line == "ran"), "{words:?}: {}", text(output));
        assert_eq!(outside, [""; 0], "{words:?}");
    }
    forget_sockets_and_disks(&node);
    host.is_untouched(&node);
}

/// With nodebake dies whatever it has started.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn x5_a_kill_leaves_no_process_and_no_mount() {
    let node = Node::new("trixie", "2.1", "");
    node.apply();
    let mut host = Host::new();
    turn_hostile(&node, &mut host);
    let name = format!("hostile-{}", host.port());
    let start = || -> Child {
        Command::new(NODEBAKE)
            .args(call(&node, "verify", &["--root", "ROOT", "--execute"]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    for round in 0..10 {
        let verify = RefCell::new(start());
        // It is killed for what it writes: a busy machine may look away meanwhile.
        wait_until("the hostile program to run", || {
            let is_seen = comms().contains(&name);
            if !is_seen && verify.borrow_mut().try_wait().unwrap().is_some() {
                let _ = verify.replace(start()).wait();
            }
            is_seen
        });
        std::thread::sleep(std::time::Duration::from_millis(5 * round));
        let mut verify = verify.into_inner();
        let _ = verify.kill();
        verify.wait().unwrap();
        wait_until("the hostile processes to end", || !comms().contains(&name));
    }
    forget_sockets_and_disks(&node);
    host.is_untouched(&node);
}
