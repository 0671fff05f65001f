//! The `nodebake` command: see the library for what it does.

use std::process::ExitCode;

use clap::Parser;
use nodebake::cli::{self, Cli};
use nodebake::error::{Kind, kind};
use nodebake::interrupt;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = interrupt::listen().map_err(anyhow::Error::from).and_then(|()| cli::run(cli));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            cli::print_error(&error);
            ExitCode::from(kind(&error).map_or(1, Kind::exit_code))
        }
    }
}
