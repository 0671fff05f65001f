//! The command line: reads arguments, runs the command, prints the result. Data goes to stdout, all else to stderr.
//!
//! This module must not know how a root is changed: `bake`, `verify` and `trust` do. Only this folder prints
//! results.

mod apply;
mod args;
mod bundle;
mod docs;
mod expiry;
mod gossfile;
mod input;
mod job;
mod json;
mod lock;
mod output;
mod remove;
mod report;
mod spec;
mod time;
mod verify;

use clap::CommandFactory;

use crate::cli::apply::{apply, plan};
use crate::cli::args::{BundleCommand, Command};
use crate::cli::bundle::{create_bundle, verify_bundle};
use crate::cli::docs::man;
use crate::cli::gossfile::goss_of_spec;
use crate::cli::lock::lock;
use crate::cli::output::print;
use crate::cli::remove::remove;
use crate::cli::verify::verify;
use crate::process::{self, init};
use crate::progress::Progress;
use crate::root::Root;
use crate::spec::Spec;
use crate::verify::goss;

pub use args::Cli;
pub use report::error as print_error;

/// Runs the command and returns the exit code. An error is printed by the caller.
pub fn run(cli: Cli) -> anyhow::Result<u8> {
    process::keep_inherited_descriptors();
    let progress = Progress::new(cli.quiet, cli.verbose);
    match cli.command {
        Command::Plan { bake, detailed_exitcode } => plan(&bake, detailed_exitcode, &progress),
        Command::Apply { bake, start } => apply(&bake, start, &progress),
        Command::Verify { root, ask, json } => verify(&root, ask, json, &progress),
        Command::Remove(arguments) => remove(&arguments, &progress),
        Command::Lock { input, arch } => lock(&input, &arch, &progress),
        Command::Bundle(BundleCommand::Create { input, output, arch }) => {
            create_bundle(&input, &arch, &output, &progress)
        }
        Command::Bundle(BundleCommand::Verify { bundle }) => verify_bundle(&bundle),
        Command::Goss { root, input, live, build } => match root {
            Some(host) => print(&goss::gossfile(&goss::Expected::of_root(&Root::open(&host)?)?, live)?),
            None => goss_of_spec(&input, build, live, &progress),
        },
        Command::Schema => {
            let schema = schemars::schema_for!(Spec);
            print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "nodebake", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man { directory } => man(directory.as_deref()),
        Command::SandboxInit { second: false } => Ok(init::outer()?),
        Command::SandboxInit { second: true } => Ok(init::init()?),
    }
}
