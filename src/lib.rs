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
//! In this order:
//!
//! - [`cli`] arguments in, results out; [`load`] what the user gave; [`report`] and [`progress`] are how results and progress look
//! - [`spec`] what the user wrote, read by [`yaml`] into the checked [`values`]
//! - [`catalog`] the known components, [`lock`] what is pinned, [`arch`] architectures
//! - [`resolve`] the artifacts with their digests, [`selection`] those of several architectures; [`pin`] writes the lock,
//!   [`pack`] a bundle
//! - [`source`] where they come from, also a [`bundle`]; [`fetch`] verified bytes, an [`extent`] of a file;
//!   [`download`] the network
//! - [`package`] the package that the spec asks for, [`distribution`] whose package manager the root has,
//!   [`repository`] where it comes from, its key known by [`openpgp`]; [`packages`] brings a [`supply`]:
//!   [`conflict`] refuses two containerds, [`claim`] says beforehand what is done, [`retire`] takes it away;
//!   a [`session`] asks [`apt`] or [`dnf`] for a [`transaction`] and a [`database`], and a [`complaint`] says
//!   what went wrong, in an [`enclosure`] of which [`enclosed`] is the inside
//! - [`archive`] reads an archive by a strict policy, [`spool`] decodes each artifact once into [`sink`]s,
//!   [`elf`] says what an executable is
//! - [`plan`] every path and what belongs there (a [`want`]): [`containerd`], [`registry`], [`systemd`], [`kernel`]
//! - [`root`] the only module that touches a target, through [`inside`] and one [`place`] at a time, with
//!   its [`metadata`]; [`labelling`] gives it what [`labels`] says, the root's SELinux policy by its
//!   [`file_contexts`]; [`target`] what a root says of itself, [`caution`] what the user should know of it
//! - [`receipt`] what is owned, [`state`] where that is kept
//! - [`diff`] plan against root, [`commit`] carries it out, [`apply`] does both for many roots, each a [`bake`];
//!   [`remove`] is the empty plan
//! - [`verify`] receipt against root, then the [`checks`] of its files and the [`live`] ones of the
//!   running system; a check comes to a [`finding`], [`settings`] are compared, [`pod`] and [`pull`] go
//!   through the [`cri`]; [`goss`] lets somebody else judge
//! - [`start`] brings the running system up to what was baked, with [`service`] and [`running_kernel`]
//! - [`run`] starts every process; [`staged`] asks a staged containerd
//!
//! [`error`] gives every failure its exit code; [`path`] and [`digest`] are the two scalars that
//! everything speaks in; [`parallel`] and [`interrupt`] are how it runs.

pub mod apply;
pub mod apt;
pub mod arch;
pub mod archive;
pub mod bake;
pub mod bundle;
pub mod catalog;
pub mod caution;
pub mod checks;
pub mod claim;
pub mod cli;
pub mod commit;
pub mod complaint;
pub mod conflict;
pub mod containerd;
pub mod cri;
pub mod database;
pub mod diff;
pub mod digest;
pub mod distribution;
pub mod dnf;
pub mod download;
pub mod elf;
pub mod enclosed;
pub mod enclosure;
pub mod error;
pub mod extent;
pub mod fetch;
pub mod file_contexts;
pub mod finding;
pub mod goss;
pub mod inside;
pub mod interrupt;
pub mod kernel;
pub mod labelling;
pub mod labels;
pub mod live;
pub mod load;
pub mod lock;
pub mod metadata;
pub mod openpgp;
pub mod pack;
pub mod package;
pub mod packages;
pub mod parallel;
pub mod path;
pub mod pin;
pub mod place;
pub mod plan;
pub mod pod;
pub mod progress;
pub mod pull;
pub mod receipt;
pub mod registry;
pub mod remove;
pub mod report;
pub mod repository;
pub mod resolve;
pub mod retire;
pub mod root;
pub mod run;
pub mod running_kernel;
pub mod selection;
pub mod service;
pub mod session;
pub mod settings;
pub mod sink;
pub mod source;
pub mod spec;
pub mod spool;
pub mod staged;
pub mod start;
pub mod state;
pub mod supply;
pub mod systemd;
pub mod target;
pub mod transaction;
pub mod values;
pub mod verify;
pub mod want;
pub mod yaml;
