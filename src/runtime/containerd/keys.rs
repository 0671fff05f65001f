//! Answers which keys of a config.toml a release of containerd does not take over.
//!
//! This module must not change a document or run a containerd: it compares with the keys that the catalogue has.
//!
//! containerd itself names such keys in 2.x only, as warnings in its log, and never a table of a plugin that it does
//! not have.

use toml_edit::{Item, Key, TableLike};

use crate::catalog;
use crate::format::toml;
use crate::runtime::containerd::known::{Known, Place};
use crate::runtime::containerd::migration::{Destination, Migration, other_places};

/// Types of runtimes whose `options` are those of runc. Shims of other types get theirs as they are.
const RUNC: [&str; 2] = ["io.containerd.runc.v2", "io.containerd.runc.v1"];

/// Tables of version 1 and 2 that describe a runtime and are not in `runtimes`.
const OLD_RUNTIMES: [&str; 2] = ["default_runtime", "untrusted_workload_runtime"];

/// Returns the keys of `text` that containerd `version` does not take over, in the text's order; of a table that the
/// release does not have only the table. Returns none if the catalogue does not know the keys of the release. A text
/// that is not TOML, or is too long, has no keys.
pub(crate) fn unread_keys(version: &str, text: &str) -> Option<Vec<String>> {
    let known = Known::of(version)?;
    let document = toml::parse(text, "config.toml").unwrap_or_default();
    let migration = Migration::of(&known, &document);
    if migration.is_refused() {
        return Some(vec!["version".to_owned()]);
    }
    let mut comparison = Comparison { known: &known, migration, unread: Vec::new() };
    comparison.table(document.as_table(), &mut Vec::new());
    let mut unread: Vec<String> = comparison.unread.iter().map(|(path, end)| shown(&path[..*end])).collect();
    // A table that the release does not have is met once for each of its keys.
    unread.dedup();
    Some(unread)
}

/// A key of a file that stands where the release does not read it.
pub(crate) struct Misplaced {
    /// The key, and the table in which it stands.
    pub key: (String, String),
    /// The table in which the release reads it, and its name there.
    pub right: (String, String),
}

/// Returns the first key of `text` that containerd `version` reads in another table only. A release that the catalogue
/// does not know is taken for the newest that it knows.
pub(crate) fn misplaced(version: &str, text: &str) -> Option<Misplaced> {
    let newest = || Known::of(&catalog::versions("containerd").first()?.to_string());
    let known = Known::of(version).or_else(newest)?;
    let document = toml::parse(text, "config.toml").ok()?;
    let migration = Migration::of(&known, &document);
    let mut comparison = Comparison { known: &known, migration, unread: Vec::new() };
    comparison.table(document.as_table(), &mut Vec::new());
    comparison.unread.iter().find_map(|(path, _)| {
        let is_read = |right: &Vec<&str>| !matches!(known.place(right), Place::Nothing(_));
        let right = other_places(path).into_iter().find(is_read)?;
        Some(Misplaced { key: key_and_table(path), right: key_and_table(&right) })
    })
}

/// Splits a path behind its plugin, or else behind its table, and returns the words for both.
fn key_and_table(path: &[&str]) -> (String, String) {
    let table = if path.first() == Some(&"plugins") { 2 } else { 1 };
    let (table, key) = path.split_at(table.min(path.len()));
    (shown(key), shown(table))
}

fn shown(path: &[&str]) -> String {
    let names: Vec<String> = path.iter().map(|name| Key::new(*name).display_repr().into_owned()).collect();
    names.join(".")
}

/// Comparison of a document with the keys of a release.
struct Comparison<'a> {
    known: &'a Known,
    migration: Migration<'a>,
    /// The keys that are not taken over, each with the number of leading names up to the first that the release does not
    /// have.
    unread: Vec<(Vec<&'a str>, usize)>,
}

impl<'a> Comparison<'a> {
    /// Compares the keys of the table at `path`.
    fn table(&mut self, table: &'a dyn TableLike, path: &mut Vec<&'a str>) {
        for (name, item) in table.iter() {
            path.push(name);
            if !is_free(table, path) {
                let tables = tables(item);
                if tables.is_empty() {
                    self.key(path, item);
                }
                for table in tables {
                    self.table(table, path);
                }
            }
            path.pop();
        }
    }

    /// Compares one key that is not a table.
    fn key(&mut self, path: &[&'a str], item: &Item) {
        let end = match self.migration.destination(path) {
            Destination::Dropped(end) => end,
            Destination::To(places) => {
                let ends: Option<Vec<usize>> =
                    places.iter().map(|place| self.end(path, place, item)).collect();
                // The key is lost if no place has it, and the place that has most of it says from where on.
                match ends.and_then(|ends| ends.into_iter().max()) {
                    Some(end) => end,
                    None => return,
                }
            }
        };
        self.unread.push((path.to_vec(), end));
    }

    /// Returns the number of leading names of `path` up to the first that the release does not have at `place`; none if
    /// it has a key there, of the item's kind.
    fn end(&self, path: &[&str], place: &[&str], item: &Item) -> Option<usize> {
        let end = match self.known.place(place) {
            Place::Nothing(known) => known + 1,
            Place::Table if !item.is_array() => place.len(),
            Place::Table | Place::Key => return None,
        };
        // A place differs from the path in its first names, so that the number of those below is the same.
        Some((end + path.len()).saturating_sub(place.len()).max(1))
    }
}

/// Returns whether anything can stand at `path`, in `table`: the options of a runtime whose type containerd does not
/// know.
fn is_free(table: &dyn TableLike, path: &[&str]) -> bool {
    let [above @ .., runtime, "options"] = path else { return false };
    let is_runtime = above.last() == Some(&"runtimes") || OLD_RUNTIMES.contains(runtime);
    let is_runc = match table.get("runtime_type").and_then(Item::as_str) {
        Some(name) => RUNC.contains(&name),
        None => *runtime == "runc",
    };
    is_runtime && !is_runc
}

/// Returns the tables of an item: itself, or those of an array.
fn tables(item: &Item) -> Vec<&dyn TableLike> {
    if let Some(table) = item.as_table_like() {
        return vec![table];
    }
    let of_array = item.as_array_of_tables().into_iter().flatten().map(|table| table as &dyn TableLike);
    let inline = item.as_array().into_iter().flatten().filter_map(|value| value.as_inline_table());
    of_array.chain(inline.map(|table| table as &dyn TableLike)).collect()
}

#[cfg(test)]
mod tests {
    use super::unread_keys;
    use crate::arch::Arch;
    use crate::catalog;
    use crate::node::{Content, Want};
    use crate::runtime::RuntimeInputs;
    use crate::runtime::containerd::config::config;
    use crate::runtime::containerd::validate::problems;
    use crate::spec::{Base, Config, Containerd, Spec};

    /// A release of each default configuration.
    const RELEASES: [&str; 27] = [
        "1.6.0", "1.6.9", "1.6.24", "1.6.29", "1.6.39", "1.7.0", "1.7.1", "1.7.4", "1.7.10", "1.7.14",
        "1.7.16", "1.7.26", "1.7.34", "2.0.0", "2.0.7", "2.0.11", "2.1.0", "2.1.4", "2.1.9", "2.2.0",
        "2.2.1", "2.2.2", "2.2.7", "2.3.0", "2.3.4", "2.3.5", "2.4.1",
    ];

    /// Version 2 with a key of streaming.
    const STREAMING: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nstream_server_port = '1'";

    fn unread(version: &str, text: &str) -> Vec<String> {
        unread_keys(version, text)
            .unwrap_or_else(|| panic!("the catalogue does not know containerd {version}"))
    }

    #[test]
    fn s6_a_release_takes_over_its_own_default_configuration() {
        for version in RELEASES {
            let default = catalog::default_config("containerd", version, Arch::Amd64).unwrap();
            assert_eq!(unread(version, &default.to_string()), Vec::<String>::new(), "{version}");
        }
    }

    #[test]
    fn s6_a_release_takes_over_what_nodebake_writes() {
        for version in RELEASES {
            for base in [Base::Minimal, Base::Default] {
                let inputs = RuntimeInputs {
                    version,
                    arch: Arch::Arm64,
                    printed_default: None,
                    cni_bin: None,
                    packaged_unit: None,
                };
                let containerd =
                    Containerd { config: Config { base, ..Config::default() }, ..Containerd::default() };
                let file = config(&Spec { containerd, ..Spec::default() }, inputs).unwrap().file;
                let Want::File { content: Content::Text(text), .. } = file else { panic!("{file:?}") };
                let text = String::from_utf8(text).unwrap();
                assert_eq!(unread(version, &text), Vec::<String>::new(), "{version}: {text}");
                assert_eq!(problems(&text.parse().unwrap(), version), [], "{version}: {text}");
            }
        }
    }

    #[test]
    fn s6_a_key_that_a_release_does_not_have_is_named() {
        let cases = [
            ("2.1.9", "version = 3\nrooot = '/x'", vec!["rooot"]),
            (
                "2.1.9",
                "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_selinx = true",
                vec!["plugins.\"io.containerd.cri.v1.runtime\".enable_selinx"],
            ),
            (
                "2.1.9",
                "version = 3\n[plugins.'io.containerd.cri.v1.nope']\na = 1\nb = 2",
                vec!["plugins.\"io.containerd.cri.v1.nope\""],
            ),
            ("1.7.24", "version = 3\n", vec!["version"]),
            ("2.1.9", "version = 4\n", vec!["version"]),
            ("2.1.9", "version = 3\nplugins = 1", vec!["plugins"]),
            // The daemon of 2.3 looks at the servers' own plugins only; older versions are taken there.
            ("2.3.4", "version = 3\n[grpc]\naddress = '/x'\nadress = '/x'", vec!["grpc.adress"]),
            ("2.3.4", "version = 4\n[grpc]\naddress = '/x'", vec!["grpc"]),
            ("2.3.4", "version = 3\n[debug]\nlevel = 'info'\naddress = '/x'", vec![]),
            // 2.0 to 2.2 read version 1 and forget the CRI's own way to version 3.
            ("2.2.7", "[plugins.cri]\nsandbox_image = 'x'", vec!["plugins.cri.sandbox_image"]),
            ("2.3.4", "[plugins.cri]\nsandbox_image = 'x'", vec![]),
            // 2.0.0 forgot all keys of streaming but one.
            ("2.0.0", STREAMING, vec!["plugins.\"io.containerd.grpc.v1.cri\".stream_server_port"]),
            ("2.0.1", STREAMING, vec![]),
            // The options of runc are known, those of other shims are not.
            (
                "2.1.9",
                "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroups = true",
                vec![
                    "plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options.SystemdCgroups",
                ],
            ),
            (
                "2.1.9",
                "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'\noptions = { Any = true }",
                vec![],
            ),
        ];
        for (version, text, expected) in cases {
            assert_eq!(unread(version, text), expected, "{version}: {text}");
        }
    }

    #[test]
    fn s6_the_keys_of_an_unknown_release_are_not_compared() {
        assert_eq!(unread_keys("2.99.0", "version = 3"), None);
        assert_eq!(unread_keys("latest", "version = 3"), None);
    }
}
