//! `httplines-bench replay`.

use crate::allocations::Allocations;
use crate::fixtures::{self, Fixture, Nowhere, Ran};
use crate::spread::Spread;
use anyhow::{Context, ensure};
use httplines::capture::pcap::open::open_file;
use httplines::config::{Config, Input};
use httplines::ids::IfaceNames;
use httplines::output::{FileSink, Sink};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// A capture in memory through the whole engine, as fast as possible
///
/// Frames are read into memory once. Each run passes all of them through decoding, flows, HTTP and
/// JSON lines, and hands the lines to the writer. An additional first run is for counting
/// allocations and is not timed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The capture: pcap or pcapng
    file: PathBuf,
    /// Numbers of shards to run with, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "N,...")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    shards: Vec<u16>,
    /// Timed runs of each
    #[arg(long, default_value_t = 5, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Append the lines of every run to this file (/dev/null: the writer's system calls and no
    /// disk); without it the writer discards them
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    output: Option<PathBuf>,
    packets: u64,
    /// Of the packets, as captured.
    bytes: u64,
    exchanges: u64,
    runs: u32,
    results: Vec<Row>,
}

/// The results for a number of shards.
#[derive(Debug, Serialize)]
struct Row {
    shards: u16,
    lines: u64,
    packets_per_s: f64,
    bytes_per_s: f64,
    exchanges_per_s: f64,
    /// Wall-clock time.
    ns_per_packet: Spread,
    /// CPU time of all threads together.
    cpu_ns_per_packet: Spread,
    allocations: Allocated,
    /// During the second half of the packets.
    allocations_steady: Allocated,
}

#[derive(Debug, Serialize)]
struct Allocated {
    #[serde(flatten)]
    total: Allocations,
    packets: u64,
    count_per_packet: f64,
    bytes_per_packet: f64,
}

impl Allocated {
    fn new(total: Allocations, packets: u64) -> Allocated {
        Allocated {
            total,
            packets,
            count_per_packet: total.count as f64 / packets as f64,
            bytes_per_packet: total.bytes as f64 / packets as f64,
        }
    }
}

/// The results that every run must have, whatever the number of shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    packets: u64,
    exchanges: u64,
    lines: u64,
}

impl Found {
    fn by(ran: &Ran) -> Found {
        Found {
            packets: ran.totals.shards.pipeline.frames,
            exchanges: ran.totals.exchanges(),
            lines: ran.totals.writer.lines_written,
        }
    }
}

/// Runs it; an error is a sentence for the user.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut config = Config::new(Input::Files(vec![args.file.clone()]));
    let fixture = Arc::new(read(&args.file, config.capture.read_bytes)?);
    ensure!(fixture.frame_count() > 0, "{} holds no packet", args.file.display());
    let mut found = None;
    let mut results = Vec::new();
    for shards in &args.shards {
        config.shard_count = *shards;
        let counted = once(&fixture, &config, args, &mut found)?;
        let timed: anyhow::Result<Vec<Ran>> =
            (0..args.runs).map(|_| once(&fixture, &config, args, &mut found)).collect();
        results.push(row(*shards, &counted, &timed?));
    }
    let report = Report {
        file: args.file.clone(),
        output: args.output.clone(),
        packets: fixture.frame_count() as u64,
        bytes: fixture.byte_count() as u64,
        exchanges: found.map_or(0, |found| found.exchanges),
        runs: args.runs,
        results,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path, read_bytes: usize) -> anyhow::Result<Fixture> {
    let names = IfaceNames::default();
    let capture = open_file(path, read_bytes, 1, &names)?;
    let mut source = capture.sources.into_iter().next().context("one shard has one source")?;
    Ok(Fixture::new(&mut source, &names)?)
}

/// One run. Its results must equal those of the first run, and include every packet.
fn once(
    fixture: &Arc<Fixture>,
    config: &Config,
    args: &Args,
    first: &mut Option<Found>,
) -> anyhow::Result<Ran> {
    let sink: Box<dyn Sink> = match &args.output {
        None => Box::new(Nowhere),
        Some(path) => {
            let cannot = || format!("cannot write {}", path.display());
            Box::new(FileSink::open(path).with_context(cannot)?)
        }
    };
    let ran = fixtures::run(fixture, config, sink)?;
    let found = Found::by(&ran);
    let expected = *first.get_or_insert(found);
    let all = fixture.frame_count() as u64;
    ensure!(found.packets == all, "of {all} packets a run took {}: a bug", found.packets);
    ensure!(found == expected, "two runs differ, {expected:?} and {found:?}: a bug");
    Ok(ran)
}

fn row(shards: u16, counted: &Ran, timed: &[Ran]) -> Row {
    let Found { packets, exchanges, lines } = Found::by(counted);
    let elapsed = |ran: &Ran| ran.totals.elapsed.as_nanos() as f64 / packets as f64;
    let cpu = |ran: &Ran| ran.cpu.as_nanos() as f64 / packets as f64;
    let ns_per_packet = Spread::of(timed.iter().map(elapsed));
    let packets_per_s = 1e9 / ns_per_packet.median;
    let per_packet = |number: u64| number as f64 / packets as f64;
    Row {
        shards,
        lines,
        packets_per_s,
        bytes_per_s: packets_per_s * per_packet(counted.totals.shards.pipeline.frame_bytes),
        exchanges_per_s: packets_per_s * per_packet(exchanges),
        ns_per_packet,
        cpu_ns_per_packet: Spread::of(timed.iter().map(cpu)),
        allocations: Allocated::new(counted.allocations, packets),
        allocations_steady: Allocated::new(counted.allocations_steady, packets.div_ceil(2)),
    }
}

fn print(report: &Report) {
    let Report { packets, bytes, exchanges, runs, .. } = report;
    println!("{}: {packets} packets, {bytes} bytes, {exchanges} exchanges", report.file.display());
    println!("{runs} runs each; medians, with least and greatest\n");
    println!(
        "{:>6} {:>12} {:>9} {:>13} {:>26} {:>26} {:>13} {:>13}",
        "shards",
        "packets/s",
        "MB/s",
        "exchanges/s",
        "ns/packet",
        "CPU ns/packet",
        "alloc/packet",
        "steady"
    );
    for row in &report.results {
        println!(
            "{:>6} {:>12.0} {:>9.1} {:>13.0} {:>26} {:>26} {:>13.6} {:>13.6}",
            row.shards,
            row.packets_per_s,
            row.bytes_per_s / 1e6,
            row.exchanges_per_s,
            row.ns_per_packet,
            row.cpu_ns_per_packet,
            row.allocations.count_per_packet,
            row.allocations_steady.count_per_packet,
        );
    }
}
