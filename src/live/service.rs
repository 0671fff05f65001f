//! Controls and inspects the services of the running system, through systemctl and /proc.
//!
//! This module must not decide anything: `bake/start.rs` acts on its answers, `verify/live.rs` judges them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::error::{Failure, Kind, errno};
use crate::path::ImagePath;
use crate::printable::printable;
use crate::process;
use crate::root::Root;
use crate::runtime::Facts;

/// Time limit for commands other than a restart.
const ANSWER: Duration = Duration::from_secs(30);

/// Time limit for a restart: systemd's own limit for the start is 90 s, and the service is stopped before.
const RESTART: Duration = Duration::from_secs(180);

/// Clock ticks of /proc/PID/stat in a second: USER_HZ, the same on all supported architectures.
const TICKS: i128 = 100;

/// Nanoseconds in a second.
const NANOSECONDS: i128 = 1_000_000_000;

/// State of the unit, in systemd's own words.
#[derive(Debug)]
pub(crate) struct Service {
    /// `loaded`, `masked`, `not-found`, …
    pub load: String,
    /// `active`, `failed`, …
    pub active: String,
    /// `running`, `auto-restart`, …
    pub sub: String,
    /// `enabled`, `disabled`, …
    pub enabled: String,
    /// Path of the unit file.
    pub fragment: String,
    /// A file of the unit has changed since systemd read it.
    pub needs_reload: bool,
    /// The main process, if the service runs.
    pub process: Option<u32>,
}

/// Fails unless `root` is the root of the running system: systemd is the first process and sees this root as
/// `/`. In a chroot, `--root /` is a bake like any other. `flag` is the option that needs the running system
/// and `help` the remedy.
pub(crate) fn require_running_system(root: &Root, flag: &str, help: &str) -> Result<(), Failure> {
    let refuse = |why: String| {
        let message = format!("`{flag}` asks the running system, and {why}");
        Failure::new(Kind::Unsupported, message).help(help)
    };
    if !systemd_runs() {
        return Err(refuse("systemd does not run here".to_owned()));
    }
    match is_running_system(root)? {
        true => Ok(()),
        false => Err(refuse(format!("root `{}` is not its `/`", root.host().display()))),
    }
}

/// Returns whether systemd is the first process and sees `root` as `/`.
pub(crate) fn is_running_system(root: &Root) -> Result<bool, Failure> {
    if !systemd_runs() {
        return Ok(false);
    }
    let first = fs::metadata("/proc/1/root/")
        .map_err(|error| Failure::filesystem("reading", "/proc/1/root", errno(&error)))?;
    Ok(root.identity()? == (first.dev(), first.ino()))
}

fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Asks systemd for the state of the service.
pub(crate) fn state(unit: &str) -> Result<Service, String> {
    const PROPERTIES: &str =
        "--property=LoadState,ActiveState,SubState,UnitFileState,FragmentPath,NeedDaemonReload,MainPID";
    let text = systemctl(&["show", unit, PROPERTIES], ANSWER)?;
    let property = |name: &str| -> String {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        printable(line.unwrap_or_default())
    };
    Ok(Service {
        load: property("LoadState"),
        active: property("ActiveState"),
        sub: property("SubState"),
        enabled: property("UnitFileState"),
        fragment: property("FragmentPath"),
        needs_reload: property("NeedDaemonReload") == "yes",
        process: property("MainPID").parse().ok().filter(|process| *process != 0),
    })
}

/// Makes systemd read the unit files again.
pub(crate) fn reload() -> Result<(), String> {
    systemctl(&["daemon-reload"], ANSWER).map(drop)
}

/// Starts the service, after stopping it if it runs; containers keep running (KillMode=process).
pub(crate) fn restart(unit: &str) -> Result<(), String> {
    // Without this, systemd does not start a service that has failed too often.
    let _ = systemctl(&["reset-failed", unit], ANSWER);
    systemctl(&["restart", unit], RESTART).map(drop)
}

/// Returns whether a unit is active.
pub(crate) fn is_active(unit: &str) -> bool {
    systemctl(&["is-active", unit], ANSWER).is_ok_and(|text| text.trim() == "active")
}

/// Returns the last lines of the service's log since `since` (seconds since 1970), without containerd's
/// messages of level info and debug.
pub(crate) fn log(unit: &str, lines: usize, since: Option<i64>) -> Vec<String> {
    let mut journal = Command::new("journalctl");
    journal.args(["--unit", unit, "--boot", "--no-pager", "--quiet", "--output=cat", "--lines=200"]);
    journal.args(since.map(|since| format!("--since=@{since}")));
    let bytes = process::output(&mut journal, ANSWER).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let is_important = |line: &&str| !line.contains("level=info") && !line.contains("level=debug");
    let mut kept: Vec<String> = text.lines().rev().filter(is_important).take(lines).map(printable).collect();
    kept.reverse();
    kept
}

/// Returns the time in seconds since 1970.
pub(crate) fn now() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Returns whether `process` executes the file that is at `path` now.
pub(crate) fn runs(process: u32, root: &Root, path: &ImagePath) -> Result<bool, Failure> {
    let running = fs::metadata(format!("/proc/{process}/exe")).ok().map(|found| (found.dev(), found.ino()));
    let file = root.file(path)?.and_then(|file| file.metadata().ok());
    let installed = file.map(|found| (found.dev(), found.ino()));
    Ok(running.is_some() && running == installed)
}

/// Returns the path of the file that `process` executes, as the kernel shows it, or why it can't be read.
pub(crate) fn executable(process: u32) -> String {
    let target = fs::read_link(format!("/proc/{process}/exe"));
    target.map_or_else(|error| error.to_string(), |target| printable(&target.to_string_lossy()))
}

/// Returns the first file of those that the runtime reads at its start that has changed since `process` began.
pub(crate) fn changed_since_start(
    process: u32,
    root: &Root,
    runtime: &Facts,
) -> Result<Option<ImagePath>, Failure> {
    let Some((began, now)) = began(process) else { return Ok(None) };
    for path in runtime.read_at_start.iter().map(|path| ImagePath::fixed(path)) {
        let found = root.file(&path)?.and_then(|file| file.metadata().ok());
        // A rename sets ctime; mtime of installed files is SOURCE_DATE_EPOCH.
        let changed =
            found.map(|found| i128::from(found.ctime()) * NANOSECONDS + i128::from(found.ctime_nsec()));
        // A time in the future was set by a wrong clock and is ignored.
        if changed.is_some_and(|changed| began < changed && changed <= now) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Returns the start time of a process and the present time, in nanoseconds since 1970; the kernel counts the
/// start from boot, so it is converted by the present clock.
fn began(process: u32) -> Option<(i128, i128)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name in parentheses that can contain any character; the 22nd is the start time.
    let start: i128 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let time = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * NANOSECONDS + i128::from(time.tv_nsec)
    };
    let now = time(ClockId::Realtime);
    Some((now - time(ClockId::Boottime) + start * NANOSECONDS / TICKS, now))
}

/// Runs systemctl; its error is only the first line of stderr, because advice follows it.
fn systemctl(arguments: &[&str], limit: Duration) -> Result<String, String> {
    let answer = process::text(Command::new("systemctl").args(arguments), limit);
    answer.map_err(|why| why.lines().next().unwrap_or_default().to_owned())
}
