//! Answers whether a release of containerd has a key, at a place of its own configuration version.
//!
//! This module must not know an older version's places: `migration` does.

use semver::Version;
use toml_edit::{DocumentMut, Item};

use crate::arch::Arch;
use crate::catalog::{self, Unprinted};

/// Every key of one release.
pub(crate) struct Known {
    /// The release.
    pub release: Version,
    /// Its default configuration.
    pub default: DocumentMut,
    /// Keys that this does not have.
    unprinted: Vec<&'static Unprinted>,
}

/// What a release has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A key, or an array of tables.
    Key,
    /// A table.
    Table,
    /// Nothing; the number of leading names that it has.
    Nothing(usize),
}

impl Known {
    /// Returns the keys of `version`; none if the catalogue does not know them.
    pub(crate) fn of(version: &str) -> Option<Known> {
        let release: Version = version.parse().ok()?;
        // The same keys on every architecture.
        let default = catalog::default_config("containerd", version, Arch::Amd64)?;
        let has_plugin = |entry: &&Unprinted| match &entry.table[..] {
            [plugins, id, ..] if plugins == "plugins" => {
                default.get("plugins").and_then(|all| all.get(id)).is_some()
            }
            _ => true,
        };
        let unprinted = catalog::unprinted(&release).filter(has_plugin).collect();
        Some(Known { release, default, unprinted })
    }

    /// Returns what the release has at `path`.
    pub(crate) fn place(&self, path: &[&str]) -> Place {
        let mut printed = vec![self.default.as_item()];
        let mut place = Place::Table;
        for end in 1..=path.len() {
            let (above, through) = (&path[..end - 1], &path[..end]);
            printed = self.entries(&printed, above, path[end - 1]);
            let unprinted = self
                .unprinted
                .iter()
                .filter(|entry| entry.has(through, |key, written| self.same(key, written)));
            let is_table = |entry: &&&Unprinted| end <= entry.table.len();
            // What is printed is certain; a `*` of the list may stand for the names of tables only.
            place = match () {
                () if printed.iter().any(|item| item.is_table_like()) => Place::Table,
                () if !printed.is_empty() => Place::Key,
                () if unprinted.clone().any(|entry| is_table(&entry)) => Place::Table,
                () if unprinted.clone().next().is_some() => Place::Key,
                () => return Place::Nothing(end - 1),
            };
        }
        place
    }

    /// Returns the items of the default configuration that say what `name` is in the table at `path`: those of
    /// `tables` with that name, and the entry that every entry of the table is like.
    fn entries<'a>(&self, tables: &[&'a Item], path: &[&str], name: &str) -> Vec<&'a Item> {
        let is_map = path == ["plugins"];
        let alike =
            self.unprinted.iter().filter(|entry| entry.is_of(path)).find_map(|entry| entry.like.as_deref());
        let says = |key: &str| key == name || alike == Some(key) || (!is_map && self.same(key, name));
        let mut found = Vec::new();
        for table in tables {
            match table {
                Item::ArrayOfTables(array) => {
                    found.extend(
                        array
                            .iter()
                            .flat_map(|table| table.iter())
                            .filter(|(key, _)| says(key))
                            .map(|(_, item)| item),
                    );
                }
                _ => {
                    let entries = table.as_table_like().into_iter().flat_map(|table| table.iter());
                    found.extend(entries.filter(|(key, _)| says(key)).map(|(_, item)| item));
                }
            }
        }
        found
    }

    /// Returns whether containerd reads `written` as `key`: 2.x whatever the case (go-toml 2), 1.x also in lower case,
    /// in upper case and with a small first letter (go-toml 1, `keysToTry`).
    fn same(&self, key: &str, written: &str) -> bool {
        if !key.eq_ignore_ascii_case(written) || self.release.major >= 2 {
            return key.eq_ignore_ascii_case(written);
        }
        let (first, rest) = key.split_at(1);
        let spellings = [key.to_owned(), key.to_lowercase(), key.to_uppercase(), first.to_lowercase() + rest];
        spellings.iter().any(|spelling| spelling == written)
    }
}
