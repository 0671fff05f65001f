//! Starts processes and waits for them; no other module may start one.
//!
//! This module must not know which program is run: `process/staged.rs` runs a staged containerd,
//! `live/service.rs` systemctl, `process/chroot.rs` a root's package manager.

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

/// Bytes of output after which a program is killed: none that nodebake runs prints more.
const LONGEST_OUTPUT: u64 = 4 << 20;

/// Output and exit code of a program.
#[derive(Debug, Default)]
struct Output {
    /// The exit code; `None` after a signal.
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Runs `command` and returns its stdout. The error is its stderr, or why it could not run.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<Vec<u8>, String> {
    let output = run(command, &[], limit)?;
    if output.code == Some(0) {
        return Ok(output.stdout);
    }
    let lines: Vec<String> = String::from_utf8_lossy(&output.stderr).lines().map(printable).collect();
    Err(if lines.is_empty() { "it failed without a message".to_owned() } else { lines.join("\n") })
}

/// Does the same as [`output`] and returns text.
pub(crate) fn text(command: &mut Command, limit: Duration) -> Result<String, String> {
    String::from_utf8(output(command, limit)?).map_err(|error| error.to_string())
}

/// Runs `command` with no environment but a search path and `variables`. It is killed after `limit` and at
/// a signal to this process.
///
/// The error says why it could not run or was killed.
fn run(command: &mut Command, variables: &[(String, String)], limit: Duration) -> Result<Output, String> {
    let collect = || tempfile::tempfile().map_err(|error| error.to_string());
    let (stdout, stderr) = (collect()?, collect()?);
    let handed = |file: &File| file.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    command.stdin(Stdio::null()).stdout(handed(&stdout)?).stderr(handed(&stderr)?).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let is_too_long = |file: &File| file.metadata().is_ok_and(|found| found.len() > LONGEST_OUTPUT);
    let endless = || [&stdout, &stderr].into_iter().any(is_too_long);
    let code = wait(&mut start(command)?, limit, endless)?;
    let read = |file| content(file).map_err(|error| error.to_string());
    Ok(Output { code, stdout: read(&stdout)?, stderr: read(&stderr)? })
}

/// Starts `command` without waiting for it.
#[expect(clippy::disallowed_methods, reason = "the one place that starts a process")]
fn start(command: &mut Command) -> Result<Child, String> {
    command.spawn().map_err(|error| describe(&error))
}

/// Waits for a child, which is killed at a signal to this process, and returns its exit code.
fn wait_for(child: &mut Child) -> Result<Option<i32>, String> {
    wait(child, Duration::MAX, || false)
}

/// Waits for a child, which is killed after `limit`, at a signal, or if its output is `endless`.
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
    file.take(LONGEST_OUTPUT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Says why a program could not be started.
fn describe(error: &std::io::Error) -> String {
    match errno(error) {
        rustix::io::Errno::NOENT => "the program or its loader is missing".to_owned(),
        rustix::io::Errno::NOEXEC => "it is for another architecture".to_owned(),
        _ => error.to_string(),
    }
}
