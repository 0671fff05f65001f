//! Installs one package: simulates the transaction, records the intent, runs the package manager.
//!
//! This module must not install or remove a package before the intent is on disk. What a killed run has left half
//! configured is repaired, and a hold is lifted, before that.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::artifact::Installed;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::format::package_version;
use crate::interrupt;
use crate::packages::files::pinned_files;
use crate::packages::inputs::PackageInputs;
use crate::packages::manager::Session;
use crate::packages::manager::database::Database;
use crate::packages::manager::options::Options;
use crate::packages::manager::repository::Origin;
use crate::packages::manager::transaction::Transaction;
use crate::packages::{conflicts, recovery};
use crate::plan::from_packages::PackageChange;
use crate::process::protocol::Access;
use crate::root::Root;
use crate::spec::package::Package;

/// Package that the spec asks for, beside what the root and the receipt have.
pub(super) struct Installation<'a> {
    /// Root, spec and lock.
    pub inputs: &'a PackageInputs<'a>,
    /// Package as the spec asks for it.
    pub package: &'a Package,
    /// Package database before this run.
    pub before: Database,
    /// Packages in the receipt of the last bake.
    pub earlier: &'a [Installed],
}

impl Installation<'_> {
    /// Returns whether the package has the version that the spec asks for, and is complete and unmodified, as are
    /// the packages that nodebake has installed with it.
    pub(super) fn is_installed(&self) -> bool {
        let wanted = self.inputs.spec.package_version();
        let is_whole =
            |name: &str| self.before.get(name).is_some_and(|record| record.is_whole && record.is_intact);
        let mut ours = self.earlier.iter().filter(|package| !package.found);
        let has_version = self.before.get(self.name()).is_some_and(|record| {
            wanted.as_deref().is_none_or(|wanted| package_version::satisfies(&record.version, wanted))
        });
        has_version && is_whole(self.name()) && ours.all(|package| is_whole(&package.name))
    }

    /// Returns whether upgrades leave the package at its version.
    pub(super) fn is_held(&self) -> bool {
        self.before.get(self.name()).is_some_and(|record| record.is_held)
    }

    /// Sets or lifts the hold of a package that is installed already, and returns the database after that.
    pub(super) fn change_hold(&self, changes: &mut Vec<PackageChange>) -> anyhow::Result<Database> {
        let nothing = Transaction::default();
        changes.extend(self.before.installed(self.name(), false).map(PackageChange::Hold));
        let Some(state) = self.inputs.state else { return Ok(self.simulated(&nothing)) };
        recovery::record(state, self.recorded(&nothing))?;
        let options = Options::offline(self.inputs.lock_timeout);
        let mut session = Session::open(self.inputs.root, Access::Change, true, Vec::new(), options)?;
        session.hold(self.name(), self.package.hold)?;
        Ok(session.database(&[self.name()])?)
    }

    /// Simulates the installation, and runs it where the root's state is locked. Adds to `changes`, and returns the
    /// database after the run, or as the simulation leaves it.
    pub(super) fn transact(
        &self,
        sources: Option<(&Origin, &[u8])>,
        changes: &mut Vec<PackageChange>,
    ) -> anyhow::Result<Database> {
        let Installation { inputs, package, before, earlier } = self;
        let name = self.name();
        let files = pinned_files(inputs, package)?;
        let remote = files.is_empty();
        let mut session = self.open(files, sources)?;
        if remote {
            inputs.fetcher.progress.step(&format!("reading the package lists for {name}"));
            session.refresh()?;
        }
        let targets = session.targets(name, inputs.spec.package_version().as_deref(), before)?;
        let transaction = session.simulate(&targets)?;
        conflicts::refuse_removals(name, &transaction, earlier)?;
        changes.extend(transaction.changes(before));
        let simulated = self.simulated(&transaction);
        if self.is_held() != package.hold {
            changes.extend(simulated.installed(name, false).map(PackageChange::Hold));
        }
        let Some(state) = inputs.state else { return Ok(simulated) };
        let leftovers = recovery::config_leftovers(inputs.root)?;
        recovery::record(state, self.recorded(&transaction))?;
        self.install(&mut session, &targets, &transaction)?;
        let names: Vec<&str> = transaction.installed.iter().map(|package| package.name.as_str()).collect();
        let after = session.database(&[&[name], names.as_slice()].concat())?;
        drop(session);
        recovery::clean_up(inputs.root, state, &leftovers)?;
        label(inputs.root, &after)?;
        interrupt::check()?;
        Ok(after)
    }

    /// Returns the packages that the receipt will have: the one that the spec asks for, and those that nodebake has
    /// installed with it.
    pub(super) fn installed(&self, after: &Database) -> Vec<Installed> {
        let earlier: BTreeMap<&str, &Installed> =
            self.earlier.iter().map(|package| (package.name.as_str(), package)).collect();
        let mut packages = Vec::new();
        for name in after.records.keys() {
            let is_new = self.before.get(name).is_none();
            let recorded = earlier.get(name.as_str());
            let found = recorded.map_or(!is_new, |package| package.found);
            let is_listed = is_new || name == self.name() || recorded.is_some_and(|package| !package.found);
            if is_listed && let Some(installed) = after.installed(name, found) {
                let held = self.package.hold && name == self.name();
                packages.push(Installed { held, ..installed });
            }
        }
        packages
    }

    fn name(&self) -> &str {
        self.package.name()
    }

    /// Opens a session with the repository's sources, or with the package files in `files`, repairs what a killed
    /// run has left, and lifts the package's hold.
    fn open(
        &self,
        files: Vec<(PathBuf, Digest)>,
        sources: Option<(&Origin, &[u8])>,
    ) -> anyhow::Result<Session<'_>> {
        let Installation { inputs, before, .. } = self;
        let (name, remote) = (self.name(), files.is_empty());
        if inputs.fetcher.offline && remote {
            let message = format!("package {name} has to be fetched, and `--offline` was given");
            let help = "give package files: `repository: {path: ./packages}`";
            return Err(Failure::new(Kind::Fetch, message).help(help).into());
        }
        let mut options = Options::online(inputs.root, &inputs.fetcher.network, inputs.lock_timeout)?;
        options.root_sources = remote;
        if let Some(state) = inputs.state.filter(|_| remote) {
            recovery::place_resolv_conf(inputs.root, state)?;
        }
        let access = if inputs.state.is_some() { Access::Change } else { Access::Look };
        let mut session = Session::open(inputs.root, access, inputs.fetcher.offline, files, options)?;
        if let Some((origin, key)) = sources {
            session.add(origin, key, inputs.arch)?;
        }
        if before.is_interrupted || before.records.values().any(|record| !record.is_whole) {
            session.repair()?;
        }
        if self.is_held() {
            session.lift_hold(name)?;
        }
        Ok(session)
    }

    /// Downloads and installs `targets`, then sets the hold that the spec asks for.
    fn install(
        &self,
        session: &mut Session,
        targets: &[String],
        transaction: &Transaction,
    ) -> Result<(), Failure> {
        if !transaction.installed.is_empty() {
            let all: Vec<String> = transaction.installed.iter().map(ToString::to_string).collect();
            self.inputs.fetcher.progress.step(&format!("installing {}", all.join(", ")));
            session.download(targets)?;
            session.install(targets)?;
        }
        // An upgrade lifts the hold.
        let held = session.database(&[])?.get(self.name()).is_some_and(|record| record.is_held);
        if held == self.package.hold { Ok(()) } else { session.hold(self.name(), self.package.hold) }
    }

    /// Returns the database as `transaction` would leave it, with the hold that the spec asks for.
    fn simulated(&self, transaction: &Transaction) -> Database {
        let mut after = transaction.applied_to(&self.before);
        if let Some(record) = after.records.get_mut(self.name()) {
            record.is_held = self.package.hold;
        }
        after
    }

    /// Returns the packages that `transaction` may install, beside those of earlier bakes.
    fn recorded(&self, transaction: &Transaction) -> Vec<Installed> {
        let mut recorded: BTreeMap<String, Installed> = BTreeMap::new();
        for installed in &transaction.installed {
            let found = self.before.get(&installed.name).is_some();
            if !found || installed.name == self.name() {
                recorded.insert(installed.name.clone(), Installed { found, ..installed.clone() });
            }
        }
        recorded.extend(self.earlier.iter().map(|package| (package.name.clone(), package.clone())));
        recorded.into_values().collect()
    }
}

/// Labels the files of packages as the root's SELinux policy says, unless the root is the running system: rpm knows
/// only the policy of this host.
fn label(root: &Root, database: &Database) -> Result<(), Failure> {
    if root.is_own()? || !root.labels().are_wanted() {
        return Ok(());
    }
    let files = database.records.values().flat_map(|record| &record.files);
    files.into_iter().try_for_each(|path| root.label_as(path, path))?;
    root.mark_for_relabelling().map(drop)
}
