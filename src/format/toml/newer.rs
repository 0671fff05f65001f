//! Finds what TOML 1.1 has added, which containerd's readers do not know.
//!
//! This module must not change a document.

use toml_edit::{Decor, InlineTable, Item, Key, RawString, TableLike, Value};

/// Tells what of a table is not TOML 1.0, in words that follow the name of its file.
pub(crate) fn newer(table: &dyn TableLike) -> Option<&'static str> {
    table.iter().find_map(|(name, item)| {
        let key = table.key(name).filter(|key| has_new_escape(&key.display_repr()));
        match item {
            _ if key.is_some() => Some(ESCAPE),
            Item::Value(value) => of_value(value),
            Item::Table(table) => newer(table),
            Item::ArrayOfTables(tables) => tables.iter().find_map(|table| newer(table)),
            Item::None => None,
        }
    })
}

/// Words for an escape.
const ESCAPE: &str = "has an escape of TOML 1.1, `\\e` or `\\x`";

/// Words for braces.
const BRACES: &str = "has braces with a line break or with a comma before the last";

fn of_value(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(text) => has_new_escape(&text.display_repr()).then_some(ESCAPE),
        Value::Array(array) => array.iter().find_map(of_value),
        Value::InlineTable(table) => has_new_braces(table).then_some(BRACES).or_else(|| newer(table)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => None,
    }
}

/// Returns whether a string or a key, as it is written, has an escape that is new.
fn has_new_escape(written: &str) -> bool {
    let mut parts = written.split('\\').skip(1);
    let mut is_new = false;
    while let Some(part) = parts.next() {
        is_new |= part.starts_with(['e', 'x']);
        // Two backslashes are one that escapes nothing.
        if part.is_empty() {
            parts.next();
        }
    }
    is_new && written.starts_with('"')
}

/// Returns whether braces have a line break between their parts, or a comma at the end.
fn has_new_braces(table: &InlineTable) -> bool {
    let breaks =
        |text: Option<&RawString>| text.and_then(RawString::as_str).is_some_and(|text| text.contains('\n'));
    let in_decor = |decor: &Decor| breaks(decor.prefix()) || breaks(decor.suffix());
    let in_key = |key: &Key| in_decor(key.leaf_decor()) || in_decor(key.dotted_decor());
    table.trailing_comma()
        || breaks(Some(table.trailing()))
        || table.iter().any(|(name, value)| table.key(name).is_some_and(in_key) || in_decor(value.decor()))
}

#[cfg(test)]
mod tests {
    use super::newer;

    #[test]
    fn what_only_toml_1_1_has_is_found() {
        for (text, is_new) in [
            (r#"a = "\x41""#, true),
            (r#"a = ["b", "\e"]"#, true),
            (r#"a = "\\e""#, false),
            (r#"a = "\\\e""#, true),
            (r"a = '\e'", false),
            (r#"a = "\u0041\n""#, false),
            (r#"[b."\x41"]"#, true),
            ("a = {\n b = 1 }", true),
            ("a = { b = 1,\n c = 2 }", true),
            ("a = { b = 1\n}", true),
            ("a = { b = 1, }", true),
            ("a = { b = [\n1,\n] }", false),
            ("a = { b = '''x\n''' }", false),
            ("a = [\n{ b = 1 },\n]", false),
            ("a = { b.c = { d = 1 }, e = 2 }", false),
        ] {
            let document: toml_edit::DocumentMut = text.parse().unwrap();
            assert_eq!(newer(document.as_table()).is_some(), is_new, "{text}");
        }
    }
}
