//! Transaction of a package manager: the packages that it installs and removes.
//!
//! This module must not run it.

use crate::artifact::Installed;
use crate::packages::manager::database::Database;
use crate::plan::from_packages::PackageChange;

/// Transaction that a package manager has simulated.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transaction {
    /// Packages that get installed, or replaced by another version.
    pub installed: Vec<Installed>,
    /// Names of packages that get removed.
    pub removed: Vec<String>,
}

impl Transaction {
    /// Returns the changes that the transaction makes to the packages of `before`.
    pub(crate) fn changes(&self, before: &Database) -> Vec<PackageChange> {
        let mut changes: Vec<PackageChange> = Vec::new();
        for installed in &self.installed {
            changes.push(match before.get(&installed.name) {
                Some(record) => PackageChange::Upgrade(installed.clone(), record.version.clone()),
                None => PackageChange::Install(installed.clone()),
            });
        }
        let removed = self.removed.iter().filter_map(|name| before.installed(name, false));
        changes.extend(removed.map(PackageChange::Remove));
        changes
    }

    /// Returns the database `before` as the transaction would leave it.
    pub(crate) fn applied_to(&self, before: &Database) -> Database {
        let mut after = before.clone();
        for removed in &self.removed {
            after.records.remove(removed);
        }
        for installed in &self.installed {
            let record = after.records.entry(installed.name.clone()).or_default();
            record.version.clone_from(&installed.version);
            record.architecture.clone_from(&installed.architecture);
            (record.is_whole, record.is_intact) = (true, true);
        }
        after
    }
}
