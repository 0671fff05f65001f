//! Runs a root's package manager, apt or dnf, in a sandbox, and reads its database.
//!
//! This module must not decide what is installed or removed: the files above this folder do.

pub(crate) mod apt;
pub(crate) mod database;
mod dependents;
pub(crate) mod distribution;
pub(crate) mod dnf;
pub(crate) mod dpkg;
mod failure;
pub(crate) mod options;
mod releasever;
pub(crate) mod repository;
pub(crate) mod rpm;
mod session;
mod targets;
pub(crate) mod transaction;

pub(crate) use session::Session;
