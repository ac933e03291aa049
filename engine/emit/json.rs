//! One JSON object per exchange, on one line: DESIGN.md section 5 and `docs/schema.json`.
//!
//! A line is never longer than `line_bytes_max`, whatever was on the wire. The proof is an account: what
//! is not text (keys, numbers, punctuation) is at most [`FIXED_BYTES_MAX`]; each text has a reserve of its
//! own; what is then left of the line is the spare, and a text longer than its reserve takes the rest from
//! the spare, up to its cap. So the texts together take at most the sum of the reserves and the spare, and
//! the line at most its maximum. Bytes of a text are counted as they appear, escapes and base64 included.

use crate::config::EmitConfig;
use crate::emit::Format;
use crate::emit::digits::{IP_BYTES_MAX, Rfc3339, append_decimal, append_hex, append_ip};
use crate::emit::escape::{Fold, append_base64, append_escaped, plain_len};
use crate::emit::headers::{HeaderLines, MASK, before_query, is_secret, is_uri};
use crate::http::{Exchange, FlowIdentity, Message};
use crate::ids::{IfaceId, IfaceNames, VLAN_DEPTH_MAX};
use crate::time::TimestampNs;

/// A field whose value is text.
struct TextField {
    /// Comma, key, colon and opening quote.
    open: &'static [u8],
    /// The same for the twin with the exact bytes.
    open_b64: &'static [u8],
    /// Comma, key and colon of the length on the wire.
    open_len: &'static [u8],
    /// Rendered bytes that it can always have.
    reserve_bytes: usize,
    /// Rendered bytes that it has at most.
    cap_bytes: usize,
    fold: Fold,
}

impl TextField {
    /// What keys, quotes and the length take at most.
    const fn fixed_bytes(&self) -> usize {
        self.open.len() + 1 + self.open_b64.len() + 1 + self.open_len.len() + DECIMAL_BYTES_MAX
    }
}

macro_rules! text_field {
    ($name:ident, $key:literal, $reserve:expr, $cap:expr, $fold:expr) => {
        const $name: TextField = TextField {
            open: concat!(",\"", $key, "\":\"").as_bytes(),
            open_b64: concat!(",\"", $key, "_b64\":\"").as_bytes(),
            open_len: concat!(",\"", $key, "_len\":").as_bytes(),
            reserve_bytes: $reserve,
            cap_bytes: $cap,
            fold: $fold,
        };
    };
}

text_field!(IFACE, "iface", 128, 128, Fold::Keep);
text_field!(METHOD, "method", 128, 256, Fold::Keep);
text_field!(TARGET, "target", 1024, 8192, Fold::Keep);
text_field!(VERSION, "version", 64, 128, Fold::Keep);
text_field!(HOST, "host", 512, 1024, Fold::Space);
text_field!(USER_AGENT, "user_agent", 512, 2048, Fold::Space);
text_field!(REFERER, "referer", 512, 4096, Fold::Space);
text_field!(REQUEST_TYPE, "request_type", 256, 1024, Fold::Space);
text_field!(REASON, "reason", 128, 1024, Fold::Keep);
text_field!(RESPONSE_TYPE, "response_type", 256, 1024, Fold::Space);
text_field!(SERVER, "server", 256, 1024, Fold::Space);
text_field!(LOCATION, "location", 512, 4096, Fold::Space);

const TEXTS: [&TextField; 12] = [
    &IFACE,
    &METHOD,
    &TARGET,
    &VERSION,
    &HOST,
    &USER_AGENT,
    &REFERER,
    &REQUEST_TYPE,
    &REASON,
    &RESPONSE_TYPE,
    &SERVER,
    &LOCATION,
];

/// Digits of the largest u64.
const DECIMAL_BYTES_MAX: usize = 20;
/// Statuses of interim answers that are listed; `interim_len` counts them all where there are more.
const INTERIM_COUNT_MAX: usize = 32;
/// Rendered bytes that a list of headers can always have.
const HEADERS_RESERVE_BYTES: usize = 1024;
/// Rendered bytes of one header's value at most, base64 included.
const HEADER_VALUE_BYTES_MAX: usize = 2048;
/// Rendered bytes of one header's name at most.
const HEADER_NAME_BYTES_MAX: usize = 256;
/// Names of interfaces that are remembered; a capture file can have any number of them.
const IFACE_COUNT_MAX: usize = 256;

const KEY_TS: &[u8] = b"\"ts\":\"";
const KEY_FLOW: &[u8] = b"\"flow\":\"";
const KEY_N: &[u8] = b"\",\"n\":";
const KEY_CLIENT_IP: &[u8] = b",\"client_ip\":\"";
const KEY_CLIENT_PORT: &[u8] = b"\",\"client_port\":";
const KEY_SERVER_IP: &[u8] = b",\"server_ip\":\"";
const KEY_SERVER_PORT: &[u8] = b"\",\"server_port\":";
const KEY_VLAN: &[u8] = b",\"vlan\":[";
const KEY_STATUS: &[u8] = b",\"status\":";
const KEY_REQUEST_BODY: &[u8] = b",\"request_body_bytes\":";
const KEY_RESPONSE_BODY: &[u8] = b",\"response_body_bytes\":";
const KEY_CONNECT: &[u8] = b",\"connect_ns\":";
const KEY_REQUEST: &[u8] = b",\"request_ns\":";
const KEY_TTFB: &[u8] = b",\"ttfb_ns\":";
const KEY_RESPONSE: &[u8] = b",\"response_ns\":";
const KEY_INTERIM: &[u8] = b",\"interim\":[";
const KEY_INTERIM_LEN: &[u8] = b",\"interim_len\":";
const KEY_OUTCOME: &[u8] = b",\"outcome\":\"";
const KEY_END: &[u8] = b",\"end\":\"";
const KEY_GAP: &[u8] = b",\"gap_bytes\":";
const MIDSTREAM: &[u8] = b",\"midstream\":true";
const SWITCHED: &[u8] = b",\"switched\":true";
const CONFLICT: &[u8] = b",\"conflict\":true";
const EARLY: &[u8] = b",\"early\":true";
const KEY_REQUEST_HEADERS: &[u8] = b",\"request_headers\":[";
const KEY_RESPONSE_HEADERS: &[u8] = b",\"response_headers\":[";
const KEY_OMITTED: &[u8] = b",\"headers_omitted\":";

/// Longest name of an outcome or an end.
const NAME_BYTES_MAX: usize = 16;

/// Bytes of all that is not text, at most: every key at once, every number at its longest.
pub const FIXED_BYTES_MAX: usize = {
    let mut bytes = 1 + KEY_TS.len() + Rfc3339::BYTES + 2 + KEY_FLOW.len() + 16;
    bytes += KEY_N.len() + 10;
    bytes += KEY_CLIENT_IP.len() + IP_BYTES_MAX + KEY_CLIENT_PORT.len() + 5;
    bytes += KEY_SERVER_IP.len() + IP_BYTES_MAX + KEY_SERVER_PORT.len() + 5;
    bytes += KEY_VLAN.len() + VLAN_DEPTH_MAX * 6 + 1;
    bytes += KEY_STATUS.len() + 5;
    let numbers = [
        KEY_REQUEST_BODY,
        KEY_RESPONSE_BODY,
        KEY_CONNECT,
        KEY_REQUEST,
        KEY_TTFB,
        KEY_RESPONSE,
        KEY_GAP,
        KEY_INTERIM_LEN,
        KEY_OMITTED,
    ];
    let mut index = 0;
    while index < numbers.len() {
        bytes += numbers[index].len() + DECIMAL_BYTES_MAX;
        index += 1;
    }
    bytes += KEY_INTERIM.len() + INTERIM_COUNT_MAX * 6 + 1;
    bytes += KEY_OUTCOME.len() + NAME_BYTES_MAX + 1 + KEY_END.len() + NAME_BYTES_MAX + 1;
    bytes += MIDSTREAM.len() + SWITCHED.len() + CONFLICT.len() + EARLY.len();
    bytes += KEY_REQUEST_HEADERS.len() + 1 + KEY_RESPONSE_HEADERS.len() + 1;
    let mut index = 0;
    while index < TEXTS.len() {
        bytes += TEXTS[index].fixed_bytes();
        index += 1;
    }
    // The closing brace and the line feed.
    bytes + 2
};

/// Bytes of all reserves.
const RESERVE_BYTES: usize = {
    let mut bytes = 2 * HEADERS_RESERVE_BYTES;
    let mut index = 0;
    while index < TEXTS.len() {
        assert!(TEXTS[index].reserve_bytes <= TEXTS[index].cap_bytes);
        bytes += TEXTS[index].reserve_bytes;
        index += 1;
    }
    bytes
};

/// The least `line_bytes_max` that can be kept in every case; a smaller one is taken as this.
pub const LINE_BYTES_MIN: usize = FIXED_BYTES_MAX + RESERVE_BYTES;

// With lines of 16 KiB a target of 7 KiB is shown whole, even if every other text takes its reserve.
const _: () = assert!(LINE_BYTES_MIN + 7 * 1024 - TARGET.reserve_bytes <= 16 << 10);

/// Which headers are listed beside those that records name.
#[derive(Clone, Debug)]
enum HeaderChoice {
    None,
    Named(Vec<String>),
    All,
}

/// Makes the JSON lines. Nothing is allocated for a line; what it keeps is bounded.
///
/// Choices that DESIGN.md leaves open:
/// - `ts` of an exchange whose first byte was lost is the time of the first byte or else the last byte that
///   is known, in the order request's first, request's last, response's first, response's last. Where no
///   time is known there is no `ts`: it is never invented.
/// - Times between stamps that run backwards are 0.
/// - More headers are listed as `"request_headers":[[name,value],…]` and `"response_headers"`, the same for
///   `--header` and `--all-headers`. A value that is not shown exactly has a third element,
///   `{"b64":…,"len":…}`: the bytes where they are not UTF-8, the length on the wire where it was cut. Names
///   are cut at 256 bytes.
/// - A query that is redacted is shown as `?***`, and `_len` tells the length on the wire.
#[derive(Debug)]
pub struct JsonFormat {
    line_bytes_max: usize,
    headers: HeaderChoice,
    is_secrets_shown: bool,
    is_query_redacted: bool,
    times: Rfc3339,
    names: IfaceNames,
    ifaces: Vec<(IfaceId, Vec<u8>)>,
    /// A value with its mask.
    masked: Vec<u8>,
}

impl JsonFormat {
    /// Lines as `config` wants them; `names` is asked once for each interface.
    pub fn new(config: &EmitConfig, names: IfaceNames) -> JsonFormat {
        let headers = if config.is_all_headers {
            HeaderChoice::All
        } else if config.extra_headers.is_empty() {
            HeaderChoice::None
        } else {
            HeaderChoice::Named(config.extra_headers.clone())
        };
        JsonFormat {
            line_bytes_max: config.line_bytes_max.max(LINE_BYTES_MIN),
            headers,
            is_secrets_shown: config.is_secrets_shown,
            is_query_redacted: config.is_query_redacted,
            times: Rfc3339::default(),
            names,
            ifaces: Vec::new(),
            masked: Vec::new(),
        }
    }

    /// `iface`, rendered once for each interface.
    fn iface(&mut self, id: IfaceId, out: &mut Vec<u8>) {
        if let Some((_, rendered)) = self.ifaces.iter().find(|(known, _)| *known == id) {
            return out.extend_from_slice(rendered);
        }
        if self.ifaces.len() == IFACE_COUNT_MAX {
            self.ifaces.clear();
        }
        let mut rendered = Vec::new();
        if let Some(name) = self.names.get(id) {
            text(&IFACE, name.as_bytes(), &mut 0, &mut rendered);
        }
        out.extend_from_slice(&rendered);
        self.ifaces.push((id, rendered));
    }

    /// A text that may have a query to hide.
    #[inline]
    fn uri(&mut self, field: &TextField, value: &[u8], spare: &mut usize, out: &mut Vec<u8>) {
        if self.is_query_redacted
            && let Some(shown) = before_query(value)
        {
            self.masked.clear();
            self.masked.extend_from_slice(shown);
            self.masked.extend_from_slice(MASK);
            out.extend_from_slice(field.open);
            return text_with_care(field, &self.masked, value.len(), spare, out);
        }
        text(field, value, spare, out);
    }

    fn request(&mut self, request: &Message, spare: &mut usize, out: &mut Vec<u8>) {
        let fields = &request.fields;
        if let Some(value) = request.field(fields.first) {
            text(&METHOD, value, spare, out);
        }
        if let Some(value) = request.field(fields.second) {
            self.uri(&TARGET, value, spare, out);
        }
        if let Some(value) = request.field(fields.third) {
            text(&VERSION, value, spare, out);
        }
        if let Some(value) = request.field(fields.host) {
            text(&HOST, value, spare, out);
        }
        if let Some(value) = request.field(fields.user_agent) {
            text(&USER_AGENT, value, spare, out);
        }
        if let Some(value) = request.field(fields.referer) {
            self.uri(&REFERER, value, spare, out);
        }
        if let Some(value) = request.field(fields.content_type) {
            text(&REQUEST_TYPE, value, spare, out);
        }
    }

    fn response(&mut self, response: &Message, spare: &mut usize, out: &mut Vec<u8>) {
        let fields = &response.fields;
        if response.status != 0 {
            number(KEY_STATUS, u64::from(response.status), out);
        }
        if let Some(value) = response.field(fields.third) {
            text(&REASON, value, spare, out);
        }
        if let Some(value) = response.field(fields.content_type) {
            text(&RESPONSE_TYPE, value, spare, out);
        }
        if let Some(value) = response.field(fields.server) {
            text(&SERVER, value, spare, out);
        }
        if let Some(value) = response.field(fields.location) {
            self.uri(&LOCATION, value, spare, out);
        }
    }

    /// The lists of headers. The request's has half of the spare at most, so that the response's has as much.
    #[cold]
    fn headers(&mut self, exchange: &Exchange, spare: usize, out: &mut Vec<u8>) {
        let mut omitted = 0;
        let mut spare = spare;
        let lists = [
            (KEY_REQUEST_HEADERS, &exchange.request, 2),
            (KEY_RESPONSE_HEADERS, &exchange.response, 1),
        ];
        for (key, message, divisor) in lists {
            if !message.is_seen {
                continue;
            }
            let used = self.header_list(
                key,
                message,
                HEADERS_RESERVE_BYTES + spare / divisor,
                &mut omitted,
                out,
            );
            spare -= used.saturating_sub(HEADERS_RESERVE_BYTES);
        }
        if omitted > 0 {
            number(KEY_OMITTED, omitted, out);
        }
    }

    /// A list of headers in at most `limit_bytes` beside its key and brackets. Returns the bytes it took.
    fn header_list(
        &mut self,
        key: &[u8],
        message: &Message,
        limit_bytes: usize,
        omitted: &mut u64,
        out: &mut Vec<u8>,
    ) -> usize {
        let headers = message.head.get(message.fields.headers_start as usize..).unwrap_or(&[]);
        let list_start = out.len();
        let mut is_full = false;
        for (name, value) in HeaderLines::new(headers) {
            if !self.is_listed(name) {
                continue;
            }
            let pair_start = out.len();
            if !is_full {
                out.extend_from_slice(if pair_start == list_start { key } else { b"," });
                self.header(name, value, out);
                // All that comes after the first header without room is left out, so that order tells.
                is_full = out.len() - list_start - key.len() > limit_bytes;
            }
            if is_full {
                out.truncate(pair_start);
                *omitted += 1;
            }
        }
        if out.len() == list_start {
            return 0;
        }
        let used = out.len() - list_start - key.len();
        out.push(b']');
        used
    }

    fn is_listed(&self, name: &[u8]) -> bool {
        match &self.headers {
            HeaderChoice::None => false,
            HeaderChoice::All => true,
            HeaderChoice::Named(names) => {
                names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name))
            }
        }
    }

    /// `[name,value]` or `[name,value,{…}]`.
    fn header(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.masked.clear();
        let mut shown = value;
        if !self.is_secrets_shown && is_secret(name) {
            shown = MASK;
        } else if self.is_query_redacted
            && is_uri(name)
            && let Some(before) = before_query(value)
        {
            self.masked.extend_from_slice(before);
            self.masked.extend_from_slice(MASK);
            shown = &self.masked;
        }
        out.extend_from_slice(b"[\"");
        append_escaped(name, Fold::Space, HEADER_NAME_BYTES_MAX, out);
        out.extend_from_slice(b"\",\"");
        let is_utf8 = std::str::from_utf8(shown).is_ok();
        let start = out.len();
        let text_limit = text_limit(HEADER_VALUE_BYTES_MAX, is_utf8);
        let mut whole = append_escaped(shown, Fold::Space, text_limit, out);
        let left = HEADER_VALUE_BYTES_MAX - (out.len() - start);
        out.push(b'"');
        if !is_utf8 {
            out.extend_from_slice(b",{\"b64\":\"");
            whole = whole.min(append_base64(shown, left, out));
            out.push(b'"');
        }
        if whole < shown.len() {
            out.extend_from_slice(if is_utf8 { b",{\"len\":" } else { b",\"len\":" });
            append_decimal(value.len() as u64, out);
        }
        if !is_utf8 || whole < shown.len() {
            out.push(b'}');
        }
        out.push(b']');
    }
}

impl Format for JsonFormat {
    fn exchange(&mut self, flow: &FlowIdentity<'_>, exchange: &Exchange, out: &mut Vec<u8>) {
        out.reserve(self.line_bytes_max);
        let start = out.len();
        let mut spare = self.line_bytes_max - LINE_BYTES_MIN;
        out.push(b'{');
        if let Some(time) = earliest(exchange) {
            out.extend_from_slice(KEY_TS);
            self.times.append(time, out);
            out.extend_from_slice(b"\",");
        }
        identity(flow, exchange.n, out);
        self.iface(exchange.iface, out);
        let (request, response) = (&exchange.request, &exchange.response);
        if request.is_seen {
            self.request(request, &mut spare, out);
        } else if let Some(version) = response.field(response.fields.first) {
            text(&VERSION, version, &mut spare, out);
        }
        if response.is_seen {
            self.response(response, &mut spare, out);
        }
        sizes_and_times(exchange, out);
        fate(exchange, out);
        if !matches!(self.headers, HeaderChoice::None) {
            self.headers(exchange, spare, out);
        }
        out.extend_from_slice(b"}\n");
        debug_assert!(out.len() - start <= self.line_bytes_max);
    }
}

/// The time a record begins with: see [`JsonFormat`].
fn earliest(exchange: &Exchange) -> Option<TimestampNs> {
    let of = |message: &Message| {
        if message.is_seen { message.first.or(message.last) } else { None }
    };
    of(&exchange.request).or_else(|| of(&exchange.response))
}

/// From `flow` to `vlan`.
#[inline]
fn identity(flow: &FlowIdentity<'_>, n: u32, out: &mut Vec<u8>) {
    let key = flow.key;
    let (client, server) = (flow.client.index(), flow.client.opposite().index());
    out.extend_from_slice(KEY_FLOW);
    append_hex(flow.id, out);
    number(KEY_N, u64::from(n), out);
    out.extend_from_slice(KEY_CLIENT_IP);
    append_ip(key.ip(client), out);
    number(KEY_CLIENT_PORT, u64::from(key.port(client)), out);
    out.extend_from_slice(KEY_SERVER_IP);
    append_ip(key.ip(server), out);
    number(KEY_SERVER_PORT, u64::from(key.port(server)), out);
    if key.vlan[0] != 0 {
        out.extend_from_slice(KEY_VLAN);
        list(key.vlans(), out);
    }
}

/// From `request_body_bytes` to `interim`.
#[inline]
fn sizes_and_times(exchange: &Exchange, out: &mut Vec<u8>) {
    let (request, response) = (&exchange.request, &exchange.response);
    let between = |from: Option<TimestampNs>, to: Option<TimestampNs>| Some(to?.since(from?));
    let mut optional = |key: &[u8], value: Option<u64>| {
        if let Some(value) = value {
            number(key, value, out);
        }
    };
    if request.is_seen {
        optional(KEY_REQUEST_BODY, request.body_bytes);
    }
    if response.is_seen {
        optional(KEY_RESPONSE_BODY, response.body_bytes);
    }
    optional(KEY_CONNECT, exchange.connect_ns);
    if request.is_seen {
        optional(KEY_REQUEST, between(request.first, request.last));
    }
    if request.is_seen && response.is_seen && request.is_ended && !exchange.is_early {
        optional(KEY_TTFB, between(request.last, response.first));
    }
    if response.is_seen {
        optional(KEY_RESPONSE, between(response.first, response.last));
    }
    if !exchange.interim.is_empty() {
        out.extend_from_slice(KEY_INTERIM);
        list(exchange.interim.iter().take(INTERIM_COUNT_MAX).copied(), out);
        if exchange.interim.len() > INTERIM_COUNT_MAX {
            number(KEY_INTERIM_LEN, exchange.interim.len() as u64, out);
        }
    }
}

/// From `outcome` to `early`.
#[inline]
fn fate(exchange: &Exchange, out: &mut Vec<u8>) {
    let names = [
        (KEY_OUTCOME, exchange.outcome.map(|outcome| outcome.name())),
        (KEY_END, exchange.end.map(|end| end.name())),
    ];
    for (key, name) in names {
        if let Some(name) = name {
            out.extend_from_slice(key);
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
        }
    }
    if exchange.gap_bytes > 0 {
        number(KEY_GAP, exchange.gap_bytes, out);
    }
    let flags = [
        (MIDSTREAM, exchange.is_midstream),
        (SWITCHED, exchange.is_switched),
        (CONFLICT, exchange.is_conflict),
        (EARLY, exchange.is_early),
    ];
    for (rendered, is_set) in flags {
        if is_set {
            out.extend_from_slice(rendered);
        }
    }
}

#[inline]
fn number(key: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    append_decimal(value, out);
}

/// The numbers of a list that is open, and its end.
fn list(values: impl Iterator<Item = u16>, out: &mut Vec<u8>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append_decimal(u64::from(value), out);
    }
    out.push(b']');
}

/// A text as it is on the wire.
#[inline(always)]
fn text(field: &TextField, value: &[u8], spare: &mut usize, out: &mut Vec<u8>) {
    out.extend_from_slice(field.open);
    if value.len() <= field.reserve_bytes && plain_len(value) == value.len() {
        out.extend_from_slice(value);
        out.push(b'"');
    } else {
        text_with_care(field, value, value.len(), spare, out);
    }
}

/// A text that is long, or has something to escape, or is not UTF-8. Its key is there already.
#[inline(never)]
fn text_with_care(
    field: &TextField,
    value: &[u8],
    wire_bytes: usize,
    spare: &mut usize,
    out: &mut Vec<u8>,
) {
    let allowance = field.cap_bytes.min(field.reserve_bytes + *spare);
    let is_utf8 = std::str::from_utf8(value).is_ok();
    let start = out.len();
    let mut whole = append_escaped(value, field.fold, text_limit(allowance, is_utf8), out);
    let mut used = out.len() - start;
    out.push(b'"');
    if !is_utf8 {
        out.extend_from_slice(field.open_b64);
        let start = out.len();
        whole = whole.min(append_base64(value, allowance - used, out));
        used += out.len() - start;
        out.push(b'"');
    }
    if whole < value.len() {
        number(field.open_len, wire_bytes as u64, out);
    }
    *spare -= used.saturating_sub(field.reserve_bytes);
}

/// How much of an allowance the shown text may take: where it has a twin in base64, which takes 4 bytes for
/// 3, both get what the same bytes need.
const fn text_limit(allowance_bytes: usize, is_utf8: bool) -> usize {
    if is_utf8 { allowance_bytes } else { allowance_bytes * 3 / 7 }
}
