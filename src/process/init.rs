//! Inside a chroot: makes the namespaces, arranges what is mounted, and runs what it is asked.
//!
//! Requests come as lines of JSON on stdin, answers go to stdout. All mounts are made after the chroot,
//! so that no link of the root leads one of them out, and none of them is seen outside. It must not
//! know who asks.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;
use serde::Serialize;

use crate::digest::{BUFFER, Hasher};
use crate::error::{Failure, Kind, describe, errno};
use crate::process;
use crate::process::protocol::{Access, Answer, Arrangement, Call, ChrootError, ChrootRequest, OWN};

/// What the second process is called with.
const SECOND: &str = "--second";

/// Devices that programs expect: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Directories whose changes go away again where the chroot may only look.
const KEPT_AS_THEY_ARE: [&str; 3] = ["/etc", "/usr", "/var"];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The first process: new namespaces, and a second process as the first one in them.
pub(crate) fn unshare() -> Result<u8, Failure> {
    die_with_parent();
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if let Err(errno) = unshare_namespaces(flags) {
        return say::<()>(Err(Failure::new(
            Kind::Unsupported,
            format!("making a mount namespace: {}", describe(errno)),
        )
        .help("run with all capabilities, in a container with --privileged; or use `install: archive`")));
    }
    let mut second = Command::new("/proc/self/exe");
    second.args([crate::process::protocol::COMMAND, SECOND]);
    let mut child = process::start(&mut second).map_err(|why| Failure::new(Kind::Unsupported, why))?;
    // Waiting for it is waiting for all: the kernel ends its namespace first.
    let code = process::attend(&mut child).ok().flatten();
    Ok(u8::from(code != Some(0)))
}

/// The second process: arranges what is mounted and serves requests until there are no more.
pub(crate) fn init() -> Result<u8, Failure> {
    die_with_parent();
    let mut lines = std::io::stdin().lock().lines();
    let mut next = || lines.next().and_then(Result::ok);
    let Some(line) = next() else { return Ok(0) };
    let arranged = serde_json::from_str(&line)
        .map_err(|error| Failure::new(Kind::Unsupported, error.to_string()))
        .and_then(|arrangement| arrange(&arrangement));
    let mut code = say(arranged)?;
    while code == 0
        && let Some(line) = next()
    {
        code = match serde_json::from_str(&line) {
            Ok(ChrootRequest::Write { name, bytes }) => say(write(&name, &bytes))?,
            Ok(ChrootRequest::Run(call)) => say(carry_out(&call))?,
            Err(error) => say::<()>(Err(Failure::new(Kind::Unsupported, error.to_string())))?,
        };
    }
    Ok(code)
}

fn die_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

#[expect(deprecated, reason = "unsafe only for UnshareFlags::FILES, which is not among them")]
fn unshare_namespaces(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

/// Mounts what programs expect, and copies what they are given.
fn arrange(arrangement: &Arrangement) -> Result<(), Failure> {
    let Arrangement { host, is_own, access, offline, files } = arrangement;
    // Before the root is this process's own: these are the host's.
    let files = files
        .iter()
        .map(|(path, digest)| Ok((open(path)?, path, *digest)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let resolver = std::fs::read(RESOLV_CONF).unwrap_or_default();
    if *offline {
        unshare_namespaces(UnshareFlags::NEWNET)
            .map_err(|errno| Failure::filesystem("making", "a network namespace", errno))?;
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|errno| Failure::filesystem("making private", "/", errno))?;
    if !is_own {
        enter(host)?;
        for place in ["/dev", "/run"] {
            attach("tmpfs", place, MountFlags::NOSUID, c"mode=0755")?;
        }
        // A container that may not mount it can do without.
        let _ = attach("sysfs", "/sys", MountFlags::RDONLY, c"");
        make_devices()?;
    }
    attach("proc", "/proc", MountFlags::empty(), c"")?;
    attach("tmpfs", "/tmp", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")?;
    make_directory(OWN)?;
    if *access == Access::Look {
        KEPT_AS_THEY_ARE.iter().try_for_each(|directory| forget_changes(directory))?;
    }
    // rpm keeps the scripts here that it runs.
    if Path::new("/var/tmp").is_dir() {
        attach("tmpfs", "/var/tmp", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")?;
    }
    if !is_own && !offline {
        bring_resolver(&resolver, *access)?;
    }
    make_directory(&format!("{OWN}/packages"))?;
    files.into_iter().try_for_each(|(file, path, digest)| {
        let mut hasher = Hasher::default();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        copy(file, &format!("{OWN}/packages/{name}"), &mut hasher)?;
        match hasher.finish() {
            found if found == digest => Ok(()),
            found => Err(Failure::new(
                Kind::Unverified,
                format!("package `{}` has sha256 {found}, expected {digest}", path.display()),
            )
            .help("get the right file, or pin this one with `nodebake lock`")),
        }
    })
}

/// Makes `host` the root of this process.
fn enter(host: &Path) -> Result<(), Failure> {
    let failed = |errno| Failure::filesystem("entering", host.display(), errno);
    rustix::process::chdir(host).map_err(failed)?;
    rustix::process::chroot(".").map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)
}

fn attach(kind: &str, place: &str, flags: MountFlags, options: &CStr) -> Result<(), Failure> {
    mount(kind, place, kind, flags, options).map_err(|errno| {
        Failure::filesystem("mounting", format!("{kind} on {place} of the root"), errno)
            .help(format!("{place} must be a directory of the root"))
    })
}

/// What is written to `directory` from now on goes to memory.
fn forget_changes(directory: &str) -> Result<(), Failure> {
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

/// Name resolution as on this host, also where the root has it from a service that does not run.
fn bring_resolver(content: &[u8], access: Access) -> Result<(), Failure> {
    let own = format!("{OWN}/resolv.conf");
    write("resolv.conf", content)?;
    if Path::new(RESOLV_CONF).is_file() {
        return mount_bind(own.as_str(), RESOLV_CONF)
            .map_err(|errno| Failure::filesystem("mounting", RESOLV_CONF, errno));
    }
    let target = std::fs::read_link(RESOLV_CONF).unwrap_or_else(|_| PathBuf::from(RESOLV_CONF));
    let target = Path::new("/etc").join(target);
    let place = target.to_string_lossy().replace("/etc/../", "/");
    // Only where nothing of it stays.
    if access == Access::Change && !place.starts_with("/run/") {
        return Ok(());
    }
    make_directories(&place)?;
    copy(open(Path::new(&own))?, &place, &mut Hasher::default())
}

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

/// The directories above the file `path`.
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

fn write(name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = format!("{OWN}/{name}");
    make_directories(&path)?;
    copy(bytes, &path, &mut Hasher::default())
}

fn copy(mut from: impl Read, to: &str, hasher: &mut Hasher) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::filesystem("writing", to, errno(&error));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o644).open(to).map_err(failed)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).map_err(failed)? {
            0 => return Ok(()),
            count => {
                hasher.update(&buffer[..count]);
                file.write_all(&buffer[..count]).map_err(failed)?;
            }
        }
    }
}

fn carry_out(call: &Call) -> Result<Answer, Failure> {
    let Call { words, variables, limit, .. } = call;
    let (program, arguments) =
        words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    let ended = process::run(&mut command, variables, Duration::from_secs(*limit))
        .map_err(|why| Failure::new(Kind::Unsupported, format!("running {program} of the root: {why}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Answer { code: ended.code, stdout: text(&ended.stdout), stderr: text(&ended.stderr) })
}

/// One line to the process outside. Gives this one's exit code.
fn say<T: Serialize>(result: Result<T, Failure>) -> Result<u8, Failure> {
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
    // Nobody listens any more: there is nothing left to do.
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    Ok(code)
}
