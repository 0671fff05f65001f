//! Needs root and nothing but the build: small roots, archives and servers that the tests make themselves.
//!
//! A test that is `#[ignore]`d needs more, and says what. One test:
//! `cargo test --test hermetic roots::links::r1_`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    reason = "tests set up their own host"
)]

mod kit;

mod archives;
mod attacks;
mod belief;
mod bundle;
mod cases;
mod config;
mod faults;
mod fetch;
mod found;
mod goss;
mod grammar;
mod instructions;
mod labels;
mod layers;
mod limits;
mod live;
mod matrix;
mod packages;
mod packer;
mod power;
mod precedence;
mod refresh;
mod roots;
mod secrets;
mod silence;
mod spec;
mod supply_chain;
