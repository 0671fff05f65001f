//! Finds out the architecture and the glibc of a root from its own files.
//!
//! This module must not execute a program of the root, and must not ask the build host instead.

use crate::arch::Arch;
use crate::error::{Failure, Kind};
use crate::format::elf::{self, Elf, Glibc};
use crate::path::ImagePath;
use crate::root::Root;

/// Executables of which every root filesystem should have one, the most reliable first.
const EXECUTABLES: [&str; 9] = [
    "/bin/sh",
    "/usr/bin/sh",
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/sbin/init",
    "/usr/bin/env",
    "/bin/bash",
    "/bin/busybox",
    "/usr/bin/busybox",
];

/// Paths of the C library in the distributions; `{}` is Debian's name of the architecture.
const LIBRARIES: [&str; 6] = [
    "/lib/{}/libc.so.6",
    "/usr/lib/{}/libc.so.6",
    "/lib64/libc.so.6",
    "/usr/lib64/libc.so.6",
    "/lib/libc.so.6",
    "/usr/lib/libc.so.6",
];

/// Returns the architecture of the root's own executables.
pub(crate) fn arch(root: &Root) -> Result<Arch, Failure> {
    for path in EXECUTABLES {
        if let Some(arch) = read(root, &ImagePath::fixed(path))?.and_then(|elf| elf.arch) {
            return Ok(arch);
        }
    }
    let message = format!("root `{}` has no executable to tell its architecture", root.host().display());
    Err(Failure::new(Kind::Unsupported, message).help("set `arch:` in the spec, for example amd64"))
}

/// Returns the architecture of the root's own executables, where it is not `installed`. Executables that can't be read,
/// and a root without any, tell nothing.
pub(crate) fn differing_arch(root: &Root, installed: Arch) -> Option<Arch> {
    arch(root).ok().filter(|own| *own != installed)
}

/// Returns the version of the root's glibc for `arch`; `None` if it has none of that architecture.
pub(crate) fn glibc(root: &Root, arch: Arch) -> Result<Option<Glibc>, Failure> {
    for pattern in LIBRARIES {
        let path = ImagePath::new(&pattern.replace("{}", multiarch(arch)))?;
        let found = read(root, &path)?.filter(|elf| elf.arch == Some(arch));
        if let Some(glibc) = found.and_then(|elf| elf.gives_glibc) {
            return Ok(Some(glibc));
        }
    }
    Ok(None)
}

/// Reads an ELF file; `None` for a broken one, because the next of the list may be intact.
fn read(root: &Root, path: &ImagePath) -> Result<Option<Elf>, Failure> {
    Ok(root.file(path)?.and_then(|file| elf::read(&file).unwrap_or(None)))
}

/// Returns Debian's multiarch name of an architecture.
fn multiarch(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64-linux-gnu",
        Arch::Arm64 => "aarch64-linux-gnu",
        Arch::Arm => "arm-linux-gnueabihf",
        Arch::Ppc64le => "powerpc64le-linux-gnu",
        Arch::Riscv64 => "riscv64-linux-gnu",
        Arch::S390x => "s390x-linux-gnu",
    }
}
