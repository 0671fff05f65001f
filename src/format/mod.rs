//! Other people's formats: text or bytes in, values out.
//!
//! This module must not open a path or know what is baked. The input comes from archives, roots and servers that
//! nobody vouches for, so what reads whole files from them has a fuzz target.

pub(crate) mod checksums;
pub(crate) mod elf;
pub(crate) mod file_contexts;
pub(crate) mod fstab;
pub(crate) mod go_duration;
pub(crate) mod go_url;
pub(crate) mod image_name;
mod lines;
pub(crate) mod modprobe;
pub(crate) mod openpgp;
pub(crate) mod package_version;
pub(crate) mod pem;
pub(crate) mod sysctl;
pub(crate) mod systemd;
pub(crate) mod toml;
pub(crate) mod unit;
pub(crate) mod yaml;
