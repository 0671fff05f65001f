//! One use of a root's package manager: the same calls for apt and for dnf.
//!
//! This module must not decide which packages are installed or removed.

use std::path::PathBuf;
use std::time::Duration;

use crate::arch::Arch;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::packages::manager::database::Database;
use crate::packages::manager::distribution::{Distribution, Manager};
use crate::packages::manager::options::Options;
use crate::packages::manager::repository::Origin;
use crate::packages::manager::transaction::Transaction;
use crate::packages::manager::{apt, dnf, dpkg, releasever, rpm};
use crate::path::ImagePath;
use crate::process::protocol::{Access, Answer, Call, FILES, HostFile, OWN, Setup};
use crate::process::sandbox::Sandbox;
use crate::root::{LONGEST_TEXT, Root};

/// Package manager in a sandbox around a root.
pub(crate) struct Session<'a> {
    root: &'a Root,
    pub(super) manager: Manager,
    /// `apt-get`, `dnf` or `yum`.
    pub(super) program: &'static str,
    pub(super) options: Options,
    pub(super) sandbox: Sandbox,
    /// Paths of package files inside the sandbox.
    pub(super) files: Vec<String>,
    /// What the URLs of dnf's repositories have before `$releasever`.
    before_releasever: Vec<String>,
}

impl<'a> Session<'a> {
    /// Opens a sandbox around `root`, with the package files in `files`, each checked against its digest.
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
        let files: Vec<HostFile> =
            files.into_iter().map(|(path, sha256)| package_file(path, sha256)).collect();
        let inside = files.iter().map(|file| format!("{FILES}/{}", file.name)).collect();
        let sandbox = Sandbox::open(root, &Setup { access, offline, files })?;
        let before_releasever = Vec::new();
        let mut session =
            Session { root, manager, program, options, sandbox, files: inside, before_releasever };
        session.write_settings()?;
        Ok(session)
    }

    /// Reads the database of `root`, with the files of the packages called `names`, and changes nothing.
    pub(crate) fn look(root: &Root, manager: Manager, names: &[&str]) -> Result<Database, Failure> {
        match manager {
            Manager::Apt => dpkg::database(root, names),
            Manager::Dnf => {
                let options = Options::offline(Duration::ZERO);
                Session::open(root, Access::Look, true, Vec::new(), options)?.database(names)
            }
        }
    }

    /// Reads the database, with the files of the packages called `names`.
    pub(crate) fn database(&mut self, names: &[&str]) -> Result<Database, Failure> {
        match self.manager {
            Manager::Apt => dpkg::database(self.root, names),
            Manager::Dnf => {
                let calls = rpm::questions(&self.options, names);
                let answers: Result<Vec<_>, _> =
                    calls.into_iter().map(|call| self.sandbox.run(call)).collect();
                rpm::database(self.root, names, &answers?)
            }
        }
    }

    /// Writes apt's configuration, certificates and the root's sources into the sandbox's own folder.
    fn write_settings(&mut self) -> Result<(), Failure> {
        for directory in ["sources", "lists/partial", "cache/archives/partial"] {
            self.sandbox.write(&format!("{directory}/.keep"), "")?;
        }
        self.sandbox.write("apt.conf", apt::configuration())?;
        if let Some(certificates) = &self.options.certificates {
            self.sandbox.write("certificates.pem", certificates.as_str())?;
        }
        let (directory, endings) = match self.manager {
            Manager::Apt => ("/etc/apt/sources.list.d", [".list", ".sources"]),
            Manager::Dnf => ("/etc/yum.repos.d", [".repo", ".repo"]),
        };
        let directory = ImagePath::fixed(directory);
        if !self.options.root_sources {
            return Ok(());
        }
        let mut left = LONGEST_TEXT;
        for name in self.root.names(&directory, |name| endings.iter().any(|end| name.ends_with(end)))? {
            let text = self.root.linked_text(&directory.join(&name)?, left)?.unwrap_or_default();
            left -= text.len() as u64;
            self.before_releasever.extend(releasever::before_variable(&text));
            self.sandbox.write(&format!("sources/{name}"), text)?;
        }
        Ok(())
    }

    /// Adds the repository `origin`, in place of a sources file of the root with the same name.
    pub(crate) fn add(&mut self, origin: &Origin, key: &[u8], arch: Arch) -> Result<(), Failure> {
        let name = origin.key_path(self.manager, key)?.name().to_owned();
        self.sandbox.write(&name, key)?;
        let text = origin.sources(self.manager, arch, &format!("{OWN}/{name}"));
        self.before_releasever.extend(releasever::before_variable(&text));
        self.sandbox.write(&format!("sources/{}", origin.sources_path(self.manager)?.name()), text)
    }

    /// Completes what a killed run of the package manager has begun.
    pub(crate) fn repair(&mut self) -> Result<(), Failure> {
        let calls = match self.manager {
            Manager::Apt => vec![apt::repair(&self.options)],
            Manager::Dnf => dnf::repair(&self.options, self.program),
        };
        for call in calls {
            // A package that stays broken makes the installation fail, with a message.
            self.sandbox.run(call)?;
        }
        Ok(())
    }

    /// Downloads the package lists of the repositories.
    pub(crate) fn refresh(&mut self) -> Result<(), Failure> {
        let call = match self.manager {
            Manager::Apt => apt::refresh(&self.options),
            Manager::Dnf => dnf::refresh(&self.options, self.program),
        };
        self.succeed("reading the package lists", call).map(drop)
    }

    /// Simulates the installation of `targets`.
    pub(crate) fn simulate(&mut self, targets: &[String]) -> Result<Transaction, Failure> {
        const DOING: &str = "resolving the package's dependencies";
        match self.manager {
            Manager::Apt => {
                let call = apt::simulate(&self.options, targets);
                self.succeed(DOING, call).map(|answer| apt::read_transaction(&answer))
            }
            Manager::Dnf => {
                let answer = self.sandbox.run(dnf::simulate(&self.options, self.program, targets))?;
                match dnf::was_simulated(&answer) {
                    true => Ok(dnf::read_transaction(&answer)),
                    false => Err(self.failure(DOING, &answer)),
                }
            }
        }
    }

    /// Downloads `targets` and their dependencies; package files need no download.
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

    /// Installs `targets`. A signal does not interrupt it.
    pub(crate) fn install(&mut self, targets: &[String]) -> Result<(), Failure> {
        let call = match self.manager {
            Manager::Apt => apt::install(&self.options, targets),
            Manager::Dnf => dnf::install(&self.options, self.program, targets),
        };
        let answer = self.succeed("installing packages", call)?;
        match self.manager == Manager::Dnf && dnf::has_failed_script(&answer) {
            true => Err(self.failure("installing packages", &answer)),
            false => Ok(()),
        }
    }

    /// Lifts the hold of a package before an upgrade, where the package manager hides other versions of it.
    pub(crate) fn lift_hold(&mut self, name: &str) -> Result<(), Failure> {
        match self.manager {
            // apt has an option for it: Allow-Change-Held-Packages.
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

    /// Removes packages.
    pub(crate) fn remove(&mut self, names: &[String]) -> Result<(), Failure> {
        let call = match self.manager {
            Manager::Apt => apt::remove(&self.options, names),
            Manager::Dnf => dnf::remove(&self.options, names),
        };
        self.succeed("taking packages away", call).map(drop)
    }

    /// Runs `call`; the failure of another exit status than 0 says that it happened while `doing`.
    pub(super) fn succeed(&mut self, doing: &str, call: Call) -> Result<Answer, Failure> {
        let answer = self.sandbox.run(call)?;
        if answer.code == Some(0) { Ok(answer) } else { Err(self.failure(doing, &answer)) }
    }

    /// Returns the failure that the package manager's messages mean.
    fn failure(&self, doing: &str, answer: &Answer) -> Failure {
        match self.manager {
            Manager::Apt => apt::failure(doing, answer),
            Manager::Dnf => {
                releasever::explained(dnf::failure(doing, answer), answer, &self.before_releasever)
            }
        }
    }
}

/// Returns a package file of this host as the sandbox gets it.
fn package_file(path: PathBuf, sha256: Digest) -> HostFile {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    HostFile { path, name, sha256, mode: 0o644 }
}
