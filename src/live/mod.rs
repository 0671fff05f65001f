//! Talks to the running system: the containerd service, the kernel and the CRI.
//!
//! This folder must not judge what it finds: `verify` does.

pub(crate) mod cri;
pub(crate) mod running_kernel;
pub(crate) mod service;
