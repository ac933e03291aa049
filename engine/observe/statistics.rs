//! The file of statistics: what a run has counted, as [`StatsRecord`]s for the
//! [`Sidecar`](crate::output::Sidecar). `docs/stats.schema.json` describes each figure.

use crate::capture::live::{InterfaceTotals, LiveTotals, ShedTotals};
use crate::config::{EmitConfig, SensorName};
use crate::output::{
    Figure, Figures, FileStats, StatsRecord, Value, WriterGauges, WriterStats, counts,
};
use crate::pipeline::PipelineGauges;
use crate::protocol::Kind;
use crate::protocol::classes::{GRPC_CODES, METHODS, STATUSES};
use crate::record::rfc3339;
use crate::shard::{ShardGauges, ShardStats};
use crate::sys::counters::Reason;
use crate::time::TimestampNs;
use crate::totals::Totals;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// With more shards, rings or interfaces than this there are only their sums.
pub(super) const ROW_COUNT_MAX: usize = 64;

/// One shard.
#[derive(Clone, Debug, Default)]
pub struct ShardState {
    /// Its counters.
    pub stats: ShardStats,
    /// What it holds.
    pub gauges: ShardGauges,
    /// CPU time of its thread.
    pub cpu: Duration,
    /// It has answered. Otherwise the counters are those of its last answer.
    pub is_responding: bool,
}

/// Everything that a record is made of.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The totals so far.
    pub totals: &'a Totals,
    /// All shards, in order.
    pub shards: &'a [ShardState],
    /// The state of the writer.
    pub writer: WriterGauges,
    /// Memory of this process that is in use, shared memory and rings included.
    pub resident_bytes: u64,
    /// What went wrong, if the run is over. Each is a sentence.
    pub errors: Vec<String>,
}

/// The run that records are of.
#[derive(Debug)]
pub struct Run {
    /// Tells runs apart whose records are in one file.
    id: u64,
    started: TimestampNs,
    sensor: Option<SensorName>,
    output: String,
    /// Batches that may wait for the writer, for one shard.
    batch_count_max: u64,
    /// The number of the next record.
    seq: u64,
}

fn now() -> TimestampNs {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampNs::from_parts(clock.as_secs(), clock.subsec_nanos().into())
}

fn group(name: &'static str, counters: impl IntoIterator<Item = (&'static str, u64)>) -> Figure {
    (name, Value::Group(counts(counters)))
}

fn number(name: &'static str, number: u64) -> Figure {
    (name, Value::Number(number))
}

fn text(name: &'static str, text: impl Into<String>) -> Figure {
    (name, Value::Text(text.into()))
}

/// A list with an element for each of `rows`; empty if they are too many.
fn list<T>(
    name: &'static str,
    rows: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    row: impl Fn(T) -> Figures,
) -> Figure {
    let rows = rows.into_iter();
    let shown_count = if rows.len() > ROW_COUNT_MAX { 0 } else { rows.len() };
    (name, Value::List(rows.take(shown_count).map(|it| Value::Group(row(it))).collect()))
}

impl Observed<'_> {
    /// Memory in use, by what it is for; at the end that of the whole process.
    pub(super) fn memory(&self) -> [(&'static str, u64); 6] {
        let interfaces = self.totals.live.as_ref().map_or(&[][..], |live| &live.interfaces);
        let rings = interfaces.iter().flat_map(|interface| &interface.rings);
        let mut held = PipelineGauges::default();
        self.shards.iter().for_each(|shard| held.add(&shard.gauges.pipeline));
        [
            ("rings", rings.map(|ring| ring.ring_bytes).sum()),
            ("flows", held.flow_bytes),
            ("reorder", held.reorder_bytes),
            ("exchanges", held.exchange_bytes),
            ("fragments", held.fragment_bytes),
            ("resident", self.resident_bytes),
        ]
    }
}

impl Run {
    /// A run that starts now and writes to `output` as `emit` says.
    pub fn new(output: String, emit: &EmitConfig) -> Run {
        let id = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &output);
        let (sensor, batch_count_max) = (emit.sensor.clone(), emit.batch_count_max as u64);
        Run { id, started: now(), sensor, output, batch_count_max, seq: 0 }
    }

    /// The next record.
    pub fn record(&mut self, observed: &Observed<'_>) -> StatsRecord {
        let seq = self.seq;
        self.seq += 1;
        StatsRecord {
            seq,
            head: self.head(seq, observed),
            total: total(observed),
            gauges: self.gauges(observed),
        }
    }

    fn head(&self, seq: u64, observed: &Observed<'_>) -> Figures {
        let interfaces = observed.totals.live.as_ref().map_or(&[][..], |live| &live.interfaces);
        let is_final = !observed.totals.is_running;
        let mut head = vec![text("ts", rfc3339(now()))];
        head.extend(self.sensor.as_ref().map(|name| text("sensor", name.as_str())));
        head.extend([
            text("version", env!("CARGO_PKG_VERSION")),
            text("run", format!("{:016x}", self.id)),
            number("pid", std::process::id().into()),
            text("started", rfc3339(self.started)),
            number("seq", seq),
            ("final", Value::Flag(is_final)),
            text("output", self.output.as_str()),
            number("shard_count", observed.shards.len() as u64),
            number("interface_count", interfaces.len() as u64),
        ]);
        if is_final {
            let sentences = |all: &[String]| {
                Value::List(all.iter().map(|sentence| Value::Text(sentence.clone())).collect())
            };
            head.push(("violations", sentences(&observed.totals.violations())));
            head.push(("errors", sentences(&observed.errors)));
        }
        head
    }

    fn gauges(&self, observed: &Observed<'_>) -> Figures {
        let unknown = LiveTotals::default();
        let live = observed.totals.live.as_ref().unwrap_or(&unknown);
        let arrived = observed.totals.shards.pipeline.frames + live.drops();
        let mut sum = ShardGauges::default();
        for shard in observed.shards {
            sum.pipeline.add(&shard.gauges.pipeline);
            sum.queued_batches += shard.gauges.queued_batches;
        }
        let rings = || live.interfaces.iter().flat_map(|interface| &interface.rings);
        let most = rings().map(|ring| ring.full_blocks_most * 1000 / ring.block_count.max(1)).max();
        let (shed, memory) = (live.shed.as_ref(), observed.memory());
        vec![
            number("frames_in_flight", live.filter.passed().saturating_sub(arrived)),
            number("ring_fill_permille_most", most.unwrap_or(0)),
            number("connections", sum.pipeline.connections),
            number("exchanges", sum.pipeline.exchanges),
            number("queued_batches", sum.queued_batches),
            number("queued_batches_max", self.batch_count_max),
            number("lag_ms", observed.writer.lag.as_millis() as u64),
            ("is_failing", Value::Flag(observed.writer.is_failing)),
            number("share_permille", shed.map_or(1000, |shed| shed.share_permille)),
            ("memory_bytes", Value::Group(memory.map(|(name, it)| number(name, it)).into())),
            list("interfaces", live.interfaces.iter(), interface_gauges),
            list("shards", observed.shards.iter().enumerate(), shard_gauges),
            list("rings", rings_of(live), |(interface, shard)| {
                let ring = &live.interfaces[interface].rings[shard];
                let mut row = ring_name(live, interface, shard);
                row.extend([
                    number("block_count", ring.block_count),
                    number("full_blocks", ring.full_blocks),
                    number("full_blocks_most", ring.full_blocks_most),
                ]);
                row
            }),
        ]
    }
}

fn interface_gauges(interface: &InterfaceTotals) -> Figures {
    vec![text("name", interface.name.as_str()), text("state", interface.state.name())]
}

fn shard_gauges((shard, state): (usize, &ShardState)) -> Figures {
    vec![
        number("shard", shard as u64),
        ("is_responding", Value::Flag(state.is_responding)),
        number("connections", state.gauges.pipeline.connections),
        number("exchanges", state.gauges.pipeline.exchanges),
        number("queued_batches", state.gauges.queued_batches),
    ]
}

/// The interface and the shard of each ring, by their numbers.
fn rings_of(live: &LiveTotals) -> Vec<(usize, usize)> {
    let interfaces = live.interfaces.iter().enumerate();
    let of_one = |(at, it): (usize, &InterfaceTotals)| (0..it.rings.len()).map(move |it| (at, it));
    interfaces.flat_map(of_one).collect()
}

fn ring_name(live: &LiveTotals, interface: usize, shard: usize) -> Figures {
    let name = live.interfaces[interface].name.as_str();
    vec![text("interface", name), number("shard", shard as u64)]
}

/// Everything that was counted.
fn total(observed: &Observed<'_>) -> Figures {
    let Observed { totals, shards, writer, .. } = observed;
    let unknown = LiveTotals::default();
    let live = totals.live.as_ref().unwrap_or(&unknown);
    let pipeline = &totals.shards.pipeline;
    let mut figures = vec![("elapsed_ms", Value::Count(totals.elapsed.as_millis() as u64))];
    figures.extend(kernel(totals, live));
    figures.extend([
        group("decode", pipeline.decode.each()),
        group("datagrams", pipeline.datagrams.each()),
        group("flow", pipeline.flow.each()),
        group("hints", pipeline.hints.each()),
    ]);
    let flows = &pipeline.protocol.flows;
    let kinds = Kind::ALL.iter().map(|kind| (kind.key(), flows.of(*kind)));
    let others = [("other", flows.other), ("empty", flows.empty)];
    figures.push(group("connections", kinds.chain(others)));
    figures.push(group("exchanges", pipeline.protocol.exchanges.each()));
    let classes = &pipeline.protocol.classes;
    figures.push(group("methods", METHODS.into_iter().zip(classes.methods)));
    figures.push(group("statuses", STATUSES.into_iter().zip(classes.statuses())));
    figures.push(group("ttfb", [("count", classes.ttfb.count()), ("sum_ns", classes.ttfb.sum_ns)]));
    figures.push(group("grpc", GRPC_CODES.into_iter().zip(classes.grpc)));
    figures.push(("http2_streams", Value::Count(classes.http2_streams)));
    figures.extend(pipeline.protocol.each().into_iter().map(|(name, each)| group(name, each)));
    figures.extend(lines(totals));
    let cpu = [
        ("shards", shards.iter().map(|shard| shard.cpu.as_nanos() as u64).sum()),
        ("writer", writer.cpu.as_nanos() as u64),
    ];
    figures.push(group("cpu_ns", cpu));
    figures.push(list("interfaces", live.interfaces.iter(), interface_counts));
    figures.push(list("shards", shards.iter().enumerate(), shard_counts));
    figures.push(list("rings", rings_of(live), |(interface, shard)| {
        let ring = &live.interfaces[interface].rings[shard];
        let mut row = ring_name(live, interface, shard);
        let counted = [("packets", ring.packets), ("drops", ring.drops), ("freezes", ring.freezes)];
        row.extend(counts(counted));
        row
    }));
    figures
}

/// What the kernel did with the frames, before us and in the filter.
fn kernel(totals: &Totals, live: &LiveTotals) -> Vec<Figure> {
    let (filter, pipeline) = (&live.filter, &totals.shards.pipeline);
    let frames = [
        ("offered", filter.offered()),
        ("rejected", filter.rejected()),
        ("passed", filter.passed()),
        ("captured", pipeline.frames),
        ("captured_bytes", pipeline.frame_bytes),
        ("captured_bare", pipeline.frames_bare),
        ("dropped", live.drops()),
        ("taken_over", pipeline.segments_taken_over),
    ];
    let reasons = |is_pass| {
        let all = Reason::ALL.iter().filter(move |reason| reason.is_pass() == is_pass);
        let counted = all.filter(|reason| **reason != Reason::Gated);
        counted.map(|reason| (reason.name(), filter.of(*reason)))
    };
    let before_us = [
        ("rx_missed", live.interfaces.iter().map(|interface| interface.rx_missed).sum()),
        ("rx_dropped", live.rx_lost()),
        ("softnet_dropped", live.softnet_dropped),
    ];
    let ShedTotals { halvings, below_all_ms, .. } = live.shed.clone().unwrap_or_default();
    vec![
        group("frames", frames),
        group("rejected", reasons(false)),
        group("admitted", reasons(true)),
        group("filter", filter.each().skip(Reason::COUNT)),
        group("before_us", before_us),
        group("after_us", [("rx_unclaimed", live.rx_unclaimed())]),
        group("shed", [("halvings", halvings), ("below_all_ms", below_all_ms)]),
    ]
}

/// What became of the lines. All counters of the writer are named, so that none is forgotten.
fn lines(totals: &Totals) -> Vec<Figure> {
    let emit = &totals.shards.emit;
    let WriterStats {
        bytes_written,
        lines_written,
        lines_lost: _,
        lines_lost_disk_full: _,
        lines_lost_reader_gone: _,
        lines_lost_write_error: _,
        appends,
        write_errors,
        faults,
        reopens,
        files,
    } = totals.writer;
    let made = [
        ("made", emit.lines),
        ("made_bytes", emit.line_bytes),
        ("written", lines_written),
        ("written_bytes", bytes_written),
        ("withheld", emit.exchanges_withheld),
        ("beyond_count", emit.exchanges_beyond_count),
        ("unnamed", emit.exchanges_unnamed),
        ("made_websocket", emit.lines_websocket),
        ("withheld_websocket", emit.websockets_withheld),
        ("made_tls", emit.lines_tls),
        ("withheld_tls", emit.tls_withheld),
        ("partial", emit.records_partial),
    ];
    let writer = [
        ("batches_dropped", emit.batches_dropped),
        ("appends", appends),
        ("write_errors", write_errors),
        ("faults", faults),
        ("reopens", reopens),
    ];
    vec![
        group("lines", made),
        group("lines_lost", totals.lines_lost()),
        group("writer", writer),
        group("files", file_counts(files)),
    ]
}

fn file_counts(files: FileStats) -> [(&'static str, u64); 6] {
    let FileStats {
        rotations,
        rotation_failures,
        files_deleted,
        bytes_deleted,
        files_compressed,
        janitor_failures,
    } = files;
    [
        ("rotations", rotations),
        ("rotation_failures", rotation_failures),
        ("files_deleted", files_deleted),
        ("bytes_deleted", bytes_deleted),
        ("files_compressed", files_compressed),
        ("janitor_failures", janitor_failures),
    ]
}

fn interface_counts(interface: &InterfaceTotals) -> Figures {
    let counted = [
        ("packets", interface.packets),
        ("drops", interface.drops),
        ("freezes", interface.freezes),
        ("rx_dropped", interface.rx_dropped),
        ("rx_missed", interface.rx_missed),
        ("outages", interface.outages),
    ];
    let mut row = vec![text("name", interface.name.as_str())];
    row.extend(counts(counted));
    row
}

fn shard_counts((shard, state): (usize, &ShardState)) -> Figures {
    let (pipeline, emit) = (&state.stats.pipeline, &state.stats.emit);
    let (flow, exchanges) = (&pipeline.flow, &pipeline.protocol.exchanges);
    let counted = [
        ("frames", pipeline.frames),
        ("frame_bytes", pipeline.frame_bytes),
        ("flows", flow.flows),
        ("gaps", flow.gaps),
        ("gap_bytes", flow.gap_bytes),
        ("requests", exchanges.requests),
        ("responses", exchanges.responses),
        ("exchanges", exchanges.exchanges()),
        ("lines", emit.lines),
        ("lines_dropped", emit.lines_dropped),
        ("cpu_ns", state.cpu.as_nanos() as u64),
    ];
    let mut row = vec![number("shard", shard as u64)];
    row.extend(counts(counted));
    row
}
