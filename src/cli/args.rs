//! The command line as clap parses it; the comments are its help.
//!
//! This module must not run anything.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::input::Input;
use crate::format::image_name;

/// Make a Linux root filesystem a Kubernetes-ready container node
#[derive(Debug, Parser)]
#[command(name = "nodebake", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Show errors and warnings only
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Show more of what happens
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(super) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what `apply` would change
    Plan {
        #[command(flatten)]
        bake: BakeArguments,
        /// Exit with 10 if anything would change
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Bake one root filesystem, or several from one download
    Apply {
        #[command(flatten)]
        bake: BakeArguments,
        /// Load modules, set kernel parameters, (re)start containerd and wait until its CRI answers; only
        /// where DIR is the running system's /
        #[arg(long)]
        start: bool,
    },
    /// Compare a root filesystem with its receipt and check that the node will come up
    Verify {
        /// Root filesystem
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        #[command(flatten)]
        ask: VerifyArguments,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Take away what nodebake owns, and put back what was there before
    Remove(RemoveArguments),
    /// Pin URL, size and SHA-256 of every artifact in nodebake.lock
    Lock {
        #[command(flatten)]
        input: Input,
        /// Architecture to pin, several times for more; default: the spec's, else amd64 and arm64 as far as
        /// the source has them
        #[arg(long, value_name = "ARCH")]
        arch: Vec<String>,
    },
    /// Make or check one file with every artifact that the spec asks for, to be given as a source
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Print a goss file for what was baked into a root, or for what the spec would bake
    Goss {
        /// Root filesystem; without it the spec's plan is described
        #[arg(long, value_name = "DIR", conflicts_with_all = ["spec", "defaults", "source"])]
        root: Option<PathBuf>,
        #[command(flatten)]
        input: Input,
        /// Also what only holds once the machine is up: service, CRI, kernel parameters
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        build: BuildArguments,
    },
    /// Print the JSON Schema of nodebake.yaml
    Schema,
    /// Print a completion script
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// Directory for nodebake.1, nodebake-apply.1, …
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Run programs of a root in a sandbox; nodebake calls itself with it
    #[command(hide = true)]
    SandboxInit {
        #[arg(long, hide = true)]
        second: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Fetch and verify what is pinned, and write it to one file
    Create {
        #[command(flatten)]
        input: Input,
        /// The bundle
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Architecture to take in, several times for more; default: the spec's, else those in nodebake.lock,
        /// else amd64 and arm64 as far as the source has them
        #[arg(long, value_name = "ARCH")]
        arch: Vec<String>,
    },
    /// Compare everything in a bundle with its digest, and list it
    Verify {
        /// The bundle
        #[arg(value_name = "FILE")]
        bundle: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BakeArguments {
    /// Root filesystem; several times for several roots
    #[arg(long, value_name = "DIR", required = true)]
    pub(super) root: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    pub(super) execute: Execute,
    #[command(flatten)]
    pub(super) foreign: Foreign,
    #[command(flatten)]
    pub(super) wait: LockTimeout,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) build: BuildArguments,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct BuildArguments {
    /// Which build of containerd: auto looks at the root's glibc
    #[arg(long = "static", value_name = "WHEN", value_enum, default_value_t = Static::Auto, num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    pub(super) static_build: Static,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    /// Root filesystem
    #[arg(long, value_name = "DIR")]
    pub(super) root: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) execute: Execute,
    #[command(flatten)]
    pub(super) wait: LockTimeout,
}

/// What `verify` compares beside the receipt, and what it asks of the running system.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Compare with what this spec and the lock beside it want, whatever the root's own receipt says
    #[arg(long, value_name = "FILE")]
    pub(super) spec: Option<PathBuf>,
    #[command(flatten)]
    pub(super) build: BuildArguments,
    /// Also ask systemd, the kernel and the CRI of the running system
    #[arg(long)]
    pub(super) live: bool,
    /// Run one pod through the CRI and take it away again; implies --live
    #[arg(long)]
    pub(super) pod: bool,
    #[command(flatten)]
    pub(super) execute: Execute,
    #[command(flatten)]
    pub(super) foreign: Foreign,
    /// Pull an image through the CRI and say which host served it; implies --live
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    pub(super) pull: Option<String>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Execute {
    /// Let programs of the root run, in a sandbox: containerd, to print its configuration, and the package
    /// manager, for packages that an earlier bake has installed
    #[arg(long)]
    pub(super) execute: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Foreign {
    /// Let the root's own executables be of another architecture than what is baked
    #[arg(long)]
    pub(super) foreign: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LockTimeout {
    /// Wait so long for a root that another run has locked
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) lock_timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Static {
    Auto,
    Always,
    Never,
}

/// Parses the name of an image, which containerd would refuse in other words.
fn image(text: &str) -> Result<String, String> {
    image_name::parse(text).map(|_| text.to_owned()).map_err(|why| format!("not an image's name: {why}"))
}
