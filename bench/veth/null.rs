//! The null reader: rings, filter and shards like those of httplines, and nothing after them. No
//! program that reads rings can keep up with more.

use anyhow::Context;
use httplines::capture::live::{LiveCapture, LiveControl, LiveSource};
use httplines::capture::{FrameSource, Polled};
use httplines::config::{CaptureConfig, DecodeConfig, FilterMode};
use httplines::ids::IfaceNames;
use httplines::shard::StopSignal;
use httplines::sys::affinity;
use httplines::sys::counters::Reason;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Walk the rings like httplines, and do nothing else
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Capture on this interface
    #[arg(short = 'i', long = "interface", value_name = "IFACE")]
    interface: String,
    /// Worker threads [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Option<u16>,
    /// Size of one ring in KiB [default: 65536]
    #[arg(short = 'B', long = "buffer-size", value_name = "KIB")]
    #[arg(value_parser = clap::value_parser!(u32).range(2048..=4_194_303))]
    buffer_kib: Option<u32>,
    /// Size of one block of a ring in KiB [default: 256]
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u32).range(16..=65_536))]
    block_kib: Option<u32>,
    /// How long a frame waits for its block to fill [default: 2]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    retire_timeout_ms: Option<u32>,
    /// Pass all TCP to user space
    #[arg(long)]
    unfiltered: bool,
}

/// Time that frames which passed the filter may take to reach user space at the end.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

/// The frames that a shard has walked.
#[derive(Debug, Default)]
struct Walked {
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// Runs until SIGINT, then reports what it walked, in the format of httplines.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut config = CaptureConfig::default();
    if args.unfiltered {
        config.filter = FilterMode::Off;
    }
    let ring_kib = config.block_count * (config.block_bytes >> 10);
    config.block_bytes = args.block_kib.map_or(config.block_bytes, |kibibytes| kibibytes << 10);
    config.block_count = args.buffer_kib.unwrap_or(ring_kib) / (config.block_bytes >> 10);
    if let Some(milliseconds) = args.retire_timeout_ms {
        config.retire_timeout_ms = milliseconds;
    }
    let cpus = affinity::allowed_cpus();
    let shard_count = args.shards.unwrap_or(cpus.len().clamp(1, 1024) as u16);
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    let interfaces = [args.interface.clone()];
    let names = IfaceNames::default();
    let (control, sources) =
        LiveCapture::open(&config, &DecodeConfig::default(), &interfaces, shard_count, &names)?;
    let (orders, walked) = (Arc::new(StopSignal::default()), Arc::new(Walked::default()));
    let mut threads = Vec::new();
    for (number, source) in sources.into_iter().enumerate() {
        let cpu = cpus.get(number % cpus.len().max(1)).copied();
        threads.push(start(number, source, cpu, &orders, &walked)?);
    }
    control.open_gate();
    eprintln!("httplines-bench: capturing on {} with {shard_count} shards", args.interface);
    signals.forever().next();
    finish(control, threads, &orders, &walked)
}

fn start(
    number: usize,
    mut source: LiveSource,
    cpu: Option<affinity::CpuId>,
    orders: &Arc<StopSignal>,
    walked: &Arc<Walked>,
) -> std::io::Result<JoinHandle<anyhow::Result<()>>> {
    let (orders, walked) = (orders.clone(), walked.clone());
    std::thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        if let Some(cpu) = cpu {
            affinity::pin_to(cpu);
        }
        loop {
            let (mut frames, mut bytes) = (0, 0);
            let polled = source.poll(&mut |frame| {
                frames += 1;
                bytes += frame.bytes.len() as u64;
            })?;
            walked.frames.fetch_add(frames, Ordering::Relaxed);
            walked.bytes.fetch_add(bytes, Ordering::Relaxed);
            if orders.is_over(polled) || polled == Polled::End {
                return Ok(());
            }
        }
    })
}

fn finish(
    mut control: LiveControl,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    orders: &StopSignal,
    walked: &Walked,
) -> anyhow::Result<ExitCode> {
    control.shut_gate();
    let until = Instant::now() + DRAIN_WAIT;
    loop {
        let totals = control.totals()?;
        let up = walked.frames.load(Ordering::Relaxed) + totals.drops();
        if totals.packets() == up || Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    orders.drain();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a worker thread broke off"))??;
    }
    let totals = control.totals()?;
    let (filter, drops) = (&totals.filter, totals.drops());
    let (offered, rejected, passed) = (filter.offered(), filter.rejected(), filter.passed());
    let frames = walked.frames.load(Ordering::Relaxed);
    let bytes = walked.bytes.load(Ordering::Relaxed);
    eprintln!("  offered    {offered} = {rejected} rejected + {passed} passed");
    eprintln!("  rejected   {} body ack", filter.of(Reason::BodyAck));
    eprintln!("  passed     {passed} = {frames} captured + {drops} dropped by kernel");
    eprintln!("  captured   {bytes} bytes");
    if passed == frames + drops {
        eprintln!("  sums       every frame is accounted for");
    } else {
        eprintln!("  SUMS       DO NOT ADD UP");
    }
    Ok(ExitCode::SUCCESS)
}
