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

#[path = "bake/mod.rs"]
pub mod apply;
#[path = "packages/manager/apt.rs"]
pub mod apt;
pub mod arch;
#[path = "archive/mod.rs"]
pub mod archive;
#[path = "bake/root.rs"]
pub mod bake;
#[path = "source/bundle.rs"]
pub mod bundle;
#[path = "catalog/mod.rs"]
pub mod catalog;
#[path = "bake/warnings.rs"]
pub mod caution;
#[path = "verify/config.rs"]
pub mod checks;
#[path = "packages/recovery.rs"]
pub mod claim;
#[path = "cli/args.rs"]
pub mod cli;
#[path = "commit/mod.rs"]
pub mod commit;
#[path = "packages/manager/failure.rs"]
pub mod complaint;
#[path = "packages/conflicts.rs"]
pub mod conflict;
#[path = "runtime/containerd/config.rs"]
pub mod containerd;
#[path = "live/cri.rs"]
pub mod cri;
#[path = "packages/manager/database.rs"]
pub mod database;
#[path = "commit/diff.rs"]
pub mod diff;
pub mod digest;
#[path = "packages/manager/distribution.rs"]
pub mod distribution;
#[path = "packages/manager/dnf.rs"]
pub mod dnf;
#[path = "source/download.rs"]
pub mod download;
#[path = "format/elf.rs"]
pub mod elf;
#[path = "process/init.rs"]
pub mod enclosed;
#[path = "process/chroot.rs"]
pub mod enclosure;
pub mod error;
#[path = "source/section.rs"]
pub mod extent;
#[path = "source/fetch.rs"]
pub mod fetch;
#[path = "format/file_contexts.rs"]
pub mod file_contexts;
#[path = "verify/finding.rs"]
pub mod finding;
#[path = "verify/goss.rs"]
pub mod goss;
#[path = "root/resolver.rs"]
pub mod inside;
pub mod interrupt;
#[path = "plan/kernel.rs"]
pub mod kernel;
#[path = "root/label.rs"]
pub mod labelling;
#[path = "root/selinux.rs"]
pub mod labels;
#[path = "verify/live.rs"]
pub mod live;
#[path = "cli/input.rs"]
pub mod load;
#[path = "artifact/lockfile.rs"]
pub mod lock;
#[path = "root/metadata.rs"]
pub mod metadata;
#[path = "format/openpgp.rs"]
pub mod openpgp;
#[path = "source/pack.rs"]
pub mod pack;
#[path = "spec/package.rs"]
pub mod package;
#[path = "packages/install.rs"]
pub mod packages;
pub mod parallel;
pub mod path;
#[path = "trust/mod.rs"]
pub mod pin;
#[path = "root/at.rs"]
pub mod place;
#[path = "plan/mod.rs"]
pub mod plan;
#[path = "verify/pod.rs"]
pub mod pod;
pub mod progress;
#[path = "verify/pull.rs"]
pub mod pull;
#[path = "state/receipt.rs"]
pub mod receipt;
#[path = "runtime/containerd/hosts.rs"]
pub mod registry;
#[path = "bake/remove.rs"]
pub mod remove;
#[path = "cli/report.rs"]
pub mod report;
#[path = "packages/manager/repository.rs"]
pub mod repository;
#[path = "artifact/resolve.rs"]
pub mod resolve;
#[path = "packages/removal.rs"]
pub mod retire;
#[path = "root/mod.rs"]
pub mod root;
#[path = "process/mod.rs"]
pub mod run;
#[path = "live/running_kernel.rs"]
pub mod running_kernel;
#[path = "artifact/matrix.rs"]
pub mod selection;
#[path = "live/service.rs"]
pub mod service;
#[path = "packages/manager/mod.rs"]
pub mod session;
#[path = "runtime/containerd/settings.rs"]
pub mod settings;
#[path = "archive/writer.rs"]
pub mod sink;
#[path = "source/mod.rs"]
pub mod source;
#[path = "spec/mod.rs"]
pub mod spec;
#[path = "archive/decode.rs"]
pub mod spool;
#[path = "process/staged.rs"]
pub mod staged;
#[path = "bake/start.rs"]
pub mod start;
#[path = "state/mod.rs"]
pub mod state;
#[path = "plan/brought.rs"]
pub mod supply;
#[path = "runtime/containerd/unit.rs"]
pub mod systemd;
#[path = "root/target.rs"]
pub mod target;
#[path = "packages/manager/options.rs"]
pub mod transaction;
#[path = "spec/scalar.rs"]
pub mod values;
#[path = "verify/mod.rs"]
pub mod verify;
#[path = "node.rs"]
pub mod want;
#[path = "format/yaml.rs"]
pub mod yaml;
