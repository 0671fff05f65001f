//! `install: package` where calls of nodebake itself fail: those of the root's apt and dpkg do not. Rows C1 and
//! C2 of packages: what is there after the failure is told, and the next run converges. Needs
//! `tests/lab/prepare`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::kit::NODEBAKE;
use crate::kit::command::{errors, expect};
use crate::kit::node::Node;
use crate::kit::repository::{node, outside_the_database, serve, suites};
use crate::kit::tally::tally;

const CALLS: [(&str, &[&str]); 14] = [
    ("openat", &["EACCES", "EIO", "ENOSPC", "EROFS"]),
    ("openat2", &["EACCES", "EIO"]),
    ("mkdirat", &["ENOSPC", "EROFS"]),
    ("linkat", &["ENOSPC", "EROFS"]),
    ("symlinkat", &["ENOSPC"]),
    ("renameat", &["EIO", "ENOSPC", "EROFS"]),
    ("unlinkat", &["EIO", "EROFS", "EACCES"]),
    ("write", &["ENOSPC", "EIO"]),
    ("fsync", &["EIO", "ENOSPC"]),
    ("fchmod", &["EROFS", "EIO"]),
    ("fchown", &["EIO"]),
    ("read", &["EIO"]),
    ("statx", &["EIO", "EACCES"]),
    ("newfstatat", &["EIO", "EACCES"]),
];
/// So many faults, spread evenly, take less than a minute.
const SAMPLE: usize = 10;

/// strace follows no thread and no child: the calls are those of the main thread, and the chroot and
/// everything in it is undisturbed.
fn under_strace(node: &Node, options: &[&str]) -> (Output, String) {
    let trace = node.folder.path().join("trace");
    let mut strace = Command::new("strace");
    strace.arg("-qq").args(options).arg("-o").arg(&trace).args([NODEBAKE, "apply", "--root"]);
    let output = strace.arg(node.root()).args(["--spec", &node.spec()]).output().unwrap();
    (output, fs::read_to_string(&trace).unwrap_or_default())
}

/// Each call and error with the n at which it is tried.
fn faults(trace: &str) -> Vec<(&'static str, &'static str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for call in trace.lines().filter_map(|line| line.split_once('(')) {
        *counts.entry(call.0).or_default() += 1;
    }
    let all = CALLS.into_iter().flat_map(|(call, errors)| {
        let count = counts.get(call).copied().unwrap_or(0);
        (1..=count).flat_map(move |n| errors.iter().map(move |error| (call, *error, n)))
    });
    let all: Vec<_> = all.collect();
    let step = match std::env::var_os("NODEBAKE_FAULTS").is_some_and(|value| value == "all") {
        // Hours: each is two bakes.
        true => 1,
        false => all.len().div_ceil(SAMPLE),
    };
    all.into_iter().skip(step / 2).step_by(step).collect()
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn c1_calls_fail_while_a_package_is_baked() {
    let server = serve();
    let package = format!("repository: {}, version: 1.7.24", suites(&server));
    let whole = node("trixie", &package, "");
    let before = outside_the_database(&whole);
    let (output, trace) = under_strace(&whole, &[]);
    expect(0, output);
    let after = outside_the_database(&whole);
    let faults = faults(&trace);
    let (next, reached, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some((call, error, n)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let node = node("trixie", &package, "");
                    let inject = format!("inject={call}:error={error}:when={n}");
                    let (output, trace) =
                        under_strace(&node, &["-e", &format!("trace={call}"), "-e", &inject]);
                    reached.fetch_add(usize::from(trace.contains("INJECTED")), Ordering::Relaxed);
                    let complaints = judge(&node, &output, &before, &after, n % 2 == 0);
                    wrong.lock().unwrap().extend(complaints.into_iter().map(|what| {
                        format!("[{call} #{n} {error}, exit {:?}] {what}\n{}", output.status, errors(&output))
                    }));
                }
            });
        }
    });
    let (reached, wrong) = (reached.into_inner(), wrong.into_inner().unwrap());
    tally("errors", reached);
    writeln!(std::io::stderr(), "{} runs, {reached} faults injected", faults.len()).unwrap();
    assert!(reached * 2 > faults.len(), "hardly ever injected: the sweep proves nothing");
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong after a disturbed run, and after the next one: of the same spec, or `remove`.
fn judge(node: &Node, output: &Output, before: &str, after: &str, change_of_mind: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let now = outside_the_database(node);
    match output.status.code() {
        Some(0) if now != after => wrong.push(format!("exit 0, but{}", differences(&now, after))),
        Some(0) => {}
        // The dynamic loader's own calls: nodebake had not begun.
        Some(127) if now == before && errors(output).contains("shared libraries") => {}
        // The work is done and could not be reported.
        Some(1) if now == after => {}
        Some(3 | 4 | 7 | 8 | 9) => {
            let kept = node.path("/var/lib/nodebake").exists();
            if !kept && now != before {
                wrong.push(format!("nothing is owned, but{}", differences(&now, before)));
            }
        }
        _ => wrong.push("ended wrongly".to_owned()),
    }
    if errors(output).contains("panicked") {
        wrong.push("panicked".to_owned());
    }
    let root = node.root().display().to_string();
    if fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&root) {
        wrong.push("something stays mounted".to_owned());
    }
    let (verb, expected) = if change_of_mind { ("remove", before) } else { ("apply", after) };
    let again = node.nodebake(verb, &["--execute"]);
    let now = outside_the_database(node);
    if again.status.code() != Some(0) {
        wrong.push(format!("the next {verb} fails: {}", errors(&again)));
    } else if now != expected {
        wrong.push(format!("the next {verb} ends elsewhere:{}", differences(&now, expected)));
    }
    wrong
}

fn differences(now: &str, expected: &str) -> String {
    let lines = |from: &str, other: &str, sign: char| -> String {
        let other: Vec<&str> = other.lines().collect();
        from.lines().filter(|line| !other.contains(line)).map(|line| format!("\n  {sign} {line}")).collect()
    };
    lines(now, expected, '+') + &lines(expected, now, '-')
}
