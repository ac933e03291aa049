//! The parts of a line, and how many bytes each of them may take: the byte budget of the JSON
//! format.

use crate::config::SensorName;
use crate::decode::TunnelPath;
use crate::ids::VLAN_DEPTH_MAX;
use crate::record::INTERIM_COUNT_MAX;
use crate::record::community_id::COMMUNITY_ID_BYTES;
use crate::record::digits::{IP_BYTES_MAX, Rfc3339};
use crate::record::escape::Fold;
use crate::record::mask::Kind;

/// A field whose value is text.
pub(super) struct TextField {
    /// The comma, key, colon and opening quote.
    pub(super) open: &'static [u8],
    /// The same for the twin field with the exact bytes in base64.
    pub(super) open_b64: &'static [u8],
    /// The comma, key and colon of the field with the length on the wire.
    pub(super) open_len: &'static [u8],
    /// Rendered bytes that are always available for it.
    pub(super) reserve_bytes: usize,
    /// The maximum of rendered bytes.
    pub(super) cap_bytes: usize,
    /// Whether folds are shown as a space: it is the value of a header.
    pub(super) fold: Fold,
    /// What is masked in it.
    pub(super) kind: Kind<'static>,
}

impl TextField {
    /// The maximum size of its keys, quotes and length.
    pub(super) const fn fixed_bytes(&self) -> usize {
        self.open.len() + 1 + self.open_b64.len() + 1 + self.open_len.len() + DECIMAL_BYTES_MAX
    }
}

macro_rules! text_field {
    ($name:ident, $key:literal, $reserve:expr, $cap:expr, $kind:expr) => {
        text_field!($name, $key, $reserve, $cap, $kind, {
            if let Kind::Usual { .. } = $kind { Fold::Space } else { Fold::Keep }
        });
    };
    ($name:ident, $key:literal, $reserve:expr, $cap:expr, $kind:expr, $fold:expr) => {
        pub(super) const $name: TextField = TextField {
            open: concat!(",\"", $key, "\":\"").as_bytes(),
            open_b64: concat!(",\"", $key, "_b64\":\"").as_bytes(),
            open_len: concat!(",\"", $key, "_len\":").as_bytes(),
            reserve_bytes: $reserve,
            cap_bytes: $cap,
            fold: $fold,
            kind: $kind,
        };
    };
}

/// The value of header `name`.
const fn header(name: &'static [u8]) -> Kind<'static> {
    Kind::Usual { name, is_uri: false }
}

/// The value of header `name`, which is a URI.
const fn uri(name: &'static [u8]) -> Kind<'static> {
    Kind::Usual { name, is_uri: true }
}

text_field!(IFACE, "iface", 128, 128, Kind::Other);
text_field!(SCHEME, "scheme", 16, 64, Kind::Token);
text_field!(CONNECT_PROTOCOL, "connect_protocol", 16, 64, Kind::Token);
text_field!(METHOD, "method", 128, 512, Kind::Token);
text_field!(TARGET, "target", 1024, 8192, Kind::Target);
text_field!(VERSION, "version", 64, 256, Kind::Token);
text_field!(HOST, "host", 512, 1024, uri(b"Host"));
text_field!(USER_AGENT, "user_agent", 512, 2048, header(b"User-Agent"));
text_field!(REFERER, "referer", 512, 4096, uri(b"Referer"));
text_field!(REQUEST_CONTENT_TYPE, "request_content_type", 256, 1024, header(b"Content-Type"));
text_field!(REASON, "reason", 128, 1024, Kind::Other);
text_field!(RESPONSE_CONTENT_TYPE, "response_content_type", 256, 1024, header(b"Content-Type"));
text_field!(SERVER, "server", 256, 1024, header(b"Server"));
text_field!(LOCATION, "location", 512, 4096, uri(b"Location"));
text_field!(GRPC_MESSAGE, "grpc_message", 256, 2048, header(b"Grpc-Message"), Fold::Keep);
text_field!(GRPC_ENCODING, "grpc_encoding", 16, 64, header(b"Grpc-Encoding"));

// Only talks of WebSocket have these.
text_field!(SUBPROTOCOL, "subprotocol", 256, 1024, header(b"Sec-WebSocket-Protocol"));
text_field!(CLOSE_REASON, "close_reason", 1024, 1024, header(b"Close-Reason"));

// Only connections of TLS have these.
text_field!(SNI, "sni", 512, 1024, Kind::Other);
text_field!(ALPN, "alpn", 64, 1024, Kind::Other);
text_field!(CERTIFICATE_CN, "certificate_cn", 256, 1024, Kind::Other);
text_field!(CERTIFICATE_ISSUER, "certificate_issuer", 512, 2048, Kind::Other);
text_field!(CLIENT_CERTIFICATE_CN, "client_certificate_cn", 256, 1024, Kind::Other);

const TEXTS: [&TextField; 16] = [
    &IFACE,
    &SCHEME,
    &CONNECT_PROTOCOL,
    &METHOD,
    &TARGET,
    &VERSION,
    &HOST,
    &USER_AGENT,
    &REFERER,
    &REQUEST_CONTENT_TYPE,
    &REASON,
    &RESPONSE_CONTENT_TYPE,
    &SERVER,
    &LOCATION,
    &GRPC_MESSAGE,
    &GRPC_ENCODING,
];

/// Digits of the largest u64.
pub(super) const DECIMAL_BYTES_MAX: usize = 20;
/// Rendered bytes that are always available for each list of headers.
pub(super) const HEADERS_RESERVE_BYTES: usize = 1024;
/// The maximum of rendered bytes of one header's value, base64 included.
pub(super) const HEADER_VALUE_BYTES_MAX: usize = 2048;
/// The maximum of rendered bytes of one header's name.
pub(super) const HEADER_NAME_BYTES_MAX: usize = 256;
/// The number of interface names that are remembered. A capture file can have any number of them.
pub(super) const IFACE_COUNT_MAX: usize = 256;

pub(super) const KEY_TS: &[u8] = b"\"ts\":\"";
pub(super) const KEY_SENSOR: &[u8] = b"\"sensor\":\"";
pub(super) const KEY_FLOW: &[u8] = b"\"flow\":\"";
pub(super) const KEY_N: &[u8] = b"\",\"n\":";
pub(super) const KEY_CLIENT_IP: &[u8] = b",\"client_ip\":\"";
pub(super) const KEY_CLIENT_PORT: &[u8] = b"\",\"client_port\":";
pub(super) const KEY_SERVER_IP: &[u8] = b",\"server_ip\":\"";
pub(super) const KEY_SERVER_PORT: &[u8] = b"\",\"server_port\":";
pub(super) const KEY_COMMUNITY_ID: &[u8] = b",\"community_id\":\"";
pub(super) const KEY_VLAN: &[u8] = b",\"vlan\":[";
pub(super) const KEY_TUNNEL: &[u8] = b",\"tunnel\":[";
/// Replaces encapsulations that did not fit into the path.
pub(super) const TUNNEL_CUT: &[u8] = b"\"...\",";
pub(super) const KEY_STREAM: &[u8] = b",\"stream\":";
pub(super) const UPGRADED: &[u8] = b",\"upgraded\":\"h2c\"";
pub(super) const PUSHED: &[u8] = b",\"pushed\":true";
pub(super) const KEY_STATUS: &[u8] = b",\"status\":";
pub(super) const KEY_GRPC_STATUS: &[u8] = b",\"grpc_status\":";
pub(super) const KEY_GRPC_REQUEST_MESSAGES: &[u8] = b",\"grpc_request_messages\":";
pub(super) const KEY_GRPC_RESPONSE_MESSAGES: &[u8] = b",\"grpc_response_messages\":";
pub(super) const KEY_REQUEST_BODY: &[u8] = b",\"request_body_bytes\":";
pub(super) const KEY_RESPONSE_BODY: &[u8] = b",\"response_body_bytes\":";
pub(super) const KEY_CONNECT: &[u8] = b",\"connect_ns\":";
pub(super) const KEY_REQUEST: &[u8] = b",\"request_ns\":";
pub(super) const KEY_TTFB: &[u8] = b",\"ttfb_ns\":";
pub(super) const KEY_RESPONSE: &[u8] = b",\"response_ns\":";
pub(super) const KEY_DURATION: &[u8] = b",\"duration_ns\":";
pub(super) const KEY_INTERIM: &[u8] = b",\"interim\":[";
pub(super) const KEY_INTERIM_LEN: &[u8] = b",\"interim_len\":";
pub(super) const KEY_OUTCOME: &[u8] = b",\"outcome\":\"";
pub(super) const KEY_END_REASON: &[u8] = b",\"end_reason\":\"";
pub(super) const KEY_RESET_BY: &[u8] = b",\"reset_by\":\"";
pub(super) const KEY_RESET_CODE: &[u8] = b",\"reset_code\":\"";
pub(super) const KEY_UNKNOWN: &[u8] = b",\"headers_unknown\":";
pub(super) const KEY_GAP: &[u8] = b",\"gap_bytes\":";
pub(super) const KEY_RETRANSMITTED: &[u8] = b",\"retransmitted_bytes\":";
pub(super) const MIDSTREAM: &[u8] = b",\"midstream\":true";
pub(super) const SWITCHED: &[u8] = b",\"switched\":true";
pub(super) const CONFLICT: &[u8] = b",\"conflict\":true";
pub(super) const EARLY_RESPONSE: &[u8] = b",\"early_response\":true";
pub(super) const KEY_PARTIAL: &[u8] = b",\"partial\":true,\"active_ns\":";
pub(super) const KEY_REQUEST_HEADERS: &[u8] = b",\"request_headers\":";
pub(super) const KEY_RESPONSE_HEADERS: &[u8] = b",\"response_headers\":";
pub(super) const KEY_REQUEST_TRAILERS: &[u8] = b",\"request_trailers\":";
pub(super) const KEY_RESPONSE_TRAILERS: &[u8] = b",\"response_trailers\":";
pub(super) const KEY_OMITTED: &[u8] = b",\"headers_omitted\":";

/// The longest rendered encapsulation, `"l2tp:65535:65535",`.
const ENCAPSULATION_BYTES_MAX: usize = 19;
/// The longest name of an outcome or an end.
pub(super) const NAME_BYTES_MAX: usize = 16;
/// The longest name of an error code: `inadequate_security`. A number is shorter.
const RESET_NAME_BYTES_MAX: usize = 19;

/// The keys and brackets of the lists of headers, the count of omitted headers, the closing brace,
/// and the line feed.
pub(super) const HEADERS_FIXED_BYTES: usize = KEY_REQUEST_HEADERS.len()
    + 2
    + KEY_RESPONSE_HEADERS.len()
    + 2
    + KEY_REQUEST_TRAILERS.len()
    + 2
    + KEY_RESPONSE_TRAILERS.len()
    + 2
    + KEY_OMITTED.len()
    + DECIMAL_BYTES_MAX
    + 2;

/// The maximum size of everything that is not text: every key, and every number at its longest.
/// What is there on request only is apart.
pub const FIXED_BYTES_MAX: usize = {
    let mut bytes = 1 + KEY_TS.len() + Rfc3339::BYTES + 2 + KEY_FLOW.len() + 16;
    bytes += KEY_N.len() + 10;
    bytes += KEY_CLIENT_IP.len() + IP_BYTES_MAX + KEY_CLIENT_PORT.len() + 5;
    bytes += KEY_SERVER_IP.len() + IP_BYTES_MAX + KEY_SERVER_PORT.len() + 5;
    bytes += KEY_VLAN.len() + VLAN_DEPTH_MAX * 6 + 1;
    bytes += KEY_TUNNEL.len() + TunnelPath::LEN_MAX * ENCAPSULATION_BYTES_MAX + TUNNEL_CUT.len();
    bytes += KEY_STATUS.len() + 5;
    let numbers = [
        KEY_GRPC_STATUS,
        KEY_GRPC_REQUEST_MESSAGES,
        KEY_GRPC_RESPONSE_MESSAGES,
        KEY_REQUEST_BODY,
        KEY_RESPONSE_BODY,
        KEY_CONNECT,
        KEY_REQUEST,
        KEY_TTFB,
        KEY_RESPONSE,
        KEY_DURATION,
        KEY_STREAM,
        KEY_UNKNOWN,
        KEY_GAP,
        KEY_RETRANSMITTED,
        KEY_INTERIM_LEN,
        KEY_PARTIAL,
    ];
    let mut index = 0;
    while index < numbers.len() {
        bytes += numbers[index].len() + DECIMAL_BYTES_MAX;
        index += 1;
    }
    bytes += KEY_INTERIM.len() + INTERIM_COUNT_MAX * 6 + 1;
    bytes += KEY_OUTCOME.len() + NAME_BYTES_MAX + 1 + KEY_END_REASON.len() + NAME_BYTES_MAX + 1;
    bytes += UPGRADED.len() + PUSHED.len();
    bytes += KEY_RESET_BY.len() + 6 + 1 + KEY_RESET_CODE.len() + RESET_NAME_BYTES_MAX + 1;
    bytes += MIDSTREAM.len() + SWITCHED.len() + CONFLICT.len() + EARLY_RESPONSE.len();
    let mut index = 0;
    while index < TEXTS.len() {
        bytes += TEXTS[index].fixed_bytes();
        index += 1;
    }
    bytes + HEADERS_FIXED_BYTES
};

/// The size of `community_id`.
pub(super) const COMMUNITY_ID_FIELD_BYTES: usize = KEY_COMMUNITY_ID.len() + COMMUNITY_ID_BYTES + 1;

/// The maximum size of what is there on request only: `sensor`, where a quote and a backslash take
/// two bytes, and `community_id`.
pub(super) const IDENTITY_BYTES_MAX: usize =
    KEY_SENSOR.len() + 2 * SensorName::BYTES_MAX + 2 + COMMUNITY_ID_FIELD_BYTES;

/// The sum of all reserves.
pub(super) const RESERVE_BYTES: usize = {
    let mut bytes = 2 * HEADERS_RESERVE_BYTES;
    let mut index = 0;
    while index < TEXTS.len() {
        assert!(TEXTS[index].reserve_bytes <= TEXTS[index].cap_bytes);
        bytes += TEXTS[index].reserve_bytes;
        index += 1;
    }
    bytes
};

/// The smallest `line_bytes_max` that can always be kept. Smaller values are raised to it.
pub const LINE_BYTES_MIN: usize = FIXED_BYTES_MAX + IDENTITY_BYTES_MAX + RESERVE_BYTES;

// In a line of 16 KiB, a target of 7 KiB is shown completely, even if every other text uses its
// reserve.
const _: () = assert!(LINE_BYTES_MIN + 7 * 1024 - TARGET.reserve_bytes <= 16 << 10);

/// How much of an allowance the shown text may take. If it has a base64 twin, which takes 4 bytes
/// for 3, both get what the same bytes need.
pub(super) const fn text_limit(allowance_bytes: usize, is_utf8: bool) -> usize {
    if is_utf8 { allowance_bytes } else { allowance_bytes * 3 / 7 }
}
