//! Other people's formats: text or bytes in, values out.
//!
//! What is parsed here comes from archives, roots and servers that nobody vouches for. It must not know what is
//! baked, and opens no path. Each has a fuzz target.

pub mod checksums;
pub mod elf;
pub mod file_contexts;
pub mod openpgp;
pub mod systemd;
pub mod toml;
pub mod yaml;
