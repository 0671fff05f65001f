//! Finds the other files of a root that decide after nodebake's own: files of sysctl.d and modprobe.d, the indexes of
//! each kernel's modules, units and drop-ins, mounts, networks of the CNI, files that config.toml imports, and directories of
//! registries.
//!
//! Each rule is that of the program which reads the files at boot, whatever the architecture. This module must not
//! change the root, run a program of it or ask the running system. To add a rule: a file like `parameters.rs` with a
//! function from a root and [`Ours`] to [`Conflict`]s, and its line in [`RULES`].

pub(crate) mod drop_ins;
mod files;
pub(crate) mod fragments;
pub(crate) mod kernels;
pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod networks;
mod ours;
pub(crate) mod parameters;
pub(crate) mod registries;
mod service;
pub(crate) mod units;

use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::root::Root;

pub(crate) use ours::Ours;

/// Rule: finds what decides after the files of a bake.
type Rule = fn(&Root, &Ours) -> Result<Vec<Conflict>, Failure>;

/// All rules, in the order in which their conflicts are told.
const RULES: [Rule; 8] = [
    mounts::conflicts,
    units::conflicts,
    parameters::conflicts,
    modules::conflicts,
    kernels::conflicts,
    networks::conflicts,
    fragments::conflicts,
    registries::conflicts,
];

/// Another file of the root that decides after one of nodebake's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Path of the file that decides.
    pub path: ImagePath,
    /// Number of the line in it, from 1; none where the whole file decides.
    pub line: Option<usize>,
    /// Consequence, in words that follow the path.
    pub problem: String,
    /// Remedy.
    pub help: String,
    /// Weight of the consequence.
    pub weight: Weight,
}

/// Weight of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// May be wanted: a bake tells it, and a verified root may have it.
    Told,
    /// The node does not become what the spec says: a bake warns of it, and a verified root must not have it.
    Wrong,
    /// The node can't become what the spec says: a bake is refused.
    Refused,
}

impl Conflict {
    /// Makes a conflict with the file at `path`.
    fn new(path: &ImagePath, line: impl Into<Option<usize>>, problem: String, help: &str) -> Conflict {
        let (path, line, help) = (path.clone(), line.into(), help.to_owned());
        Conflict { path, line, problem, help, weight: Weight::Wrong }
    }

    /// Makes the conflict with a file or directory that is not read.
    fn unread(path: &ImagePath, why: &str) -> Conflict {
        let problem = format!("is not read, because {why}: what it decides is unknown");
        Conflict::new(path, None, problem, "remove what does not belong there")
    }

    /// Returns the conflict with another weight.
    fn weighing(self, weight: Weight) -> Conflict {
        Conflict { weight, ..self }
    }
}

/// Returns the result of looking at a path of the root, and nothing for one that the boot can't look at either.
fn if_safe<T: Default>(found: Result<T, Failure>) -> Result<T, Failure> {
    match found {
        Err(failure) if failure.kind == Kind::Unsafe => Ok(T::default()),
        found => found,
    }
}

/// Returns every conflict of `root` with the files of a bake.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let mut all = Vec::new();
    for rule in RULES {
        all.extend(rule(root, ours)?);
    }
    Ok(all)
}
