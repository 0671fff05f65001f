//! Runs programs of a root in a sandbox: namespaces of their own, with no way to anything outside of the root.
//!
//! Two child processes of this program are needed (`process/init.rs`): the outer one creates the namespaces
//! and waits, the inner one is process 1 in them, makes the view of the root, gives up rights and runs one program
//! after the other. When this process ends, by whatever signal, the kernel kills both, with all that they have
//! started, and removes the mounts. This module must not know which programs are run.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Kind, describe, errno};
use crate::interrupt;
use crate::printable::printable;
use crate::process;
use crate::process::protocol::{Answer, COMMAND, Call, Request, SandboxError, Setup};
use crate::root::Root;

/// Interval at which signals are checked while a response is awaited.
const POLL: Duration = Duration::from_millis(20);

/// Time limit for mounting the filesystems and copying the packages.
const SETUP_LIMIT: Duration = Duration::from_secs(600);

/// Time limit for writing one file.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// A running sandbox, which ends when it is dropped.
pub(crate) struct Sandbox {
    outer: Child,
    requests: Option<ChildStdin>,
    responses: Receiver<String>,
}

impl Sandbox {
    /// Sets up a sandbox in `root`, with copies of the files of `setup`, whose digests are checked. Fails with
    /// [`Kind::Unsupported`] if the caller or this host does not allow it.
    pub(crate) fn open(root: &Root, setup: &Setup) -> Result<Sandbox, Failure> {
        root.require_execution()?;
        let mut command = Command::new("/proc/self/exe");
        // The descriptor that is held, and not the root's path, which may name another directory by now.
        command.arg(COMMAND).current_dir(root.descriptor());
        // A loader looks for libraries in the working directory where LD_LIBRARY_PATH has an empty entry.
        command.env_clear();
        // In its own process group: a terminal's Ctrl-C reaches only this process, which decides.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut outer = process::start(&mut command).map_err(|why| {
            Failure::new(Kind::Unsupported, format!("running this program again: {why}"))
                .help("it is found through /proc: mount it")
        })?;
        let requests = outer.stdin.take();
        let responses = receive_lines(outer.stdout.take());
        let mut sandbox = Sandbox { outer, requests, responses };
        sandbox.ask::<()>(setup, SETUP_LIMIT, true)?;
        Ok(sandbox)
    }

    /// Writes `bytes` to the file `name` below [`OWN`](crate::process::protocol::OWN).
    pub(crate) fn write(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Result<(), Failure> {
        let request = Request::Write { name: name.to_owned(), bytes: bytes.into() };
        self.ask(&request, WRITE_LIMIT, true)
    }

    /// Runs a program and waits for its end.
    ///
    /// Fails with [`Kind::Interrupted`] if a signal arrived meanwhile, and with [`Kind::Unsupported`] if the
    /// program could not run or exceeded its time limit.
    pub(crate) fn run(&mut self, call: Call) -> Result<Answer, Failure> {
        // Process 1 kills the program at its limit; the later limit is for a sandbox that does not respond.
        let (limit, to_its_end) = (Duration::from_secs(call.limit + 30), call.to_its_end);
        self.ask(&Request::Run(call), limit, to_its_end)
    }

    /// Sends a request and waits for the response; a signal ends the wait unless `to_its_end`.
    fn ask<T: for<'de> Deserialize<'de>>(
        &mut self,
        request: &impl Serialize,
        limit: Duration,
        to_its_end: bool,
    ) -> Result<T, Failure> {
        self.send(request)?;
        let response = self.receive(limit, to_its_end)?;
        match serde_json::from_str::<Result<T, SandboxError>>(&response) {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(broken(&format!("answered `{}`: {error}", printable(&response)))),
        }
    }

    fn send(&mut self, request: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(request).map_err(|error| broken(&error.to_string()))?;
        line.push(b'\n');
        let Some(requests) = self.requests.as_mut() else { return Ok(()) };
        match requests.write_all(&line).and_then(|()| requests.flush()) {
            // The last line of a process that has ended says why it did.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(broken(&format!("can't be asked: {}", describe(errno(&error)))))
            }
            _ => Ok(()),
        }
    }

    fn receive(&self, limit: Duration, to_its_end: bool) -> Result<String, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            match self.responses.recv_timeout(POLL) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => return Err(broken("ended without a word")),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(broken(&format!("gave no answer within {} s", limit.as_secs())));
                }
                Err(RecvTimeoutError::Timeout) if to_its_end => {}
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
            }
        }
    }
}

impl Drop for Sandbox {
    /// Ends the sandbox: when this returns, its programs have ended and its mounts are gone.
    fn drop(&mut self) {
        // Process 1 ends when its requests end; the signal makes the outer process end it if it does not.
        drop(self.requests.take());
        let terminate = || -> Option<()> {
            let process = rustix::process::Pid::from_raw(i32::try_from(self.outer.id()).ok()?)?;
            rustix::process::kill_process(process, rustix::process::Signal::TERM).ok()
        };
        let _ = terminate();
        let _ = self.outer.wait();
    }
}

/// Starts a thread that reads lines, so that waiting for one can time out.
fn receive_lines(stdout: Option<ChildStdout>) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
            if line.map_or(true, |line| sender.send(line).is_err()) {
                break;
            }
        }
    });
    lines
}

fn broken(why: &str) -> Failure {
    Failure::new(Kind::Unsupported, format!("the sandbox {why}"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use super::{Command, Kind, Sandbox, mpsc, process};

    #[test]
    fn a_request_that_can_t_be_written_is_told_at_once() {
        // `sleep` keeps running and never responds.
        let outer = process::start(Command::new("sleep").arg("600")).unwrap();
        let full = OwnedFd::from(File::options().write(true).open("/dev/full").unwrap());
        let (_never, responses) = mpsc::channel();
        let mut sandbox = Sandbox { outer, requests: Some(full.into()), responses };
        let failure = sandbox.write("apt.conf", "").unwrap_err();
        assert!(
            failure.to_string().ends_with("sandbox can't be asked: no space left on device"),
            "{failure}"
        );
        assert_eq!(failure.kind, Kind::Unsupported);
    }
}
