//! The containerd service of the running system, through systemctl and /proc.
//!
//! It must not know why somebody asks: `bake/start.rs` acts on it, `verify/live.rs` judges it.

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
use crate::runtime::containerd::{self, unit};

/// The unit's name.
pub(crate) const NAME: &str = "containerd.service";

/// What a running containerd has read once, when it started: hosts.toml is read at every pull,
/// runc and the shim at every container.
const READ_AT_START: [&str; 8] = [
    containerd::BINARY,
    containerd::PACKAGED[0],
    containerd::PACKAGED[1],
    containerd::CONFIG,
    unit::UNIT,
    unit::PACKAGED[0],
    unit::PACKAGED[1],
    unit::DROP_IN,
];

const ANSWER: Duration = Duration::from_secs(30);

/// systemd's own limit for a start is 90 s; stopping comes before it.
const RESTART: Duration = Duration::from_secs(180);

/// Ticks of /proc/PID/stat in a second: USER_HZ, the same on all architectures of ours.
const TICKS: i128 = 100;

const NANOSECONDS: i128 = 1_000_000_000;

/// What systemd says of the unit: its own words.
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
    /// The file that it was read from.
    pub fragment: String,
    /// Whether a file of it has changed since systemd read it.
    pub needs_reload: bool,
    /// Its main process, while it has one.
    pub process: Option<u32>,
}

/// Fails unless `root` is the root of the running system: systemd is the first process and it sees
/// this root as `/`. In a chroot `--root /` is a bake like any other. `flag` is what asks for it and
/// `help` what to do without.
pub(crate) fn require_running_system(root: &Root, flag: &str, help: &str) -> Result<(), Failure> {
    let refuse = |why: String| {
        let message = format!("`{flag}` asks the running system, and {why}");
        Failure::new(Kind::Unsupported, message).help(help)
    };
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(refuse("systemd does not run here".to_owned()));
    }
    let first = fs::metadata("/proc/1/root/")
        .map_err(|error| Failure::filesystem("reading", "/proc/1/root", errno(&error)))?;
    match root.identity()? == (first.dev(), first.ino()) {
        true => Ok(()),
        false => Err(refuse(format!("root `{}` is not its `/`", root.host().display()))),
    }
}

/// What systemd says of the service.
pub(crate) fn state() -> Result<Service, String> {
    const PROPERTIES: &str =
        "--property=LoadState,ActiveState,SubState,UnitFileState,FragmentPath,NeedDaemonReload,MainPID";
    let text = systemctl(&["show", NAME, PROPERTIES], ANSWER)?;
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

/// Makes systemd read unit files anew.
pub(crate) fn reload() -> Result<(), String> {
    systemctl(&["daemon-reload"], ANSWER).map(drop)
}

/// Starts the service, stopping it first where it runs; containers go on (KillMode=process).
pub(crate) fn restart() -> Result<(), String> {
    // One that has failed too often is not started otherwise.
    let _ = systemctl(&["reset-failed", NAME], ANSWER);
    systemctl(&["restart", NAME], RESTART).map(drop)
}

/// Whether a unit is active.
pub(crate) fn is_active(unit: &str) -> bool {
    systemctl(&["is-active", unit], ANSWER).is_ok_and(|text| text.trim() == "active")
}

/// The last lines of the service's log since `since` (seconds since 1970), without what containerd
/// itself calls information.
pub(crate) fn log(lines: usize, since: Option<i64>) -> Vec<String> {
    let mut journal = Command::new("journalctl");
    journal.args(["--unit", NAME, "--boot", "--no-pager", "--quiet", "--output=cat", "--lines=200"]);
    journal.args(since.map(|since| format!("--since=@{since}")));
    let bytes = process::output(&mut journal, ANSWER).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let telling = |line: &&str| !line.contains("level=info") && !line.contains("level=debug");
    let mut kept: Vec<String> = text.lines().rev().filter(telling).take(lines).map(printable).collect();
    kept.reverse();
    kept
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Whether `process` runs the file at `path` as it is now.
pub(crate) fn runs(process: u32, root: &Root, path: &ImagePath) -> Result<bool, Failure> {
    let running = fs::metadata(format!("/proc/{process}/exe")).ok().map(|found| (found.dev(), found.ino()));
    let file = root.file(path)?.and_then(|file| file.metadata().ok());
    let installed = file.map(|found| (found.dev(), found.ino()));
    Ok(running.is_some() && running == installed)
}

/// What `process` executes, as the kernel shows it.
pub(crate) fn executable(process: u32) -> String {
    let target = fs::read_link(format!("/proc/{process}/exe"));
    target.map_or_else(|error| error.to_string(), |target| printable(&target.to_string_lossy()))
}

/// The first file that containerd reads at its start and that has changed since `process` began.
pub(crate) fn changed_since_start(process: u32, root: &Root) -> Result<Option<ImagePath>, Failure> {
    let Some((began, now)) = began(process) else { return Ok(None) };
    for path in READ_AT_START.map(ImagePath::fixed) {
        let found = root.file(&path)?.and_then(|file| file.metadata().ok());
        // The time of the change, which a rename sets: installed files carry SOURCE_DATE_EPOCH as mtime.
        let changed =
            found.map(|found| i128::from(found.ctime()) * NANOSECONDS + i128::from(found.ctime_nsec()));
        // A time to come is of a clock that was wrong: it says nothing.
        if changed.is_some_and(|changed| began < changed && changed <= now) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether containerd reads `path` at its start only.
pub(crate) fn is_read_at_start(path: &ImagePath) -> bool {
    READ_AT_START.contains(&path.as_str())
}

/// When a process began and now, in nanoseconds since 1970 by today's clock: the kernel counts from boot.
fn began(process: u32) -> Option<(i128, i128)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name in brackets and may hold anything; the 22nd is the start.
    let start: i128 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let time = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * NANOSECONDS + i128::from(time.tv_nsec)
    };
    let now = time(ClockId::Realtime);
    Some((now - time(ClockId::Boottime) + start * NANOSECONDS / TICKS, now))
}

/// Its complaints come with advice on further lines: the first says what happened.
fn systemctl(arguments: &[&str], limit: Duration) -> Result<String, String> {
    let answer = process::text(Command::new("systemctl").args(arguments), limit);
    answer.map_err(|why| why.lines().next().unwrap_or_default().to_owned())
}
