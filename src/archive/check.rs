//! Checks that an executable has the architecture and the version of its artifact.
//!
//! This module must not run the executable.

use std::fs::File;

use crate::artifact::Artifact;
use crate::error::{Failure, Kind, errno};
use crate::format::elf::{self, Elf, Glibc, Unreadable};
use crate::printable::printable;
use crate::runtime::Runtime;

/// Fails unless `file` is an executable of `artifact`'s architecture and, if it tells one, version. Returns
/// the glibc that it needs.
pub(super) fn check(artifact: &Artifact, name: &str, file: &File) -> Result<Option<Glibc>, Failure> {
    let refuse =
        |why: String| Failure::new(Kind::Unverified, format!("{artifact}: `{}` {why}", printable(name)));
    let found = elf::read(file).map_err(|error| match error {
        Unreadable::Broken(why) => refuse(format!("is a {why}")),
        Unreadable::Io(error) => Failure::filesystem("reading", name, errno(&error)),
    })?;
    let Some(Elf { arch, go_version, needs_glibc, .. }) = found else {
        return Err(refuse("is not an ELF executable".to_owned()));
    };
    match arch {
        Some(arch) if arch.name() == artifact.arch => {}
        Some(arch) => return Err(refuse(format!("is for {arch}, not for {}", artifact.arch))),
        None => return Err(refuse(format!("is for another architecture than {}", artifact.arch))),
    }
    let is_daemon =
        Runtime::of_component(&artifact.component).is_some_and(|runtime| runtime.facts().member == name);
    let marked = match is_daemon {
        true => elf::marked_version(file)
            .map_err(|error| Failure::filesystem("reading", name, errno(&error)))?
            .filter(|found| !found.may_be(&artifact.version))
            .map(|marked| marked.0),
        false => None,
    };
    match marked.or(go_version.filter(|version| *version != artifact.version)) {
        Some(version) => Err(refuse(format!("says it is version {version}, not {}", artifact.version))
            .help("is the right file under the wrong name?")),
        None => Ok(needs_glibc),
    }
}
