//! The kit of this suite: roots of the lab, booted, and what was seen in them.

#[path = "../../kit/command.rs"]
pub mod command;
#[path = "../../kit/guest.rs"]
pub mod guest;
#[path = "../../kit/lab.rs"]
pub mod lab;
pub mod machine;
#[path = "../../kit/node.rs"]
pub mod node;
#[path = "../../kit/ready.rs"]
pub mod ready;
pub mod runnable;
#[path = "../../kit/tree.rs"]
mod tree;

pub use tree::{assert_same, sha256, times, tree};

/// The program under test.
pub const NODEBAKE: &str = env!("CARGO_BIN_EXE_nodebake");
