//! Starts processes and waits for them; no other module may start one.
//!
//! What belongs to a root runs in a sandbox only (`process/sandbox.rs`): a staged containerd (`process/staged.rs`)
//! and the root's package manager. This module must not know which program is run.

pub(crate) mod init;
mod mountinfo;
mod privileges;
pub(crate) mod protocol;
pub(crate) mod sandbox;
pub(crate) mod staged;
mod view;

use std::io::{PipeReader, PipeWriter, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::errno;
use crate::interrupt;
use crate::printable::printable;

/// Bounds of a program, at which it is killed.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Time that it may take.
    time: Duration,
    /// Bytes that it may print to stdout, and to stderr.
    output: u64,
}

/// Bound of [`Bounds::output`] for programs that are trusted: none that nodebake runs prints more.
const LONGEST_OUTPUT: u64 = 4 << 20;

/// Keeps the descriptors that this process has inherited from every program that it will start.
pub(crate) fn keep_inherited_descriptors() {
    close_fds::set_fds_cloexec(FIRST_OF_OTHERS, &[]);
}

/// Lowest descriptor after stdin, stdout and stderr.
const FIRST_OF_OTHERS: i32 = 3;

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
    let output = run(command, &[], Bounds { time: limit, output: LONGEST_OUTPUT })?;
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

/// Runs `command` with no environment but a search path and `variables`, and with an empty stdin. It is killed at a
/// signal to this process and at its `bounds`.
///
/// The error says why it could not run or was killed.
fn run(command: &mut Command, variables: &[(String, String)], bounds: Bounds) -> Result<Output, String> {
    let ((mut stdout, to_stdout), (mut stderr, to_stderr)) = (Collected::new()?, Collected::new()?);
    // Not /dev/null: a sandbox need not have one.
    let (nothing, _) = std::io::pipe().map_err(|error| error.to_string())?;
    command.stdin(nothing).stdout(to_stdout).stderr(to_stderr).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let mut child = start(command)?;
    // This process's own ends of the pipes: the reading would not end before they are closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut is_endless = || {
        let is_full = |collected: &mut Collected| collected.collect(bounds.output) >= bounds.output;
        [&mut stdout, &mut stderr].into_iter().map(is_full).fold(false, |any, one| any | one)
    };
    let code = wait(&mut child, bounds.time, &mut is_endless)?;
    match is_endless() {
        true => Err(ENDLESS.to_owned()),
        false => Ok(Output { code, stdout: stdout.bytes, stderr: stderr.bytes }),
    }
}

/// Why a program was killed that has printed more than it may.
const ENDLESS: &str = "it prints without an end";

/// Output of a program, collected from a pipe while it runs. What a program prints beyond the bound stays in the pipe,
/// and its end is not waited for: a process that the program has left behind may hold the pipe open.
struct Collected {
    pipe: PipeReader,
    bytes: Vec<u8>,
}

impl Collected {
    fn new() -> Result<(Collected, PipeWriter), String> {
        let (pipe, writer) = std::io::pipe().map_err(|error| error.to_string())?;
        let nonblocking = rustix::io::ioctl_fionbio(&pipe, true);
        nonblocking.map_err(crate::error::describe)?;
        Ok((Collected { pipe, bytes: Vec::new() }, writer))
    }

    /// Takes over what has been printed, up to `limit` bytes in all, and returns how many there are.
    fn collect(&mut self, limit: u64) -> u64 {
        let length = |bytes: &Vec<u8>| bytes.len() as u64;
        // Errors are that there is nothing yet, or that a signal has arrived: the next call goes on.
        let _ = self.pipe.by_ref().take(limit - length(&self.bytes)).read_to_end(&mut self.bytes);
        length(&self.bytes)
    }
}

/// Starts `command` without waiting for it.
#[expect(clippy::disallowed_methods, reason = "the one place that starts a process")]
fn start(command: &mut Command) -> Result<Child, String> {
    command.spawn().map_err(|error| describe(&error))
}

/// Waits for a child, which is killed at a signal to this process, and returns its exit code.
fn wait_for(child: &mut Child) -> Result<Option<i32>, String> {
    wait(child, Duration::MAX, &mut || false)
}

/// Waits for a child, which is killed after `limit`, at a signal, or if its output `is_endless`.
fn wait(
    child: &mut Child,
    limit: Duration,
    is_endless: &mut dyn FnMut() -> bool,
) -> Result<Option<i32>, String> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status.code());
        }
        let why = match interrupt::check() {
            Err(signal) => Some(signal.to_string()),
            Ok(()) if is_endless() => Some(ENDLESS.to_owned()),
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

/// Says why a program could not be started.
fn describe(error: &std::io::Error) -> String {
    match errno(error) {
        rustix::io::Errno::NOENT => "the program or its loader is missing".to_owned(),
        rustix::io::Errno::NOEXEC => "it is for another architecture".to_owned(),
        _ => error.to_string(),
    }
}
