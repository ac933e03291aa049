//! `httplines-bench`: what can this machine capture, and where do packets, exchanges and time go?
//!
//! - [`replay`]: a capture in memory through the whole engine, as fast as it goes.
//! - [`filter`]: nanoseconds of the kernel programs for a packet.

#[path = "../allocations.rs"]
mod allocations;
#[path = "../canned.rs"]
mod canned;
mod filter;
#[allow(dead_code)]
mod namespace;
mod replay;
mod spread;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures httplines on this machine
#[derive(Debug, Parser)]
#[command(name = "httplines-bench", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(replay::Args),
    Filter(filter::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Replay(args) => replay::run(&args),
        Command::Filter(args) => filter::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("httplines-bench: {error:#}");
            ExitCode::from(1)
        }
    }
}
