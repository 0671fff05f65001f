//! Answers with which types of values, and with which names of tables, a release of containerd can't decode a config.toml:
//! it does not start then.
//!
//! This module must not judge a value of the right type: `values` does. A table that the default configuration has once
//! stands for all tables of its kind, such as those of runtimes.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use crate::arch::Arch;
use crate::catalog;
use crate::format::toml;
use crate::printable::printable;
use crate::runtime::containerd::Release;
use crate::runtime::containerd::validate::{Problem, problem};

/// Tables that no default configuration has an entry of, each with every key of one (`ProxyPlugin` in
/// cmd/containerd/server/config/config.go, `Registry` in internal/cri/config/config.go).
const SAMPLES: &str = "\
tables = {}
proxy_plugins = {type = '', address = '', platform = '', exports = {}, capabilities = []}
headers = ['']
mirrors = {endpoint = ['']}
auths = {username = '', password = '', auth = '', identitytoken = ''}
configs.auth = {username = '', password = '', auth = '', identitytoken = ''}
configs.tls = {insecure_skip_verify = false, ca_file = '', cert_file = '', key_file = ''}
";

/// Finds keys whose value is of another type than the default configuration's, and dates, which no key has.
pub(super) fn wrong_types(document: &DocumentMut, version: &str, release: Release) -> Vec<Problem> {
    let samples = toml::document(SAMPLES).unwrap_or_default();
    let mut comparison = Comparison { release, samples: samples.as_item(), wrong: Vec::new() };
    comparison.dates(document.as_table(), &mut Vec::new());
    let of = |document: &DocumentMut| document.get("version").and_then(Item::as_integer);
    if let Some(default) = catalog::default_config("containerd", version, Arch::Amd64)
        && of(document) == of(&default)
    {
        comparison.table(document.as_table(), default.as_table(), &mut Vec::new());
    }
    comparison.wrong
}

/// Finds a name of a table that go-toml 1, the reader of 1.x, does not take (containerd#10055).
pub(super) fn unread_table(document: &DocumentMut, release: Release) -> Option<Problem> {
    let name = if release.is_2() { None } else { with_bracket(document.as_table()) }?;
    let name = printable(name);
    let why = format!("a table has the name `{name}`: containerd 1.x does not start with a `]` in it");
    Some(problem(why, format!("write the table above with braces, such as configs = {{\"{name}\" = {{…}}}}")))
}

/// Returns the first name with a bracket among those of tables that have a line of their own.
fn with_bracket(table: &Table) -> Option<&str> {
    table.iter().find_map(|(name, item)| match item {
        Item::Table(below) if below.is_dotted() => None,
        Item::Table(_) | Item::ArrayOfTables(_) if name.contains(']') => Some(name),
        Item::Table(below) => with_bracket(below),
        Item::ArrayOfTables(_) | Item::Value(_) | Item::None => None,
    })
}

/// Comparison of a configuration with the default one.
struct Comparison<'a> {
    release: Release,
    samples: &'a Item,
    wrong: Vec<Problem>,
}

impl Comparison<'_> {
    /// Compares the keys of `written` with those of `default`, which are at `path`.
    fn table<'a>(&mut self, written: &'a dyn TableLike, default: &dyn TableLike, path: &mut Vec<&'a str>) {
        for (name, item) in written.iter() {
            let (own, samples) = (default.get(name), self.samples);
            // The options of a runtime are those of its shim.
            let is_free =
                name == "options" && matches!(path[..], [.., "runtimes", runtime] if runtime != "runc");
            let Some(known) = own.or_else(|| alike(samples, default, path, name)).filter(|_| !is_free) else {
                if !is_free {
                    self.case(name, default, path);
                }
                continue;
            };
            path.push(name);
            match (item.as_table_like(), known.as_table_like()) {
                (Some(written), Some(known)) => self.table(written, known, path),
                _ => self.key(item, known, path),
            }
            path.pop();
        }
    }

    /// Finds a key that differs from one of `default` in case only: 2.x reads it as that one, and 1.x may not.
    fn case(&mut self, name: &str, default: &dyn TableLike, path: &[&str]) {
        let right = default.iter().map(|(right, _)| right).find(|right| right.eq_ignore_ascii_case(name));
        self.wrong.extend(right.map(|right| {
            let key = [path, &[name]].concat().join(".");
            let why = format!("`{}` differs from `{right}` in case only", printable(&key));
            problem(why, format!("write `{right}`"))
        }));
    }

    /// Compares one key with the default one.
    fn key(&mut self, item: &Item, known: &Item, path: &[&str]) {
        let (is, needed) = (toml::kind(item), toml::kind(known));
        let arrays = item.as_array().zip(known.as_array());
        let said = match (item, known) {
            _ if is != needed => Some(format!("is {is}, and {needed} is needed")),
            (Item::Value(Value::Float(_)), Item::Value(Value::Integer(_))) => {
                Some("has a fraction, and a whole number is needed".to_owned())
            }
            (Item::Value(Value::Integer(_)), Item::Value(Value::Float(_))) if !self.release.is_2() => {
                Some("is a whole number, and one with a point is needed".to_owned())
            }
            _ => arrays.and_then(|(array, known)| odd_element(array, known)),
        };
        self.wrong.extend(said.map(|said| {
            let why = format!("`{}` {said}: containerd does not start", printable(&path.join(".")));
            problem(why, "write the value as `containerd config default` has it")
        }));
    }

    /// Finds dates.
    fn dates<'a>(&mut self, table: &'a dyn TableLike, path: &mut Vec<&'a str>) {
        for (name, item) in table.iter() {
            path.push(name);
            match item.as_table_like() {
                Some(below) => self.dates(below, path),
                None if item.is_datetime() => {
                    let why = format!("`{}` is a date or a time", printable(&path.join(".")));
                    self.wrong.push(problem(why, "no key of containerd has one: write a text in quotes"));
                }
                None => {}
            }
            path.pop();
        }
    }
}

/// Returns what stands for the key `name` of the table `default` at `path`, which does not have it; none where each key
/// is another.
fn alike<'a>(samples: &'a Item, default: &'a dyn TableLike, path: &[&str], name: &str) -> Option<&'a Item> {
    match path {
        [] if name == "proxy_plugins" => samples.get("tables"),
        [.., "registry"] if samples.get(name).is_some() => samples.get("tables"),
        ["proxy_plugins"] => samples.get("proxy_plugins"),
        [.., "registry", kind @ ("headers" | "mirrors" | "auths" | "configs")] => samples.get(kind),
        [.., "containerd", "runtimes"] => default.get("runc"),
        ["timeouts" | "stream_processors"] => default.iter().next().map(|(_, item)| item),
        _ => None,
    }
}

/// Tells which element of an array is not of the type of `known`'s; those of an empty array are strings, or tables.
fn odd_element(array: &Array, known: &Array) -> Option<String> {
    let kind = |value: &Value| toml::kind(&Item::Value(value.clone()));
    let needed = known.iter().next().map_or("a string", kind);
    let is_odd = |is: &&str| *is != needed && !(known.is_empty() && *is == "a table");
    let odd = array.iter().map(kind).find(is_odd)?;
    Some(format!("has {odd}, and {needed} is needed"))
}

#[cfg(test)]
mod tests {
    use super::{unread_table, wrong_types};

    use crate::runtime::containerd::Release;

    fn found(version: &str, text: &str) -> Vec<String> {
        let document = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let release = Release::parse(version).unwrap();
        let mut found = wrong_types(&document, version, release);
        found.extend(unread_table(&document, release));
        found.into_iter().map(|problem| problem.why).collect()
    }

    /// Daemons of 1.6.20, 1.7.24 and 2.1.9 do not start with any of them.
    #[test]
    fn values_have_the_types_of_the_default_configuration() {
        let cri = "[plugins.'io.containerd.grpc.v1.cri'";
        let runtime = "[plugins.'io.containerd.cri.v1.runtime'";
        for (version, text) in [
            ("2.1.9", "version = 3\noom_score = '1'".to_owned()),
            ("2.1.9", "version = 3\noom_score = 1.5".to_owned()),
            ("2.1.9", "version = 3\nimports = [1]".to_owned()),
            ("2.1.9", "version = 3\nrequired_plugins = ['io.containerd.grpc.v1.cri', true]".to_owned()),
            ("1.7.24", format!("version = 2\n{cri}]\nenable_selinux = 'true'")),
            (
                "1.6.20",
                "version = 2\n[plugins.'io.containerd.gc.v1.scheduler']\npause_threshold = 1".to_owned(),
            ),
            ("1.7.24", format!("version = 2\n{cri}.containerd.runtimes.kata]\nruntime_type = 1")),
            ("2.1.9", format!("version = 3\n{runtime}.containerd.runtimes.kata]\npod_annotations = 'x'")),
            ("2.1.9", format!("version = 3\n{runtime}.cni]\nbin_dirs = ['/a', 1]")),
            ("2.1.9", "version = 3\n[proxy_plugins.x]\naddress = 1".to_owned()),
            (
                "2.1.9",
                "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry.headers]\nX-A = 'b'".to_owned(),
            ),
            ("1.7.24", format!("version = 2\n{cri}.registry.configs.r.auth]\nusername = 1")),
            ("2.1.9", "version = 3\n[stream_processors.x]\naccepts = 'a'".to_owned()),
            ("2.1.9", "version = 3\n[timeouts]\nx = 5".to_owned()),
            ("2.3.4", "version = 4\nimports = 'x'".to_owned()),
        ] {
            let found = found(version, &text);
            assert!(found.len() == 1 && found[0].contains("is needed"), "{text}: {found:?}");
        }
        let capitals =
            "version = 3\n[plugins.'io.containerd.cri.v1.images']\nSnapshotter = 'x'\n[Grpc]\nuid = 1";
        assert_eq!(found("2.1.9", capitals).len(), 2);
        assert!(found("1.7.24", "[timeouts]\nx = 07:32:00")[0].contains("a date"));
    }

    #[test]
    fn the_default_configuration_has_the_right_types() {
        for version in ["1.6.39", "1.7.34", "2.0.11", "2.1.9", "2.2.7", "2.3.4"] {
            let default =
                crate::catalog::default_config("containerd", version, crate::arch::Arch::Amd64).unwrap();
            assert_eq!(found(version, &default.to_string()), [""; 0], "{version}");
        }
        for (version, text) in [
            ("2.1.9", "version = 3\n[plugins.'io.containerd.gc.v1.scheduler']\npause_threshold = 1"),
            (
                "2.1.9",
                "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata.options]\nBinaryName = 1",
            ),
        ] {
            assert_eq!(found(version, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_bracket_in_the_name_of_a_table_is_found_for_1_x() {
        let configs = "plugins.'io.containerd.grpc.v1.cri'.registry.configs";
        let headed = format!("[{configs}.'[fd00::1]:5000'.auth]\nusername = 'a'");
        assert!(found("1.7.24", &headed)[0].contains("`[fd00::1]:5000`"));
        assert_eq!(found("2.1.9", &headed), [""; 0]);
        let braces = format!("[{configs}]\n'[fd00::1]:5000' = {{auth = {{username = 'a'}}}}");
        assert_eq!(found("1.7.24", &braces), [""; 0]);
    }
}
