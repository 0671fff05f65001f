//! One package on its way into a root: asked for, claimed, installed.

use std::path::PathBuf;

use crate::artifact::Installed;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::packages::files::files;
use crate::packages::inputs::PackageInputs;
use crate::packages::manager::database::Database;
use crate::packages::manager::options::Options;
use crate::packages::manager::repository::Origin;
use crate::packages::manager::transaction::{self, Transaction};
use crate::packages::manager::{Session, version};
use crate::packages::{conflicts, recovery};
use crate::plan::from_packages::PackageChange;
use crate::process::protocol::Access;
use crate::root::Root;
use crate::spec::package::Package;

/// One package, what is there, and what the receipt knows of it.
pub(crate) struct Installation<'a> {
    pub(super) inputs: &'a PackageInputs<'a>,
    pub(super) package: &'a Package,
    pub(super) name: &'a str,
    pub(super) before: Database,
    pub(super) earlier: &'a [Installed],
}

impl Installation<'_> {
    /// Whether the package is there as the spec wants it, and all that came with it.
    pub(crate) fn is_installed(&self) -> bool {
        let wanted = self.inputs.spec.package_version();
        let is_whole =
            |name: &str| self.before.get(name).is_some_and(|record| record.is_whole && record.is_intact);
        let mut ours = self.earlier.iter().filter(|package| !package.found);
        let right = self.before.get(self.name).is_some_and(|record| {
            wanted.as_deref().is_none_or(|wanted| version::satisfies(&record.version, wanted))
        });
        right && is_whole(self.name) && ours.all(|package| is_whole(&package.name))
    }

    pub(crate) fn is_held(&self) -> bool {
        self.before.get(self.name).is_some_and(|record| record.is_held)
    }

    /// The package is right, only its hold is not.
    pub(crate) fn change_hold(&self, changes: &mut Vec<PackageChange>) -> anyhow::Result<Database> {
        changes.extend(self.before.installed(self.name, false).map(PackageChange::Hold));
        let Some(state) = self.inputs.state else {
            return Ok(transaction::simulated(
                &self.before,
                &Transaction::default(),
                self.name,
                self.package.hold,
            ));
        };
        recovery::record(state, self.name, &self.before, self.earlier, &Transaction::default())?;
        let options = Options::offline(self.inputs.lock_timeout);
        let mut session = Session::open(self.inputs.root, Access::Change, true, Vec::new(), options)?;
        session.hold(self.name, self.package.hold)?;
        Ok(session.database(&[self.name])?)
    }

    /// Has the package manager do it, or say what it would do; gives the database as it is then.
    pub(crate) fn transact(
        &self,
        sources: Option<(&Origin, &[u8])>,
        changes: &mut Vec<PackageChange>,
    ) -> anyhow::Result<Database> {
        let Installation { inputs, package, name, before, earlier } = self;
        let files = files(inputs, package)?;
        let remote = files.is_empty();
        let mut session = self.open(files, sources)?;
        if remote {
            inputs.fetcher.progress.step(&format!("reading the package lists for {name}"));
            session.refresh()?;
        }
        let targets = session.targets(name, inputs.spec.package_version().as_deref(), before)?;
        let transaction = session.simulate(&targets)?;
        conflicts::refuse_removals(name, &transaction, earlier)?;
        changes.extend(transaction::planned(&transaction, before));
        if self.is_held() != package.hold {
            changes.extend(
                transaction::simulated(before, &transaction, name, package.hold)
                    .installed(name, false)
                    .map(PackageChange::Hold),
            );
        }
        let Some(state) = inputs.state else {
            return Ok(transaction::simulated(before, &transaction, name, package.hold));
        };
        let leftovers = recovery::config_leftovers(inputs.root)?;
        recovery::record(state, name, before, earlier, &transaction)?;
        self.install(&mut session, &targets, &transaction)?;
        let names: Vec<&str> = transaction.installed.iter().map(|package| package.name.as_str()).collect();
        let after = session.database(&[&[*name], names.as_slice()].concat())?;
        drop(session);
        recovery::clean_up(inputs.root, state, &leftovers)?;
        label(inputs.root, &after)?;
        interrupt::check()?;
        Ok(after)
    }

    pub(crate) fn open(
        &self,
        files: Vec<(PathBuf, Digest)>,
        sources: Option<(&Origin, &[u8])>,
    ) -> anyhow::Result<Session<'_>> {
        let Installation { inputs, name, before, .. } = self;
        let remote = files.is_empty();
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

    pub(crate) fn install(
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
        // An upgrade has lifted it.
        let held = session.database(&[])?.get(self.name).is_some_and(|record| record.is_held);
        if held == self.package.hold { Ok(()) } else { session.hold(self.name, self.package.hold) }
    }
}

/// Gives what packages brought into a root that does not run the labels of its SELinux policy: rpm knows
/// only this host's.
fn label(root: &Root, database: &Database) -> Result<(), Failure> {
    if root.is_own()? || !root.labels().are_wanted() {
        return Ok(());
    }
    let files = database.records.values().flat_map(|record| &record.files);
    files.into_iter().try_for_each(|path| root.label_as(path, path))?;
    root.mark_for_relabelling().map(drop)
}
