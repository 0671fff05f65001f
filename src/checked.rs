//! A check of a string inside serde's visitor, so that an error points at the scalar.
//!
//! This module must not know any rule: the caller brings the check.

use std::fmt;

use serde::de::{self, Visitor};

/// Visitor that checks a scalar: an error points at the scalar and not at the map around it.
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
