//! TOML as a document: keys are set and merged in place, so that comments and order stay.
//!
//! This module must not replace text, and must not know any key.

mod merge;
mod newer;

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use crate::error::{Failure, Kind};

pub(crate) use merge::{kind, merge};
pub(crate) use newer::newer;

/// Limit of a document's bytes; containerd's default configuration has 12,000.
pub(crate) const LONGEST: u64 = 1 << 18;

/// Limit of the characters that begin a key, a part of one, or a value; containerd's default configuration has 1,000.
const MOST_PARTS: usize = 10_000;

/// Makes an array of one string.
pub(crate) fn list(only: &str) -> Value {
    Value::Array(Array::from_iter([string(only)]))
}

/// Makes a string that every reader takes: go-toml 1 of containerd 1.x takes no quote before the three at the end of a
/// string of several lines, which `toml_edit` makes of one with quotes of both kinds.
pub(crate) fn string(text: &str) -> Value {
    let value = Value::from(text);
    let written = value.to_string();
    if !has_three_quotes(&written) {
        return value;
    }
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_ascii_control() => format!("\\u{:04X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"").parse().unwrap_or(value)
}

/// Returns whether a value, as it is written, is a string of several lines.
fn has_three_quotes(written: &str) -> bool {
    let written = written.trim_start();
    written.starts_with("\"\"\"") || written.starts_with("'''")
}

/// Parses a document; `what` names it in messages, which do not show the line: it can hold a secret.
pub(crate) fn parse(text: &str, what: &str) -> Result<DocumentMut, Failure> {
    if let Some(why) = excess(text) {
        return Err(Failure::new(Kind::Invalid, format!("{what} {why}")));
    }
    text.parse::<DocumentMut>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let (line, why) = (before.lines().count().max(1), error.message().trim_end().replace('\n', "; "));
        Failure::new(Kind::Invalid, format!("{what} is not TOML: line {line}: {why}"))
    })
}

/// Parses a document of a root; an error says in words that follow its name what is wrong with it.
pub(crate) fn document(text: &str) -> Result<DocumentMut, String> {
    match excess(text) {
        Some(why) => Err(why),
        None => text.parse::<DocumentMut>().map_err(|error| format!("is not TOML: {}", error.message())),
    }
}

/// Tells why a document is larger than any configuration, in words that follow its name. In memory a part of a dotted key needs up to a
/// kilobyte (measured with toml_edit 0.25), and a few documents exist at the same time.
pub(crate) fn excess(text: &str) -> Option<String> {
    if text.len() as u64 > LONGEST {
        return Some(format!("is longer than {LONGEST} bytes"));
    }
    let parts = text.bytes().filter(|byte| matches!(byte, b'.' | b',' | b'=' | b'[' | b'{')).count();
    (parts > MOST_PARTS).then(|| format!("has more than {MOST_PARTS} keys and values"))
}

/// Sets one key; new tables above it that hold only tables get no header of their own.
pub(crate) fn set(document: &mut DocumentMut, path: &[&str], new: Value) -> Result<(), Failure> {
    let Some((key, tables)) = path.split_last() else { return Ok(()) };
    let mut table = document.as_table_mut();
    for name in tables {
        table = table_in(table, name).ok_or_else(|| {
            let message = format!("`{}` is not a table in the base configuration", tables.join("."));
            Failure::new(Kind::Invalid, message)
        })?;
    }
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            // The comments and the indentation of the base stay.
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, value(new))),
    }
    Ok(())
}

/// Returns the table `name` in `table`, which is made if there is none and gets a header of its own if it has been
/// written in braces or with dots; none if it is no table.
fn table_in<'a>(table: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    if table.get(name).is_some_and(Item::is_inline_table)
        && let Some(mut key) = table.key_mut(name)
    {
        key.fmt();
    }
    let item = table.entry(name).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    if item.is_inline_table() {
        *item = Item::Table(std::mem::take(item).into_table().ok()?);
    }
    let table = item.as_table_mut()?;
    table.set_dotted(false);
    Some(table)
}

/// Returns what is at `path` below an item. Readers in Go take a key's name in any case, if there is none in its own.
pub(crate) fn find<'a>(item: &'a Item, path: &[&str]) -> Option<&'a Item> {
    path.iter().try_fold(item, |item, name| {
        let in_any_case = || {
            let mut entries = item.as_table_like()?.iter();
            entries.find_map(|(key, item)| key.eq_ignore_ascii_case(name).then_some(item))
        };
        item.get(name).or_else(in_any_case)
    })
}

/// Adds to `lost` the keys of `written` that `effective` lacks or has with another value.
pub(crate) fn compare(written: &Item, effective: &Item, key: &str, lost: &mut Vec<String>) {
    let Some(table) = written.as_table_like() else {
        let plain = |item: &Item| {
            item.as_value().map(|value| {
                let mut value = value.clone();
                value.decor_mut().clear();
                normal(&value)
            })
        };
        if plain(written) != plain(effective) {
            lost.push(key.to_owned());
        }
        return;
    };
    for (name, item) in table.iter() {
        match effective.get(name) {
            Some(effective) => compare(item, effective, &format!("{key}.{name}"), lost),
            None => lost.push(format!("{key}.{name}")),
        }
    }
}

/// Returns the text of a value without its quoting and spacing.
fn normal(value: &Value) -> String {
    match value {
        Value::String(text) => text.value().clone(),
        Value::Array(array) => array.iter().map(normal).collect::<Vec<_>>().join("\u{1f}"),
        other => other.to_string().trim().to_owned(),
    }
}
