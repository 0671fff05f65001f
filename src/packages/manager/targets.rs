//! Words that name a package and its version to apt and dnf.
//!
//! This module must not change the root.

use crate::error::{Failure, Kind};
use crate::format::package_version;
use crate::packages::manager::database::{Database, Record};
use crate::packages::manager::distribution::Manager;
use crate::packages::manager::session::Session;
use crate::packages::manager::{apt, dnf};

impl Session<'_> {
    /// Returns the arguments that name `name` in the version `wanted`, or the package files; also the broken packages
    /// that are to be installed again.
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
            record.is_whole && wanted.is_none_or(|wanted| package_version::satisfies(&record.version, wanted))
        };
        match self.manager {
            Manager::Apt if !broken.is_empty() => {
                targets.extend(broken.into_iter().filter(|other| other != name && self.files.is_empty()));
                targets.insert(0, apt::REINSTALL.to_owned());
            }
            // dnf's verb `reinstall` does not take a new version.
            Manager::Dnf if !broken.is_empty() && before.get(name).filter(is_same).is_some() => {
                targets.insert(0, dnf::REINSTALL.to_owned());
            }
            _ => {}
        }
        Ok(targets)
    }

    /// Returns the argument that names `name` in one version.
    fn target(&mut self, name: &str, wanted: Option<&str>, before: &Database) -> Result<String, Failure> {
        // A package that is installed keeps its version, unless the spec asks for one.
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

    /// Returns the newest version of `name` in the repositories that `wanted` matches.
    fn version(&mut self, name: &str, wanted: &str) -> Result<String, Failure> {
        let known = match self.manager {
            Manager::Apt => apt::read_versions(&self.sandbox.run(apt::versions(&self.options, name))?),
            Manager::Dnf => {
                let call = dnf::versions(&self.options, self.program, name);
                dnf::read_versions(&self.sandbox.run(call)?, name)
            }
        };
        let found = known.iter().find(|version| package_version::satisfies(version, wanted)).cloned();
        found.ok_or_else(|| no_version(name, wanted, &known))
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
