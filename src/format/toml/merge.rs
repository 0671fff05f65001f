//! Merges a fragment of TOML into a document, whatever the spelling of its tables.
//!
//! This module must not know any key.

use std::collections::BTreeMap;

use toml_edit::{Item, Key, RawString, Table, TableLike, Value};

use crate::format::toml::{has_three_quotes, string, table_in};

/// Merges `fragment` into `table`: tables key by key, however they are spelled; a value replaces one of its own type.
/// A new key keeps its comments and its spelling, as far as TOML 1.0 has it.
///
/// The error says which key of the fragment fits nothing, and why.
pub(crate) fn merge(table: &mut Table, fragment: &Table) -> Result<(), String> {
    merge_below(table, fragment, &mut Vec::new())
}

fn merge_below(table: &mut Table, fragment: &dyn TableLike, path: &mut Vec<Key>) -> Result<(), String> {
    let mut names: Names =
        table.iter().map(|(name, _)| (name.to_ascii_lowercase(), name.to_owned())).collect();
    for (name, item) in fragment.iter() {
        path.push(Key::new(name));
        check_name(&mut names, path)?;
        check_kind(table.get(name), item, path)?;
        let is_new = !table.contains_key(name);
        match item.as_table_like().filter(|_| !(is_new && item.is_inline_table())) {
            Some(new) => {
                let Some(old) = table_in(table, name) else { continue };
                if let Some(headed) = item.as_table().filter(|table| is_new && !table.is_dotted()) {
                    *old.decor_mut() = headed.decor().clone();
                }
                merge_below(old, new, path)?;
                let has_tables_alone = !old.is_empty() && old.iter().all(|(_, item)| item.is_table());
                old.set_implicit(has_tables_alone && old.is_implicit());
            }
            None => {
                check_names_below(item, path)?;
                let key = fragment.key(name).filter(|key| is_of_a_line(key));
                let key = key.cloned().unwrap_or_else(|| Key::new(name));
                let value = item.clone().into_value().map_or(Item::None, |value| Item::Value(common(value)));
                table.insert_formatted(&key, value);
            }
        }
        path.pop();
    }
    Ok(())
}

/// Returns whether a key can keep its spelling: it comes from a line of its own, and readers of TOML 1.0 know it.
fn is_of_a_line(key: &Key) -> bool {
    let before = key.leaf_decor().prefix().and_then(RawString::as_str).unwrap_or_default();
    (before.is_empty() || before.contains('\n')) && !key.display_repr().contains('\\')
}

/// Returns a value as readers of TOML 1.0 know it: containerd's do not know what 1.1 has added. A string of several lines
/// is written in one.
fn common(value: Value) -> Value {
    let behind = value.decor().suffix().and_then(RawString::as_str).unwrap_or_default();
    if is_newer(&value) || behind.trim().is_empty() != behind.is_empty() { plain(&value) } else { value }
}

/// Returns whether one of containerd's readers may not have a value's spelling: escapes such as `\\e`, strings of several
/// lines, and in braces line breaks and a comma at the end.
fn is_newer(value: &Value) -> bool {
    match value {
        Value::String(_) => value.to_string().contains('\\') || has_three_quotes(&value.to_string()),
        Value::Array(array) => array.iter().any(is_newer),
        Value::InlineTable(table) => {
            let text: String = value.to_string().split(' ').collect();
            text.contains(['\n', '\\'])
                || text.contains(",}")
                || table.iter().any(|(_, value)| is_newer(value))
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => false,
    }
}

/// Returns a value without its spelling.
fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) => string(text.value()),
        Value::Integer(number) => Value::from(*number.value()),
        Value::Float(number) => Value::from(*number.value()),
        Value::Boolean(on) => Value::from(*on.value()),
        Value::Datetime(date) => Value::from(*date.value()),
        Value::Array(array) => Value::Array(array.iter().map(plain).collect()),
        Value::InlineTable(table) => {
            Value::InlineTable(table.iter().map(|(key, value)| (key, plain(value))).collect())
        }
    }
}

/// Names of a table's keys by their lower case.
type Names = BTreeMap<String, String>;

/// Fails if the last key of `path` is one of `names` in another case: Go's readers of TOML match the names of fields
/// whatever their case, so that one of the two would be lost.
fn check_name(names: &mut Names, path: &[Key]) -> Result<(), String> {
    let Some(key) = path.last() else { return Ok(()) };
    let other = names.entry(key.get().to_ascii_lowercase()).or_insert_with(|| key.get().to_owned());
    match other == key.get() {
        true => Ok(()),
        false => Err(format!("`{}` differs from `{other}` in case only", shown(path))),
    }
}

/// Checks the names in a new table that keeps its braces.
fn check_names_below(item: &Item, path: &mut Vec<Key>) -> Result<(), String> {
    let mut names = Names::new();
    for (name, item) in item.as_table_like().into_iter().flat_map(|table| table.iter()) {
        path.push(Key::new(name));
        check_name(&mut names, path)?;
        check_names_below(item, path)?;
        path.pop();
    }
    Ok(())
}

/// Fails if `item` is of another type than what is in its place.
fn check_kind(old: Option<&Item>, item: &Item, path: &[Key]) -> Result<(), String> {
    match old.map(kind).filter(|old| *old != kind(item)) {
        Some(old) => Err(format!("`{}` is {}, and {old} is needed there", shown(path), kind(item))),
        None => Ok(()),
    }
}

fn shown(path: &[Key]) -> String {
    path.iter().map(|key| key.display_repr().into_owned()).collect::<Vec<_>>().join(".")
}

/// Returns the type of an item; a table has one type however it is spelled, and so has an array.
pub(crate) fn kind(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Table(_) | Item::Value(Value::InlineTable(_)) => "a table",
        Item::ArrayOfTables(_) | Item::Value(Value::Array(_)) => "an array",
        Item::Value(Value::String(_)) => "a string",
        Item::Value(Value::Integer(_) | Value::Float(_)) => "a number",
        Item::Value(Value::Boolean(_)) => "true or false",
        Item::Value(Value::Datetime(_)) => "a date",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use toml_edit::{DocumentMut, Item};

    use super::{merge, plain};

    const BASE: &str = "version = 3\n[plugins.\"a.b\"]\nx = 1\n[plugins.\"a.b\".c]\ny = ['s']\n[plugins.d]\ne = {f = 1, g = {h = 's'}}\n";

    /// A fragment, before it is spelled.
    #[derive(Debug, Clone)]
    enum Tree {
        Leaf(String),
        Table(BTreeMap<String, Tree>),
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![Just("1"), Just("\"s\""), Just("[1, {a = 2}]"), Just("true")];
        let leaf = leaf.prop_map(|text| Tree::Leaf(text.to_owned()));
        let key = prop_oneof!["plugins", "\"a\\.b\"", "[c-h]", "x", "y", "\"x\"", "C"];
        let key = key.prop_map(|key: String| if key == "\"x\"" { "x".to_owned() } else { key });
        let table = leaf.prop_recursive(4, 24, 3, move |inner| {
            prop::collection::btree_map(key.clone(), inner, 0..4).prop_map(Tree::Table)
        });
        prop::collection::btree_map("(plugins|version|imports)", table, 0..3).prop_map(Tree::Table)
    }

    /// Spells a table: its own lines, and the tables with headers of their own.
    fn spell(
        table: &BTreeMap<String, Tree>,
        header: &str,
        prefix: &str,
        how: &mut Vec<u8>,
    ) -> (String, String) {
        let (mut lines, mut headed) = (String::new(), String::new());
        for (key, tree) in table {
            match tree {
                Tree::Leaf(text) => lines += &format!("{prefix}{key} = {text}\n"),
                Tree::Table(inner) => match how.pop().unwrap_or_default() % 3 {
                    1 => {
                        let dotted = spell(inner, header, &format!("{prefix}{key} . "), &mut vec![1; 64]);
                        lines += &dotted.0;
                        headed += &dotted.1;
                    }
                    0 if prefix.is_empty() => {
                        let header = if header.is_empty() { key.clone() } else { format!("{header}.{key}") };
                        let (own, below) = spell(inner, &header, "", how);
                        headed += &format!("[ {header} ]\n{own}{below}");
                    }
                    _ => lines += &format!("{prefix}{key} = {}\n", braces(inner)),
                },
            }
        }
        (lines, headed)
    }

    fn braces(table: &BTreeMap<String, Tree>) -> String {
        let pair = |(key, tree): (&String, &Tree)| match tree {
            Tree::Leaf(text) => format!("{key}={text}"),
            Tree::Table(inner) => format!("{key} = {}", braces(inner)),
        };
        format!("{{ {} }}", table.iter().map(pair).collect::<Vec<_>>().join(", "))
    }

    /// An empty table can't be spelled with dots.
    fn without_empty(tree: Tree) -> Option<Tree> {
        match tree {
            Tree::Table(table) => {
                let table: BTreeMap<_, _> =
                    table.into_iter().filter_map(|(key, tree)| Some((key, without_empty(tree)?))).collect();
                (!table.is_empty()).then_some(Tree::Table(table))
            }
            leaf => Some(leaf),
        }
    }

    fn merged(fragment: &str) -> Result<String, String> {
        let mut document: DocumentMut = BASE.parse().unwrap();
        let fragment: DocumentMut = fragment.parse().unwrap_or_else(|error| panic!("{error}\n{fragment}"));
        merge(document.as_table_mut(), fragment.as_table())?;
        let text = document.to_string();
        assert_eq!(text.parse::<DocumentMut>().unwrap().to_string(), text);
        Ok(text)
    }

    proptest! {
        #[test]
        fn s11_any_spelling_of_a_fragment_gives_the_same_document(
            tree in trees(),
            how in prop::collection::vec(any::<u8>(), 32),
        ) {
            let Some(Tree::Table(table)) = without_empty(tree) else { return Ok(()) };
            let one = table.iter().map(|(key, tree)| match tree {
                Tree::Leaf(text) => format!("{key} = {text}\n"),
                Tree::Table(inner) => format!("{key} = {}\n", braces(inner)),
            }).collect::<String>();
            let (lines, headed) = spell(&table, "", "", &mut how.clone());
            let other = format!("{lines}{headed}");
            match (merged(&one), merged(&other)) {
                (Ok(one), Ok(other)) => prop_assert_eq!(meaning(&one), meaning(&other)),
                // Which key is complained of first depends on the order.
                (one, other) => prop_assert_eq!(one.is_err(), other.is_err(), "{:?}\n{:?}", one, other),
            }
        }
    }

    /// Every value with its path.
    fn meaning(text: &str) -> BTreeMap<String, String> {
        fn add(item: &Item, path: &str, all: &mut BTreeMap<String, String>) {
            match item.as_table_like() {
                Some(table) => table.iter().for_each(|(key, item)| add(item, &format!("{path}.{key}"), all)),
                None => drop(all.insert(path.to_owned(), plain(item.as_value().unwrap()).to_string())),
            }
        }
        let mut all = BTreeMap::new();
        add(text.parse::<DocumentMut>().unwrap().as_item(), "", &mut all);
        all
    }

    #[test]
    fn s11_a_fragment_adds_to_the_tables_that_it_names() {
        for fragment in [
            "plugins = { \"a.b\" = { c = { z = 2 } } }",
            "plugins.\"a.b\".c.z = 2",
            "plugins.'a.b' = { c.z = 2 }",
            "[plugins]\n\"a.b\".c = {z = 2}",
            "[plugins.\"a.b\"]\nc.z = 2",
            "[plugins.\"a.b\".c]\nz = 2",
        ] {
            let text = merged(fragment).unwrap();
            assert!(
                text.contains("x = 1") && text.contains("y = ['s']") && text.contains("z = 2\n"),
                "{text}"
            );
        }
        let text = merged("[plugins.d.e]\nf = 2\n[plugins.d.e.g]\ni = 3").unwrap();
        assert!(
            text.contains("[plugins.d.e]\nf = 2\n") && text.contains("h = 's'\n") && text.contains("i = 3\n"),
            "{text}"
        );
        let text = merged("# why\n[plugins.n]\n# because\nm = 'a' # so\n").unwrap();
        assert!(text.contains("# why\n[plugins.n]\n# because\nm = 'a' # so\n"), "{text}");
    }

    #[test]
    fn s11_what_is_new_in_toml_1_1_is_written_as_1_0_has_it() {
        let text = merged("n = {\n\"a\\x41\" = \"\\e\",\n}\nm = [\"\\e\"]\nl = \"\\x41\"").unwrap();
        let new = "n = { aA = \"\\u001B\" }\nm = [\"\\u001B\"]\nl = \"A\"\n";
        assert!(text.contains(new), "{text}");
    }

    /// go-toml 1 takes no quote before the three at the end.
    #[test]
    fn a_string_of_several_lines_is_written_in_one() {
        let text = merged("n = '''a\"b''''\nm = [\"\"\"\nb\"\"\"\"]\nl = { k = \"\"\"'\"\"\"\" }").unwrap();
        let new = "n = \"a\\\"b'\"\nm = ['b\"']\nl = { k = \"'\\\"\" }\n";
        assert!(text.contains(new), "{text}");
    }

    #[test]
    fn s11_a_value_of_another_type_is_refused_by_its_name() {
        for (fragment, says) in [
            ("plugins = 1", "`plugins` is a number, and a table is needed there"),
            ("plugins = []", "`plugins` is an array"),
            ("[[plugins]]\nx = 1", "`plugins` is an array"),
            ("[plugins]\n\"a.b\" = false", "`plugins.\"a.b\"` is true or false"),
            ("plugins.\"a.b\".x.z = 1", "`plugins.\"a.b\".x` is a table, and a number is needed there"),
            ("plugins.\"a.b\".c.y = 's'", "`plugins.\"a.b\".c.y` is a string, and an array is needed there"),
            ("version = '3'", "`version` is a string"),
            ("plugins.\"a.b\".X = 2", "`plugins.\"a.b\".X` differs from `x` in case only"),
            ("Plugins = {}", "`Plugins` differs from `plugins` in case only"),
        ] {
            assert!(merged(fragment).unwrap_err().contains(says), "{fragment}: {:?}", merged(fragment));
        }
    }
}
