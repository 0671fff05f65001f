//! The running system: its service, its kernel, its CRI. Asked, and told; judged elsewhere.

pub(crate) mod cri;
pub(crate) mod running_kernel;
pub(crate) mod service;
