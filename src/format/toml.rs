//! TOML as a document: keys are set and merged in place, so that comments and order stay.
//!
//! This module must not replace text, and must not know any key.

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use crate::error::{Failure, Kind};

/// Makes an array of one string.
pub(crate) fn list(only: &str) -> Value {
    Value::Array(Array::from_iter([only]))
}

/// Parses a document; `what` names it in messages, which do not show the line: it can hold a secret.
pub(crate) fn parse(text: &str, what: &str) -> Result<DocumentMut, Failure> {
    text.parse::<DocumentMut>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let (line, why) = (before.lines().count().max(1), error.message().trim_end().replace('\n', "; "));
        Failure::new(Kind::Invalid, format!("{what} is not TOML: line {line}: {why}"))
    })
}

/// Sets one key; new tables above it that hold only tables get no header of their own.
pub(crate) fn set(document: &mut DocumentMut, path: &[&str], new: Value) -> Result<(), Failure> {
    let Some((key, tables)) = path.split_last() else { return Ok(()) };
    let mut table = document.as_table_mut();
    for name in tables {
        let item = table.entry(name).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        table = item.as_table_mut().ok_or_else(|| {
            Failure::new(
                Kind::Invalid,
                format!("`{}` is not a table in the base configuration", tables.join(".")),
            )
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

/// Merges `fragment` into `table`: tables key by key, everything else is replaced.
pub(crate) fn merge(table: &mut Table, fragment: &Table) {
    for (key, item) in fragment {
        match (table.get_mut(key).and_then(Item::as_table_mut), item.as_table()) {
            (Some(old), Some(new)) => {
                merge(old, new);
                let has_values = old.iter().any(|(_, item)| item.is_value());
                old.set_implicit(!has_values && old.is_implicit());
            }
            _ => drop(table.insert(key, item.clone())),
        }
    }
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
