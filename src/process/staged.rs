//! Runs a staged or installed containerd to print its default or effective configuration.
//!
//! This module must not run it as root, and runs it only if the spec or `verify` asks for it. Apart from package
//! managers, a bake runs no other program of a root.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::MemfdFlags;

use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::process;
use crate::root;

/// Time limit for one command: containerd needs 20 ms, under emulation longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// User and group that staged programs run as.
const NOBODY: u32 = 65534;

/// Returns the output of `containerd config default` of `binary`, a verified file that needs no name.
pub(crate) fn config_default(binary: &File) -> Result<String, Failure> {
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
    ask(&mut command).map_err(unsupported)
}

/// Returns the output of `containerd config default` of the containerd installed in the root at `host`, run
/// in a chroot as nobody.
pub(crate) fn installed_config_default(host: &Path, binary: &ImagePath) -> Result<String, Failure> {
    in_root(host, binary, &["config", "default"]).map_err(|why| {
        let message = format!("`containerd config default` of `{}` can't run: {why}", host.display());
        Failure::new(Kind::Unsupported, message).help("base: minimal needs no such run")
    })
}

/// Returns the output of `containerd config dump` for the file `config` of the root at `host`, run in a chroot
/// as nobody. The error says why it could not run.
pub(crate) fn config_dump(host: &Path, binary: &ImagePath, config: &ImagePath) -> Result<String, String> {
    in_root(host, binary, &["--config", config.as_str(), "config", "dump"])
}

fn in_root(host: &Path, binary: &ImagePath, arguments: &[&str]) -> Result<String, String> {
    let mut chroot = Command::new("chroot");
    chroot.arg(format!("--userspec={NOBODY}:{NOBODY}")).arg(host);
    chroot.arg(binary.as_str()).args(arguments);
    ask(&mut chroot)
}

/// Runs a command; its error is only the last line of stderr, because warnings precede it.
fn ask(command: &mut Command) -> Result<String, String> {
    process::text(command, DEADLINE).map_err(|why| why.lines().last().unwrap_or_default().to_owned())
}

/// Copies a file to memory, where it can be executed and no other process can see or change it.
fn in_memory(binary: &File) -> std::io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("staged", MemfdFlags::CLOEXEC)?;
    let copy = File::from(memory);
    root::copy_from(binary, &copy, 0)?;
    // Executing a file that is open for writing fails with ETXTBSY, so it is reopened for reading.
    let readable = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
    Ok(readable.into())
}
