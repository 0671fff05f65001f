//! Command lines of apt and dpkg, and what their output means.
//!
//! This module must not run them: [`Session`] does.
//!
//! Sources: apt-get(8), apt.conf(5), dpkg(1); the messages are those of apt 2.6 and 3.0 in LC_ALL=C.
//!
//! [`Session`]: crate::packages::manager::Session

use crate::artifact::Installed;
use crate::error::{Failure, Kind};
use crate::packages::manager::failure::{self, CHOOSE, DISTRUST, Meaning, SPACE};
use crate::packages::manager::options::Options;
use crate::packages::manager::transaction::Transaction;
use crate::process::protocol::{Answer, Call, OWN};

/// Seconds for a download: a package of 50 MB over a slow line.
const DOWNLOAD: u64 = 3600;

/// Seconds for an installation or a removal, also on an emulated machine.
const TRANSACTION: u64 = 1800;

/// Seconds for a call that changes no package.
const QUESTION: u64 = 120;

/// Option among the targets that installs packages again. dpkg lists a package that was half unpacked under its old
/// version, so apt takes it for installed.
pub(crate) const REINSTALL: &str = "--reinstall";

/// Meanings of apt's and dpkg's messages; the first that matches counts.
const MEANINGS: [Meaning; 6] = [
    Meaning {
        kind: Kind::Locked,
        help: "wait for the other package manager, or give --lock-timeout",
        said: &[
            "Could not get lock",
            "Unable to acquire the dpkg frontend lock",
            "is locked by another process",
        ],
    },
    Meaning {
        kind: Kind::Filesystem,
        help: SPACE,
        said: &["No space left on device", "You don't have enough free space"],
    },
    Meaning {
        // Signed by the right key, but not for today.
        kind: Kind::Unsupported,
        help: "use a mirror that is kept up to date, or see whether this machine's clock is right",
        said: &["is expired (invalid since", "is not valid yet (invalid for another"],
    },
    Meaning {
        kind: Kind::Unverified,
        help: DISTRUST,
        said: &[
            "NO_PUBKEY",
            "BADSIG",
            "EXPKEYSIG",
            "REVKEYSIG",
            "is not signed",
            "invalid signature",
            "Hash Sum mismatch",
            "has unexpected size",
            "signatures couldn't be verified",
            "NODATA",
            "unauthenticated",
            "Missing key",
            "Bad signature",
        ],
    },
    Meaning {
        kind: Kind::Fetch,
        help: "see whether the root's sources can be reached from here, then run again",
        said: &[
            "Failed to fetch",
            "Unable to fetch",
            "Unable to connect",
            "Could not resolve",
            "Could not connect",
            "Temporary failure",
            "Some index files failed",
            "Some files failed",
            "does not have a Release file",
        ],
    },
    Meaning {
        kind: Kind::Unsupported,
        help: CHOOSE,
        said: &[
            "unmet dependencies",
            "held broken packages",
            "Conflicts:",
            "Breaks:",
            "Unable to locate package",
            "was not found",
            "has no installation candidate",
            "glob/regex",
        ],
    },
];

/// Returns the file that APT_CONFIG names. It is for programs that apt's hooks run: they do not see apt's options.
pub(crate) fn configuration() -> String {
    format!("Dir::State::Lists \"{OWN}/lists\";\nDir::Cache \"{OWN}/cache\";\n")
}

/// Returns the call that downloads the package lists.
pub(crate) fn refresh(options: &Options) -> Call {
    call(options, &["update"], DOWNLOAD, false)
}

/// Returns the call that simulates an installation.
pub(crate) fn simulate(options: &Options, targets: &[String]) -> Call {
    let words = [&["install", "--simulate"][..], &words(targets)].concat();
    call(options, &words, QUESTION, false)
}

/// Returns the call that downloads packages without installing them.
pub(crate) fn download(options: &Options, targets: &[String]) -> Call {
    let words = [&["install", "--download-only"][..], &words(targets)].concat();
    call(options, &words, DOWNLOAD, false)
}

/// Returns the call that installs downloaded packages or package files.
pub(crate) fn install(options: &Options, targets: &[String]) -> Call {
    let words = [&["install"][..], &words(targets)].concat();
    call(options, &words, TRANSACTION, true)
}

/// Returns the call that configures packages which a killed run of dpkg has unpacked. Half unpacked ones are
/// installed again: see [`REINSTALL`].
pub(crate) fn repair(options: &Options) -> Call {
    program(
        options,
        &["dpkg", "--force-confold", "--force-confdef", "--configure", "--pending"],
        TRANSACTION,
        true,
    )
}

/// Returns the call that shows which packages the removal of `names` removes.
pub(crate) fn simulate_removal(options: &Options, names: &[String]) -> Call {
    let words = [&["purge", "--simulate"][..], &words(names)].concat();
    call(options, &words, QUESTION, true)
}

/// Returns the call that removes packages with their configuration files, also half unpacked ones of a killed run.
pub(crate) fn remove(options: &Options, names: &[String]) -> Call {
    let words = [&["dpkg", "--force-remove-reinstreq", "--purge"][..], &words(names)].concat();
    program(options, &words, TRANSACTION, true)
}

/// Returns the call that sets or lifts the hold of a package.
pub(crate) fn hold(options: &Options, name: &str, held: bool) -> Call {
    let verb = if held { "hold" } else { "unhold" };
    let arguments = arguments(options);
    program(options, &[&["apt-mark"][..], &words(&arguments), &[verb, name]].concat(), QUESTION, true)
}

/// Returns the call that lists the versions of a package in the sources.
pub(crate) fn versions(options: &Options, name: &str) -> Call {
    let mut words = vec!["apt-cache".to_owned()];
    words.extend(arguments(options));
    words.extend(["madison".to_owned(), name.to_owned()]);
    Call { words, variables: variables(options), limit: QUESTION, to_its_end: false }
}

/// Reads the answer to [`versions`]: the newest version first.
pub(crate) fn read_versions(answer: &Answer) -> Vec<String> {
    let line = |line: &str| line.split('|').nth(1).map(|version| version.trim().to_owned());
    answer.stdout.lines().filter_map(line).collect()
}

/// Returns apt's argument for a package in one version.
pub(crate) fn target(name: &str, version: Option<&str>) -> String {
    version.map_or_else(|| name.to_owned(), |version| format!("{name}={version}"))
}

/// Reads the answer to [`simulate`]: lines `Inst NAME [OLD] (NEW SOURCES [ARCH])` and `Remv NAME [OLD]`.
pub(crate) fn read_transaction(answer: &Answer) -> Transaction {
    let mut transaction = Transaction::default();
    for line in answer.stdout.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Inst"), Some(name)) => {
                let Some((inner, _)) = line.split_once('(').and_then(|(_, rest)| rest.split_once(')')) else {
                    continue;
                };
                let version = inner.split_whitespace().next().unwrap_or_default();
                let architecture = inner.rsplit_once('[').map_or("", |(_, rest)| rest.trim_end_matches(']'));
                transaction.installed.push(Installed {
                    name: name.to_owned(),
                    version: version.to_owned(),
                    architecture: architecture.to_owned(),
                    found: false,
                    held: false,
                });
            }
            (Some("Remv" | "Purg"), Some(name)) => transaction.removed.push(name.to_owned()),
            _ => {}
        }
    }
    transaction
}

/// Returns the failure that apt's or dpkg's messages mean.
pub(crate) fn failure(doing: &str, answer: &Answer) -> Failure {
    let starts = ["E:", "dpkg:", "installed ", "cannot ", "W: GPG error", "W: OpenPGP"];
    let words = ["Depends:", "Conflicts:", "Breaks:"];
    failure::failure(doing, answer, &MEANINGS, [&starts, &words])
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Returns a call of apt-get, with [`arguments`].
fn call(options: &Options, words: &[&str], limit: u64, to_its_end: bool) -> Call {
    let mut all = vec!["apt-get".to_owned()];
    all.extend(arguments(options));
    all.extend(words.iter().map(|&word| word.to_owned()));
    Call { words: all, variables: variables(options), limit, to_its_end }
}

/// Returns a call of dpkg or apt-mark.
fn program(options: &Options, words: &[&str], limit: u64, to_its_end: bool) -> Call {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    Call { words, variables: variables(options), limit, to_its_end }
}

/// Returns the options for apt: lists, cache and sources in the sandbox's own folder, configuration files are never
/// replaced, and apt asks no questions.
fn arguments(options: &Options) -> Vec<String> {
    let mut arguments = vec![
        format!("Dir::State::Lists={OWN}/lists"),
        format!("Dir::Cache={OWN}/cache"),
        "APT::Update::Error-Mode=any".to_owned(),
        "APT::Get::Assume-Yes=true".to_owned(),
        "APT::Get::Allow-Downgrades=true".to_owned(),
        "APT::Get::Allow-Change-Held-Packages=true".to_owned(),
        "APT::Install-Recommends=false".to_owned(),
        "Acquire::Languages=none".to_owned(),
        format!("Acquire::Retries={}", options.retries),
        format!("Acquire::http::Timeout={}", options.stall),
        format!("Acquire::https::Timeout={}", options.stall),
        format!("DPkg::Lock::Timeout={}", options.lock_timeout),
        "Dpkg::Use-Pty=0".to_owned(),
        "Dpkg::Options::=--force-confold".to_owned(),
        "Dpkg::Options::=--force-confdef".to_owned(),
    ];
    if !options.root_sources {
        arguments.push("Dir::Etc::SourceList=/dev/null".to_owned());
    }
    arguments.push(format!("Dir::Etc::SourceParts={OWN}/sources"));
    if options.certificates.is_some() {
        arguments.push(format!("Acquire::https::CAInfo={OWN}/certificates.pem"));
    }
    arguments.into_iter().flat_map(|argument| ["-o".to_owned(), argument]).collect()
}

/// Returns the environment in which neither debconf nor apt's hooks ask questions.
fn variables(options: &Options) -> Vec<(String, String)> {
    let own = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        ("NEEDRESTART_SUSPEND", "1"),
        ("UCF_FORCE_CONFFOLD", "1"),
        ("APT_CONFIG", "/tmp/nodebake/apt.conf"),
    ];
    let own = own.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    own.chain(options.variables.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{failure, read_transaction};

    use crate::error::Kind;
    use crate::process::protocol::Answer;

    fn answer(output: &str, stderr: &str) -> Answer {
        Answer { code: Some(100), stdout: output.to_owned(), stderr: stderr.to_owned() }
    }

    #[test]
    fn a_simulation_is_read() {
        let text = "NOTE: This is only a simulation!\nRemv containerd [1.6.20~ds1-1]\nInst runc (1.1.5+ds1-1 Debian:12/oldstable [amd64])\nInst containerd.io [1.7.24-1] (2.1.9-1~debian.12~bookworm bookworm [amd64]) []\nConf runc (1.1.5 x [amd64])\n";
        let found = read_transaction(&answer(text, ""));
        let installed: Vec<String> = found.installed.iter().map(ToString::to_string).collect();
        assert_eq!(
            installed,
            ["runc 1.1.5+ds1-1 (amd64)", "containerd.io 2.1.9-1~debian.12~bookworm (amd64)"]
        );
        assert_eq!(found.removed, ["containerd"]);
    }

    #[test]
    fn h15_a_failure_is_told_by_its_kind() {
        let cases = [
            (
                "E: Release file for http://x/InRelease is expired (invalid since 6y 3d). Updates for this repository will not be applied.",
                Kind::Unsupported,
            ),
            (
                "E: Release file for http://x/InRelease is not valid yet (invalid for another 2h 3min). Updates for this repository will not be applied.",
                Kind::Unsupported,
            ),
            ("E: The repository 'http://x bookworm InRelease' is not signed.", Kind::Unverified),
            ("E: Failed to fetch http://x/Packages  Hash Sum mismatch", Kind::Unverified),
            ("E: Failed to fetch http://x/InRelease  Could not connect to x:80", Kind::Fetch),
            ("E: The repository 'http://x ./ Release' does not have a Release file.", Kind::Fetch),
            ("E: Unable to locate package containerd.io", Kind::Unsupported),
            ("E: Unable to correct problems, you have held broken packages.", Kind::Unsupported),
            (
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 297 (perl)",
                Kind::Locked,
            ),
            ("E: You don't have enough free space in /tmp/nodebake/cache/archives/.", Kind::Filesystem),
        ];
        for (text, kind) in cases {
            let found = failure("installing", &answer("", text));
            assert_eq!(found.kind, kind, "{text}");
            assert!(found.to_string().contains(text), "{found}");
        }
    }
}
