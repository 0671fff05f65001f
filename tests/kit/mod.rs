//! The part of the kit that `tests/corpus.rs` uses.

#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods, reason = "a part of the kit")]

#[path = "../hermetic/kit/elf.rs"]
mod elf;
pub mod tally;
#[path = "../hermetic/kit/tar.rs"]
mod tar;

pub use tar::{Header, Tar};
