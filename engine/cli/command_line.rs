//! The arguments of this process: the options of a run, or a command.

use super::check_config::{self, CheckConfigArgs};
use super::config_file::{self, Refusal};
use super::doctor::{self, DoctorArgs};
use super::report::{self, ReportArgs};
#[cfg(feature = "top")]
use super::top::{self, TopArgs};
use super::{Args, commands};
use clap::Subcommand;
use std::process::ExitCode;

/// What is done in place of a run.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(hide = true)]
    Doctor(DoctorArgs),
    #[command(hide = true)]
    CheckConfig(CheckConfigArgs),
    #[cfg(feature = "top")]
    #[command(hide = true)]
    Top(TopArgs),
    #[command(hide = true)]
    Report(ReportArgs),
}

impl Command {
    /// Does it.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Doctor(args) => doctor::run(args),
            Command::CheckConfig(args) => check_config::run(args),
            #[cfg(feature = "top")]
            Command::Top(args) => top::run(args),
            Command::Report(args) => report::run(args),
        }
    }
}

impl Args {
    /// The arguments of this process, and of the file that --config names.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn from_command_line() -> Result<Args, Refusal> {
        let line: Vec<_> = std::env::args_os().collect();
        let (args, _) = config_file::parse(&line)?;
        if args.words == ["help"] {
            // If standard output is closed, nobody wants the help.
            let _ = commands::program().print_help();
            std::process::exit(0);
        }
        if args.command.is_none() {
            args.check()?;
        }
        Ok(args)
    }
}
