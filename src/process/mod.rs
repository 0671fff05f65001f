//! Runs a program to its end: the one place where processes are started.
//!
//! It must not know what is run: `process/staged.rs` asks a staged containerd, `live/service.rs` systemd,
//! `process/chroot.rs` a root's package manager.

pub(crate) mod chroot;
pub(crate) mod init;
pub(crate) mod protocol;
pub(crate) mod staged;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::errno;
use crate::interrupt;
use crate::printable::printable;

/// Nobody here prints more.
const LONGEST: u64 = 4 << 20;

/// How a program ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained of.
    pub stderr: Vec<u8>,
}

/// Runs `command` to its end, in an environment with nothing but a search path and `variables`. It
/// is killed after `limit` and at a signal to this process.
///
/// An error is why it could not run, or was killed.
pub(crate) fn run(
    command: &mut Command,
    variables: &[(String, String)],
    limit: Duration,
) -> Result<Ended, String> {
    let collect = || tempfile::tempfile().map_err(|error| error.to_string());
    let (stdout, stderr) = (collect()?, collect()?);
    let handed = |file: &File| file.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    command.stdin(Stdio::null()).stdout(handed(&stdout)?).stderr(handed(&stderr)?).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let endless =
        || [&stdout, &stderr].iter().any(|file| file.metadata().is_ok_and(|found| found.len() > LONGEST));
    let code = wait(&mut start(command)?, limit, endless)?;
    let read = |file| content(file).map_err(|error| error.to_string());
    Ok(Ended { code, stdout: read(&stdout)?, stderr: read(&stderr)? })
}

/// What `command` prints; an error is its own words on stderr, or why it could not run.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<Vec<u8>, String> {
    let ended = run(command, &[], limit)?;
    if ended.code == Some(0) {
        return Ok(ended.stdout);
    }
    let lines: Vec<String> = String::from_utf8_lossy(&ended.stderr).lines().map(printable).collect();
    Err(if lines.is_empty() { "it failed without a message".to_owned() } else { lines.join("\n") })
}

/// [`output`] as text.
pub(crate) fn text(command: &mut Command, limit: Duration) -> Result<String, String> {
    String::from_utf8(output(command, limit)?).map_err(|error| error.to_string())
}

/// Starts `command` and leaves it to the caller.
#[expect(clippy::disallowed_methods, reason = "the one place that starts a process")]
pub(crate) fn start(command: &mut Command) -> Result<Child, String> {
    command.spawn().map_err(|error| describe(&error))
}

/// Waits for a child, which is killed at a signal to this process. Gives its exit code.
pub(crate) fn attend(child: &mut Child) -> Result<Option<i32>, String> {
    wait(child, Duration::MAX, || false)
}

fn wait(child: &mut Child, limit: Duration, endless: impl Fn() -> bool) -> Result<Option<i32>, String> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status.code());
        }
        let why = match interrupt::check() {
            Err(signal) => Some(signal.to_string()),
            Ok(()) if endless() => Some("it prints without an end".to_owned()),
            Ok(()) => (began.elapsed() > limit).then(|| format!("no answer within {} s", limit.as_secs())),
        };
        if let Some(why) = why {
            let _ = child.kill();
            let _ = child.wait();
            return Err(why);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn content(mut file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn describe(error: &std::io::Error) -> String {
    match errno(error) {
        rustix::io::Errno::NOENT => "the program or its loader is missing".to_owned(),
        rustix::io::Errno::NOEXEC => "it is for another architecture".to_owned(),
        _ => error.to_string(),
    }
}
