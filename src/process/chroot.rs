//! A place where a root's own package manager runs: namespaces of its own, which vanish with it.
//!
//! Two processes of this program stand between: the first makes the namespaces and waits, the second
//! is their first process, arranges what is mounted (`process/init.rs`) and runs one program after the
//! other. When this process ends, by whatever signal, the kernel ends all of them and takes the
//! mounts away. It must not know what is run.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Failure, Kind, describe, errno};
use crate::interrupt;
use crate::printable::printable;
use crate::process;
use crate::process::protocol::{Access, Answer, Arrangement, COMMAND, Call, ChrootError, ChrootRequest};
use crate::root::Root;

const POLL: Duration = Duration::from_millis(20);

/// A running chroot.
pub(crate) struct Chroot {
    first: Child,
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Chroot {
    /// Arranges one around `root`. [`Kind::Unsupported`] where this host does not let it.
    pub(crate) fn open(
        root: &Root,
        access: Access,
        offline: bool,
        files: Vec<(PathBuf, Digest)>,
    ) -> Result<Chroot, Failure> {
        let host = std::fs::canonicalize(root.host()).map_err(|error| {
            Failure::filesystem("opening root", root.host().display(), crate::error::errno(&error))
        })?;
        let arrangement = Arrangement { host, is_own: root.is_own()?, access, offline, files };
        let mut command = Command::new("/proc/self/exe");
        // Not in this process's group: a terminal's Ctrl-C reaches this process only, which decides.
        command.arg(COMMAND).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut first = process::start(&mut command).map_err(|why| {
            Failure::new(Kind::Unsupported, format!("running this program again: {why}"))
                .help("it is found through /proc: mount it")
        })?;
        let (requests, stdout) = (first.stdin.take(), first.stdout.take());
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
                if line.map_or(true, |line| sender.send(line).is_err()) {
                    break;
                }
            }
        });
        let mut chroot = Chroot { first, requests, answers };
        chroot.ask::<()>(&arrangement, Duration::from_secs(600), true)?;
        Ok(chroot)
    }

    /// Writes `bytes` to the file `name` below [`OWN`].
    pub(crate) fn write(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Result<(), Failure> {
        let request = ChrootRequest::Write { name: name.to_owned(), bytes: bytes.into() };
        self.ask(&request, Duration::from_secs(60), true)
    }

    /// Runs a program to its end.
    ///
    /// [`Kind::Interrupted`] where a signal arrived meanwhile, and [`Kind::Unsupported`] where the
    /// program could not run or took longer than it may.
    pub(crate) fn run(&mut self, call: Call) -> Result<Answer, Failure> {
        // It is killed from inside after its limit; this one is for a chroot that does not answer.
        let (limit, to_its_end) = (Duration::from_secs(call.limit + 30), call.to_its_end);
        self.ask(&ChrootRequest::Run(call), limit, to_its_end)
    }

    fn ask<T: for<'de> Deserialize<'de>>(
        &mut self,
        request: &impl Serialize,
        limit: Duration,
        to_its_end: bool,
    ) -> Result<T, Failure> {
        let broken =
            |why: &str| Failure::new(Kind::Unsupported, format!("the package manager's enclosure {why}"));
        let mut line = serde_json::to_vec(request).map_err(|error| broken(&error.to_string()))?;
        line.push(b'\n');
        if let Some(requests) = self.requests.as_mut() {
            match requests.write_all(&line).and_then(|()| requests.flush()) {
                // A process that has gone says why in its last line.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    return Err(broken(&format!("can't be asked: {}", describe(errno(&error)))));
                }
                _ => {}
            }
        }
        let deadline = Instant::now() + limit;
        let answer = loop {
            match self.answers.recv_timeout(POLL) {
                Ok(line) => break line,
                Err(RecvTimeoutError::Disconnected) => return Err(broken("ended without a word")),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(broken(&format!("gave no answer within {} s", limit.as_secs())));
                }
                Err(RecvTimeoutError::Timeout) if to_its_end => {}
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
            }
        };
        match serde_json::from_str::<Result<T, ChrootError>>(&answer) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(error) => Err(broken(&format!("answered `{}`: {error}", printable(&answer)))),
        }
    }
}

impl Drop for Chroot {
    /// All that runs in it has ended, and all that is mounted is gone, when this returns.
    fn drop(&mut self) {
        // Without requests the second process ends by itself; a signal makes the first end it.
        drop(self.requests.take());
        let terminate = || -> Option<()> {
            let process = rustix::process::Pid::from_raw(i32::try_from(self.first.id()).ok()?)?;
            rustix::process::kill_process(process, rustix::process::Signal::TERM).ok()
        };
        let _ = terminate();
        let _ = self.first.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_request_that_can_t_be_written_is_told_at_once() {
        // It lives on, and will never say anything.
        let first = process::start(Command::new("sleep").arg("600")).unwrap();
        let full = OwnedFd::from(File::options().write(true).open("/dev/full").unwrap());
        let (_never, answers) = mpsc::channel();
        let mut chroot = Chroot { first, requests: Some(full.into()), answers };
        let failure = chroot.write("apt.conf", "").unwrap_err();
        assert!(
            failure.to_string().ends_with("enclosure can't be asked: no space left on device"),
            "{failure}"
        );
        assert_eq!(failure.kind, Kind::Unsupported);
    }
}
