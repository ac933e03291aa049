//! `httplines-bench filter`.

use std::process::ExitCode;

/// Nanoseconds of the kernel programs for a packet, by path
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it; an error is a sentence for the user.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("it is not there yet")
}
