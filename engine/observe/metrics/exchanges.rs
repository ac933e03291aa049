//! The families of connections, messages and exchanges.

use super::super::statistics::Observed;
use super::exposition::{Exposition, Family};
use crate::protocol::Kind;
use crate::protocol::classes::{GRPC_CODES, METHODS, STATUSES, TTFB_BOUNDS_NS};

const CONNECTIONS: Family = Family::gauge(
    "httplines_connections",
    "Connections that are followed, with those that have ended and are still remembered.",
);
const CONNECTIONS_OVER: Family = Family::counter(
    "httplines_connections_total",
    "Connections that were forgotten, some time after their end, by what they carried.",
);
const GIVEN_UP: Family = Family::counter(
    "httplines_connections_given_up_total",
    "Connections that are over without an end that was seen.",
);
const GAPS: Family = Family::counter(
    "httplines_gaps_total",
    "Holes in the streams of connections: bytes that were lost on the way to us.",
);
const GAP_BYTES: Family = Family::counter("httplines_gap_bytes_total", "Bytes in these holes.");
const IN_PROGRESS: Family =
    Family::gauge("httplines_exchanges_in_progress", "Exchanges that have begun and not ended.");
const EXCHANGES: Family = Family::counter(
    "httplines_exchanges_total",
    "Exchanges that are over, by outcome, without those of --answered-only and --shed.",
);
const REQUESTS: Family =
    Family::counter("httplines_requests_total", "Requests of these exchanges, by method.");
const RESPONSES: Family = Family::counter(
    "httplines_responses_total",
    "Responses of these exchanges, interim ones too, by the class of the status.",
);
const TTFB: Family = Family::histogram(
    "httplines_ttfb_seconds",
    "From the last byte of the request to the first byte of the final response, on the wire.",
);
const HTTP2_CONNECTIONS: Family =
    Family::counter("httplines_http2_connections_total", "Connections that speak HTTP/2.");
const HTTP2_WITHDRAWN: Family = Family::counter(
    "httplines_http2_connections_withdrawn_total",
    "Of them, those that turned out to speak HTTP/1.",
);
const HTTP2_STREAMS: Family = Family::counter(
    "httplines_http2_streams_total",
    "Streams of HTTP/2 that are over; each is one of the exchanges.",
);
const HTTP2_LOST: Family = Family::counter(
    "httplines_http2_streams_lost_total",
    "Streams of HTTP/2 that were given up, by cause.",
);
const GRPC: Family = Family::counter(
    "httplines_grpc_calls_total",
    "Calls of gRPC and gRPC-Web that are over, by status code; none: no status was seen.",
);
const TALKS: Family = Family::counter(
    "httplines_websocket_talks_total",
    "Talks of WebSocket that are over, by outcome; counted with --records websocket.",
);
const MESSAGES: Family = Family::counter(
    "httplines_websocket_messages_total",
    "Messages of these talks, as far as they are known.",
);
const FRAMES: Family =
    Family::counter("httplines_websocket_frames_total", "Frames of these talks, likewise.");
const TLS: Family = Family::counter(
    "httplines_tls_connections_total",
    "Connections of TLS that were reported, by outcome; counted with --records tls.",
);
const TLS_VERSIONS: Family = Family::counter(
    "httplines_tls_versions_total",
    "These connections, by the version that the server chose; none: no ServerHello was seen.",
);

pub(super) fn add(out: &mut Exposition, observed: &Observed<'_>) {
    let pipeline = &observed.totals.shards.pipeline;
    let (flow, protocol) = (&pipeline.flow, &pipeline.protocol);
    let held = |of: fn(&crate::pipeline::PipelineGauges) -> u64| {
        observed.shards.iter().map(|shard| of(&shard.gauges.pipeline)).sum::<u64>()
    };
    out.add(&CONNECTIONS, &[], held(|it| it.connections));
    let kinds = Kind::ALL.iter().map(|kind| (kind.key(), protocol.flows.of(*kind)));
    let others = [("other", protocol.flows.other), ("empty", protocol.flows.empty)];
    out.add_each(&CONNECTIONS_OVER, "kind", kinds.chain(others));
    let causes =
        [("evicted", flow.flows_evicted), ("idle", flow.flows_idle), ("reused", flow.flows_reused)];
    out.add_each(&GIVEN_UP, "cause", causes);
    out.add(&GAPS, &[], flow.gaps);
    out.add(&GAP_BYTES, &[], flow.gap_bytes);
    out.add(&IN_PROGRESS, &[], held(|it| it.exchanges));
    let exchanges = &protocol.exchanges;
    let outcomes = [
        ("complete", exchanges.exchanges_complete),
        ("no_response", exchanges.exchanges_no_response),
        ("no_request", exchanges.exchanges_no_request),
        ("truncated", exchanges.exchanges_truncated),
    ];
    out.add_each(&EXCHANGES, "outcome", outcomes);
    let classes = &protocol.classes;
    out.add_each(&REQUESTS, "method", METHODS.into_iter().zip(classes.methods));
    out.add_each(&RESPONSES, "code", STATUSES.into_iter().zip(classes.statuses()));
    let ttfb = &classes.ttfb;
    out.add_histogram_ns(&TTFB, &TTFB_BOUNDS_NS, ttfb.buckets(), ttfb.sum_ns);
    let http2 = &protocol.http2;
    out.add(&HTTP2_CONNECTIONS, &[], http2.connections);
    out.add(&HTTP2_WITHDRAWN, &[], http2.connections_withdrawn);
    out.add(&HTTP2_STREAMS, &[], classes.http2_streams);
    let causes = [
        ("too_many", http2.streams_given_up),
        ("memory", http2.streams_at_bound),
        ("unknown_client", http2.streams_unclear),
    ];
    out.add_each(&HTTP2_LOST, "cause", causes);
    out.add_each(&GRPC, "code", GRPC_CODES.into_iter().zip(classes.grpc));
    let websocket = &protocol.websocket;
    let outcomes = [
        ("complete", websocket.talks_complete),
        ("truncated", websocket.talks_truncated),
        ("unclear", websocket.talks_unclear),
    ];
    out.add_each(&TALKS, "outcome", outcomes);
    out.add(&MESSAGES, &[], websocket.messages);
    out.add(&FRAMES, &[], websocket.frames);
    let tls = &protocol.tls;
    let outcomes = [
        ("complete", tls.connections_complete),
        ("failed", tls.connections_failed),
        ("no_server", tls.connections_no_server),
        ("unclear", tls.connections_unclear),
    ];
    out.add_each(&TLS, "outcome", outcomes);
    let versions = [
        ("1.3", tls.version_13),
        ("1.2", tls.version_12),
        ("1.1", tls.version_11),
        ("1.0", tls.version_10),
        ("other", tls.version_other),
        ("none", tls.version_none),
    ];
    out.add_each(&TLS_VERSIONS, "version", versions);
}
