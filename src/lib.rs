//! nodebake makes a Linux root filesystem a Kubernetes-ready container node.
//!
//! The job is to make a known list of paths in a root be exactly what the spec says. Every command
//! is the same pipeline, cut at another place:
//!
//! ```text
//! nodebake.yaml ─load─▶ Spec ─resolve(catalogue, lock, arch)─▶ [Artifact] ─plan─▶ Plan ─apply─▶ Receipt ─verify─▶ [Finding]
//!                                              │                                  ▲
//!                                              └─fetch─▶ verified bytes ──────────┘
//! ```
//!
//! A folder imports only from folders that stand below it; folders on one line don't import each other. A file
//! beside the folders is the ground and imports only the ground. `tests/hermetic/layers.rs` holds this.
//!
//! ```text
//! cli                             one file for each command: arguments in, results out
//! bake                            what is baked: many roots on their way through the pipeline
//! commit    verify    trust       changes one root safely · checks it · says who vouches for a digest
//! archive   packages              reads archives · asks apt and dnf
//! live      precedence            asks the running system · finds which other files of a root decide after ours
//! process   source    state       starts processes · fetches bytes · keeps the receipt in the root
//! root                            the only code that touches a target
//! ------------------------------- below this line nothing opens a file, a socket or a process
//! plan                            every path of the image and what belongs there
//! artifact  runtime               the files to install, pinned · what is known of each container runtime
//! spec                            what the user wrote
//! catalog                         the components and their digests, as data
//! format                          other people's formats: TOML, YAML, ELF, OpenPGP, systemd, SELinux
//! (files)                         error, path, digest, node, progress and the like
//! ```
//!
//! Where to begin: `cli/apply.rs` calls `bake/mod.rs`, which reads like a table of contents of a bake.

#![warn(unreachable_pub, clippy::missing_docs_in_private_items)]

mod arch;
mod archive;
mod artifact;
mod bake;
mod catalog;
mod checked;
pub mod cli;
mod commit;
mod digest;
pub mod error;
mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod interrupt;
mod live;
mod node;
mod packages;
mod parallel;
mod path;
mod plan;
mod precedence;
mod printable;
mod process;
mod progress;
mod redacted;
mod reserved;
mod root;
mod runtime;
mod secret;
mod source;
mod spec;
mod state;
mod trust;
mod verify;
