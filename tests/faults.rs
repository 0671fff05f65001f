//! Crash consistency (rows C1 to C13): whatever call fails, and whenever a run is killed, every path is as it was or
//! as it should be, and the next run converges to the same tree.
//!
//! All of it is judged from outside: trees, exit codes and messages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests set up their own host"
)]

#[path = "kit/http.rs"]
mod http;
mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http::{Reply, Server};
use kit::{
    CONTAINERD, Component, Lab, Machine, Member, NODEBAKE, Run, elf, gzip, run, sha256, skip, tar, works,
};
use serde_json::Value;
use tempfile::TempDir;

const STATE: &str = "var/lib/nodebake";

// ---------------------------------------------------------------- C1, C2, C3: every call fails, or is the last

/// The calls that change a root or that it depends on, each with an error that the kernel could give.
const CALLS: [(&str, &str); 38] = [
    ("write", "ENOSPC"),
    ("writev", "ENOSPC"),
    ("pwrite64", "ENOSPC"),
    ("copy_file_range", "EIO"),
    ("sendfile", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("openat", "EMFILE"),
    ("openat2", "EMFILE"),
    ("mkdirat", "ENOSPC"),
    ("mkdir", "ENOSPC"),
    ("linkat", "ENOSPC"),
    ("symlinkat", "ENOSPC"),
    ("renameat", "EIO"),
    ("renameat2", "EIO"),
    ("rename", "EIO"),
    ("unlinkat", "EIO"),
    ("unlink", "EIO"),
    ("rmdir", "EIO"),
    ("fchmod", "EPERM"),
    ("fchmodat", "EPERM"),
    ("fchmodat2", "EPERM"),
    ("fchown", "EPERM"),
    ("fchownat", "EPERM"),
    ("flock", "ENOLCK"),
    ("close", "EIO"),
    ("utimensat", "EPERM"),
    ("ftruncate", "EIO"),
    ("sync_file_range", "EIO"),
    ("fallocate", "ENOSPC"),
    ("read", "EIO"),
    ("pread64", "EIO"),
    ("readlinkat", "EIO"),
    ("newfstatat", "EIO"),
    ("statx", "EIO"),
    ("getdents64", "EIO"),
    ("fsetxattr", "ENOSPC"),
    ("clone3", "EAGAIN"),
];

/// How a run is disturbed at its n-th call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Error(&'static str),
    Kill,
    Terminate,
}

impl Fault {
    fn kind(self) -> &'static str {
        match self {
            Fault::Error(_) => "errors",
            Fault::Kill => "SIGKILL",
            Fault::Terminate => "SIGTERM",
        }
    }
}

/// One disturbed run.
struct Task<'a> {
    story: &'a Story,
    call: &'static str,
    fault: Fault,
    n: usize,
}

#[test]
#[ignore = "needs strace; run by make test"]
fn c1_c2_c3_every_call_fails_or_is_the_last() {
    if !works(["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "true"]) {
        return skip("c1_c2_c3_every_call_fails_or_is_the_last", "strace can't trace here");
    }
    let stories = stories();
    let tasks: Vec<Task> = stories.iter().flat_map(Task::of).collect();
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = task.play();
                    outcomes.lock().unwrap().push((task.fault, outcome));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    // cargo captures only the print macros, and these numbers are for whoever ran it.
    let mut report = std::io::stderr();
    for kind in ["errors", "SIGKILL", "SIGTERM"] {
        let hits: Vec<bool> =
            outcomes.iter().filter(|(fault, _)| fault.kind() == kind).map(|(_, (hit, _))| *hit).collect();
        let reached = hits.iter().filter(|hit| **hit).count();
        writeln!(report, "{kind}: {} runs, {reached} faults injected", hits.len()).unwrap();
        assert!(reached * 4 > hits.len(), "{kind} were hardly ever injected: the sweep proves nothing");
    }
    let complaints: Vec<String> = outcomes.into_iter().flat_map(|(_, (_, wrong))| wrong).collect();
    writeln!(report, "{} complaints, {:?}", complaints.len(), start.elapsed()).unwrap();
    assert!(complaints.is_empty(), "{} complaints, by kind:\n{}", complaints.len(), summary(&complaints));
}

/// One complaint of each kind, with their number.
fn summary(complaints: &[String]) -> String {
    let mut kinds: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for complaint in complaints {
        let first = complaint.lines().next().unwrap_or_default();
        let kind: String = first.chars().filter(|c| !c.is_ascii_digit()).take(100).collect();
        kinds.entry(kind).or_default().push(complaint);
    }
    kinds.values().map(|alike| format!("{} x {}\n", alike.len(), alike[0])).collect()
}

impl<'a> Task<'a> {
    /// The sweep over one story: n from 1 to two more than an undisturbed run makes, since threads share the work
    /// differently each time. With NODEBAKE_FAULTS=all every n, else two dozen that are spread evenly.
    fn of(story: &'a Story) -> Vec<Task<'a>> {
        let all = std::env::var_os("NODEBAKE_FAULTS").is_some_and(|value| value == "all");
        let counts = story.count_calls();
        let mut tasks = Vec::new();
        for (call, error) in CALLS {
            let Some(count) = counts.get(call).map(|count| count + 2) else { continue };
            for (fault, most) in [(Fault::Error(error), 24), (Fault::Kill, 24), (Fault::Terminate, 6)] {
                let most = if all { count } else { most.min(count) };
                let spread: BTreeSet<usize> =
                    (0..most).map(|step| 1 + step * (count - 1) / (most - 1).max(1)).collect();
                tasks.extend(spread.into_iter().map(|n| Task { story, call, fault, n }));
            }
        }
        tasks
    }

    /// Runs it, judges it, runs again undisturbed and judges that. Says whether the fault was reached.
    fn play(&self) -> (bool, Vec<String>) {
        let Task { story, call, fault, n } = self;
        let work = story.copy();
        let root = work.path().join("root");
        let log = work.path().join("trace");
        let inject = match fault {
            Fault::Error(error) => format!("inject={call}:error={error}:when={n}"),
            Fault::Kill => format!("inject={call}:signal=SIGKILL:when={n}"),
            Fault::Terminate => format!("inject={call}:signal=SIGTERM:when={n}"),
        };
        let trace = format!("trace={call}");
        let mut command = story.lab.wrapped(["strace", "-f", "-qq", "-e", &trace, "-e", &inject]);
        // Much faster, but then strace injects no signals.
        if matches!(fault, Fault::Error(_)) {
            command.arg("--seccomp-bpf");
        }
        let run = story.call(command.arg("-o").arg(&log).arg(NODEBAKE), &root);
        let log = fs::read_to_string(&log).unwrap_or_default();
        let hit = run.code.is_none() || log.contains("INJECTED") || log.contains("--- SIGTERM");
        // The dynamic loader's own calls: nodebake had not begun.
        if run.code == Some(127) && run.errors().contains("shared libraries") {
            return (hit, Vec::new());
        }
        // strace counts for each thread: the same call may have failed twice, also while cleaning up.
        let torn = run.code.is_none() || log.matches("(INJECTED)").count() > 1;
        let mut wrong = story.judge(&root, &run, torn);
        // What can't be written to stderr can't be read there.
        let speechless = log.lines().any(|line| line.contains("write(2,") && line.contains("(INJECTED)"));
        if !speechless {
            wrong.extend(self.judge_message(&run, &root));
        }
        // Every other kill is followed by a change of mind.
        let change_of_mind = story.verb == "apply" && *fault == Fault::Kill && n % 2 == 0;
        wrong.extend(story.converge(&root, change_of_mind));
        let beside: Vec<_> =
            fs::read_dir(work.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        if beside.len() > 2 {
            wrong.push(format!("wrote beside the root: {beside:?}"));
        }
        let label = format!("{}, {call} #{n} {fault:?}, exit {:?}", story.name, run.code);
        (hit, wrong.into_iter().map(|what| format!("[{label}] {what}")).collect())
    }

    fn judge_message(&self, run: &Run, root: &Path) -> Vec<String> {
        let mut wrong = Vec::new();
        let errors = run.errors();
        let expected = match (self.fault, run.code) {
            (_, Some(0)) | (Fault::Kill, None) => return wrong,
            (Fault::Terminate, Some(code)) => code == 143,
            // Before it listened for signals, and before it did anything.
            (Fault::Terminate, None) => Tree::of(root) == self.story.before,
            // The work is done and could not be reported.
            (Fault::Error(_), Some(1)) => self.call == "write" && Tree::of(root) == self.story.after,
            // Nothing is wrong with the bytes (5) or the layout (6) because a call fails.
            (Fault::Error(_), Some(code)) => matches!(code, 3 | 4 | 7 | 8 | 9),
            _ => false,
        };
        if !expected || errors.contains("panicked") {
            wrong.push(format!("ended wrongly:\n{run}"));
        }
        if let Fault::Error(error) = self.fault
            && !errors.to_lowercase().contains(meaning(error))
        {
            wrong.push(format!("does not say that it was {error}: {errors}"));
        }
        wrong
    }
}

fn meaning(error: &str) -> &'static str {
    match error {
        "ENOSPC" => "no space left on device",
        "EIO" => "input/output error",
        "EMFILE" => "too many open files",
        "EPERM" => "operation not permitted",
        "ENOLCK" => "no locks available",
        "EAGAIN" => "temporarily unavailable",
        other => panic!("no meaning for {other}"),
    }
}

// ---------------------------------------------------------------- stories

/// A command on a prepared root, and the tree that it makes when nothing disturbs it.
struct Story {
    name: &'static str,
    verb: &'static str,
    lab: Lab,
    template: PathBuf,
    pristine: Tree,
    before: Tree,
    after: Tree,
    scratch: TempDir,
}

/// Bakes v1 into a fresh root, upgrades one from v1 to v2, and removes v1 from one.
fn stories() -> Vec<Story> {
    let fresh = Story::new("fresh bake", "apply", version_one(), |_| {});
    let upgrade = Story::new("upgrade", "apply", version_two(), |root| {
        bake(&version_one(), root);
        // An edit, so that the upgrade has something to keep.
        kit::write(&root.join("etc/containerd/certs.d/docker.io/hosts.toml"), b"# edited\n");
    });
    let remove = Story::new("remove", "remove", version_one(), |root| bake(&version_one(), root));
    vec![fresh, upgrade, remove]
}

fn bake(lab: &Lab, root: &Path) {
    lab.run(["apply"], root).exits(0);
}

impl Story {
    fn new(name: &'static str, verb: &'static str, lab: Lab, prepare: impl FnOnce(&Path)) -> Story {
        // Thousands of small trees: in memory where there is some.
        let memory = Path::new("/dev/shm");
        let scratch =
            tempfile::tempdir_in(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() })
                .unwrap();
        let template = scratch.path().join("template");
        copy(&lab.root, &template);
        // The user's own, so that there is something to put back.
        kit::write(&template.join("etc/containerd/config.toml"), b"# the user's own\n");
        kit::mode(&template.join("etc/containerd/config.toml"), 0o640);
        let pristine = Tree::of(&template);
        prepare(&template);
        let before = Tree::of(&template);
        let mut story =
            Story { name, verb, lab, template, pristine, before, after: Tree::default(), scratch };
        let work = story.copy();
        let root = work.path().join("root");
        story.call(&mut story.lab.command([]), &root).exits(0);
        story.after = Tree::of(&root);
        assert!(story.before != story.after, "{name} does nothing");
        story
    }

    /// A fresh copy of the root, alone in a directory.
    fn copy(&self) -> TempDir {
        let work = tempfile::tempdir_in(&self.scratch).unwrap();
        copy(&self.template, &work.path().join("root"));
        work
    }

    /// Runs the story's command; `command` ends in the binary.
    fn call(&self, command: &mut Command, root: &Path) -> Run {
        call(&self.lab, command, self.verb, root)
    }

    /// The most calls that any one thread of an undisturbed run makes: strace counts for each thread.
    fn count_calls(&self) -> BTreeMap<String, usize> {
        let work = self.copy();
        let log = work.path().join("trace");
        let mut command = self.lab.wrapped(["strace", "-f", "-qq", "-o"]);
        self.call(command.arg(&log).arg(NODEBAKE), &work.path().join("root")).exits(0);
        let mut by_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in fs::read_to_string(&log).unwrap().lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            if let Some((call, _)) = rest.trim_start().split_once('(') {
                *by_thread.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
            }
        }
        let mut most = BTreeMap::new();
        for ((_, call), count) in by_thread {
            let entry = most.entry(call).or_default();
            *entry = count.max(*entry);
        }
        most
    }

    /// What is wrong with a root after a disturbed run.
    ///
    /// `torn`: it was killed, or could not clean up.
    fn judge(&self, root: &Path, run: &Run, torn: bool) -> Vec<String> {
        let now = Tree::of(root);
        let pending = fs::read_to_string(root.join(STATE).join("pending.json")).ok();
        let mut wrong = self.judge_paths(&now, torn, pending.as_deref());
        if run.code == Some(0) && now != self.after {
            wrong.push(format!("exit 0, but {}", now.differences(&self.after)));
        }
        let nothing_done = !now
            .0
            .iter()
            .any(|(path, what)| is_content(path, what) && self.before.0.get(path) != Some(what))
            && self.before.0.iter().all(|(path, what)| !is_content(path, what) || now.0.contains_key(path));
        if !torn && run.code != Some(0) && nothing_done && now != self.before {
            wrong.push(format!("failed before anything was renamed, but {}", now.differences(&self.before)));
        }
        wrong.extend(judge_enablement(root));
        if pending.is_none() {
            wrong.extend(judge_receipt(root));
        }
        wrong
    }

    /// Each path is as before or as after; temporary names only after a kill, and then the intent has them.
    fn judge_paths(&self, now: &Tree, torn: bool, pending: Option<&str>) -> Vec<String> {
        let mut wrong = Vec::new();
        let all: BTreeSet<&String> =
            now.0.keys().chain(self.before.0.keys()).chain(self.after.0.keys()).collect();
        for path in all {
            let (old, new, is) = (self.before.0.get(path), self.after.0.get(path), now.0.get(path));
            let name = path.rsplit('/').next().unwrap_or_default();
            let temporary = name.starts_with(".nodebake-");
            if is.is_some() && temporary && !torn {
                wrong.push(format!("left `{path}`"));
            } else if is.is_some() && temporary && name.ends_with(".tmp") {
                if !pending.is_some_and(|text| text.contains(path.as_str())) {
                    wrong.push(format!("left `{path}`, which no intent names"));
                }
            } else if is != old && is != new && !is_state(path) {
                // Created and not yet given its mode: the next run does, if the intent tells it of the directory.
                let unfinished = torn && old.is_none() && is.is_some_and(|what| what.starts_with('d'));
                if unfinished && pending.is_some_and(|text| text.contains(&format!("\"/{path}\""))) {
                    continue;
                }
                wrong.push(format!("`{path}` is neither old nor new: {is:?}, was {old:?}, becomes {new:?}"));
            }
        }
        wrong
    }

    /// After an undisturbed run of the same command (or of `remove`), the tree is that of an undisturbed story.
    fn converge(&self, root: &Path, change_of_mind: bool) -> Vec<String> {
        let (verb, expected) =
            if change_of_mind { ("remove", &self.pristine) } else { (self.verb, &self.after) };
        let again = call(&self.lab, &mut self.lab.command([]), verb, root);
        if again.code != Some(0) {
            return vec![format!("the next {verb} fails:\n{again}")];
        }
        let now = Tree::of(root);
        // What the user edited is kept by `remove`, wherever it was when the run was killed.
        let edits_kept =
            change_of_mind && now.0.iter().any(|(_, what)| what.contains(&sha256(b"# edited\n")));
        if now == *expected || edits_kept && now.without_edits() == expected.without_edits() {
            return Vec::new();
        }
        vec![format!("the next {verb} ends elsewhere: {}", now.differences(expected))]
    }
}

/// A file or a link of the image, not of nodebake's own state: what an upgrade is about.
fn is_content(path: &str, what: &str) -> bool {
    !what.starts_with('d') && !is_state(path) && !path.contains("/.nodebake-")
}

fn is_state(path: &str) -> bool {
    path == STATE || path.starts_with("var/lib/nodebake/") || path.starts_with("var/lib/.nodebake-state")
}

/// The service is never enabled without its unit and its binary.
fn judge_enablement(root: &Path) -> Vec<String> {
    let there = |path: &str| root.join(path).symlink_metadata().is_ok();
    let enabled = there("etc/systemd/system/multi-user.target.wants/containerd.service");
    let startable =
        there("usr/local/lib/systemd/system/containerd.service") && there("usr/local/bin/containerd");
    if enabled && !startable { vec!["enabled without its unit or its binary".to_owned()] } else { Vec::new() }
}

/// Without an intent the receipt claims nothing that is not there.
fn judge_receipt(root: &Path) -> Vec<String> {
    let Ok(text) = fs::read_to_string(root.join(STATE).join("receipt.json")) else { return Vec::new() };
    let Ok(receipt) = serde_json::from_str::<Value>(&text) else {
        return vec!["the receipt is torn".to_owned()];
    };
    let mut wrong = Vec::new();
    for (path, claim) in receipt["paths"].as_object().unwrap() {
        let host = root.join(path.trim_start_matches('/'));
        let holds = match claim["type"].as_str().unwrap() {
            "file" => fs::read(&host).is_ok_and(|bytes| claim["sha256"].as_str() == Some(&sha256(&bytes))),
            "link" => fs::read_link(&host).is_ok_and(|target| claim["target"].as_str() == target.to_str()),
            _ => host.is_dir(),
        };
        if !holds && !fs::read(&host).is_ok_and(|bytes| bytes == b"# edited\n") {
            wrong.push(format!("the receipt claims `{path}` and there is no intent"));
        }
    }
    wrong
}

/// Path to what is there: type, mode, owner, content, and the time of a file.
#[derive(Clone, Default, PartialEq, Eq)]
struct Tree(BTreeMap<String, String>);

impl Tree {
    fn of(root: &Path) -> Tree {
        let mut tree = BTreeMap::new();
        for line in kit::tree(root).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let path = words[2];
            let meta = root.join(path).symlink_metadata().unwrap();
            let time = if meta.is_file() { meta.mtime() } else { 0 };
            tree.insert(
                path.to_owned(),
                format!("{} {} {} at {time}", words[0], words[1], words[3..].join(" ")),
            );
        }
        // Held open by the lock while it is there; its content is nothing.
        tree.remove("var/lib/nodebake/.lock");
        Tree(tree)
    }

    fn differences(&self, expected: &Tree) -> String {
        let lines = |from: &Tree, other: &Tree, sign: char| {
            let differing = from.0.iter().filter(|(path, what)| other.0.get(*path) != Some(*what));
            differing.map(|(path, what)| format!("\n  {sign} {path} {what}")).collect::<String>()
        };
        format!("the tree differs:{}{}", lines(self, expected, '+'), lines(expected, self, '-'))
    }

    /// Without the user's edit, its copy and the directories that hold nothing else.
    fn without_edits(&self) -> Tree {
        let edit = |path: &String, what: &String| {
            what.contains(&sha256(b"# edited\n"))
                || is_state(path)
                || path.starts_with("etc/containerd/certs.d")
        };
        Tree(
            self.0
                .iter()
                .filter(|(path, what)| !edit(path, what))
                .map(|(path, what)| (path.clone(), what.clone()))
                .collect(),
        )
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "copying {}", from.display());
}

fn call(lab: &Lab, command: &mut Command, verb: &str, root: &Path) -> Run {
    command.arg(verb).arg("--root").arg(root);
    if verb == "apply" {
        command.arg("--spec").arg(&lab.spec);
    }
    run(command)
}

/// containerd with one program more than the next version has, and two registries.
fn version_one() -> Lab {
    let mut lab = Lab::new();
    let mut members = kit::containerd_members();
    members.push(Member::plugin("bin/containerd-stress"));
    lab.ship(CONTAINERD, &gzip(&tar(&members)));
    lab.spec_also(
        "containerd: {proxy: {http: \"http://proxy:3128\"}}\n\
         registries:\n  docker.io: {mirrors: [{url: \"https://one.corp\"}]}\n  quay.io: {mirrors: [{url: \"https://one.corp\"}]}\n",
    );
    lab
}

/// Other bytes everywhere, one program, one registry and one drop-in less, one registry more.
fn version_two() -> Lab {
    let mut lab = Lab::new();
    let names = ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"];
    let program = |name: &&str| {
        Member::file(name, 0o755, &elf(Machine::X86_64, format!("{name}, the next").as_bytes()))
    };
    let members: Vec<Member> = names.iter().map(program).collect();
    let next = Component { version: "2.2.0", file: "containerd-2.2.0-linux-amd64.tar.gz", ..CONTAINERD };
    lab.ship(next, &gzip(&tar(&members)));
    lab.spec_also(
        "containerd: {limit_nofile: infinity}\n\
         registries:\n  docker.io: {mirrors: [{url: \"https://two.corp\"}]}\n  ghcr.io: {mirrors: [{url: \"https://two.corp\"}]}\n",
    );
    lab
}

// ---------------------------------------------------------------- C3: signals while it waits

#[test]
fn c3_signals_end_the_wait_for_the_lock() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let lab = Lab::new();
        let lock = hold_lock(&lab);
        let before = lab.tree();
        let mut command = lab.command(["apply", "--lock-timeout", "60"]);
        let waiting = start(command.arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec));
        wait_until("the lock is open", || has_open(&waiting, ".lock"));
        let (ended, errors) = signalled(waiting, signal);
        assert_eq!(ended, code, "{errors}");
        kit::assert_same("the root", &before, &lab.tree());
        drop(lock);
        lab.apply().exits(0);
    }
}

#[test]
fn c3_signals_end_a_stalled_download() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        for stalled in [
            Reply::ok(vec![0; 4096]).stall(0),
            Reply::ok(vec![0; 4096]).stall(1000),
            Reply::error(503).header("Retry-After", "60"),
        ] {
            let lab = Lab::new();
            let before = lab.tree();
            let server = Server::http(move |_, _| stalled.clone());
            let waiting = start(&mut download(&lab, &server));
            server.wait_for(CONTAINERD.file);
            // Whatever it does with the answer, it does now.
            thread::sleep(Duration::from_millis(300));
            let (ended, errors) = signalled(waiting, signal);
            assert_eq!(ended, code, "{errors}");
            assert!(!errors.contains("panicked"), "{errors}");
            kit::assert_same("the root", &before, &lab.tree());
        }
    }
}

// ---------------------------------------------------------------- C5, C6, C7: the filesystem has no room, or is not writable

#[test]
fn c5_every_size_that_is_too_small() {
    sweep_sizes(
        "c5_every_size_that_is_too_small",
        |more| format!("mode=755,size={}k,nr_inodes=9999", 4 * more),
        1,
    );
}

#[test]
fn c5_every_number_of_inodes_that_is_too_small() {
    sweep_sizes(
        "c5_every_number_of_inodes_that_is_too_small",
        |more| format!("mode=755,size=64m,nr_inodes={more}"),
        3,
    );
}

/// Bakes into tmpfs mounts of growing size, from one that holds the bare root to one that is enough.
fn sweep_sizes(test: &str, options: impl Fn(usize) -> String, step: usize) {
    if !works(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]) {
        return skip(test, "tmpfs can't be mounted here");
    }
    let story = Story::new("too small", "apply", version_one(), |_| {});
    let bare = kit::paths(&story.template).len() + 2;
    for (failures, more) in (bare..bare + 400).step_by(step).enumerate() {
        let work = tempfile::tempdir_in(&story.scratch).unwrap();
        let at = |name: &str| work.path().join(name);
        for name in ["root", "after", "converged"] {
            fs::create_dir(at(name)).unwrap();
        }
        // Mounted nowhere else, so what it held is copied out before the namespace ends.
        let script = "mount -t tmpfs -o $1 none root && cp -a ../template/. root/ || exit 99
            \"$2\" apply --root root --spec \"$3\"; code=$?
            cp -a root/. after/ && mount -o remount,size=64m,nr_inodes=9999 root || exit 99
            \"$2\" apply --root root --spec \"$3\" >/dev/null 2>again || exit 98
            cp -a root/. converged/; exit $code";
        let mut command =
            story.lab.wrapped(["unshare", "-m", "sh", "-c", script, "sh", &options(more), NODEBAKE]);
        let run = run(command.arg(&story.lab.spec).current_dir(work.path()));
        let again = fs::read_to_string(at("again")).unwrap_or_default();
        assert!(!matches!(run.code, Some(98 | 99)), "with {}:\n{run}{again}", options(more));
        let wrong = story.judge(&at("after"), &run, false);
        assert!(wrong.is_empty(), "with {}: {wrong:#?}\n{run}", options(more));
        let converged = Tree::of(&at("converged"));
        assert!(converged == story.after, "with {}: {}", options(more), converged.differences(&story.after));
        if run.code == Some(0) {
            assert!(failures > 3, "only {failures} sizes were too small");
            return;
        }
        run.exits(7).says("no space left on device").says("help:");
    }
    panic!("never enough");
}

#[test]
fn c6_a_read_only_root_is_named() {
    if !works(["unshare", "-m", "mount", "--bind", "/mnt", "/mnt"]) {
        return skip("c6_a_read_only_root_is_named", "unshare -m does not work here");
    }
    let lab = Lab::new();
    let before = lab.tree();
    let root = lab.root.to_str().unwrap().to_owned();
    let frozen =
        "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" || exit 99; shift; exec \"$@\"";
    let on_frozen = |verb: &str| {
        let mut command =
            lab.wrapped(["unshare", "-m", "sh", "-c", frozen, "sh", &root, NODEBAKE, verb, "--root", &root]);
        if verb != "verify" && verb != "remove" {
            command.arg("--spec").arg(&lab.spec);
        }
        run(&mut command)
    };
    let run = on_frozen("apply");
    assert!(matches!(run.code, Some(7 | 9)), "{run}");
    assert!(run.errors().to_lowercase().contains("read-only"), "{run}");
    run.says(&root).says("help:");
    kit::assert_same("the root", &before, &lab.tree());

    // Looking needs no writing.
    on_frozen("plan").exits(0);
    lab.apply().exits(0);
    on_frozen("verify").exits(0);
    on_frozen("plan").exits(0);
    let run = on_frozen("remove");
    assert!(matches!(run.code, Some(7 | 9)), "{run}");
    lab.verify().exits(0);
}

#[test]
fn c7_an_immutable_file_is_named() {
    let lab = Lab::new();
    let config = lab.path("etc/containerd/config.toml");
    kit::write(&config, b"# the user's own\n");
    let set = |flag: &str| {
        Command::new("chattr")
            .arg(flag)
            .arg(&config)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !set("+i") {
        return skip("c7_an_immutable_file_is_named", "chattr +i does not work here");
    }
    let run = lab.apply();
    assert!(set("-i"));
    run.exits(7).says("etc/containerd/config.toml");
    assert!(run.errors().contains("immutable"), "{run}");
    assert!(
        !lab.exists("etc/systemd/system/multi-user.target.wants/containerd.service"),
        "enabled without its configuration"
    );
    lab.apply().exits(0);
    lab.has_no_leftovers();
}

// ---------------------------------------------------------------- C9, C10: several runs

#[test]
fn c9_four_runs_at_once() {
    let lab = Lab::new();
    let alone = lab.another_root("alone");
    bake(&lab, &alone);
    let apply = |patience: &str| {
        let mut command = lab.command(["apply", "--lock-timeout", patience]);
        run(command.arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec))
    };
    let four = |patience: &str| {
        thread::scope(|scope| {
            [(); 4].map(|()| scope.spawn(|| apply(patience))).map(|run| run.join().unwrap())
        })
    };
    for run in four("20") {
        run.exits(0);
    }
    kit::assert_same("the root", &kit::tree(&alone), &lab.tree());
    lab.remove().exits(0);
    let runs = four("0");
    assert!(runs.iter().any(|run| run.code == Some(0)), "nobody won: {}", runs[0]);
    for run in &runs {
        assert!(matches!(run.code, Some(0 | 8)), "{run}");
    }
    kit::assert_same("the root", &kit::tree(&alone), &lab.tree());
}

#[test]
fn c9_a_locked_root_is_said_to_be_locked() {
    let lab = Lab::new();
    let lock = hold_lock(&lab);
    let before = lab.tree();
    for run in [lab.apply(), lab.remove()] {
        run.exits(8).says("help:").within(Duration::from_secs(5));
        assert!(run.errors().contains(lab.root.to_str().unwrap()), "which root?\n{run}");
    }
    let mut command = lab.command(["apply", "--lock-timeout", "1"]);
    let waited = run(command.arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec));
    waited.exits(8);
    assert!(waited.took >= Duration::from_secs(1), "{waited}");
    kit::assert_same("the root", &before, &lab.tree());
    drop(lock);
    lab.apply().exits(0);
}

#[test]
fn c10_a_killed_run_holds_no_lock() {
    let lab = Lab::new();
    let alone = lab.another_root("alone");
    bake(&lab, &alone);
    let server = Server::http(|_, _| Reply::ok(vec![0; 4096]).stall(1000));
    let mut waiting = start(&mut download(&lab, &server));
    server.wait_for(CONTAINERD.file);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    lab.apply().exits(0);
    lab.has_no_leftovers();
    kit::assert_same("the root", &kit::tree(&alone), &lab.tree());
}

// ---------------------------------------------------------------- C11, C12: what it is started with

#[test]
fn c11_nobody_reads_the_output() {
    let alone = Lab::new();
    alone.apply().exits(0);
    for closed in
        [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full"]
    {
        let lab = Lab::new();
        let run = lab.apply_under(["sh", "-c", &format!("exec \"$@\" {closed}"), "sh"]);
        assert!(matches!(run.code, Some(0 | 1 | 7)), "with {closed}: {run}");
        assert!(!run.errors().contains("panicked"), "with {closed}: {run}");
        kit::assert_same(&format!("with {closed}, the root"), &alone.tree(), &lab.tree());
    }
}

#[test]
fn c11_a_pipe_that_nobody_reads() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let baked = lab.tree();
    for words in [
        &["plan"] as &[&str],
        &["apply"],
        &["verify"],
        &["verify", "--json"],
        &["schema"],
        &["man"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = lab.wrapped(["timeout", "20", NODEBAKE]);
        command.args(words).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        if matches!(words[0], "plan" | "apply" | "verify") {
            command.arg("--root").arg(&lab.root);
        }
        if matches!(words[0], "plan" | "apply") {
            command.arg("--spec").arg(&lab.spec);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !errors.contains("panicked") && output.status.code() != Some(101),
            "{words:?}: {:?} {errors}",
            output.status
        );
        assert_ne!(output.status.code(), Some(124), "{words:?} hangs");
    }
    kit::assert_same("the root", &baked, &lab.tree());
}

#[test]
fn c11_a_plan_that_can_not_be_written_is_no_success() {
    let lab = Lab::new();
    let mut command = lab.wrapped(["sh", "-c", "exec \"$@\" >/dev/full", "sh", NODEBAKE, "plan"]);
    let run = run(command.arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec));
    assert!(matches!(run.code, Some(1 | 7)), "{run}");
    assert!(!run.errors().contains("panicked"), "{run}");
}

#[test]
fn c12_few_file_descriptors_are_enough() {
    let alone = Lab::new();
    alone.apply().exits(0);
    let lab = Lab::new();
    lab.apply_under(["sh", "-c", "ulimit -n 24; exec \"$@\"", "sh"]).exits(0);
    kit::assert_same("the root", &alone.tree(), &lab.tree());
}

#[test]
fn c12_a_file_size_limit_is_an_error_and_no_crash() {
    let mut lab = Lab::new();
    lab.ship(kit::RUNC, &elf(Machine::X86_64, &[7; 64 << 10]));
    let before = lab.tree();
    let run = lab.apply_under(["sh", "-c", "ulimit -f 16; exec \"$@\"", "sh"]);
    run.exits(7).says("runc");
    kit::assert_same("the root", &before, &lab.tree());
}

// ---------------------------------------------------------------- C13: nothing to do

#[test]
fn c13_the_second_run_changes_nothing() {
    for lab in [Lab::new(), version_one(), version_two()] {
        lab.apply().exits(0);
        let (tree, times) = (lab.tree(), kit::times(&lab.root));
        lab.apply().exits(0);
        kit::assert_same("the root", &tree, &lab.tree());
        assert_eq!(times, kit::times(&lab.root), "something was written again");
        lab.plan().exits(0);
        lab.verify().exits(0);
        assert_eq!(times, kit::times(&lab.root), "looking has written something");
    }
}

// ---------------------------------------------------------------- running in the background

/// Holds the root's lock until it is dropped.
fn hold_lock(lab: &Lab) -> fs::File {
    let path = lab.path("var/lib/nodebake/.lock");
    kit::write(&path, b"");
    let file = fs::File::open(path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}

fn download(lab: &Lab, server: &Server) -> Command {
    let mut command =
        lab.command(["apply", "--source", &server.url(), "--stall-timeout", "60", "--cache-dir"]);
    command.arg(lab.dir.join("cache")).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec);
    command
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends the signal; the exit code as a shell would show it, and stderr.
fn signalled(mut child: Child, signal: &str) -> (i32, String) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            panic!("still running 10 s after SIG{signal}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap();
    (code, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn has_open(child: &Child, name: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", child.id())) else { return false };
    descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.ends_with(name)))
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
