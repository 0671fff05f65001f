//! What a package manager would change, and what that makes of the database. Pure.

use std::collections::BTreeMap;

use crate::artifact::Installed;
use crate::packages::manager::database::Database;
use crate::plan::from_packages::PackageChange;

/// What a package manager would do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transaction {
    /// Packages that come, or come in another version.
    pub installed: Vec<Installed>,
    /// Names of packages that go.
    pub removed: Vec<String>,
}

/// The changes that a transaction makes to packages.
pub(crate) fn planned(transaction: &Transaction, before: &Database) -> Vec<PackageChange> {
    let mut changes: Vec<PackageChange> = Vec::new();
    for installed in &transaction.installed {
        changes.push(match before.get(&installed.name) {
            Some(record) => PackageChange::Upgrade(installed.clone(), record.version.clone()),
            None => PackageChange::Install(installed.clone()),
        });
    }
    changes.extend(
        transaction
            .removed
            .iter()
            .filter_map(|name| before.installed(name, false))
            .map(PackageChange::Remove),
    );
    changes
}

/// The database as the transaction would leave it.
pub(crate) fn simulated(before: &Database, transaction: &Transaction, name: &str, held: bool) -> Database {
    let mut after = before.clone();
    for removed in &transaction.removed {
        after.records.remove(removed);
    }
    for installed in &transaction.installed {
        let record = after.records.entry(installed.name.clone()).or_default();
        record.version.clone_from(&installed.version);
        record.architecture.clone_from(&installed.architecture);
        (record.is_whole, record.is_intact) = (true, true);
    }
    if let Some(record) = after.records.get_mut(name) {
        record.is_held = held;
    }
    after
}

/// What the receipt will say: the package, and everything that came with it.
pub(crate) fn brought(
    name: &str,
    held: bool,
    before: &Database,
    after: &Database,
    earlier: &[Installed],
) -> Vec<Installed> {
    let known: BTreeMap<&str, &Installed> =
        earlier.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut packages = Vec::new();
    for other in after.records.keys() {
        let is_new = before.get(other).is_none();
        let found = match known.get(other.as_str()) {
            Some(package) => package.found,
            None => !is_new,
        };
        let is_of_interest =
            is_new || other == name || known.get(other.as_str()).is_some_and(|package| !package.found);
        if is_of_interest && let Some(installed) = after.installed(other, found) {
            packages.push(Installed { held: held && other == name, ..installed });
        }
    }
    packages
}
