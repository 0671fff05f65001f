//! The two processes of a chroot: creates the namespaces, mounts filesystems, and runs requested programs.
//!
//! Requests are lines of JSON on stdin, responses lines on stdout. All mounts happen after the chroot, if the root is
//! not the running system's, so that no link of the root leads a mount out of it, and in a private namespace, so that
//! none of them is visible outside. This module must not know why a program is run.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;
use serde::Serialize;

use crate::digest::{BUFFER, Digest, Hashing};
use crate::error::{Failure, Kind, describe, errno};
use crate::process;
use crate::process::protocol::{Access, Answer, COMMAND, Call, ChrootError, ChrootRequest, OWN, Setup};

/// Argument of the hidden command for process 1 of the namespaces.
const SECOND: &str = "--second";

/// Device nodes that programs expect: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Directories that get an overlay in memory if the chroot must not change the root.
const OVERLAID: [&str; 3] = ["/etc", "/usr", "/var"];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Runs the outer process: creates the namespaces, starts process 1 in them and waits for its end.
pub(crate) fn unshare() -> Result<u8, Failure> {
    die_with_parent();
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if let Err(errno) = unshare_namespaces(flags) {
        return respond::<()>(Err(Failure::new(
            Kind::Unsupported,
            format!("making a mount namespace: {}", describe(errno)),
        )
        .help("run with all capabilities, in a container with --privileged; or use `install: archive`")));
    }
    let mut command = Command::new("/proc/self/exe");
    command.args([COMMAND, SECOND]);
    let mut init = process::start(&mut command).map_err(|why| Failure::new(Kind::Unsupported, why))?;
    // When process 1 has ended, the kernel has killed all other processes of its namespace.
    let code = process::wait_for(&mut init).ok().flatten();
    Ok(u8::from(code != Some(0)))
}

/// Runs process 1 of the namespaces: sets up the chroot and serves requests until stdin ends.
pub(crate) fn init() -> Result<u8, Failure> {
    die_with_parent();
    let mut lines = std::io::stdin().lock().lines();
    let mut next = || lines.next().and_then(Result::ok);
    let Some(line) = next() else { return Ok(0) };
    let prepared = serde_json::from_str(&line)
        .map_err(|error| Failure::new(Kind::Unsupported, error.to_string()))
        .and_then(|setup| set_up(&setup));
    let mut code = respond(prepared)?;
    while code == 0
        && let Some(line) = next()
    {
        code = match serde_json::from_str(&line) {
            Ok(ChrootRequest::Write { name, bytes }) => respond(write(&name, &bytes))?,
            Ok(ChrootRequest::Run(call)) => respond(run(&call))?,
            Err(error) => respond::<()>(Err(Failure::new(Kind::Unsupported, error.to_string())))?,
        };
    }
    Ok(code)
}

/// Has the kernel kill this process when its parent ends.
fn die_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

#[expect(deprecated, reason = "unsafe only for UnshareFlags::FILES, which is not among them")]
fn unshare_namespaces(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

/// Enters the root, mounts the filesystems that programs expect, and copies the packages.
fn set_up(setup: &Setup) -> Result<(), Failure> {
    let Setup { host, is_own, access, offline, files } = setup;
    // Packages and resolv.conf are files of the host, so they are opened before the chroot.
    let files = files
        .iter()
        .map(|(path, digest)| Ok((open(path)?, path.as_path(), *digest)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let resolv_conf = std::fs::read(RESOLV_CONF).unwrap_or_default();
    if *offline {
        unshare_namespaces(UnshareFlags::NEWNET)
            .map_err(|errno| Failure::filesystem("making", "a network namespace", errno))?;
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|errno| Failure::filesystem("making private", "/", errno))?;
    if !is_own {
        enter(host)?;
        mount_system()?;
    }
    mount_temporary(*access)?;
    if !is_own && !offline {
        provide_resolv_conf(&resolv_conf, *access)?;
    }
    make_directory(&format!("{OWN}/packages"))?;
    files.into_iter().try_for_each(|(file, path, digest)| copy_package(file, path, digest))
}

/// Mounts /dev, /run and /sys, which the root of a running system already has.
fn mount_system() -> Result<(), Failure> {
    for path in ["/dev", "/run"] {
        mount_at("tmpfs", path, MountFlags::NOSUID, c"mode=0755")?;
    }
    // Some containers forbid the mount; programs work without /sys.
    let _ = mount_at("sysfs", "/sys", MountFlags::RDONLY, c"");
    make_devices()
}

/// Mounts /proc, temporary directories in memory and, if the root must not change, overlays.
fn mount_temporary(access: Access) -> Result<(), Failure> {
    mount_at("proc", "/proc", MountFlags::empty(), c"")?;
    mount_at("tmpfs", "/tmp", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")?;
    make_directory(OWN)?;
    if access == Access::Look {
        OVERLAID.iter().try_for_each(|directory| mount_overlay(directory))?;
    }
    // rpm writes the scripts that it runs to /var/tmp.
    if Path::new("/var/tmp").is_dir() {
        mount_at("tmpfs", "/var/tmp", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")?;
    }
    Ok(())
}

/// Copies a package of the host into the chroot and checks the digest of what was copied.
fn copy_package(file: File, path: &Path, digest: Digest) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut source = Hashing::new(file, true);
    copy(&mut source, &format!("{OWN}/packages/{name}"))?;
    let found = source.finish();
    if found == Some(digest) {
        return Ok(());
    }
    let found = found.map(|found| found.to_string()).unwrap_or_default();
    let message = format!("package `{}` has sha256 {found}, expected {digest}", path.display());
    Err(Failure::new(Kind::Unverified, message)
        .help("get the right file, or pin this one with `nodebake lock`"))
}

/// Makes `host` the root of this process.
fn enter(host: &Path) -> Result<(), Failure> {
    let failed = |errno| Failure::filesystem("entering", host.display(), errno);
    rustix::process::chdir(host).map_err(failed)?;
    rustix::process::chroot(".").map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)
}

fn mount_at(kind: &str, place: &str, flags: MountFlags, options: &CStr) -> Result<(), Failure> {
    mount(kind, place, kind, flags, options).map_err(|errno| {
        Failure::filesystem("mounting", format!("{kind} on {place} of the root"), errno)
            .help(format!("{place} must be a directory of the root"))
    })
}

/// Mounts an overlay on `directory`, so that all writes to it go to memory.
fn mount_overlay(directory: &str) -> Result<(), Failure> {
    if !Path::new(directory).is_dir() {
        return Ok(());
    }
    let own = format!("{OWN}/changes{directory}");
    for part in ["upper", "work"] {
        make_directories(&format!("{own}/{part}/"))?;
    }
    let options = format!("lowerdir={directory},upperdir={own}/upper,workdir={own}/work\0");
    let options = CStr::from_bytes_with_nul(options.as_bytes()).unwrap_or(c"");
    mount("overlay", directory, "overlay", MountFlags::empty(), options).map_err(|errno| {
        Failure::new(
            Kind::Unsupported,
            format!("mounting overlay on {directory} of the root: {}", describe(errno)),
        )
        .help("looking at packages without a change needs overlayfs: modprobe overlay")
    })
}

/// Provides the host's resolv.conf, also if the root's is a link to the file of a service that does not run.
fn provide_resolv_conf(content: &[u8], access: Access) -> Result<(), Failure> {
    let own = format!("{OWN}/resolv.conf");
    write("resolv.conf", content)?;
    if Path::new(RESOLV_CONF).is_file() {
        return mount_bind(own.as_str(), RESOLV_CONF)
            .map_err(|errno| Failure::filesystem("mounting", RESOLV_CONF, errno));
    }
    let target = std::fs::read_link(RESOLV_CONF).unwrap_or_else(|_| PathBuf::from(RESOLV_CONF));
    let target = Path::new("/etc").join(target);
    let target = target.to_string_lossy().replace("/etc/../", "/");
    // Only /run, which is in memory, or an overlay: nothing of it may stay in the root.
    if access == Access::Change && !target.starts_with("/run/") {
        return Ok(());
    }
    make_directories(&target)?;
    copy(open(Path::new(&own))?, &target)
}

/// Creates the device nodes, links and directories of /dev.
fn make_devices() -> Result<(), Failure> {
    for (name, major, minor) in DEVICES {
        let path = format!("/dev/{name}");
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(
            CWD,
            path.as_str(),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            device,
        )
        .and_then(|()| rustix::fs::chmod(path.as_str(), Mode::from_raw_mode(0o666)))
        .map_err(|errno| Failure::filesystem("making", &path, errno))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let path = format!("/dev/{name}");
        rustix::fs::symlink(target, path.as_str())
            .map_err(|errno| Failure::filesystem("making", &path, errno))?;
    }
    make_directory("/dev/shm")?;
    make_directory("/dev/pts")
}

/// Creates the directories above the file `path`.
fn make_directories(path: &str) -> Result<(), Failure> {
    let Some((above, _)) = path.rsplit_once('/') else { return Ok(()) };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(above);
    made.map_err(|error| Failure::filesystem("making", above, errno(&error)))
}

fn make_directory(path: &str) -> Result<(), Failure> {
    match std::fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Failure::filesystem("making", path, errno(&error)))
        }
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::filesystem("opening", path.display(), errno(&error)))
}

/// Writes a file below [`OWN`].
fn write(name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = format!("{OWN}/{name}");
    make_directories(&path)?;
    copy(bytes, &path)
}

/// Writes all that `from` contains to the file `to`.
fn copy(from: impl Read, to: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::filesystem("writing", to, errno(&error));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o644).open(to).map_err(failed)?;
    // `io::copy` uses the reader's buffer: its own of 8 KiB would be slow.
    std::io::copy(&mut BufReader::with_capacity(BUFFER, from), &mut file).map(drop).map_err(failed)
}

/// Runs one program of the root.
fn run(call: &Call) -> Result<Answer, Failure> {
    let Call { words, variables, limit, .. } = call;
    let (program, arguments) =
        words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    let output = process::run(&mut command, variables, Duration::from_secs(*limit))
        .map_err(|why| Failure::new(Kind::Unsupported, format!("running {program} of the root: {why}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Answer { code: output.code, stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// Sends one line to the process outside and returns the exit code for this process.
fn respond<T: Serialize>(result: Result<T, Failure>) -> Result<u8, Failure> {
    let code = u8::from(result.is_err());
    let result = result.map_err(|failure| ChrootError {
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
