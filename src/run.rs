//! Runs a program to its end: the one place where processes are started.
//!
//! It must not know what is run: `staged.rs` asks a staged containerd, `service.rs` systemd.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{errno, printable};
use crate::interrupt;

/// Nobody here prints more.
const LONGEST: u64 = 4 << 20;

/// What `command` prints, in an environment with nothing but a search path. It is killed after
/// `limit` and at a signal to this process.
///
/// An error is the program's own words on stderr, or why it could not run.
pub fn output(command: &mut Command, limit: Duration) -> Result<Vec<u8>, String> {
    let collect = || tempfile::tempfile().map_err(|error| error.to_string());
    let (stdout, stderr) = (collect()?, collect()?);
    let handed = |file: &File| file.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    command.stdin(Stdio::null()).stdout(handed(&stdout)?).stderr(handed(&stderr)?).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let endless =
        || [&stdout, &stderr].iter().any(|file| file.metadata().is_ok_and(|found| found.len() > LONGEST));
    match wait(command, limit, endless)? {
        true => content(&stdout).map_err(|error| error.to_string()),
        false => {
            let bytes = content(&stderr).unwrap_or_default();
            let lines: Vec<String> = String::from_utf8_lossy(&bytes).lines().map(printable).collect();
            Err(if lines.is_empty() { "it failed without a message".to_owned() } else { lines.join("\n") })
        }
    }
}

/// [`output`] as text.
pub fn text(command: &mut Command, limit: Duration) -> Result<String, String> {
    String::from_utf8(output(command, limit)?).map_err(|error| error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts a process")]
fn wait(command: &mut Command, limit: Duration, endless: impl Fn() -> bool) -> Result<bool, String> {
    let mut child = command.spawn().map_err(|error| describe(&error))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status.success());
        }
        let why = match interrupt::check() {
            Err(signal) => Some(signal.to_string()),
            Ok(()) if endless() => Some("it prints without an end".to_owned()),
            Ok(()) => (Instant::now() > deadline).then(|| format!("no answer within {} s", limit.as_secs())),
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
