//! What packages bring into a root, as values: for the plan, the receipt and the report. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::Database;
use crate::path::ImagePath;
use crate::receipt::Installed;
use crate::transaction::Transaction;
use crate::want::Want;

/// What packages bring into one root.
#[derive(Debug, Clone, Default)]
pub struct Supply {
    /// What the receipt will say of packages.
    pub packages: Vec<Installed>,
    /// What the package manager has done, or would do.
    pub changes: Vec<Change>,
    /// The containerd that comes with them.
    pub runtime: Option<Runtime>,
    /// The repository's files.
    pub entries: Vec<(ImagePath, Want)>,
    /// Files that are as a package of ours has brought them: nobody's original.
    pub shipped: BTreeSet<ImagePath>,
}

/// A containerd that a package brought.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Upstream's X.Y.Z.
    pub version: String,
    /// Files that a node depends on, and their package.
    pub present: Vec<(ImagePath, String)>,
    /// Its unit.
    pub unit: ImagePath,
    /// Where the root has CNI plugins, where it is not the usual place.
    pub cni_bin: Option<&'static str>,
}

/// What happens to a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It comes.
    Install(Installed),
    /// It comes in another version; the one that was there.
    Upgrade(Installed, String),
    /// It goes.
    Remove(Installed),
    /// It is not wanted any more, and stays: other packages need it.
    Leave(Installed),
    /// Its hold is set or lifted.
    Hold(Installed),
}

/// The changes that a transaction makes to packages.
pub fn planned(transaction: &Transaction, before: &Database) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for installed in &transaction.installed {
        changes.push(match before.get(&installed.name) {
            Some(record) => Change::Upgrade(installed.clone(), record.version.clone()),
            None => Change::Install(installed.clone()),
        });
    }
    changes.extend(
        transaction.removed.iter().filter_map(|name| before.installed(name, false)).map(Change::Remove),
    );
    changes
}

/// The database as the transaction would leave it.
pub fn simulated(before: &Database, transaction: &Transaction, name: &str, held: bool) -> Database {
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
pub fn brought(
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
