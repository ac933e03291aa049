//! One JSON object per exchange, on one line: DESIGN.md section 5 and `docs/schema.json`.
//!
//! A line is never longer than `line_bytes_max`, whatever was on the wire. The proof is an account:
//! what is not text (keys, numbers, punctuation) is at most [`FIXED_BYTES_MAX`]; each text has a
//! reserve of its own; what is then left of the line is the spare, and a text longer than its
//! reserve takes the rest from the spare, up to its cap. So the texts together take at most the sum
//! of the reserves and the spare, and the line at most its maximum. Bytes of a text are counted as
//! they appear, escapes and base64 included. Lists of headers come last and have what is left by
//! then, which is never less than their reserves.

use crate::config::EmitConfig;
use crate::decode::TunnelPath;
use crate::emit::Format;
use crate::emit::digits::{Rfc3339, append_decimal, append_hex, append_ip};
use crate::emit::escape::{Fold, append_base64, append_escaped, plain_len};
use crate::emit::headers::{HeaderLines, MASK, before_query, is_secret, is_uri};
use crate::http::{Exchange, FlowIdentity, Message};
use crate::ids::{IfaceId, IfaceNames};
use crate::time::TimestampNs;
use std::io::Write;

mod budget;

use budget::*;
pub use budget::{FIXED_BYTES_MAX, LINE_BYTES_MIN};

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
/// - `ts` of an exchange whose first byte was lost is the time of the first byte or else the last
///   byte that is known, in the order request's first, request's last, response's first, response's
///   last. Where no time is known there is no `ts`: it is never invented.
/// - Times between stamps that run backwards are 0.
/// - More headers are listed as `"request_headers":[[name,value],…]` and `"response_headers"`, the
///   same for `--header` and `--all-headers`. A value that is not shown exactly has a third
///   element, `{"b64":…,"len":…}`: the bytes where they are not UTF-8, the length on the wire where
///   it was cut. Names are cut at 256 bytes.
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

    /// The lists of headers, in `room_bytes` beside [`HEADERS_FIXED_BYTES`]. The response's list
    /// has half of the room, or what twice the bytes of its head fill, if the request's wants the
    /// rest.
    #[cold]
    fn headers(&mut self, exchange: &Exchange, room_bytes: usize, out: &mut Vec<u8>) {
        let (request, response) = (&exchange.request, &exchange.response);
        let mut omitted = 0;
        let mut room = room_bytes;
        if request.is_seen {
            let kept = if response.is_seen { 2 * response.head.len() } else { 0 };
            let limit = room - kept.min(room / 2);
            room -= self.header_list(KEY_REQUEST_HEADERS, request, limit, &mut omitted, out);
        }
        if response.is_seen {
            self.header_list(KEY_RESPONSE_HEADERS, response, room, &mut omitted, out);
        }
        if omitted > 0 {
            number(KEY_OMITTED, omitted, out);
        }
    }

    /// A list of headers in at most `limit_bytes` beside its key and brackets. Returns the bytes it
    /// took.
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
                // All that comes after the first header without room is left out, so that order
                // tells.
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
        let is_plain = |text: &[u8]| plain_len(text) == text.len();
        let is_short = name.len() <= HEADER_NAME_BYTES_MAX && shown.len() <= HEADER_VALUE_BYTES_MAX;
        if is_short && is_plain(name) && is_plain(shown) {
            out.extend_from_slice(name);
            out.extend_from_slice(b"\",\"");
            out.extend_from_slice(shown);
            return out.extend_from_slice(b"\"]");
        }
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
        if !exchange.tunnel.is_empty() {
            tunnel(exchange.tunnel, out);
        }
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
            // All that comes before is there, so what it did not use is room as well.
            let room = self.line_bytes_max - (out.len() - start) - HEADERS_FIXED_BYTES;
            self.headers(exchange, room, out);
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

/// `tunnel`: the encapsulations, and `...` where there were more than a path holds.
#[cold]
fn tunnel(path: TunnelPath, out: &mut Vec<u8>) {
    out.extend_from_slice(KEY_TUNNEL);
    for encapsulation in path.outermost_first() {
        // Writing to memory does not fail.
        let _ = write!(out, "\"{encapsulation}\",");
    }
    if path.is_cut() {
        out.extend_from_slice(TUNNEL_CUT);
    }
    out.pop();
    out.push(b']');
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

/// How much of an allowance the shown text may take: where it has a twin in base64, which takes 4
/// bytes for 3, both get what the same bytes need.
const fn text_limit(allowance_bytes: usize, is_utf8: bool) -> usize {
    if is_utf8 { allowance_bytes } else { allowance_bytes * 3 / 7 }
}
