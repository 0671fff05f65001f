//! Asks a staged containerd what it makes of a configuration.
//!
//! The only programs that a bake runs, as nobody, and only where the spec or `verify` asks for it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::MemfdFlags;

use crate::digest::BUFFER;
use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::process;
use crate::runtime::containerd::{BINARY, CONFIG};

/// containerd answers in 20 ms; emulated ones need longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Who staged programs run as.
const NOBODY: u32 = 65534;

/// What `containerd config default` of `binary` prints. The file is verified and need not be on
/// any disk of this host.
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

/// [`config_default`] of the containerd that is installed in the root at `host`, in a chroot, as nobody.
pub(crate) fn installed_config_default(host: &Path) -> Result<String, Failure> {
    in_root(host, &ImagePath::fixed(BINARY), &["config", "default"]).map_err(|why| {
        let message = format!("`containerd config default` of `{}` can't run: {why}", host.display());
        Failure::new(Kind::Unsupported, message).help("base: minimal needs no such run")
    })
}

/// What `containerd config dump` of the root at `host` makes of its config.toml: run in a chroot, as
/// nobody. An error says why it could not be asked.
pub(crate) fn config_dump(host: &Path, binary: &ImagePath) -> Result<String, String> {
    in_root(host, binary, &["--config", CONFIG, "config", "dump"])
}

fn in_root(host: &Path, binary: &ImagePath, arguments: &[&str]) -> Result<String, String> {
    let mut chroot = Command::new("chroot");
    chroot.arg(format!("--userspec={NOBODY}:{NOBODY}")).arg(host);
    chroot.arg(binary.as_str()).args(arguments);
    ask(&mut chroot)
}

/// Of its stderr the last line says most: warnings stand before it.
fn ask(command: &mut Command) -> Result<String, String> {
    process::text(command, DEADLINE).map_err(|why| why.lines().last().unwrap_or_default().to_owned())
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
