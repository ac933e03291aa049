//! `httplines-bench`: what can this machine capture, and where do packets, exchanges and time go?
//!
//! - [`veth`]: highest rates without loss, delays, costs, compared with other programs.
//! - [`compare`]: compares two runs of it.
//! - [`impact`]: what a capture costs the user's own load.
//! - [`trial`]: traffic that is known to the exchange, on a wire of its own, into a receiver.
//! - [`soak`]: a capture that nobody watches, for as long as you like.
//! - [`replay`]: a capture in memory through the whole engine, as fast as possible.
//! - [`filter`]: nanoseconds of the kernel programs for a packet.

#![deny(unsafe_code)]

#[path = "../allocations.rs"]
mod allocations;
mod arrivals;
mod campaign;
mod chart;
mod check;
#[path = "../clock.rs"]
mod clock;
mod compare;
mod delay;
mod filter;
#[path = "../fixtures.rs"]
mod fixtures;
mod frame;
mod generator;
mod impact;
mod machine;
mod measured;
mod namespace;
mod null;
mod page;
mod peers;
mod receiver;
mod recording;
mod replay;
mod report;
mod results;
mod round;
mod search;
mod soak;
mod spread;
mod stopwatch;
#[allow(unsafe_code)]
mod sys;
#[cfg(test)]
#[path = "../../tests/support"]
mod support {
    pub mod skip;

    pub(crate) use skip::skip;
}
mod table;
mod totals;
mod traffic;
mod trial;
mod veth;
mod workload;

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
    Veth(veth::Args),
    Compare(compare::Args),
    Impact(impact::Args),
    Trial(trial::Args),
    Soak(soak::Args),
    Replay(replay::Args),
    Filter(filter::Args),
    #[command(hide = true)]
    NullReader(null::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Veth(args) => veth::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Impact(args) => impact::run(&args),
        Command::Trial(args) => trial::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::NullReader(args) => null::run(&args),
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
