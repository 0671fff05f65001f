//! Crash consistency (rows C1 to C13): whatever call fails, and whenever a run is killed, every path is as it was or
//! as it should be, and the next run converges to the same tree.
//!
//! All of it is judged from outside: trees, exit codes and messages.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::kit;
use crate::kit::http::{Reply, Server};
use crate::kit::story::{Story, bake, fresh_bake, stories, summary, version_one, version_two};
use crate::kit::tally::tally;
use crate::kit::{
    CONTAINERD, Lab, Machine, NODEBAKE, Run, elf, run, skip, strace, strace_to, wait_until, works,
};

// ---------------------------------------------------------------- C1, C2, C3: every call fails, or is the last

/// The calls that change a root or that it depends on, each with the errors that the kernel could give.
const CALLS: [(&str, &[&str]); 44] = [
    ("write", &["ENOSPC", "EIO", "EDQUOT", "EINTR"]),
    ("writev", &["ENOSPC"]),
    ("pwrite64", &["ENOSPC", "EIO", "EDQUOT"]),
    ("copy_file_range", &["EIO", "ENOSPC", "EXDEV", "EOPNOTSUPP"]),
    ("sendfile", &["EIO"]),
    ("fsync", &["EIO", "ENOSPC", "EDQUOT"]),
    ("fdatasync", &["EIO"]),
    ("openat", &["EMFILE", "ENFILE", "EACCES", "ENOSPC", "EIO", "EROFS", "EOPNOTSUPP"]),
    ("openat2", &["EMFILE", "ENFILE", "EIO", "EACCES", "EAGAIN", "ENOSYS", "EPERM"]),
    ("mkdirat", &["ENOSPC", "EDQUOT", "EROFS", "EMLINK"]),
    ("mkdir", &["ENOSPC"]),
    ("linkat", &["ENOSPC", "EDQUOT", "EPERM", "EMLINK", "EXDEV", "EROFS"]),
    ("symlinkat", &["ENOSPC", "EDQUOT", "EROFS"]),
    ("renameat", &["EIO", "ENOSPC", "EROFS", "EPERM"]),
    ("renameat2", &["EIO", "EINVAL", "EROFS"]),
    ("rename", &["EIO"]),
    ("unlinkat", &["EIO", "EROFS", "EPERM"]),
    ("unlink", &["EIO"]),
    ("rmdir", &["EIO"]),
    ("fchmod", &["EPERM", "EROFS", "EIO"]),
    ("fchmodat", &["EPERM", "EIO"]),
    ("fchmodat2", &["EPERM"]),
    ("fchown", &["EPERM", "EDQUOT", "EIO"]),
    ("fchownat", &["EPERM", "EDQUOT", "EIO"]),
    ("fremovexattr", &["EIO", "EOPNOTSUPP"]),
    ("flock", &["ENOLCK", "EINTR"]),
    ("close", &["EIO", "EDQUOT"]),
    ("utimensat", &["EPERM", "EROFS"]),
    ("ftruncate", &["EIO"]),
    ("sync_file_range", &["EIO"]),
    ("fadvise64", &["EINVAL"]),
    ("fallocate", &["ENOSPC", "EDQUOT", "EOPNOTSUPP", "EIO"]),
    ("read", &["EIO", "EINTR"]),
    ("pread64", &["EIO"]),
    ("readlinkat", &["EIO"]),
    ("fstat", &["EIO"]),
    ("newfstatat", &["EIO", "EACCES"]),
    ("statx", &["EIO"]),
    ("statfs", &["EIO"]),
    ("getdents64", &["EIO"]),
    ("fsetxattr", &["ENOSPC", "EDQUOT", "EOPNOTSUPP"]),
    ("fgetxattr", &["EIO", "EOPNOTSUPP"]),
    ("lgetxattr", &["EIO", "EOPNOTSUPP"]),
    ("clone3", &["EAGAIN", "ENOMEM"]),
];

/// How a run is disturbed at its n-th call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Error(&'static str),
    Kill,
    Terminate,
    Interrupt,
}

impl Fault {
    fn kind(self) -> &'static str {
        match self {
            Fault::Error(_) => "errors",
            Fault::Kill => "SIGKILL",
            Fault::Terminate => "SIGTERM",
            Fault::Interrupt => "SIGINT",
        }
    }

    /// What strace is to do, and how many n are tried unless all are.
    fn injection(self) -> (String, usize) {
        match self {
            Fault::Error(error) => (format!("error={error}"), 4),
            Fault::Kill => ("signal=SIGKILL".to_owned(), 8),
            Fault::Terminate => ("signal=SIGTERM".to_owned(), 2),
            Fault::Interrupt => ("signal=SIGINT".to_owned(), 2),
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
    if !works([strace([]), vec!["--seccomp-bpf".to_owned(), "true".to_owned()]].concat()) {
        return skip("strace can't trace here");
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
    for kind in ["errors", "SIGKILL", "SIGTERM", "SIGINT"] {
        let hits: Vec<bool> =
            outcomes.iter().filter(|(fault, _)| fault.kind() == kind).map(|(_, (hit, _))| *hit).collect();
        let reached = hits.iter().filter(|hit| **hit).count();
        tally(kind, reached);
        writeln!(report, "{kind}: {} runs, {reached} faults injected", hits.len()).unwrap();
        assert!(reached * 4 > hits.len(), "{kind} were hardly ever injected: the sweep proves nothing");
    }
    let complaints: Vec<String> = outcomes.into_iter().flat_map(|(_, (_, wrong))| wrong).collect();
    writeln!(report, "{} complaints, {:?}", complaints.len(), start.elapsed()).unwrap();
    assert!(complaints.is_empty(), "{} complaints, by kind:\n{}", complaints.len(), summary(&complaints));
}

impl<'a> Task<'a> {
    /// The sweep over one story: n from 1 to two more than an undisturbed run makes, since threads share the work
    /// differently each time. With NODEBAKE_FAULTS=all every n, else a few that are spread evenly, others for each
    /// error.
    fn of(story: &'a Story) -> Vec<Task<'a>> {
        let all = std::env::var_os("NODEBAKE_FAULTS").is_some_and(|value| value == "all");
        let counts = story.count_calls();
        let mut tasks = Vec::new();
        for (call, errors) in CALLS {
            let Some(count) = counts.get(call).map(|count| count + 2) else { continue };
            let errors = errors.iter().map(|error| Fault::Error(error));
            let faults = errors.chain([Fault::Kill, Fault::Terminate, Fault::Interrupt]);
            for (turn, fault) in faults.enumerate() {
                let (_, most) = fault.injection();
                let step = if all { 1 } else { count.div_ceil(most) };
                let spread = (1 + turn % step..=count).step_by(step);
                tasks.extend(spread.map(|n| Task { story, call, fault, n }));
            }
        }
        tasks
    }

    /// Runs it, judges it, runs again undisturbed and judges that. Says whether the fault was reached.
    fn play(&self) -> (bool, Vec<String>) {
        let Task { story, call, fault, n } = self;
        let (work, logs) = (story.copy(), story.room());
        let log = logs.path().join("trace");
        let (what, _) = fault.injection();
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}:when={n}"));
        let mut command = story.lab.wrapped(strace_to(&log, [&trace, &inject]));
        // Much faster, but then strace injects no signals.
        if matches!(fault, Fault::Error(_)) {
            command.arg("--seccomp-bpf");
        }
        let run = story.call(command.arg(NODEBAKE), work.path());
        let log = fs::read_to_string(&log).unwrap_or_default();
        let hit = run.code.is_none() || log.contains("INJECTED") || log.contains("--- SIG");
        // The dynamic loader's own calls: nodebake had not begun.
        if run.code == Some(127) && run.errors().contains("shared libraries") {
            return (hit, Vec::new());
        }
        // strace counts for each thread: the same call may have failed twice, also while cleaning up.
        let torn = run.code.is_none() || log.matches("(INJECTED)").count() > 1;
        let mut wrong = story.judge(work.path(), run.code, torn);
        // What can't be written to stderr can't be read there.
        let speechless = log.lines().any(|line| line.contains("write(2,") && line.contains("(INJECTED)"));
        if !speechless {
            wrong.extend(self.judge_message(&run, work.path()));
        }
        // Every other kill is followed by a change of mind.
        let change_of_mind = story.can_be_removed() && *fault == Fault::Kill && n % 2 == 0;
        wrong.extend(story.converge(work.path(), change_of_mind));
        let label = format!("{}, {call} #{n} {fault:?}, exit {:?}", story.name, run.code);
        (hit, wrong.into_iter().map(|what| format!("[{label}] {what}\n{run}")).collect())
    }

    fn judge_message(&self, run: &Run, work: &Path) -> Vec<String> {
        let mut wrong = Vec::new();
        let errors = run.errors();
        let expected = match (self.fault, run.code) {
            (_, Some(0)) | (Fault::Kill, None) => return wrong,
            (Fault::Terminate, Some(code)) => code == 143,
            (Fault::Interrupt, Some(code)) => code == 130,
            // Before it listened for signals, and before it did anything.
            (Fault::Terminate | Fault::Interrupt, None) => self.story.is_untouched(work),
            // The work is done and could not be reported.
            (Fault::Error(_), Some(1)) => self.call == "write" && self.story.is_complete(work),
            // Nothing is wrong with the bytes (5) or the layout (6) because a call fails.
            (Fault::Error(_), Some(code)) => matches!(code, 3 | 4 | 7 | 8 | 9),
            _ => false,
        };
        if !expected || errors.contains("panicked") {
            wrong.push("ended wrongly".to_owned());
        }
        if let Fault::Error(error) = self.fault
            && !errors.to_lowercase().contains(meaning(error))
        {
            wrong.push(format!("does not say that it was {error}"));
        }
        wrong
    }
}

fn meaning(error: &str) -> &'static str {
    match error {
        "ENOSPC" => "no space left on device",
        "EIO" => "input/output error",
        "EMFILE" => "too many open files",
        "ENFILE" => "too many open files in system",
        "EPERM" => "operation not permitted",
        "EACCES" => "permission denied",
        "ENOLCK" => "no locks available",
        "EAGAIN" => "temporarily unavailable",
        "EDQUOT" => "disk quota exceeded",
        "EINTR" => "interrupted system call",
        "EROFS" => "read-only file system",
        "EMLINK" => "too many links",
        "ENOMEM" => "cannot allocate memory",
        "ENOSYS" => "not implemented",
        "EXDEV" => "cross-device link",
        "EINVAL" => "invalid argument",
        "EOPNOTSUPP" => "not supported",
        other => panic!("no meaning for {other}"),
    }
}

// ---------------------------------------------------------------- C3: signals while it waits

#[test]
fn c3_signals_end_the_wait_for_the_lock() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let lab = Lab::new();
        let lock = lab.hold_lock();
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

/// How a filesystem is made that has room for the bare roots and `more`, and how it gets enough.
struct Scarcity {
    mount: &'static str,
    scarce: &'static str,
    plenty: &'static str,
    says: &'static str,
    step: usize,
}

#[test]
fn c5_every_size_that_is_too_small() {
    sweep(&Scarcity {
        mount: "mount -t tmpfs -o mode=755,nr_inodes=9999 none mnt",
        scarce: "used=$(df --output=used -k mnt | tail -1); mount -o remount,size=$((used + 4 * more))k mnt",
        plenty: "mount -o remount,size=64m mnt",
        says: "no space left on device",
        step: 1,
    });
}

#[test]
fn c5_every_number_of_inodes_that_is_too_small() {
    sweep(&Scarcity {
        mount: "mount -t tmpfs -o mode=755,size=64m none mnt",
        scarce: "used=$(df --output=iused mnt | tail -1); mount -o remount,nr_inodes=$((used + more)) mnt",
        plenty: "mount -o remount,nr_inodes=9999 mnt",
        says: "no space left on device",
        step: 3,
    });
}

#[test]
#[ignore = "needs a loop device; run by make test"]
fn c5_every_size_that_is_too_small_on_ext4() {
    sweep(&Scarcity {
        mount: "truncate -s 8m image && mkfs.ext4 -q -F -b 1024 -m 0 image && mount -o loop image mnt",
        scarce: "sync -f mnt; left=$(df --output=avail -k mnt | tail -1); fallocate -l $((left - 2 * more))k mnt/filler",
        plenty: "rm mnt/filler",
        says: "no space left on device",
        step: 3,
    });
}

#[test]
#[ignore = "needs a loop device; run by make test"]
fn c5_every_number_of_inodes_that_is_too_small_on_ext4() {
    sweep(&Scarcity {
        mount: "truncate -s 8m image && mkfs.ext4 -q -F -N 200 image && mount -o loop image mnt && mkdir mnt/filler",
        scarce: "left=$(df --output=iavail mnt | tail -1); for i in $(seq $((left - more))); do : > mnt/filler/$i; done",
        plenty: "rm -r mnt/filler",
        says: "no space left on device",
        step: 3,
    });
}

#[test]
#[ignore = "needs a loop device; run by make test"]
fn c5_every_quota_that_is_too_small_on_btrfs() {
    sweep(&Scarcity {
        mount: "truncate -s 128m image && mkfs.btrfs -q image && mkdir top && mount -o loop image top \
            && btrfs quota enable top && btrfs -q subvolume create top/mnt && mount --bind top/mnt mnt",
        scarce: "sync -f mnt; used=$(btrfs qgroup show --raw mnt | awk '/^0\\/256/ {print $2}'); btrfs qgroup limit $((used + 16384 * more)) mnt",
        plenty: "btrfs qgroup limit none 0/256 top",
        says: "disk quota exceeded",
        step: 4,
    });
}

/// Bakes into filesystems of growing room, from one that holds the bare root to one that is enough.
fn sweep(scarcity: &Scarcity) {
    let story = fresh_bake();
    for (failures, more) in (1..400).step_by(scarcity.step).enumerate() {
        let work = story.room();
        for name in ["mnt", "after", "converged"] {
            fs::create_dir(work.path().join(name)).unwrap();
        }
        let run = bake_in_scarcity(&story, scarcity, more, work.path());
        if run.code == Some(99) {
            return skip(&format!("such a filesystem can't be mounted here: {}", run.errors().trim()));
        }
        let again = fs::read_to_string(work.path().join("again")).unwrap_or_default();
        assert!(!matches!(run.code, Some(97 | 98)), "with {more}:\n{run}{again}");
        let mut wrong = story.judge(&work.path().join("after"), run.code, false);
        wrong.extend(story.judge_converged(&work.path().join("converged"), false));
        assert!(wrong.is_empty(), "with {more}: {wrong:#?}\n{run}");
        if run.code == Some(0) {
            assert!(failures > 3, "only {failures} sizes were too small");
            return;
        }
        run.exits(7).says(scarcity.says).says("help:");
        tally("scarcities", 1);
    }
    panic!("never enough");
}

/// Exit 99 where there is no such filesystem, 98 where the second bake fails, 97 where the test does.
fn bake_in_scarcity(story: &Story, scarcity: &Scarcity, more: usize, work: &Path) -> Run {
    let Scarcity { mount, scarce, plenty, .. } = scarcity;
    // Mounted nowhere else, so what it held is copied out before the namespace ends.
    let script = format!(
        "more=$1; shift; {{ {mount}; }} 1>&2 || exit 99
        cp -a ../template/. mnt/ && {{ {scarce}; }} || exit 97
        \"$@\"; code=$?
        cp -a mnt/root after/ && {{ {plenty}; }} || exit 97
        \"$@\" >/dev/null 2>again || exit 98
        cp -a mnt/root converged/; umount mnt; exit $code"
    );
    let mut command = story.lab.wrapped(["unshare", "-m", "sh", "-c", &script, "sh"]);
    command.arg(more.to_string()).arg(NODEBAKE);
    run(command.args(story.arguments("apply", &work.join("mnt"))).current_dir(work))
}

#[test]
fn c6_a_read_only_root_is_named() {
    if !works(["unshare", "-m", "mount", "--bind", "/mnt", "/mnt"]) {
        return skip("unshare -m does not work here");
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

/// The cleaning up goes past the part that can't be written.
#[test]
fn c6_a_read_only_part_of_the_root_leaves_no_trace_in_the_others() {
    if !works(["unshare", "-m", "mount", "--bind", "/mnt", "/mnt"]) {
        return skip("unshare -m does not work here");
    }
    for part in ["etc", "usr", "usr/lib", "opt"] {
        let lab = Lab::new();
        kit::make_dir(&lab.path("opt"));
        let before = lab.tree();
        let frozen =
            "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" || exit 99; shift; exec \"$@\"";
        let part = kit::text(lab.path(part));
        let run = lab.apply_under(["unshare", "-m", "sh", "-c", frozen, "sh", &part]);
        if part.ends_with("usr/lib") {
            run.exits(0);
            lab.remove().exits(0);
        } else {
            run.exits(7).says("read-only").says(&part).says("help:");
            assert!(!run.errors().contains("cleaning up"), "{run}");
        }
        kit::assert_same("the root", &before, &lab.tree());
    }
}

/// As is a directory that has the name of a temporary file.
#[test]
fn c6_a_directory_in_a_temporary_files_place_stays_and_nothing_else() {
    for place in [
        "etc/.nodebake-crictl.yaml.tmp",
        "usr/local/bin/.nodebake-ctr.tmp",
        "etc/systemd/system/multi-user.target.wants/.nodebake-containerd.service.tmp",
    ] {
        let lab = Lab::new();
        kit::write(&lab.path(place).join("of-somebody"), b"x");
        let before = lab.tree();
        let run = lab.apply();
        run.exits(6).says(place).says("help: move it away");
        assert!(!run.errors().contains("cleaning up"), "{run}");
        kit::assert_same("the root", &before, &lab.tree());
        fs::remove_dir_all(lab.path(place)).unwrap();
        lab.apply().exits(0);

        // An upgrade keeps what it found.
        kit::write(&lab.path(place).join("of-somebody"), b"x");
        let mut lab = lab;
        lab.spec_also("kernel: {modules: [nf_conntrack]}\n");
        let before = lab.tree();
        lab.apply().exits(0);
        assert_ne!(before, lab.tree());
        lab.remove().exits(0);
        assert!(lab.exists(place));
    }
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
        return skip("chattr +i does not work here");
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

// ---------------------------------------------------------------- C8: several filesystems

#[test]
fn c8_directories_on_other_filesystems_make_no_difference() {
    if !works(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]) {
        return skip("tmpfs can't be mounted here");
    }
    let lab = Lab::new();
    let directories = ["usr/local", "opt", "etc/containerd", "etc/systemd/system", "var/lib"];
    directories.iter().for_each(|directory| kit::make_dir(&lab.path(directory)));
    let alone = lab.dir.join("alone");
    kit::copy(&lab.root, &alone);
    // What was there before has to be kept and put back, also across filesystems.
    let original = "etc/containerd/config.toml";
    kit::write(&alone.join(original), b"# the user's own\n");
    let before = kit::tree(&alone);
    bake(&lab, &alone);
    let script = "root=$1; shift
        for directory in usr/local opt etc/containerd etc/systemd/system var/lib; do
            mount -t tmpfs -o mode=755 none $root/$directory || exit 99
        done
        printf \"# the user's own\\n\" >$root/etc/containerd/config.toml
        \"$0\" apply --root $root \"$@\" && cp -a $root baked && \"$0\" remove --root $root && cp -a $root removed";
    let mut command = lab.wrapped(["unshare", "-m", "sh", "-c", script, NODEBAKE]);
    command.arg(&lab.root).arg("--spec").arg(&lab.spec).current_dir(&lab.dir);
    run(&mut command).exits(0);
    kit::assert_same("the baked root", &kit::tree(&alone), &kit::tree(&lab.dir.join("baked")));
    kit::assert_same("the root after remove", &before, &kit::tree(&lab.dir.join("removed")));
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
    let lock = lab.hold_lock();
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

/// An archive of 192 MiB in 64 MiB, in a root on a disk: page cache that can't be given back would count.
#[test]
#[ignore = "needs a control group of its own; run by make test"]
fn c12_little_memory_is_enough() {
    let group = format!("nodebake-test-{}", std::process::id());
    let limits = [("memory/", "memory.limit_in_bytes"), ("", "memory.max")];
    let made = limits.iter().find_map(|(controller, limit)| {
        let group = Path::new("/sys/fs/cgroup").join(format!("{controller}{group}"));
        fs::create_dir(&group).ok()?;
        let limited = fs::write(group.join(limit), (64 << 20).to_string());
        limited.map_err(|_| fs::remove_dir(&group)).ok()?;
        Some(group)
    });
    let Some(group) = made else { return skip("no control group for memory can be made here") };
    let mut lab = Lab::new();
    let large = elf(Machine::X86_64, &vec![7; 64 << 20]);
    let names = ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"];
    let members: Vec<_> = names.iter().map(|name| kit::Member::file(name, 0o755, &large)).collect();
    lab.ship(CONTAINERD, &kit::gzip(&kit::tar(&members)));
    let script = format!("echo $$ >{}/cgroup.procs; exec \"$@\"", group.display());
    let run = lab.apply_under(["sh", "-c", &script, "sh"]);
    let peak = fs::read_to_string(group.join("memory.max_usage_in_bytes")).unwrap_or_default();
    fs::remove_dir(&group).unwrap();
    run.exits(0);
    assert!(run.peak < 64 << 10, "{run}\n{peak}");
    lab.verify().exits(0);
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
