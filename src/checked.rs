//! A string with a rule, checked where serde meets it: an error then points at the scalar.

use std::fmt;

use serde::de::{self, Visitor};

/// Checks a scalar inside the visitor: an error then points at the scalar, not at the map around it.
pub(crate) struct Checked<F>(pub F);

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Checked<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}
