//! [`Totals`]: what a run saw, lost and wrote, and whether it adds up. If there is no line, it says
//! why.

use crate::capture::live::LiveTotals;
use crate::output::WriterStats;
use crate::protocol::Kind;
use crate::shard::ShardStats;
use crate::sys::counters::Reason;
use std::fmt;
use std::time::Duration;

/// With fewer connections of which one direction was seen, there is no hint about them. The two
/// halves of one connection are enough.
const ONE_SIDED_COUNT_MIN: u64 = 2;

/// All counters of a run.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// The sum over all shards.
    pub shards: ShardStats,
    /// The kernel's counters, if the input was live.
    pub live: Option<LiveTotals>,
    /// The writer's counters.
    pub writer: WriterStats,
    /// Time since the start.
    pub elapsed: Duration,
    /// The run continues: counters were read one after the other and need not agree.
    pub is_running: bool,
}

impl Totals {
    /// Checks the sums that a run's counters must satisfy. Each violation is a sentence with both
    /// sides.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let mut law = |left_name: &str, left: u64, right_name: &str, right: u64| {
            if left != right {
                violations.push(format!("{left_name} {left} is not {right_name} {right}"));
            }
        };
        let pipeline = &self.shards.pipeline;
        if let Some(live) = &self.live {
            law("passed by the filter", live.filter.passed(), "tp_packets", live.packets());
            let up = pipeline.frames + live.drops();
            law("tp_packets", live.packets(), "delivered + dropped by the kernel", up);
            // Nobody knows what the dropped frames contained.
            if live.drops() == 0 {
                let elided = live.filter.of(Reason::Elided);
                law("elided by the filter", elided, "delivered bare", pipeline.frames_bare);
            }
        }
        law("delivered", pipeline.frames, "decoded by outcome", sum(&pipeline.decode.each()));
        let taken_over = pipeline.segments_taken_over;
        let passed_on = pipeline.decode.fragment_passed_on;
        law("passed on to other shards", passed_on, "taken over", taken_over);
        let by_kind = pipeline.protocol.flows.total();
        law("flows", pipeline.flow.flows, "flows by kind", by_kind);
        let emit = &self.shards.emit;
        let written = self.writer.lines_written + self.writer.lines_lost + emit.lines_dropped;
        law("lines made", emit.lines, "written + lost + dropped", written);
        let lost = self.writer.lines_lost + emit.lines_dropped;
        law("lines lost and dropped", lost, "lines lost by cause", sum(&self.lines_lost()));
        // Only then is it certain that each line is that of an exchange or a talk.
        let not_told = emit.exchanges_withheld + emit.exchanges_unnamed;
        if not_told > 0 {
            let others = emit.lines_websocket + emit.lines_tls + emit.records_partial;
            let told = emit.lines - others + not_told + emit.exchanges_beyond_count;
            let names = "lines made of exchanges + withheld + beyond -c";
            law("exchanges", self.exchanges(), names, told);
        }
        violations
    }

    /// Lines that were lost, by cause. Those that a full queue cost were dropped by the shards; the
    /// others were lost by the writer, or dropped because it had ended.
    pub fn lines_lost(&self) -> [(&'static str, u64); 4] {
        let (emit, writer) = (&self.shards.emit, &self.writer);
        [
            ("queue_full", emit.lines_dropped - emit.lines_dropped_closed),
            ("disk_full", writer.lines_lost_disk_full),
            ("write_error", writer.lines_lost_write_error),
            ("reader_gone", writer.lines_lost_reader_gone + emit.lines_dropped_closed),
        ]
    }

    /// What was lost of that which was to be captured and told, as a sentence: frames that the
    /// kernel dropped because a ring was full, and lines. `None`: nothing. What was lost before the
    /// filter saw it, and in the network, is not among it.
    pub fn losses(&self) -> Option<String> {
        let frames = self.live.as_ref().map_or(0, LiveTotals::drops);
        let lines = self.lines_lost();
        let mut lost = in_words(&[
            (
                frames,
                "frame was dropped by the kernel, because a ring was full",
                "frames were dropped by the kernel, because a ring was full",
            ),
            (sum(&lines), "line was lost", "lines were lost"),
        ]);
        if let Some(of_lines) = lost.last_mut().filter(|_| sum(&lines) > 0) {
            *of_lines += &format!(" ({})", nonzero(&lines).join(", "));
        }
        (!lost.is_empty()).then(|| lost.join(", and "))
    }

    /// Whether a run that `is_live` has no counters of the kernel, as a sentence: then nobody knows
    /// what was dropped.
    pub fn lacks_counters(&self, is_live: bool) -> Option<String> {
        let is_lacking = is_live && self.live.is_none();
        is_lacking.then(|| "the kernel's counters of dropped frames cannot be read".into())
    }

    /// Exchanges, whatever became of them.
    pub fn exchanges(&self) -> u64 {
        self.shards.pipeline.protocol.exchanges.exchanges()
    }

    /// Explains why there is no line: the most likely cause among the things that were seen
    /// instead.
    fn why_nothing(&self) -> Option<String> {
        let (protocol, decode) = (&self.shards.pipeline.protocol, &self.shards.pipeline.decode);
        let (flows, exchanges) = (&protocol.flows, &protocol.exchanges);
        if exchanges.exchanges_left_out > 0 && self.exchanges() == 0 {
            return Some(
                "all requests were left out: no packet of the side that answers was seen; without \
                 --answered-only they are reported"
                    .into(),
            );
        }
        let emit = &self.shards.emit;
        if emit.exchanges_withheld > 0 && emit.exchanges_withheld == self.exchanges() {
            return Some("all exchanges were withheld by --only or --except".into());
        }
        if exchanges.heads() + self.exchanges() > 0 {
            return None;
        }
        if let Some(name) = self.begun() {
            return Some(format!("{name} was seen, but no complete message"));
        }
        let kernel = |reason| self.live.as_ref().map_or(0, |live| live.filter.of(reason));
        let in_kernel = |reasons: [Reason; 2]| reasons.map(kernel).iter().sum::<u64>();
        let no_tcp = decode.not_tcp + decode.not_ip + in_kernel([Reason::NotTcp, Reason::NotIp]);
        let quic = [Reason::QuicInitial, Reason::Quic];
        let quic = decode.quic_initial + decode.quic + in_kernel(quic);
        let (mut seen, mut advice) = (Vec::new(), None);
        for kind in Kind::ALL.iter().filter(|kind| kind.unread().is_some()) {
            let of_kernel = if *kind == Kind::Tls { kernel(Reason::Tls) } else { 0 };
            let name = kind.name();
            seen.extend(in_words(&[
                (flows.of(*kind), &format!("{name} connection"), &format!("{name} connections")),
                (of_kernel, "frame of TLS", "frames of TLS"),
            ]));
            if flows.of(*kind) + of_kernel > 0 {
                advice = advice.or(kind.unread());
            }
        }
        seen.extend(in_words(&[
            (flows.other, "connection of another kind", "connections of other kinds"),
            (kernel(Reason::Other), "frame of another protocol", "frames of other protocols"),
            (flows.empty, "connection without data", "connections without data"),
            (quic, "frame of QUIC", "frames of QUIC"),
            (no_tcp, "frame that is not TCP", "frames that are not TCP"),
            (decode.unsupported_link, "frame of unknown link type", "frames of unknown link types"),
        ]));
        if seen.is_empty() {
            // Next to any of the above, these would only confuse.
            let late = self.shards.pipeline.flow.left_unknown() + kernel(Reason::NoPayload);
            let other_way = kernel(Reason::Direction);
            let left_out = self.outside_of_sample();
            seen = in_words(&[
                (
                    late,
                    "segment from the middle of a connection",
                    "segments from the middle of connections",
                ),
                (other_way, "frame in the other direction", "frames in the other direction"),
                (left_out, "frame outside of the sample", "frames outside of the sample"),
            ]);
        }
        let advice = advice.map_or(String::new(), |advice| format!("; {advice}"));
        Some(match (seen.as_slice(), &self.live) {
            ([], Some(_)) => "no packet arrived; is it the right interface? -D lists them, \
                              -i any captures on all"
                .into(),
            ([], None) => "the capture holds no packet".into(),
            (seen, _) => format!("no HTTP was seen: {}{advice}", seen.join(", ")),
        })
    }

    /// The version of HTTP of which only parts of messages were seen.
    fn begun(&self) -> Option<&'static str> {
        let protocol = &self.shards.pipeline.protocol;
        let is_http1 = protocol.flows.of(Kind::Http1) > 0 || protocol.has_unreported();
        let is_http2 = protocol.flows.of(Kind::Http2) > 0;
        if is_http1 { Some("HTTP/1") } else { is_http2.then_some("HTTP/2") }
    }

    /// Frames of connections that the sample, or the share that is captured, does not have.
    fn outside_of_sample(&self) -> u64 {
        let decode = &self.shards.pipeline.decode;
        let filter =
            |live: &LiveTotals| live.filter.of(Reason::Sampled) + live.filter.of(Reason::Shed);
        decode.sampled + decode.shed + self.live.as_ref().map_or(0, filter)
    }

    /// What to try if most connections with payload have one direction only, and at least some of
    /// them are in VLANs or overlay networks: the other direction may be in other ones.
    fn hint(&self) -> Option<String> {
        let pipeline = &self.shards.pipeline;
        let (flow, kinds) = (&pipeline.flow, &pipeline.protocol.flows);
        let one_sided = flow.flows_one_sided;
        let used = (kinds.total() - kinds.empty).max(one_sided);
        let is_most = one_sided > used / 2;
        (is_most && flow.flows_one_sided_in_networks >= ONE_SIDED_COUNT_MIN).then(|| {
            format!(
                "only one direction was seen of {one_sided} of {used} connections with data; if \
                 the other one is in another VLAN or VNI, try --ignore-vlan"
            )
        })
    }

    fn write_capture(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipeline = &self.shards.pipeline;
        let Some(live) = &self.live else {
            row(f, "frames", &format!("{} read, {} bytes", pipeline.frames, pipeline.frame_bytes))?;
            return Ok(());
        };
        let filter = &live.filter;
        let (offered, rejected) = (filter.offered(), filter.rejected());
        let passed = filter.passed();
        row(f, "offered", &format!("{offered} = {rejected} rejected + {passed} passed"))?;
        let (captured, drops) = (pipeline.frames, live.drops());
        let mut parts = format!("{passed} = {captured} captured + {drops} dropped by kernel");
        if self.is_running {
            let in_flight = passed.saturating_sub(captured + drops);
            parts += &format!(" + {in_flight} in flight");
        }
        row(f, "passed", &parts)?;
        row(f, "captured", &format!("{} bytes", pipeline.frame_bytes))?;
        let reasons = |is_pass: bool| {
            let all = Reason::ALL
                .iter()
                .filter(move |reason| reason.is_pass() == is_pass && **reason != Reason::Gated);
            all.map(|reason| (reason.name(), filter.of(*reason))).collect::<Vec<_>>()
        };
        row_of_parts(f, "rejected", &reasons(false))?;
        row_of_parts(f, "admitted", &reasons(true))?;
        let rx_missed = live.interfaces.iter().map(|interface| interface.rx_missed).sum();
        let before = [
            ("rx_missed", rx_missed),
            ("rx_dropped", live.rx_lost()),
            ("softnet_dropped", live.softnet_dropped),
            ("sessions refused by a full table", filter.sessions_failed),
        ];
        row_of_parts(f, "before us", &before)?;
        if let Some(shed) = live.shed.as_ref().filter(|shed| shed.halvings > 0) {
            row(f, "shed", &shed.to_string())?;
        }
        let after = [("frames that no protocol of this machine took", live.rx_unclaimed())];
        row_of_parts(f, "after us", &after)?;
        let elided = [
            ("frames cut to their headers", filter.of(Reason::Elided)),
            ("bytes of bodies left in the kernel", filter.elided_bytes),
            ("ends of bodies found by the filter", filter.bodies_found),
        ];
        row_of_parts(f, "elided", &elided)?;
        let pressure = [
            ("evicted sessions restored by flow hints", filter.sessions_restored),
            ("connections not hinted: the hint table was full", pipeline.hints.hints_refused),
            ("SYNs refused by a full table", filter.openings_failed),
        ];
        row_of_parts(f, "pressure", &pressure)
    }

    fn write_streams(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = &self.shards.pipeline.flow;
        let losses = [
            ("segments of unknown connections", flow.left_unknown()),
            ("flows evicted", flow.flows_evicted),
            ("flows idle", flow.flows_idle),
            ("flows reused", flow.flows_reused),
            ("flows one-sided", flow.flows_one_sided),
            ("segments out of order", flow.segments_out_of_order),
            ("duplicate bytes", flow.bytes_duplicate),
            ("late bytes", flow.bytes_late),
            ("bytes cut by the snap length", flow.bytes_cut),
            ("segments refused: numbers outside the windows", flow.left_refused()),
            ("segments refused: data without an acknowledgment", flow.segments_without_ack),
            ("segments refused: wrong checksums", flow.checksums_wrong),
            ("resets ignored", flow.resets_ignored),
            ("handshakes refused", flow.handshakes_refused),
            ("connections found again after an outage", flow.anchors),
            ("holes given up at the bound", flow.gaps_at_bound),
        ];
        row_of_parts(f, "streams", &losses)
    }

    fn write_output(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (emit, writer) = (&self.shards.emit, &self.writer);
        let (lines, bytes) = (writer.lines_written, writer.bytes_written);
        let lost = emit.lines_dropped + writer.lines_lost;
        let mut parts = format!("{lines} lines, {bytes} bytes, {lost} lines lost");
        let causes = nonzero(&self.lines_lost());
        if !causes.is_empty() {
            parts += &format!(" ({})", causes.join(", "));
        }
        let others = nonzero(&[
            ("exchanges withheld", emit.exchanges_withheld),
            ("exchanges that --records does not name", emit.exchanges_unnamed),
            ("lines of WebSocket", emit.lines_websocket),
            ("talks of WebSocket withheld", emit.websockets_withheld),
            ("lines of TLS", emit.lines_tls),
            ("connections of TLS withheld", emit.tls_withheld),
            ("partial records", emit.records_partial),
        ]);
        for other in others {
            parts += &format!(", {other}");
        }
        row(f, "written", &parts)?;
        let files = &writer.files;
        let files = [
            ("closed", files.rotations),
            ("rotations failed", files.rotation_failures),
            ("deleted", files.files_deleted),
            ("bytes deleted", files.bytes_deleted),
            ("compressed", files.files_compressed),
            ("not deleted or compressed", files.janitor_failures),
        ];
        row_of_parts(f, "files", &files)
    }
}

impl fmt::Display for Totals {
    /// A table of counters. Those that are zero are left out, unless zero is the news.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipeline = &self.shards.pipeline;
        let (flow, protocol) = (&pipeline.flow, &pipeline.protocol);
        let exchanges = self.exchanges();
        let plural = if exchanges == 1 { "" } else { "s" };
        let state = if self.is_running { " so far" } else { "" };
        writeln!(f, "httplines: {exchanges} exchange{plural} in {:.1?}{state}", self.elapsed)?;
        if let Some(why) = self.why_nothing() {
            row(f, "why", &why)?;
        }
        if let Some(hint) = self.hint() {
            row(f, "hint", &hint)?;
        }
        self.write_capture(f)?;
        row_of_parts(f, "decoded", &pipeline.decode.each())?;
        let datagrams = &pipeline.datagrams;
        let noticed = [
            ("reassembled from fragments", datagrams.datagrams_joined),
            ("taken over from another shard", pipeline.segments_taken_over),
            ("dropped", datagrams.datagrams_dropped),
            ("expired", datagrams.datagrams_expired),
            ("evicted", datagrams.datagrams_evicted),
            ("wrong IPv4 checksums", datagrams.ipv4_checksums_wrong),
        ];
        row_of_parts(f, "datagrams", &noticed)?;
        let kinds = Kind::ALL.iter().map(|kind| (kind.name(), protocol.flows.of(*kind)));
        let others = [("other", protocol.flows.other), ("without payload", protocol.flows.empty)];
        row_of_parts(f, "flows", &kinds.chain(others).collect::<Vec<_>>())?;
        self.write_streams(f)?;
        row(f, "gaps", &format!("{} ({} bytes)", flow.gaps, flow.gap_bytes))?;
        let exchanges = &protocol.exchanges;
        let outcomes = [
            ("complete", exchanges.exchanges_complete),
            ("no_response", exchanges.exchanges_no_response),
            ("no_request", exchanges.exchanges_no_request),
            ("truncated", exchanges.exchanges_truncated),
            ("with a gap", exchanges.exchanges_with_gap),
            ("unanswered, left out", exchanges.exchanges_left_out),
            ("in progress, shed", exchanges.exchanges_shed),
        ];
        row_of_parts(f, "exchanges", &outcomes)?;
        for (name, parts) in protocol.rows() {
            row_of_parts(f, name, &parts)?;
        }
        self.write_output(f)?;
        if self.is_running {
            return Ok(());
        }
        match self.violations().as_slice() {
            [] => row(f, "sums", "every frame, flow and line is accounted for"),
            violations => {
                let why = if self.shards.panics > 0 { ", because a worker failed" } else { "" };
                let violations = violations.join("; ");
                row(f, "SUMS", &format!("DO NOT ADD UP{why}: {violations}"))
            }
        }
    }
}

/// Each count that is not zero, with the singular or plural words.
fn in_words(counts: &[(u64, &str, &str)]) -> Vec<String> {
    let of_some = counts.iter().filter(|(count, ..)| *count > 0);
    let words = of_some.map(|(count, one, more)| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {more}"),
    });
    words.collect()
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {name:<10} {text}")
}

fn row_of_parts(f: &mut fmt::Formatter<'_>, name: &str, parts: &[(&str, u64)]) -> fmt::Result {
    let nonzero = nonzero(parts);
    if nonzero.is_empty() { Ok(()) } else { row(f, name, &nonzero.join(", ")) }
}

/// Each count that is not zero, with its name.
fn nonzero(parts: &[(&str, u64)]) -> Vec<String> {
    let nonzero = parts.iter().filter(|(_, count)| *count > 0);
    nonzero.map(|(part, count)| format!("{count} {}", part.replace('_', " "))).collect()
}

fn sum(parts: &[(&str, u64)]) -> u64 {
    parts.iter().map(|(_, count)| count).sum()
}
