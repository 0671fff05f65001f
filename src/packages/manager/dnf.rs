//! Command lines of dnf (or yum) and rpm, and what their output means.
//!
//! This module must not run them: [`Session`] does.
//!
//! Sources: dnf(8), dnf.conf(5), rpm(8); the messages are those of dnf 4.14 in LC_ALL=C.
//!
//! [`Session`]: crate::packages::manager::Session

use crate::artifact::Installed;
use crate::error::{Failure, Kind};
use crate::packages::manager::failure::{self, CHOOSE, DISTRUST, Meaning, SPACE};
use crate::packages::manager::options::Options;
use crate::packages::manager::transaction::Transaction;
use crate::path::ImagePath;
use crate::process::protocol::{Answer, Call, OWN};
use crate::root::Root;

/// Seconds for a download: a package of 50 MB over a slow line.
const DOWNLOAD: u64 = 3600;

/// Seconds for an installation or a removal, also on an emulated machine.
const TRANSACTION: u64 = 1800;

/// Seconds for a call that changes no package.
pub(super) const QUESTION: u64 = 300;

/// Mark among the targets: packages that are installed already are installed again.
pub(crate) const REINSTALL: &str = "--reinstall";

/// Headings of dnf's table above packages that get installed.
const INSTALLING: [&str; 4] = ["Installing", "Upgrading", "Downgrading", "Reinstalling"];

/// Meanings of dnf's and rpm's messages; the first that matches counts.
const MEANINGS: [Meaning; 6] = [
    Meaning {
        kind: Kind::Filesystem,
        help: SPACE,
        said: &["No space left on device", "more space needed on"],
    },
    Meaning {
        kind: Kind::Unverified,
        help: DISTRUST,
        said: &[
            "GPG check FAILED",
            "is not signed",
            "GPG Keys are configured",
            "Public key for",
            "GPG signature verification error",
            "checksum doesn't match",
            "Checksum error",
            "not trusted",
        ],
    },
    Meaning {
        kind: Kind::Fetch,
        help: "see whether the root's repositories can be reached from here, then run again",
        said: &[
            "Failed to download metadata",
            "Cannot download",
            "Curl error",
            "Error downloading packages",
            "Cannot prepare internal mirrorlist",
            "All mirrors were tried",
            "Status code: ",
        ],
    },
    Meaning {
        kind: Kind::Locked,
        help: "wait for the other package manager",
        said: &["can't create transaction lock", "waiting for process"],
    },
    Meaning {
        kind: Kind::Unsupported,
        help: "`hold: true` needs dnf's versionlock plugin in the root: python3-dnf-plugin-versionlock",
        said: &["No such command: versionlock"],
    },
    Meaning {
        kind: Kind::Unsupported,
        help: CHOOSE,
        said: &[
            "Unable to find a match",
            "filtered out by exclude filtering",
            "scriptlet failed",
            "conflicting requests",
            "conflicts with",
            "nothing provides",
            "Failed dependencies",
        ],
    },
];

/// Returns the name of the root's program: yum where there is no dnf.
pub(crate) fn program(root: &Root) -> Result<&'static str, Failure> {
    for name in ["dnf", "yum"] {
        if root.file(&ImagePath::new(&format!("/usr/bin/{name}"))?)?.is_some() {
            return Ok(name);
        }
    }
    Err(Failure::new(Kind::Unsupported, format!("root `{}` has neither dnf nor yum", root.host().display()))
        .help("install one into the image, or use `install: archive`"))
}

/// Returns the call that downloads the package lists.
pub(crate) fn refresh(options: &Options, program: &str) -> Call {
    dnf(options, program, &["makecache"], DOWNLOAD, false)
}

/// Returns the call that simulates an installation.
pub(crate) fn simulate(options: &Options, program: &str, targets: &[String]) -> Call {
    let words = [&[verb(targets), "--assumeno"][..], &words(targets)].concat();
    dnf(options, program, &words, QUESTION, false)
}

/// Returns the call that downloads packages without installing them.
pub(crate) fn download(options: &Options, program: &str, targets: &[String]) -> Call {
    let words = [&[verb(targets), "--assumeyes", "--downloadonly"][..], &words(targets)].concat();
    dnf(options, program, &words, DOWNLOAD, false)
}

/// Returns the call that installs downloaded packages or package files.
pub(crate) fn install(options: &Options, program: &str, targets: &[String]) -> Call {
    let words = [&[verb(targets), "--assumeyes", "--cacheonly"][..], &words(targets)].concat();
    dnf(options, program, &words, TRANSACTION, true)
}

/// Returns the calls that repair the database after a killed transaction, and remove the old versions that it has
/// left.
pub(crate) fn repair(options: &Options, program: &str) -> Vec<Call> {
    vec![
        call(options, &["rpm", "--rebuilddb"], TRANSACTION, true),
        dnf(options, program, &["remove", "--assumeyes", "--duplicates"], TRANSACTION, true),
    ]
}

/// Returns the call that tests whether `names` could be removed.
pub(crate) fn simulate_removal(options: &Options, names: &[String]) -> Call {
    call(options, &[&["rpm", "--erase", "--test"][..], &words(names)].concat(), QUESTION, true)
}

/// Returns the call that removes packages.
pub(crate) fn remove(options: &Options, names: &[String]) -> Call {
    call(options, &[&["rpm", "--erase"][..], &words(names)].concat(), TRANSACTION, true)
}

/// Returns the call that sets or lifts the hold of a package.
pub(crate) fn hold(options: &Options, program: &str, name: &str, held: bool) -> Call {
    dnf(options, program, &["versionlock", if held { "add" } else { "delete" }, name], QUESTION, true)
}

/// Returns the call that lists the versions of a package in the repositories.
pub(crate) fn versions(options: &Options, program: &str, name: &str) -> Call {
    dnf(options, program, &["list", "--available", "--showduplicates", name], QUESTION, false)
}

/// Reads the answer to [`versions`], lines `NAME.ARCH VERSION REPOSITORY`: the newest version first.
pub(crate) fn read_versions(answer: &Answer, name: &str) -> Vec<String> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name_arch, version) = (words.next()?, words.next()?);
        (name_arch.rsplit_once('.')?.0 == name).then(|| version.to_owned())
    };
    answer.stdout.lines().rev().filter_map(line).collect()
}

/// Returns dnf's argument for a package in one version.
pub(crate) fn target(name: &str, version: Option<&str>) -> String {
    version.map_or_else(|| name.to_owned(), |version| format!("{name}-{version}"))
}

/// Reads the answer to [`simulate`]: the table that dnf shows before it asks. It has one package a line, with name,
/// architecture, version, repository and size, below headings such as `Installing dependencies:`.
pub(crate) fn read_transaction(answer: &Answer) -> Transaction {
    let mut transaction = Transaction::default();
    let mut section = "";
    let rows = answer
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("===="))
        .take_while(|line| *line != "Transaction Summary");
    let mut pending: Vec<&str> = Vec::new();
    for line in rows {
        if !line.starts_with(' ') {
            section = line.trim_end_matches(':');
            continue;
        }
        // dnf breaks the line after a long name.
        pending.extend(line.split_whitespace());
        // `replacing  NAME.ARCH EVR` below the package that obsoletes it.
        if let ["replacing", old, ..] = pending.as_slice() {
            let name = old.rsplit_once('.').map(|(name, _)| name).filter(|name| !name.is_empty());
            transaction.removed.push(name.unwrap_or(old).to_owned());
            pending.clear();
        }
        if pending.len() < 4 {
            continue;
        }
        let (name, architecture, version) = (pending[0], pending[1], pending[2]);
        if section.starts_with("Removing") {
            transaction.removed.push(name.to_owned());
        } else if INSTALLING.iter().any(|heading| section.starts_with(heading)) {
            transaction.installed.push(Installed {
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: architecture.to_owned(),
                found: false,
                held: false,
            });
        }
        pending.clear();
    }
    transaction
}

/// Returns whether dnf ended because of --assumeno, and not because of a failure.
pub(crate) fn was_simulated(answer: &Answer) -> bool {
    answer.code == Some(0) || format!("{}{}", answer.stdout, answer.stderr).contains("Operation aborted")
}

/// Returns whether a package's script has failed: dnf exits with 0 then.
pub(crate) fn has_failed_script(answer: &Answer) -> bool {
    format!("{}{}", answer.stdout, answer.stderr).contains("scriptlet failed")
}

/// Returns the failure that dnf's or rpm's messages mean.
pub(crate) fn failure(doing: &str, answer: &Answer) -> Failure {
    let starts = ["Error", "error:", "Problem", "- ", "No match", "GPG", "Curl", "Failed"];
    failure::failure(doing, answer, &MEANINGS, [&starts, &[]])
}

/// Returns the targets without [`REINSTALL`], which is no argument of dnf's.
fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).filter(|word| *word != REINSTALL).collect()
}

/// Returns dnf's verb for `targets`: `reinstall` is a verb of its own.
fn verb(targets: &[String]) -> &'static str {
    if targets.iter().any(|target| target == REINSTALL) { "reinstall" } else { "install" }
}

/// Returns a call of dnf: cache, log and sources are in the sandbox's own folder.
fn dnf(options: &Options, program: &str, words: &[&str], limit: u64, to_its_end: bool) -> Call {
    let mut arguments = vec![
        program.to_owned(),
        format!("--setopt=cachedir={OWN}/cache"),
        format!("--setopt=logdir={OWN}/log"),
        format!("--setopt=reposdir={OWN}/sources"),
        format!("--setopt=retries={}", options.retries),
        format!("--setopt=timeout={}", options.stall),
        "--setopt=install_weak_deps=False".to_owned(),
        "--setopt=*.skip_if_unavailable=False".to_owned(),
        "--setopt=keepcache=True".to_owned(),
        "--disableplugin=generate_completion_cache".to_owned(),
    ];
    if options.certificates.is_some() {
        arguments.push(format!("--setopt=sslcacert={OWN}/certificates.pem"));
    }
    let all = arguments.into_iter().chain(words.iter().map(|&word| word.to_owned())).collect();
    Call { words: all, variables: options.variables.clone(), limit, to_its_end }
}

/// Returns a call of rpm.
pub(super) fn call(options: &Options, words: &[&str], limit: u64, to_its_end: bool) -> Call {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    Call { words, variables: options.variables.clone(), limit, to_its_end }
}

#[cfg(test)]
mod tests {
    use super::{failure, read_transaction};

    use crate::error::Kind;
    use crate::process::protocol::Answer;

    fn answer(output: &str) -> Answer {
        Answer { code: Some(1), stdout: output.to_owned(), stderr: String::new() }
    }

    #[test]
    fn the_table_is_read() {
        let table = "Dependencies resolved.\n\
            ==========================================\n \
            Package           Arch    Version       Repository  Size\n\
            ==========================================\n\
            Installing:\n \
            containerd.io     x86_64  2.1.9-1.el9   nodebake    41 M\n     \
            replacing  containerd.x86_64 1.6.20-1.el9\n\
            Installing dependencies:\n \
            a-package-with-a-very-long-name-that-stands-alone\n                   \
            noarch  3:2.1-2.el9   base        10 k\n\
            Upgrading:\n \
            libseccomp        x86_64  2.5.5-1.el9   base        70 k\n\
            Removing dependent packages:\n \
            old-thing         x86_64  1-1.el9       @System     1 k\n\n\
            Transaction Summary\n\
            ==========================================\n\
            Install  2 Packages\n\nOperation aborted.\n";
        let found = read_transaction(&answer(table));
        let installed: Vec<String> = found.installed.iter().map(ToString::to_string).collect();
        let expected = [
            "containerd.io 2.1.9-1.el9 (x86_64)",
            "a-package-with-a-very-long-name-that-stands-alone 3:2.1-2.el9 (noarch)",
            "libseccomp 2.5.5-1.el9 (x86_64)",
        ];
        assert_eq!(installed, expected);
        assert_eq!(found.removed, ["containerd", "old-thing"]);
        // What is no package's name stays as it is, and is never empty.
        let found = read_transaction(&answer("====\nInstalling:\n     replacing  .el9 1-1\n"));
        assert_eq!(found.removed, [".el9"]);
    }

    #[test]
    fn a_failure_is_told_by_its_kind() {
        let cases = [
            (
                "Error: Failed to download metadata for repo 'nodebake': Cannot download repomd.xml",
                Kind::Fetch,
            ),
            (
                "[MIRROR] x.rpm: Downloading successful, but checksum doesn't match. Calculated: 1",
                Kind::Unverified,
            ),
            ("Error: GPG check FAILED", Kind::Unverified),
            ("Error: Unable to find a match: containerd.io-9.9", Kind::Unsupported),
            (
                "Error: \n Problem: conflicting requests\n  - nothing provides x needed by y",
                Kind::Unsupported,
            ),
            ("error: can't create transaction lock on /var/lib/rpm/.rpm.lock", Kind::Locked),
        ];
        for (text, kind) in cases {
            assert_eq!(failure("installing", &answer(text)).kind, kind, "{text}");
        }
    }
}
