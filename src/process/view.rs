//! Makes the view of a root that programs in a sandbox get, and enters it.
//!
//! All mounts are made in a private mount namespace, so that none of them is visible outside, and after
//! `pivot_root(2)` nothing outside of the view has a name. This module must not know which programs are run.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use crate::digest::{BUFFER, Hashing};
use crate::error::{Failure, Kind, describe, errno};
use crate::process::mountinfo::mounts;
use crate::process::protocol::{Access, FILES, HostFile, OWN};

/// Directories of a host of which one exists: the new root is mounted there until it is entered.
const MOUNT_POINTS: [&str; 5] = ["/tmp", "/run", "/sys", "/mnt", "/dev"];

/// What a program that answers a question sees of a root: libraries and configuration. Sockets of the host may stand
/// below /run and /var, devices below /dev.
const VISIBLE: [&str; 8] = ["bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];

/// Directories that get an overlay in memory if programs must not change the root.
const OVERLAID: [&str; 3] = ["/etc", "/usr", "/var"];

/// Device nodes that programs expect: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Parts of /proc through which root can change the host. Container runtimes make the same ones read-only
/// (readonlyPaths of Docker's and containerd's default OCI specification).
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Parts of /proc and /sys that tell about the host or command its hardware. Container runtimes hide the same ones
/// (maskedPaths of the same specification).
const HIDDEN: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Flags of every mount of a view.
const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// File of this host for a sandbox, opened before the host is left.
pub(super) struct Opened<'a>(&'a HostFile, File);

/// Opens `files`, which are regular files.
pub(super) fn open_files(files: &[HostFile]) -> Result<Vec<Opened<'_>>, Failure> {
    files.iter().map(|file| Ok(Opened(file, open(&file.path)?))).collect()
}

/// Makes the view of the root in the working directory and enters it. Then copies `files` into it.
pub(super) fn enter(access: Access, offline: bool, files: Vec<Opened>) -> Result<(), Failure> {
    let resolv_conf = std::fs::read(RESOLV_CONF).unwrap_or_default();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|errno| failed("making private", "/", errno))?;
    if access == Access::Ask {
        return enter_answering(files);
    }
    let is_own = is_own()?;
    match is_own {
        true => restrict("/", access, &["/dev", "/proc", "/run", "/sys"])?,
        false => {
            let new = &mount_point()?;
            mount_bind_recursive(".", new.as_str()).map_err(|errno| failed("mounting", ".", errno))?;
            restrict(new, access, &[])?;
            pivot(new)?;
            mount_system()?;
        }
    }
    mount_temporary(access)?;
    if !offline && !is_own {
        provide_resolv_conf(&resolv_conf, access)?;
    }
    copy_files(files, "")
}

/// Makes and enters the view of [`Access::Ask`]: a new, read-only root with the [`VISIBLE`] parts of the working
/// directory.
fn enter_answering(files: Vec<Opened>) -> Result<(), Failure> {
    let new = &mount_point()?;
    mount("tmpfs", new.as_str(), "tmpfs", SAFE, c"mode=0755,size=1g,nr_inodes=1k")
        .map_err(|errno| failed("mounting tmpfs on", new, errno))?;
    VISIBLE.iter().try_for_each(|name| show(name, &format!("{new}/{name}")))?;
    copy_files(files, new)?;
    restrict(new, Access::Ask, &[])?;
    pivot(new)
}

/// Shows `name` of the working directory at `target`, also where it is a link.
fn show(name: &str, target: &str) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match rustix::fs::openat(CWD, name, flags, Mode::empty()) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed("opening", name, errno)),
    };
    let stat = rustix::fs::fstat(&found).map_err(|errno| failed("reading", name, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(&found, "", Vec::new());
            let made = link.and_then(|link| rustix::fs::symlink(link, target));
            made.map_err(|errno| failed("making", target, errno))
        }
        FileType::Directory => {
            make_directory(target)?;
            mount_bind_recursive(format!("/proc/self/fd/{}", found.as_raw_fd()), target)
                .map_err(|errno| failed("mounting", name, errno))
        }
        _ => Ok(()),
    }
}

/// Returns a directory of this host to mount on, without links in its path. The working directory and open files stay
/// reachable below it.
fn mount_point() -> Result<String, Failure> {
    let real = |path: &str| std::fs::canonicalize(path).ok()?.into_os_string().into_string().ok();
    MOUNT_POINTS.into_iter().filter(|path| Path::new(path).is_dir()).find_map(real).ok_or_else(|| {
        let message = format!("this host has none of the directories {}", MOUNT_POINTS.join(", "));
        Failure::new(Kind::Unsupported, message).help("make one, empty, to mount on")
    })
}

/// Makes the mount at `top` and those below it safe, and read-only unless programs change the root; not those at
/// the paths `except`, nor below them.
fn restrict(top: &str, access: Access, except: &[&str]) -> Result<(), Failure> {
    let reading = |error: &std::io::Error| failed("reading", "/proc/self/mountinfo", errno(error));
    let text = std::fs::read("/proc/self/mountinfo").map_err(|error| reading(&error))?;
    let mounts = mounts(&String::from_utf8_lossy(&text), top);
    if mounts.is_empty() {
        return Err(failed("restricting", top, Errno::NOENT));
    }
    for (path, options) in mounts {
        if except.iter().any(|except| Path::new(&path).starts_with(except)) {
            continue;
        }
        let has = |option: &str| options.split(',').any(|found| found == option);
        let mut flags = MountFlags::BIND | SAFE;
        flags.set(MountFlags::RDONLY, access != Access::Change || has("ro"));
        flags.set(MountFlags::NOEXEC, has("noexec"));
        mount_remount(path.as_str(), flags, c"").map_err(|errno| failed("restricting", &path, errno))?;
    }
    Ok(())
}

/// Makes the mount at `new` the root of this process. Where the kernel allows no `pivot_root`, because this process is in
/// a chroot or on an initramfs, the view is a chroot: programs lack the capability that leaving it takes.
fn pivot(new: &str) -> Result<(), Failure> {
    let entering = |errno| failed("entering", new, errno);
    rustix::process::chdir(new).map_err(entering)?;
    match rustix::process::pivot_root(".", ".") {
        // The old root is now mounted over the new one.
        Ok(()) => unmount(".", UnmountFlags::DETACH).map_err(entering)?,
        Err(Errno::INVAL) => rustix::process::chroot(".").map_err(entering)?,
        Err(errno) => return Err(entering(errno)),
    }
    rustix::process::chdir("/").map_err(entering)
}

/// Returns whether the working directory is the root of this process.
fn is_own() -> Result<bool, Failure> {
    let identity = |path: &str| {
        let stat = rustix::fs::stat(path).map_err(|errno| failed("reading", path, errno))?;
        Ok::<_, Failure>((stat.st_dev, stat.st_ino))
    };
    Ok(identity(".")? == identity("/")?)
}

/// Mounts /dev, /run and /sys, which the root of a running system already has.
fn mount_system() -> Result<(), Failure> {
    mount_at("tmpfs", "/dev", MountFlags::NOSUID, c"mode=0755")?;
    mount_at("tmpfs", "/run", SAFE, c"mode=0755")?;
    // Some containers forbid sysfs; programs work without /sys, but a host's may be mounted there.
    if mount_at("sysfs", "/sys", MountFlags::RDONLY | MountFlags::NOEXEC | SAFE, c"").is_err()
        && Path::new("/sys").is_dir()
    {
        mount_at("tmpfs", "/sys", MountFlags::RDONLY | MountFlags::NOEXEC | SAFE, c"mode=0755")?;
    }
    make_devices()
}

/// Mounts /proc, temporary directories in memory and, if the root must not change, overlays.
fn mount_temporary(access: Access) -> Result<(), Failure> {
    mount_proc()?;
    mount_at("tmpfs", "/tmp", SAFE, c"mode=1777")?;
    make_directory(OWN)?;
    if access == Access::Look {
        OVERLAID.iter().try_for_each(|directory| mount_overlay(directory))?;
    }
    // rpm writes the scripts that it runs to /var/tmp.
    if Path::new("/var/tmp").is_dir() {
        mount_at("tmpfs", "/var/tmp", SAFE, c"mode=1777")?;
    }
    Ok(())
}

/// Mounts /proc without the parts by which root rules the host.
fn mount_proc() -> Result<(), Failure> {
    mount_at("proc", "/proc", MountFlags::NOEXEC | SAFE, c"")?;
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOEXEC | SAFE;
        mount_bind(path, path)
            .and_then(|()| mount_remount(path, flags, c""))
            .map_err(|errno| failed("making read-only", path, errno))?;
    }
    HIDDEN.into_iter().filter(|path| Path::new(path).exists()).try_for_each(hide)
}

/// Covers a directory with an empty one, and any other file with /dev/null.
fn hide(path: &str) -> Result<(), Failure> {
    match Path::new(path).is_dir() {
        true => mount_at("tmpfs", path, MountFlags::RDONLY | MountFlags::NOEXEC | SAFE, c"mode=0755"),
        false => mount_bind("/dev/null", path).map_err(|errno| failed("hiding", path, errno)),
    }
}

/// Copies `files` to [`FILES`] below `top`, and checks the digests of what was copied.
fn copy_files(files: Vec<Opened>, top: &str) -> Result<(), Failure> {
    make_directories(&format!("{top}{FILES}/"))?;
    for Opened(file, source) in files {
        let mut source = Hashing::new(source, true);
        copy(&mut source, &format!("{top}{FILES}/{}", file.name), file.mode)?;
        let found = source.finish();
        if found != Some(file.sha256) {
            let found = found.map(|found| found.to_string()).unwrap_or_default();
            let message = format!("`{}` has sha256 {found}, expected {}", file.path.display(), file.sha256);
            return Err(Failure::new(Kind::Unverified, message)
                .help("get the right file, or pin this one with `nodebake lock`"));
        }
    }
    Ok(())
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
    mount("overlay", directory, "overlay", SAFE, options).map_err(|errno| {
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
    copy(open(Path::new(&own))?, &target, 0o644)
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

/// Opens a file of this host.
fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::filesystem("opening", path.display(), errno(&error)))
}

/// Writes a file below [`OWN`].
pub(super) fn write(name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = format!("{OWN}/{name}");
    make_directories(&path)?;
    copy(bytes, &path, 0o644)
}

/// Writes all that `from` contains to the file `to`.
fn copy(from: impl Read, to: &str, mode: u32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::filesystem("writing", to, errno(&error));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(mode).open(to).map_err(failed)?;
    // `io::copy` uses the reader's buffer: its own of 8 KiB would be slow.
    std::io::copy(&mut BufReader::with_capacity(BUFFER, from), &mut file).map(drop).map_err(failed)
}

fn failed(doing: &str, what: &str, errno: Errno) -> Failure {
    Failure::filesystem(doing, format!("{what} in a sandbox"), errno)
}
