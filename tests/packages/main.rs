//! containerd from a distribution's package: real apt and dnf in real roots, which install from
//! repositories of the lab over HTTP.
//!
//! Needs root and `tests/lab/prepare`; every test is `#[ignore]`d therefore. One of them:
//! `cargo test --test packages -- --include-ignored removal::`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    reason = "tests set up their own host"
)]

mod kit;

mod faults;
mod hostile;
mod interrupted;
mod keys;
mod live;
mod network;
mod nodes;
mod refused;
mod removal;
mod scripts;
mod switching;
