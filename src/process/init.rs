//! The two processes of a sandbox: the outer one makes namespaces, process 1 in them serves requests.
//!
//! Requests are lines of JSON on stdin, responses lines on stdout; the working directory is the root. This module must
//! not know why a program is run.

use std::io::{BufRead, Write};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::UnshareFlags;
use serde::Serialize;

use crate::error::{Failure, Kind};
use crate::process::privileges::{become_nobody, die_with_parent, keep_installing, unshare};
use crate::process::protocol::{Access, Answer, COMMAND, Call, Request, SandboxError, Setup};
use crate::process::{self, Bounds, LONGEST_OUTPUT, view};

/// Argument of the hidden command for process 1 of the namespaces.
const SECOND: &str = "--second";

/// Bound of the output of a program that answers a question: a configuration has 20 KB.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Runs the outer process: makes the namespaces, starts process 1 in them and waits for its end.
pub(crate) fn outer() -> Result<u8, Failure> {
    die_with_parent();
    if let Err(failure) = unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID) {
        return respond::<()>(Err(failure));
    }
    let mut command = Command::new("/proc/self/exe");
    command.args([COMMAND, SECOND]);
    let mut init = process::start(&mut command).map_err(|why| Failure::new(Kind::Unsupported, why))?;
    // When process 1 has ended, the kernel has killed all other processes of its namespace.
    let code = process::wait_for(&mut init).ok().flatten();
    Ok(u8::from(code != Some(0)))
}

/// Runs process 1 of the namespaces: sets up the sandbox and serves requests until stdin ends.
pub(crate) fn init() -> Result<u8, Failure> {
    die_with_parent();
    // That of the caller could hide from programs what they need.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut lines = std::io::stdin().lock().lines();
    let mut next = || lines.next().and_then(Result::ok);
    let Some(line) = next() else { return Ok(0) };
    let setup = serde_json::from_str::<Setup>(&line);
    let setup = setup.map_err(|error| Failure::new(Kind::Unsupported, error.to_string()));
    let output = match &setup {
        Ok(setup) if setup.access == Access::Ask => LONGEST_ANSWER,
        _ => LONGEST_OUTPUT,
    };
    let mut code = respond(setup.and_then(|setup| set_up(&setup)))?;
    while code == 0
        && let Some(line) = next()
    {
        code = match serde_json::from_str(&line) {
            Ok(Request::Write { name, bytes }) => respond(view::write(&name, &bytes))?,
            Ok(Request::Run(call)) => respond(run(&call, output))?,
            Err(error) => respond::<()>(Err(Failure::new(Kind::Unsupported, error.to_string())))?,
        };
    }
    Ok(code)
}

/// Makes and enters the view of the root, and gives up rights.
fn set_up(setup: &Setup) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())
        .map_err(|errno| Failure::filesystem("opening", "/proc", errno))?;
    let files = view::open_files(&setup.files)?;
    unshare(UnshareFlags::NEWIPC | UnshareFlags::NEWUTS)?;
    // Programs get no controlling terminal, into which they could type commands for the caller's shell.
    let _ = rustix::process::setsid();
    if setup.offline {
        unshare(UnshareFlags::NEWNET)?;
    }
    view::enter(setup.access, setup.offline, files)?;
    match setup.access {
        Access::Ask => become_nobody(&proc),
        Access::Look | Access::Change => keep_installing(),
    }
}

/// Runs one program of the root.
fn run(call: &Call, output: u64) -> Result<Answer, Failure> {
    let Call { words, variables, limit, .. } = call;
    let (program, arguments) =
        words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    let bounds = Bounds { time: Duration::from_secs(*limit), output };
    let output = process::run(&mut command, variables, bounds)
        .map_err(|why| Failure::new(Kind::Unsupported, format!("running {program} of the root: {why}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Answer { code: output.code, stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// Sends one line to the process outside and returns the exit code for this process.
fn respond<T: Serialize>(result: Result<T, Failure>) -> Result<u8, Failure> {
    let code = u8::from(result.is_err());
    let result = result.map_err(|failure| SandboxError {
        exit_code: failure.kind.exit_code(),
        why: failure.to_string(),
        help: failure.help,
    });
    let mut line =
        serde_json::to_vec(&result).map_err(|error| Failure::new(Kind::Unsupported, error.to_string()))?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    // An error means that the process outside has ended, so nobody needs the response.
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    Ok(code)
}
