//! The kit of this suite: a laboratory with a root to bake, artifacts to bake it from and a sentinel
//! directory that nothing may touch; executables, archives and gzip streams, honest and hostile.
//!
//! It asserts nothing about how nodebake works, only what a user can see from outside.

#[path = "../../kit/certificates.rs"]
pub mod certificates;
mod costs;
mod elf;
mod files;
mod gzip;
#[path = "../../kit/http.rs"]
pub mod http;
#[path = "../../kit/lab.rs"]
pub mod lab;
mod laboratory;
#[path = "../../kit/readers.rs"]
pub mod readers;
mod run;
pub mod story;
#[path = "../../kit/tally.rs"]
pub mod tally;
mod tar;
#[path = "../../kit/tree.rs"]
mod tree;
pub mod upstream;
#[path = "../../kit/wait.rs"]
mod wait;

pub use elf::{Machine, elf};
pub use files::{acl, copy, executable, link, make_dir, mode, own, rust_files, text, write};
pub use gzip::{
    gzip, gzip_bad_crc, gzip_bad_length, gzip_bomb, gzip_members, gzip_no_trailer, gzip_trailing_junk,
};
pub use laboratory::{CNI, CONTAINERD, Component, Lab, RUNC, cni_members, containerd_members};
pub use run::{Run, StopOnDrop, run, skip, strace, strace_to, strace_works, words_of, works};
pub use tar::{Header, Member, Tar, tar};
pub use tree::{assert_same, paths, sha256, times, tree};
pub use wait::wait_until;

/// The program under test.
pub const NODEBAKE: &str = env!("CARGO_BIN_EXE_nodebake");
