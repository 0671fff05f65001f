//! The reader of the spec and the lock: YAML in, values or a message with line and column out.
//!
//! This module must not accept two equal keys in a map, of which serde_yaml alone silently keeps one, and must not
//! show values that may be secrets.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::{Failure, Kind};
use crate::printable::printable;
use crate::redacted;
use crate::secret;

/// Size limit of a document, checked before it is parsed; a spec of 10,000 mirrors is shorter.
const LONGEST: usize = 1 << 20;

/// Limit of the characters that begin or end a key or a value. In memory a short value has two hundred bytes
/// (measured with yaml_serde 0.10); a spec of 10,000 mirrors is smaller.
const MOST_PARTS: usize = 150_000;

/// Limit of flow nesting: the parser's time grows with the square of the depth.
const DEEPEST: usize = 64;

/// Parses one document; an empty one gives `T`'s default.
///
/// Failures are [`Kind::Invalid`] and read `NAME:LINE:COLUMN: what`.
pub(crate) fn parse<T: DeserializeOwned + Default>(text: &str, name: &str) -> Result<T, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > LONGEST {
        return Err(invalid(format!("{name}: longer than {LONGEST} bytes")));
    }
    let parts = text.bytes().filter(|byte| matches!(byte, b',' | b':' | b'\n' | b'[' | b'{')).count();
    if parts > MOST_PARTS {
        let message = format!("{name}: {parts} keys and values; at most {MOST_PARTS} are supported");
        return Err(invalid(message).help("leave out what has its default value"));
    }
    if let Some(line) = too_deep(text) {
        return Err(invalid(format!("{name}:{line}:1: nested deeper than {DEEPEST} levels")));
    }
    let unique = AllKeysUnique.deserialize(serde_yaml::Deserializer::from_str(text));
    match unique.and_then(|()| serde_yaml::from_str::<Option<T>>(text)) {
        Ok(value) => Ok(value.unwrap_or_default()),
        Err(error) if is_empty(text) => {
            drop(error);
            Ok(T::default())
        }
        Err(error) => Err(explain(&error, text, name)),
    }
}

fn is_empty(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// Returns the first line where brackets nest too deep. Brackets inside quotes count: no spec has so many.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, line) in text.lines().enumerate() {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let indent = line.len() - line.trim_start_matches([' ', '-', '?']).len();
        if depth > DEEPEST || indent > 8 * DEEPEST {
            return Some(index + 1);
        }
    }
    None
}

/// Makes a failure of the parser's error, with its line and column.
fn explain(error: &serde_yaml::Error, text: &str, name: &str) -> Failure {
    let full = error.to_string();
    let position = error.location().map(|at| (at.line(), at.column())).or_else(|| second_document(text));
    let (message, place) = match position {
        Some((line, column)) => {
            (full.replace(&format!(" at line {line} column {column}"), ""), format!("{name}:{line}:{column}"))
        }
        None => (full.clone(), name.to_owned()),
    };
    let failure = invalid(format!("{place}: {}", printable(&plain(message.trim()))));
    let line = error.location().and_then(|at| text.lines().nth(at.line().saturating_sub(1)));
    if line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t')) {
        return failure.help("indent with spaces: YAML allows no tab there");
    }
    match remedy(&full) {
        Some(help) => failure.help(help),
        None => failure,
    }
}

/// Rewords the parser's message: without names of Rust types and without values that may be secrets.
fn plain(message: &str) -> String {
    let mut text = message.to_owned();
    for wrong in ["invalid type: ", "invalid value: "] {
        let Some((before, after)) = text.split_once(wrong) else { continue };
        let (value, rest) = after.rsplit_once(", expected").unwrap_or((after, ""));
        let is_url = value.contains('@') || value.contains("://");
        if let Some((kind, _)) = value.split_once([' ', '`']).filter(|_| is_url || secret::is_in_key(before))
        {
            text = format!("{before}{wrong}{kind}, expected{rest}");
        }
    }
    text = redacted::without_any_credentials(&text);
    if text.contains("more than one document") {
        text = "a second document begins; expected one".to_owned();
    }
    if let Some((before, after)) = text.split_once("expected struct ") {
        let rest = after.trim_start_matches(char::is_alphanumeric);
        text = format!("{before}expected a map of keys{rest}");
    }
    text
}

/// Finds the line and column at which a second document begins: the parser's error has none.
fn second_document(text: &str) -> Option<(usize, usize)> {
    let mut starts = text.lines().enumerate().filter(|(index, line)| *index > 0 && line.starts_with("---"));
    starts.find_map(|(index, _)| {
        (!is_empty(&text.lines().take(index).collect::<Vec<_>>().join("\n"))).then_some((index + 1, 1))
    })
}

/// Suggests the key or value to write instead, from the list in serde's message.
fn remedy(message: &str) -> Option<String> {
    let (_, rest) =
        message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let mut words = rest.split('`').step_by(2);
    let wrong = words.next()?;
    let known: Vec<&str> = words.filter(|word| !word.starts_with(" at line")).collect();
    nearest(wrong, known.into_iter()).map(|right| format!("did you mean `{right}`?"))
}

/// Finds the spelling among `known` that is most likely meant by `wrong`.
pub(crate) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|right| (strsim::damerau_levenshtein(wrong, right), right));
    let (distance, right) = scored.min()?;
    (distance <= 1 + wrong.len() / 3).then_some(right)
}

fn invalid(message: String) -> Failure {
    Failure::new(Kind::Invalid, message)
}

/// Visitor of a whole document that fails at the second of two equal keys.
struct AllKeysUnique;

impl<'de> DeserializeSeed<'de> for AllKeysUnique {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AllKeysUnique {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while map.next_key_seed(NewKey(&mut seen))?.is_some() {
            map.next_value_seed(AllKeysUnique)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(AllKeysUnique)?.is_some() {}
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Visitor of a key that fails if the map has had it before.
struct NewKey<'seen>(&'seen mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a key that is a string")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<(), E> {
        match self.0.insert(key.to_owned()) {
            true => Ok(()),
            false => Err(E::custom(format_args!("duplicate key `{key}`"))),
        }
    }
}
