//! Asks a staged or installed containerd for its default or effective configuration.
//!
//! This module must not give it any right.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::printable::printable;
use crate::process::protocol::{Access, Answer, Call, FILES, HostFile, Setup};
use crate::process::sandbox::Sandbox;
use crate::root::Root;

/// Time limit for one command in seconds: containerd needs 20 ms, under emulation longer.
const LIMIT: u64 = 20;

/// Name of the copy of the binary in the sandbox.
const NAME: &str = "containerd";

/// Returns the output of `containerd config default` of `binary`, which has the digest `sha256`, with the libraries of
/// `root`. Fails with [`Kind::Unsupported`] where it can't run.
pub(crate) fn config_default(root: &Root, binary: (&File, Digest)) -> Result<String, Failure> {
    let answered = ask(root, binary, &["config", "default"]).and_then(|answer| match answer.code {
        Some(0) => Ok(answer.stdout),
        _ => Err(last_words(&answer)),
    });
    answered.map_err(|why| {
        let message =
            format!("`containerd config default` can't run in root `{}`: {why}", root.host().display());
        Failure::new(Kind::Unsupported, message).help("base: minimal needs no such run")
    })
}

/// Answer of `containerd config dump`.
pub(crate) enum Dump {
    /// The effective configuration; the warnings, each on a line.
    Effective(String, String),
    /// containerd refuses the file; its last words.
    Refused(String),
}

/// Has `binary` print the effective configuration of the file `config` of `root`. The error says why it could not run.
pub(crate) fn config_dump(root: &Root, binary: (&File, Digest), config: &ImagePath) -> Result<Dump, String> {
    let answer = ask(root, binary, &["--config", config.as_str(), "config", "dump"])?;
    match answer.code {
        Some(0) => Ok(Dump::Effective(answer.stdout, answer.stderr)),
        // 126 and 127: the loader of its libraries.
        Some(1..=125) => Ok(Dump::Refused(last_words(&answer))),
        _ => Err(last_words(&answer)),
    }
}

/// Returns the last line of stderr, because warnings precede it.
fn last_words(answer: &Answer) -> String {
    let last = answer.stderr.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(|| "it failed without a message".to_owned(), printable)
}

/// Runs a copy of the binary, since the root may be on a filesystem that forbids the execution. The error says why it
/// could not be started.
fn ask(root: &Root, (binary, sha256): (&File, Digest), arguments: &[&str]) -> Result<Answer, String> {
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), binary.as_raw_fd()));
    let file = HostFile { path, name: NAME.to_owned(), sha256, mode: 0o755 };
    let setup = Setup { access: Access::Ask, offline: true, files: vec![file] };
    let program = format!("{FILES}/{NAME}");
    let words =
        std::iter::once(program.as_str()).chain(arguments.iter().copied()).map(str::to_owned).collect();
    // One thread that computes: a limit of threads must do for hosts with many processors.
    let variables = vec![("GOMAXPROCS".to_owned(), "1".to_owned())];
    Sandbox::open(root, &setup)
        .and_then(|mut sandbox| sandbox.run(Call { words, variables, limit: LIMIT, to_its_end: false }))
        .map_err(|failure| failure.to_string())
}
