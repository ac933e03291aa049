//! `httplines-bench replay`.

use std::process::ExitCode;

/// A capture in memory through the whole engine, as fast as it goes
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it; an error is a sentence for the user.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("it is not there yet")
}
