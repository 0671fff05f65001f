//! Opens paths inside a root as the kernel would after a chroot into it.
//!
//! By openat2(2), and by libpathrs where the kernel or a seccomp filter has no openat2. It opens and
//! does nothing else.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;

use crate::error::errno;

/// openat2 asks to try again when a rename raced with it; more than this many is an attack or a bug.
const RACES: u32 = 128;

/// A directory that no path opened through it leads out of.
pub struct Inside {
    directory: OwnedFd,
}

impl Inside {
    /// All paths are resolved below `directory`.
    pub fn new(directory: OwnedFd) -> Self {
        Inside { directory }
    }

    /// The directory itself.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Opens `relative` as the kernel would after a chroot into the root.
    pub fn open(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES {
            match rustix::fs::openat2(&self.directory, relative, flags, Mode::empty(), inside) {
                Err(Errno::AGAIN) => {}
                // Before Linux 5.6, or below a seccomp filter that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => return self.open_without_openat2(relative, flags),
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    fn open_without_openat2(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        // libpathrs walks through /proc/self/fd and panics where that is missing.
        let proc = rustix::fs::statfs("/proc").map_err(|_| Errno::NOSYS)?;
        if proc.f_type != PROC_SUPER_MAGIC {
            return Err(Errno::NOSYS);
        }
        let wrapped = |error: pathrs::error::Error| match error.kind() {
            pathrs::error::ErrorKind::OsError(Some(number)) => Errno::from_raw_os_error(number),
            pathrs::error::ErrorKind::SafetyViolation => Errno::XDEV,
            _ => Errno::IO,
        };
        let directory = self.directory.try_clone().map_err(|error| errno(&error))?;
        let handle = pathrs::Root::from_fd(directory).resolve(relative).map_err(wrapped)?;
        if flags.contains(OFlags::PATH) {
            let found = OwnedFd::from(handle);
            let stat = rustix::fs::fstat(&found)?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            return if is_directory || !flags.contains(OFlags::DIRECTORY) {
                Ok(found)
            } else {
                Err(Errno::NOTDIR)
            };
        }
        let flags = pathrs::flags::OpenFlags::from_bits_retain(flags.bits().into());
        handle.reopen(flags).map(OwnedFd::from).map_err(wrapped)
    }
}
