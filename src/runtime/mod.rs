//! Container runtimes: what nodebake knows of each. Text in, text out.
//!
//! To add a runtime: a folder like `containerd/`, its entry in the catalogue and its key in the spec. It must
//! not read, run or install anything.

pub(crate) mod containerd;
