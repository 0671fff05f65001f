//! Real parts: containerd, runc and CNI plugins of several generations in real Debian roots, booted in
//! containers and in virtual machines, with real cloud-init, Packer and goss.
//!
//! Needs root, `tests/lab/prepare` and `make dist`; every test is `#[ignore]`d therefore. One of them:
//! `cargo test --test boot -- --include-ignored real::c14`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests set up their own host"
)]

mod kit;

mod cloud_init;
mod goss;
mod keys;
mod mirrors;
mod nspawn;
mod packer;
mod qemu;
mod real;
mod refusals;
