//! Other people's formats: text or bytes in, values out.
//!
//! What is parsed here comes from archives, roots and servers that nobody vouches for. It must not know what is
//! baked, and opens no path. Each has a fuzz target.

pub(crate) mod checksums;
pub(crate) mod elf;
pub(crate) mod file_contexts;
pub(crate) mod openpgp;
pub(crate) mod systemd;
pub(crate) mod toml;
pub(crate) mod yaml;
