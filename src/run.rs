//! Runs a staged containerd to ask it what it makes of a configuration.
//!
//! The only subprocesses of a bake, and only where the spec or `verify` asks for them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use crate::digest::BUFFER;
use crate::error::{Failure, Kind, errno, printable};

/// containerd answers in 20 ms; emulated ones need longer.
const DEADLINE: Duration = Duration::from_secs(20);
/// Who staged programs run as.
const NOBODY: u32 = 65534;
/// A configuration has 10 KB.
const LONGEST: u64 = 4 << 20;

/// What `containerd config default` of `binary` prints. The file is verified and need not be on
/// any disk of this host.
pub fn config_default(binary: &File) -> Result<String, Failure> {
    let unsupported = |why: String| {
        Failure::new(Kind::Unsupported, format!("`containerd config default` can't run on this host: {why}"))
            .help("base: minimal needs no such run")
    };
    let memory = in_memory(binary).map_err(|error| unsupported(error.to_string()))?;
    let program = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let mut command = Command::new(program);
    command.args(["config", "default"]).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = output(&mut command).map_err(unsupported)?;
    String::from_utf8(output).map_err(|error| unsupported(error.to_string()))
}

/// [`config_default`] of the containerd that is installed in the root at `host`, in a chroot, as nobody.
pub fn installed_config_default(host: &Path) -> Result<String, Failure> {
    in_root(host, &["config", "default"]).map_err(|why| {
        let message = format!("`containerd config default` of `{}` can't run: {why}", host.display());
        Failure::new(Kind::Unsupported, message).help("base: minimal needs no such run")
    })
}

/// What `containerd config dump` of the root at `host` makes of its config.toml: run in a chroot, as
/// nobody. An error says why it could not be asked.
pub fn config_dump(host: &Path) -> Result<String, String> {
    in_root(host, &["--config", "/etc/containerd/config.toml", "config", "dump"])
}

fn in_root(host: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut chroot = Command::new("chroot");
    chroot.arg(format!("--userspec={NOBODY}:{NOBODY}")).arg(host);
    chroot.arg("/usr/local/bin/containerd").args(arguments);
    let output = output(&mut chroot)?;
    String::from_utf8(output).map_err(|error| error.to_string())
}

/// A copy that can be executed and that no other process can change or see.
fn in_memory(binary: &File) -> std::io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("containerd", MemfdFlags::CLOEXEC)?;
    let mut copy = File::from(memory);
    let mut buffer = vec![0; BUFFER];
    let mut offset = 0;
    loop {
        match binary.read_at(&mut buffer, offset)? {
            0 => break,
            count => copy.write_all(&buffer[..count])?,
        }
        offset = copy.stream_position()?;
    }
    copy.seek(SeekFrom::Start(0))?;
    // Executing a file that is open for writing fails: reopened for reading alone.
    let readable = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
    Ok(readable.into())
}

#[expect(clippy::disallowed_methods, reason = "the one place where a bake starts a process")]
fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let collect = || tempfile::tempfile().map_err(|error| error.to_string());
    let (stdout, stderr) = (collect()?, collect()?);
    let handed = |file: &File| file.try_clone().map(Stdio::from).map_err(|error| error.to_string());
    command.stdin(Stdio::null()).stdout(handed(&stdout)?).stderr(handed(&stderr)?).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut child = command.spawn().map_err(|error| describe(&error))?;
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        let endless =
            [&stdout, &stderr].iter().any(|file| file.metadata().is_ok_and(|found| found.len() > LONGEST));
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if endless || Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer within {} s", DEADLINE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    match status.success() {
        true => content(&stdout).map_err(|error| error.to_string()),
        false => {
            let bytes = content(&stderr).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            Err(printable(text.lines().last().unwrap_or("it failed without a message")))
        }
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
