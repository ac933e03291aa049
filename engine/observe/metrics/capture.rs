//! The families of frames: interfaces, filter, rings and decoder.

use super::super::statistics::{Observed, ROW_COUNT_MAX};
use super::exposition::{Exposition, Family};
use crate::capture::live::{InterfaceState, InterfaceTotals, LiveTotals, RingTotals};
use crate::sys::counters::Reason;
use std::time::Duration;

const OFFERED: Family = Family::counter(
    "httplines_frames_offered_total",
    "Frames that the kernel filter judged: rejected and passed.",
);
const REJECTED: Family = Family::counter(
    "httplines_frames_rejected_total",
    "Frames that the kernel filter kept in the kernel, by reason.",
);
const PASSED: Family = Family::counter(
    "httplines_frames_passed_total",
    "Frames that the kernel filter passed, by reason: captured and dropped.",
);
const CAPTURED: Family =
    Family::counter("httplines_frames_captured_total", "Frames that reached user space.");
const CAPTURED_BYTES: Family =
    Family::counter("httplines_captured_bytes_total", "Bytes of these frames, as captured.");
const DROPPED: Family = Family::counter(
    "httplines_frames_dropped_total",
    "Lost: frames that the kernel dropped because a ring was full.",
);
const FREEZES: Family =
    Family::counter("httplines_ring_freezes_total", "Times a ring was full and stopped.");
const FILL: Family = Family::gauge(
    "httplines_ring_fill_ratio",
    "The largest used part of a ring at a look, each second, since the last scrape.",
);
const UP: Family = Family::gauge(
    "httplines_interface_up",
    "1 if the interface is up and has carrier, 0 if it has not, is down or has gone.",
);
const OUTAGES: Family = Family::counter(
    "httplines_interface_outages_total",
    "Times an interface went down or lost its carrier.",
);
const RX_DROPPED: Family = Family::counter(
    "httplines_interface_rx_dropped_total",
    "Frames that the kernel dropped on the interface, some because no protocol took them.",
);
const RX_MISSED: Family = Family::counter(
    "httplines_interface_rx_missed_total",
    "Lost: frames that the interface dropped because its buffers were full.",
);
const SOFTNET_DROPPED: Family = Family::counter(
    "httplines_softnet_dropped_total",
    "Lost: frames dropped because a CPU's backlog was full, on all interfaces.",
);
const TABLE_FAILURES: Family = Family::counter(
    "httplines_filter_table_failures_total",
    "Entries that a table of the kernel filter had no room for.",
);
const ELIDED_BYTES: Family = Family::counter(
    "httplines_elided_bytes_total",
    "Bytes of bodies that stayed in the kernel; they are counted in the lengths of bodies.",
);
const SHARE: Family = Family::gauge(
    "httplines_captured_share_ratio",
    "The share of the connections that is captured: less than 1 while --shed leaves some out.",
);
const HALVINGS: Family = Family::counter(
    "httplines_share_halvings_total",
    "Times the share of the connections was halved by --shed.",
);
const DECODED: Family = Family::counter(
    "httplines_frames_decoded_total",
    "Frames that reached user space, by the outcome of decoding.",
);
const LAST_PACKET: Family = Family::gauge(
    "httplines_last_packet_timestamp_seconds",
    "When the last frame that passed the filter was captured, to some milliseconds, since 1970.",
);

pub(super) fn add(out: &mut Exposition, observed: &Observed<'_>) {
    let totals = observed.totals;
    if let Some(live) = &totals.live {
        add_filter(out, live);
    }
    add_captured(out, observed);
    if let Some(live) = &totals.live {
        add_rings(out, live);
        add_interfaces(out, live);
        add_tables(out, observed, live);
    }
    let decoded = totals.shards.pipeline.decode.each();
    out.add_each(&DECODED, "outcome", decoded);
    let last = observed.shards.iter().filter_map(|shard| shard.gauges.pipeline.last_frame).max();
    if let Some(last) = last {
        out.add_time(&LAST_PACKET, &[], Duration::from_nanos(last.0));
    }
}

fn add_filter(out: &mut Exposition, live: &LiveTotals) {
    let filter = &live.filter;
    out.add(&OFFERED, &[], filter.offered());
    for (family, is_pass) in [(&REJECTED, false), (&PASSED, true)] {
        let all = Reason::ALL.iter().filter(|reason| reason.is_pass() == is_pass);
        let judged = all.filter(|reason| **reason != Reason::Gated);
        out.add_each(family, "reason", judged.map(|reason| (reason.name(), filter.of(*reason))));
    }
}

fn add_captured(out: &mut Exposition, observed: &Observed<'_>) {
    let shards = observed.shards;
    let of_all = &observed.totals.shards.pipeline;
    for (family, sum, of_shard) in [
        (&CAPTURED, of_all.frames, (|it| it.0) as fn((u64, u64)) -> u64),
        (&CAPTURED_BYTES, of_all.frame_bytes, |it| it.1),
    ] {
        if shards.len() > ROW_COUNT_MAX {
            out.add(family, &[], sum);
            continue;
        }
        for (number, shard) in shards.iter().enumerate() {
            let pipeline = &shard.stats.pipeline;
            let value = of_shard((pipeline.frames, pipeline.frame_bytes));
            out.add(family, &[("shard", &number.to_string())], value);
        }
    }
}

/// With too many rings, they are added up for each interface.
fn add_rings(out: &mut Exposition, live: &LiveTotals) {
    let interfaces = &live.interfaces;
    let is_apart = interfaces.iter().map(|it| it.rings.len()).sum::<usize>() <= ROW_COUNT_MAX;
    for (family, of_ring) in
        [(&DROPPED, (|ring| ring.drops) as fn(&RingTotals) -> u64), (&FREEZES, |ring| ring.freezes)]
    {
        each_ring(interfaces, is_apart, |labels, rings| {
            out.add(family, labels, rings.iter().map(of_ring).sum::<u64>());
        });
    }
    each_ring(interfaces, is_apart, |labels, rings| {
        let fill = |ring: &RingTotals| {
            (ring.full_blocks_most as f64 / ring.block_count.max(1) as f64).min(1.0)
        };
        out.add(&FILL, labels, rings.iter().map(fill).fold(0.0, f64::max));
    });
}

/// Visits each ring, or, unless they are `is_apart`, the rings of each interface together.
fn each_ring(
    interfaces: &[InterfaceTotals],
    is_apart: bool,
    mut visit: impl FnMut(&[(&str, &str)], &[RingTotals]),
) {
    for InterfaceTotals { name, rings, .. } in interfaces {
        if !is_apart {
            visit(&[("interface", name)], rings);
            continue;
        }
        for (shard, ring) in rings.iter().enumerate() {
            let labels = [("interface", name.as_str()), ("shard", &shard.to_string())];
            visit(&labels, std::slice::from_ref(ring));
        }
    }
}

fn add_interfaces(out: &mut Exposition, live: &LiveTotals) {
    for (family, value) in [
        (&UP, (|it| u64::from(it.state == InterfaceState::Up)) as fn(&InterfaceTotals) -> u64),
        (&OUTAGES, |it| it.outages),
        (&RX_DROPPED, |it| it.rx_dropped),
        (&RX_MISSED, |it| it.rx_missed),
    ] {
        let each = live.interfaces.iter().map(|it| (it.name.as_str(), value(it)));
        out.add_each(family, "interface", each);
    }
    out.add(&SOFTNET_DROPPED, &[], live.softnet_dropped);
}

fn add_tables(out: &mut Exposition, observed: &Observed<'_>, live: &LiveTotals) {
    let failures = [
        ("sessions", live.filter.sessions_failed),
        ("openings", live.filter.openings_failed),
        ("hints", observed.totals.shards.pipeline.hints.hints_refused),
    ];
    out.add_each(&TABLE_FAILURES, "table", failures);
    out.add(&ELIDED_BYTES, &[], live.filter.elided_bytes);
    let shed = live.shed.as_ref();
    out.add_ratio(&SHARE, &[], shed.map_or(1000, |shed| shed.share_permille), 1000);
    out.add(&HALVINGS, &[], shed.map_or(0, |shed| shed.halvings));
}
