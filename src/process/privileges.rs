//! Gives up rights, for good, before a program of a root runs.
//!
//! This module must not start a program.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags};

use crate::error::{Failure, Kind, describe};

/// User and group of programs that only answer a question; nothing of a root belongs to it.
const NOBODY: u32 = 65534;

/// Capabilities that apt, dnf and packages' scripts need: they set owners, modes and file capabilities, and change
/// users. With the others a program of root's rights could reach the host: load modules, mount, read by file handle.
const INSTALLING: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::AUDIT_WRITE);

/// Limits of a program that answers a question. containerd 1.6.20, 1.7.24 and 2.1.9 print their configuration with 1 GiB
/// of addresses, and start at most 5 threads with GOMAXPROCS=1 (measured).
const LIMITS: [(Resource, u64); 6] = [
    (Resource::As, 4 << 30),
    (Resource::Core, 0),
    (Resource::Cpu, 20),
    (Resource::Fsize, 8 << 20),
    (Resource::Nofile, 128),
    (Resource::Nproc, 64),
];

/// Has the kernel kill this process when its parent ends. A change of its user undoes this.
pub(super) fn die_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

/// Moves this process to namespaces of its own.
#[expect(deprecated, reason = "unsafe only for UnshareFlags::FILES, which is not among them")]
pub(super) fn unshare(flags: UnshareFlags) -> Result<(), Failure> {
    rustix::thread::unshare(flags).map_err(|errno| {
        Failure::new(Kind::Unsupported, format!("making namespaces for a sandbox: {}", describe(errno)))
            .help("run with all capabilities, in a container with --privileged; or run nothing of the root")
    })
}

/// Keeps only what a package manager needs.
pub(super) fn keep_installing() -> Result<(), Failure> {
    // The host's handler of core dumps runs with all rights outside.
    limit(Resource::Core, 0).map_err(failed)?;
    reduce_to(INSTALLING).map_err(failed)
}

/// Becomes nobody without any capability, in a user namespace of its own where the kernel allows one. `proc` is the
/// host's /proc.
pub(super) fn become_nobody(proc: &OwnedFd) -> Result<(), Failure> {
    // Whoever is killed for want of memory, it is not a process of the host.
    let _ = write_proc(proc, "self/oom_score_adj", "1000");
    change_user().map_err(failed)?;
    if unshare(UnshareFlags::NEWUSER).is_ok() {
        map_user(proc).map_err(failed)?;
        // A user namespace within this one would have all capabilities again. Containers mount this read-only.
        let _ = write_proc(proc, "sys/user/max_user_namespaces", "0");
    }
    LIMITS.into_iter().try_for_each(|(resource, most)| limit(resource, most)).map_err(failed)?;
    reduce_to(CapabilitySet::empty()).map_err(failed)?;
    // Programs of the same user could else read this process's memory.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    die_with_parent();
    Ok(())
}

/// Becomes [`NOBODY`] and keeps the capabilities that making a user namespace takes.
fn change_user() -> Result<(), Errno> {
    let (user, group) = (rustix::process::Uid::from_raw(NOBODY), rustix::process::Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    // The files below /proc/self, which the map is written to, belong to the user of a dumpable process only.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
}

/// Maps root of the new user namespace to [`NOBODY`], so that nothing that a program says of its user differs from
/// what it says on a node.
fn map_user(proc: &OwnedFd) -> Result<(), Errno> {
    let map = format!("0 {NOBODY} 1");
    write_proc(proc, "self/setgroups", "deny")?;
    write_proc(proc, "self/gid_map", &map)?;
    write_proc(proc, "self/uid_map", &map)
}

fn write_proc(proc: &OwnedFd, path: &str, text: &str) -> Result<(), Errno> {
    let file = rustix::fs::openat(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    File::from(file).write_all(text.as_bytes()).map_err(|error| crate::error::errno(&error))
}

/// Gives up all capabilities but `kept`, also those that a setuid file or one with capabilities would bring.
fn reduce_to(kept: CapabilitySet) -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match kept.contains(capability) {
            true => {}
            false => match rustix::thread::remove_capability_from_bounding_set(capability) {
                // The kernel does not know a capability of this number.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            },
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_no_new_privs(true)?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

fn limit(resource: Resource, most: u64) -> Result<(), Errno> {
    rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}

fn failed(errno: Errno) -> Failure {
    Failure::new(Kind::Unsupported, format!("giving up rights in a sandbox: {}", describe(errno)))
        .help("run as root with all capabilities, or run nothing of the root")
}
