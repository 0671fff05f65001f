//! `nodebake man`: the manual pages, made from the command line's help. They must not have a text of their own.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::args::Cli;
use crate::cli::output::print;
use crate::error::{self, Failure};

/// Prints the manual page, or writes one for each command into `directory`.
pub(super) fn man(directory: Option<&Path>) -> anyhow::Result<u8> {
    match directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&String::from_utf8_lossy(&page))
        }
        Some(directory) => {
            clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
                Failure::filesystem("writing manual pages to", directory.display(), error::errno(&error))
            })?;
            print("")
        }
    }
}
