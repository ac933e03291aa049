-- Tables for the lines of httplines in ClickHouse. Generated from docs/schema.json and
-- docs/stats.schema.json, which say what the columns mean. docs/queries.md says how to load lines.
--
-- An absent key is NULL where 0 is another value, and else 0, '', false or []. Headers and the
-- groups of http_stats are JSON as text, for the functions JSONExtract. IPv4 addresses are shown as
-- ::ffff:192.0.2.1. A line without ts, which is rare, has 1970.

CREATE TABLE IF NOT EXISTS http (
    type LowCardinality(String),
    ts DateTime64(9, 'UTC'),
    sensor LowCardinality(String),
    flow FixedString(16),
    n UInt64,
    client_ip IPv6,
    client_port UInt16,
    server_ip IPv6,
    server_port UInt16,
    community_id String,
    vlan Array(UInt16),
    tunnel Array(LowCardinality(String)),
    iface LowCardinality(String),
    iface_len UInt64,
    stream UInt32,
    upgraded LowCardinality(String),
    pushed Bool,
    scheme LowCardinality(String),
    scheme_b64 String,
    scheme_len UInt64,
    connect_protocol LowCardinality(String),
    connect_protocol_b64 String,
    connect_protocol_len UInt64,
    method LowCardinality(String),
    method_b64 String,
    method_len UInt64,
    target String,
    target_b64 String,
    target_len UInt64,
    version LowCardinality(String),
    version_b64 String,
    version_len UInt64,
    host LowCardinality(String),
    host_b64 String,
    host_len UInt64,
    user_agent String,
    user_agent_b64 String,
    user_agent_len UInt64,
    referer String,
    referer_b64 String,
    referer_len UInt64,
    request_content_type LowCardinality(String),
    request_content_type_b64 String,
    request_content_type_len UInt64,
    status UInt16,
    reason LowCardinality(String),
    reason_b64 String,
    reason_len UInt64,
    response_content_type LowCardinality(String),
    response_content_type_b64 String,
    response_content_type_len UInt64,
    server LowCardinality(String),
    server_b64 String,
    server_len UInt64,
    location String,
    location_b64 String,
    location_len UInt64,
    grpc_status Nullable(UInt32),
    grpc_message String,
    grpc_message_b64 String,
    grpc_message_len UInt64,
    grpc_request_messages Nullable(UInt64),
    grpc_response_messages Nullable(UInt64),
    grpc_encoding LowCardinality(String),
    grpc_encoding_b64 String,
    grpc_encoding_len UInt64,
    subprotocol LowCardinality(String),
    subprotocol_b64 String,
    subprotocol_len UInt64,
    deflate Bool,
    client_messages Nullable(UInt64),
    server_messages Nullable(UInt64),
    client_text Nullable(UInt64),
    server_text Nullable(UInt64),
    client_binary Nullable(UInt64),
    server_binary Nullable(UInt64),
    client_message_bytes Nullable(UInt64),
    server_message_bytes Nullable(UInt64),
    client_frames Nullable(UInt64),
    server_frames Nullable(UInt64),
    pings Nullable(UInt64),
    pongs Nullable(UInt64),
    close_by LowCardinality(String),
    close_code Nullable(UInt16),
    close_reason String,
    close_reason_b64 String,
    close_reason_len UInt64,
    request_body_bytes Nullable(UInt64),
    response_body_bytes Nullable(UInt64),
    connect_ns Nullable(UInt64),
    request_ns Nullable(UInt64),
    ttfb_ns Nullable(UInt64),
    response_ns Nullable(UInt64),
    duration_ns Nullable(UInt64),
    interim Array(UInt16),
    interim_len UInt64,
    outcome LowCardinality(String),
    end_reason LowCardinality(String),
    reset_by LowCardinality(String),
    reset_code LowCardinality(String),
    headers_unknown UInt64,
    gap_bytes UInt64,
    retransmitted_bytes UInt64,
    midstream Bool,
    switched Bool,
    conflict Bool,
    early_response Bool,
    partial Bool,
    active_ns Nullable(UInt64),
    request_headers String,
    response_headers String,
    request_trailers String,
    response_trailers String,
    headers_omitted UInt64
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (toStartOfHour(ts), host, ts);
-- To keep 14 days: ALTER TABLE http MODIFY TTL toDateTime(ts) + INTERVAL 14 DAY;

-- Each record once: the final one before partial ones, of copies the complete one with the fewest
-- gaps, of partial ones the latest:
-- SELECT ... FROM http_once(since = '2026-11-01', until = '2026-12-01')
CREATE VIEW IF NOT EXISTS http_once AS
SELECT * FROM http
WHERE ts >= {since:DateTime64(9, 'UTC')} AND ts < {until:DateTime64(9, 'UTC')}
ORDER BY partial, outcome <> 'complete', gap_bytes, active_ns DESC, sensor, iface
LIMIT 1 BY type, flow, n;

-- The lines of http.stats.
CREATE TABLE IF NOT EXISTS http_stats (
    ts DateTime64(9, 'UTC'),
    sensor LowCardinality(String),
    version LowCardinality(String),
    run FixedString(16),
    pid UInt64,
    started DateTime64(9, 'UTC'),
    seq UInt64,
    final Bool,
    output String,
    shard_count UInt64,
    interface_count UInt64,
    violations Array(LowCardinality(String)),
    errors Array(LowCardinality(String)),
    total String,
    delta String,
    gauges String
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (run, seq);
