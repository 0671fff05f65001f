//! The kit of this suite: roots of the lab, and its package repositories over HTTP.

#[path = "../../kit/command.rs"]
pub mod command;
#[path = "../../kit/guest.rs"]
pub mod guest;
#[path = "../../kit/http.rs"]
#[expect(dead_code, reason = "the hermetic suite uses all of it, so that what nobody uses is seen there")]
pub mod http;
#[path = "../../kit/lab.rs"]
pub mod lab;
#[path = "../../kit/node.rs"]
pub mod node;
#[path = "../../kit/ready.rs"]
pub mod ready;
pub mod repository;
pub mod seen;
#[path = "../../kit/tally.rs"]
pub mod tally;
#[path = "../../kit/tree.rs"]
mod tree;
#[path = "../../kit/wait.rs"]
mod wait;

pub use tree::{assert_same, paths, sha256, times, tree};
pub use wait::wait_until;

/// The program under test.
pub const NODEBAKE: &str = env!("CARGO_BIN_EXE_nodebake");
