//! The running system: its service, its kernel, its CRI. Asked, and told; judged elsewhere.

pub mod cri;
pub mod running_kernel;
pub mod service;
