//! One use of a root's package manager: a chroot, and the same questions for apt and for dnf.
//!
//! It must not decide anything: `packages/inputs.rs` does.

pub(crate) mod apt;
pub(crate) mod database;
pub(crate) mod distribution;
pub(crate) mod dnf;
pub(crate) mod dpkg;
mod failure;
pub(crate) mod options;
pub(crate) mod repository;
pub(crate) mod rpm;
pub(crate) mod transaction;
pub(crate) mod version;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::arch::Arch;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::packages::manager::database::{Database, Record};
use crate::packages::manager::distribution::{Distribution, Manager};
use crate::packages::manager::options::Options;
use crate::packages::manager::repository::Origin;
use crate::packages::manager::transaction::Transaction;
use crate::path::ImagePath;
use crate::process::chroot::Chroot;
use crate::process::protocol::{Access, Answer, Call, OWN};
use crate::root::{LONGEST_TEXT, Root};

/// A package manager at work in a root.
pub(crate) struct Session<'a> {
    root: &'a Root,
    manager: Manager,
    /// `dnf` or `yum`; `apt-get`.
    program: &'static str,
    options: Options,
    chroot: Chroot,
    /// Package files that were brought in.
    files: Vec<String>,
}

impl<'a> Session<'a> {
    /// Opens a chroot around `root`, with the package files in `files`, each checked against its digest.
    pub(crate) fn open(
        root: &'a Root,
        access: Access,
        offline: bool,
        files: Vec<(PathBuf, Digest)>,
        options: Options,
    ) -> Result<Session<'a>, Failure> {
        let manager = Distribution::of(root)?.manager;
        let program = match manager {
            Manager::Apt if root.file(&ImagePath::fixed("/usr/bin/apt-get"))?.is_some() => "apt-get",
            Manager::Apt => {
                let message = format!("root `{}` has no apt-get", root.host().display());
                return Err(Failure::new(Kind::Unsupported, message)
                    .help("install apt into the image, or use `install: archive`"));
            }
            Manager::Dnf => dnf::program(root)?,
        };
        let names = files.iter().filter_map(|(path, _)| path.file_name());
        let brought = names.map(|name| format!("{OWN}/packages/{}", name.to_string_lossy())).collect();
        let chroot = Chroot::open(root, access, offline, files)?;
        let mut session = Session { root, manager, program, options, chroot, files: brought };
        session.furnish()?;
        Ok(session)
    }

    /// What is installed in `root`, and the files of the packages called `names`, without a change.
    pub(crate) fn look(root: &Root, manager: Manager, names: &[&str]) -> Result<Database, Failure> {
        match manager {
            Manager::Apt => dpkg::database(root, names),
            Manager::Dnf => {
                let options = Options::offline(Duration::ZERO);
                Session::open(root, Access::Look, true, Vec::new(), options)?.database(names)
            }
        }
    }

    /// What is installed now.
    pub(crate) fn database(&mut self, names: &[&str]) -> Result<Database, Failure> {
        match self.manager {
            Manager::Apt => dpkg::database(self.root, names),
            Manager::Dnf => {
                let calls = rpm::questions(&self.options, names);
                let answers: Result<Vec<_>, _> =
                    calls.into_iter().map(|call| self.chroot.run(call)).collect();
                rpm::database(self.root, names, &answers?)
            }
        }
    }

    /// The folders, settings and sources that the package manager is told of.
    fn furnish(&mut self) -> Result<(), Failure> {
        for directory in ["sources", "lists/partial", "cache/archives/partial"] {
            self.chroot.write(&format!("{directory}/.keep"), "")?;
        }
        self.chroot.write("apt.conf", apt::configuration())?;
        if let Some(certificates) = &self.options.certificates {
            self.chroot.write("certificates.pem", certificates.as_str())?;
        }
        let (directory, endings) = match self.manager {
            Manager::Apt => ("/etc/apt/sources.list.d", [".list", ".sources"]),
            Manager::Dnf => ("/etc/yum.repos.d", [".repo", ".repo"]),
        };
        let directory = ImagePath::fixed(directory);
        let names = if self.options.root_sources { self.root.names(&directory)? } else { None };
        for name in names.unwrap_or_default() {
            if endings.iter().any(|end| name.ends_with(end)) {
                let text = self.root.linked_text(&directory.join(&name)?, LONGEST_TEXT)?.unwrap_or_default();
                self.chroot.write(&format!("sources/{name}"), text)?;
            }
        }
        Ok(())
    }

    /// Adds a repository; a sources file of the root that has its name does not count.
    pub(crate) fn add(&mut self, origin: &Origin, key: &[u8], arch: Arch) -> Result<(), Failure> {
        let name = origin.key_path(self.manager, key)?.name().to_owned();
        self.chroot.write(&name, key)?;
        let text = origin.sources(self.manager, arch, &format!("{OWN}/{name}"));
        self.chroot.write(&format!("sources/{}", origin.sources_path(self.manager)?.name()), text)
    }

    /// Ends what an interrupted run has begun.
    pub(crate) fn repair(&mut self) -> Result<(), Failure> {
        let calls = match self.manager {
            Manager::Apt => vec![apt::repair(&self.options)],
            Manager::Dnf => dnf::repair(&self.options, self.program),
        };
        for call in calls {
            // What stays broken is said by what comes next.
            self.chroot.run(call)?;
        }
        Ok(())
    }

    /// Reads the repositories anew.
    pub(crate) fn refresh(&mut self) -> Result<(), Failure> {
        let call = match self.manager {
            Manager::Apt => apt::refresh(&self.options),
            Manager::Dnf => dnf::refresh(&self.options, self.program),
        };
        self.succeed("reading the package lists", call).map(drop)
    }

    /// How the package manager is told of `name` in the version that was asked for, or of the files.
    pub(crate) fn targets(
        &mut self,
        name: &str,
        wanted: Option<&str>,
        before: &Database,
    ) -> Result<Vec<String>, Failure> {
        let mut targets = match self.files.is_empty() {
            true => vec![self.target(name, wanted, before)?],
            false => self.files.clone(),
        };
        let broken = before.records.iter().filter(|(_, record)| !record.is_whole || !record.is_intact);
        let broken: Vec<String> = broken.map(|(other, _)| other.clone()).collect();
        let is_same = |record: &&Record| {
            record.is_whole && wanted.is_none_or(|wanted| version::satisfies(&record.version, wanted))
        };
        match self.manager {
            Manager::Apt if !broken.is_empty() => {
                targets.extend(broken.into_iter().filter(|other| other != name && self.files.is_empty()));
                targets.insert(0, apt::REINSTALL.to_owned());
            }
            // dnf has another verb for it, which does not take a new version.
            Manager::Dnf if !broken.is_empty() && before.get(name).filter(is_same).is_some() => {
                targets.insert(0, dnf::REINSTALL.to_owned());
            }
            _ => {}
        }
        Ok(targets)
    }

    fn target(&mut self, name: &str, wanted: Option<&str>, before: &Database) -> Result<String, Failure> {
        // One that is there stays, whatever its version, unless one is asked for.
        let kept = before
            .get(name)
            .filter(|record| wanted.is_none() && record.is_whole)
            .map(|record| record.version.clone());
        let version = match (kept, wanted) {
            (Some(kept), _) => Some(kept),
            (None, None) => None,
            (None, Some(wanted)) => Some(self.version(name, wanted)?),
        };
        Ok(match self.manager {
            Manager::Apt => apt::target(name, version.as_deref()),
            Manager::Dnf => dnf::target(name, version.as_deref()),
        })
    }

    /// The newest version of `name` that is what was asked for.
    fn version(&mut self, name: &str, wanted: &str) -> Result<String, Failure> {
        let known = match self.manager {
            Manager::Apt => apt::read_versions(&self.chroot.run(apt::versions(&self.options, name))?),
            Manager::Dnf => {
                let call = dnf::versions(&self.options, self.program, name);
                dnf::read_versions(&self.chroot.run(call)?, name)
            }
        };
        let found = known.iter().find(|version| version::satisfies(version, wanted)).cloned();
        found.ok_or_else(|| no_version(name, wanted, &known))
    }

    /// What installing `targets` would change.
    pub(crate) fn simulate(&mut self, targets: &[String]) -> Result<Transaction, Failure> {
        const DOING: &str = "resolving the package's dependencies";
        match self.manager {
            Manager::Apt => {
                let call = apt::simulate(&self.options, targets);
                self.succeed(DOING, call).map(|answer| apt::read_transaction(&answer))
            }
            Manager::Dnf => {
                let answer = self.chroot.run(dnf::simulate(&self.options, self.program, targets))?;
                match dnf::was_simulated(&answer) {
                    true => Ok(dnf::read_transaction(&answer)),
                    false => Err(dnf::failure(DOING, &answer)),
                }
            }
        }
    }

    /// Fetches what `targets` need; package files are there.
    pub(crate) fn download(&mut self, targets: &[String]) -> Result<(), Failure> {
        if !self.files.is_empty() {
            return Ok(());
        }
        let call = match self.manager {
            Manager::Apt => apt::download(&self.options, targets),
            Manager::Dnf => dnf::download(&self.options, self.program, targets),
        };
        self.succeed("fetching packages", call).map(drop)
    }

    /// Installs `targets`, to its end whatever signal arrives.
    pub(crate) fn install(&mut self, targets: &[String]) -> Result<(), Failure> {
        let call = match self.manager {
            Manager::Apt => apt::install(&self.options, targets),
            Manager::Dnf => dnf::install(&self.options, self.program, targets),
        };
        let answer = self.succeed("installing packages", call)?;
        match self.manager == Manager::Dnf && dnf::has_failed_script(&answer) {
            true => Err(dnf::failure("installing packages", &answer)),
            false => Ok(()),
        }
    }

    /// Lets a package that is held be replaced, where the package manager would not even see another.
    pub(crate) fn lift_hold(&mut self, name: &str) -> Result<(), Failure> {
        match self.manager {
            // apt is told so by an option.
            Manager::Apt => Ok(()),
            Manager::Dnf => self.hold(name, false),
        }
    }

    /// Sets or lifts the hold of a package.
    pub(crate) fn hold(&mut self, name: &str, held: bool) -> Result<(), Failure> {
        let call = match self.manager {
            Manager::Apt => apt::hold(&self.options, name, held),
            Manager::Dnf => dnf::hold(&self.options, self.program, name, held),
        };
        self.succeed(&format!("holding {name}"), call).map(drop)
    }

    /// Those of `names` that can go without anything else.
    pub(crate) fn removable(&mut self, names: Vec<String>) -> Result<Vec<String>, Failure> {
        let mut left = names;
        while !left.is_empty() {
            let needed = self.needed(&left)?;
            if needed.is_empty() {
                break;
            }
            left.retain(|name| !needed.contains(name));
        }
        Ok(left)
    }

    /// Those of `names` without which something else could not stay.
    fn needed(&mut self, names: &[String]) -> Result<BTreeSet<String>, Failure> {
        if self.others_lost(names)? == 0 {
            return Ok(BTreeSet::new());
        }
        let mut needed = BTreeSet::new();
        for name in names {
            let without: Vec<String> = names.iter().filter(|other| *other != name).cloned().collect();
            if without.is_empty() || self.others_lost(&without)? < self.others_lost(names)? {
                needed.insert(name.clone());
            }
        }
        // Where two are needed by the same, neither alone makes a difference.
        if needed.is_empty() { Ok(names.iter().cloned().collect()) } else { Ok(needed) }
    }

    /// How many packages would have to go beside `names`.
    fn others_lost(&mut self, names: &[String]) -> Result<usize, Failure> {
        match self.manager {
            Manager::Apt => {
                let call = apt::simulate_removal(&self.options, names);
                let answer = self.succeed("looking for what depends on the packages", call)?;
                let removed = apt::read_transaction(&answer).removed;
                Ok(removed.iter().filter(|name| !names.contains(name)).count())
            }
            Manager::Dnf => {
                let answer = self.chroot.run(dnf::simulate_removal(&self.options, names))?;
                Ok(answer.stderr.lines().filter(|line| line.contains("is needed by")).count())
            }
        }
    }

    /// Takes packages away.
    pub(crate) fn remove(&mut self, names: &[String]) -> Result<(), Failure> {
        let call = match self.manager {
            Manager::Apt => apt::remove(&self.options, names),
            Manager::Dnf => dnf::remove(&self.options, names),
        };
        self.succeed("taking packages away", call).map(drop)
    }

    fn succeed(&mut self, doing: &str, call: Call) -> Result<Answer, Failure> {
        let answer = self.chroot.run(call)?;
        match (answer.code, self.manager) {
            (Some(0), _) => Ok(answer),
            (_, Manager::Apt) => Err(apt::failure(doing, &answer)),
            (_, Manager::Dnf) => Err(dnf::failure(doing, &answer)),
        }
    }
}

fn no_version(name: &str, wanted: &str, known: &[String]) -> Failure {
    let message = format!("the root's package sources have no {name} {wanted}");
    let mut known = known.to_vec();
    known.dedup();
    known.truncate(5);
    Failure::new(Kind::Unsupported, message).help(match known.is_empty() {
        true => {
            format!("they have no {name} at all: set `containerd.package.repository`, for example to docker")
        }
        false => format!("they have {}", known.join(", ")),
    })
}
