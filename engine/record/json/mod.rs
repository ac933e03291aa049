//! One JSON object per exchange, on one line: DESIGN.md section 5 and `docs/schema.json`.
//!
//! A line is never longer than `line_bytes_max`, whatever was on the wire. The proof is an account:
//! what is not text (keys, numbers, punctuation) is at most [`FIXED_BYTES_MAX`]; each text has a
//! reserve of its own; what is then left of the line is the spare, and a text longer than its
//! reserve takes the rest from the spare, up to its cap. So the texts together take at most the sum
//! of the reserves and the spare, and the line at most its maximum. Bytes of a text are counted as
//! they appear, escapes and base64 included. Lists of headers come last and have what is left by
//! then, which is never less than their reserves.

use super::digits::{Rfc3339, append_decimal, append_list};
use super::escape::{Fold, append_base64, append_escaped, plain_len};
use super::line_buffer::{LINE_BYTES_MAX, LineBuffer, LineMemory, blank_line};
use super::mask::{MASK, before_query, is_secret, is_uri};
use super::{Event, Exchange, FlowIdentity, Format, Message, Outcome, Span, Wants};
use crate::config::EmitConfig;
use crate::decode::TunnelPath;
use crate::ids::{IfaceId, IfaceNames};
use crate::time::TimestampNs;
use std::fmt::Write;

mod budget;
mod identity;

use budget::*;
pub use budget::{FIXED_BYTES_MAX, LINE_BYTES_MIN};
use identity::Identities;

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
    identities: Identities,
    names: IfaceNames,
    ifaces: Vec<(IfaceId, Vec<u8>)>,
    /// Where a line is written; not there while one is.
    memory: Option<Box<LineMemory>>,
    slow: SlowPath,
    /// A value with its mask.
    masked: Vec<u8>,
}

/// For what cannot just be copied.
#[derive(Debug, Default)]
struct SlowPath {
    /// A piece of a line.
    piece: Vec<u8>,
    /// Bytes that are left for texts beyond their reserves.
    spare: usize,
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
        let line_bytes_max = config.line_bytes_max.clamp(LINE_BYTES_MIN, LINE_BYTES_MAX);
        JsonFormat {
            line_bytes_max,
            headers,
            is_secrets_shown: config.is_secrets_shown,
            is_query_redacted: config.is_query_redacted,
            times: Rfc3339::default(),
            identities: Identities::default(),
            names,
            ifaces: Vec::new(),
            memory: None,
            slow: SlowPath::default(),
            masked: Vec::new(),
        }
    }

    /// `iface`, rendered once for each interface.
    #[inline]
    fn iface(&mut self, id: IfaceId) -> &[u8] {
        let at = self.ifaces.iter().position(|(known, _)| *known == id);
        let at = at.unwrap_or_else(|| self.new_iface(id));
        self.ifaces.get(at).map_or(&[], |(_, rendered)| rendered)
    }

    #[cold]
    fn new_iface(&mut self, id: IfaceId) -> usize {
        if self.ifaces.len() == IFACE_COUNT_MAX {
            self.ifaces.clear();
        }
        let mut rendered = Vec::new();
        if let Some(name) = self.names.get(id) {
            rendered.extend_from_slice(IFACE.open);
            text_slow_path(&IFACE, name.as_bytes(), name.len(), &mut 0, &mut rendered);
        }
        self.ifaces.push((id, rendered));
        self.ifaces.len() - 1
    }

    /// A text that may have a query to hide.
    #[inline(always)]
    fn uri(
        &mut self,
        field: &TextField,
        message: &Message,
        span: Span,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        if self.is_query_redacted
            && let Some(value) = span.of(&message.text)
            && let Some(shown) = before_query(value)
        {
            self.masked.clear();
            self.masked.extend_from_slice(shown);
            self.masked.extend_from_slice(MASK);
            buffer.put(field.open);
            return buffer.put(slow.text(field, &self.masked, value.len()));
        }
        text(field, message, span, slow, buffer);
    }

    #[inline(always)]
    fn request(&mut self, request: &Message, slow: &mut SlowPath, buffer: &mut LineBuffer<'_>) {
        let fields = &request.fields;
        text(&METHOD, request, fields.method, slow, buffer);
        self.uri(&TARGET, request, fields.target, slow, buffer);
        text(&VERSION, request, fields.version, slow, buffer);
        text(&HOST, request, fields.host, slow, buffer);
        text(&USER_AGENT, request, fields.user_agent, slow, buffer);
        self.uri(&REFERER, request, fields.referer, slow, buffer);
        text(&REQUEST_TYPE, request, fields.content_type, slow, buffer);
    }

    #[inline(always)]
    fn response(&mut self, response: &Message, slow: &mut SlowPath, buffer: &mut LineBuffer<'_>) {
        let fields = &response.fields;
        if response.status != 0 {
            number(KEY_STATUS, u64::from(response.status), buffer);
        }
        text(&REASON, response, fields.reason, slow, buffer);
        text(&RESPONSE_TYPE, response, fields.content_type, slow, buffer);
        text(&SERVER, response, fields.server, slow, buffer);
        self.uri(&LOCATION, response, fields.location, slow, buffer);
    }

    /// A line up to its lists of headers.
    #[inline(always)]
    fn fields(
        &mut self,
        flow: &FlowIdentity<'_>,
        exchange: &Exchange,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        buffer.put(b"{");
        if let Some(time) = earliest(exchange) {
            let (whole, most, last) = self.times.parts(time);
            buffer.put(KEY_TS);
            buffer.put(whole);
            buffer.put(&most);
            buffer.put(&last);
            buffer.put(b"\",");
        }
        self.identities.write(flow, exchange.n, buffer);
        if !exchange.tunnel.is_empty() {
            buffer.put(slow.piece(|out| tunnel(exchange.tunnel, out)));
        }
        let iface = self.iface(exchange.iface);
        if !iface.is_empty() {
            buffer.put(iface);
        }
        let (request, response) = (&exchange.request, &exchange.response);
        if request.is_seen {
            self.request(request, slow, buffer);
        } else {
            text(&VERSION, response, response.fields.version, slow, buffer);
        }
        if response.is_seen {
            self.response(response, slow, buffer);
        }
        sizes_and_times(exchange, slow, buffer);
        fate(exchange, buffer);
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
            let kept = if response.is_seen { 2 * response.text.len() } else { 0 };
            let limit = room - kept.min(room / 2);
            room -= self.header_list(KEY_REQUEST_HEADERS, request, limit, &mut omitted, out);
        }
        if response.is_seen {
            self.header_list(KEY_RESPONSE_HEADERS, response, room, &mut omitted, out);
        }
        if omitted > 0 {
            out.extend_from_slice(KEY_OMITTED);
            append_decimal(omitted, out);
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
        let list_start = out.len();
        let mut is_full = false;
        for (name, value) in message.headers() {
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

impl SlowPath {
    /// What `append` makes.
    #[cold]
    #[inline(never)]
    fn piece(&mut self, append: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        self.piece.clear();
        append(&mut self.piece);
        &self.piece
    }

    /// A text behind its key.
    #[cold]
    #[inline(never)]
    fn text(&mut self, field: &TextField, value: &[u8], wire_bytes: usize) -> &[u8] {
        self.piece.clear();
        text_slow_path(field, value, wire_bytes, &mut self.spare, &mut self.piece);
        &self.piece
    }
}

impl Format for JsonFormat {
    fn wants(&self) -> Wants {
        Wants { messages: false, headers: !matches!(self.headers, HeaderChoice::None) }
    }

    #[inline]
    fn line(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if let Event::Exchange(record) = event {
            self.exchange(&record.flow, record.exchange, out);
        }
    }
}

impl JsonFormat {
    #[inline(always)]
    fn exchange(&mut self, flow: &FlowIdentity<'_>, exchange: &Exchange, out: &mut Vec<u8>) {
        out.reserve(self.line_bytes_max);
        let start = out.len();
        let mut memory = self.memory.take().unwrap_or_else(blank_line);
        let mut slow = std::mem::take(&mut self.slow);
        slow.spare = self.line_bytes_max - LINE_BYTES_MIN;
        let mut buffer = LineBuffer::new(&mut memory);
        self.fields(flow, exchange, &mut slow, &mut buffer);
        out.extend_from_slice(buffer.line());
        (self.memory, self.slow) = (Some(memory), slow);
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

/// Takes what is formatted.
struct Ascii<'a>(&'a mut Vec<u8>);

impl Write for Ascii<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// `tunnel`: the encapsulations, and `...` where there were more than a path holds.
#[cold]
fn tunnel(path: TunnelPath, out: &mut Vec<u8>) {
    out.extend_from_slice(KEY_TUNNEL);
    for encapsulation in path.outermost_first() {
        // Writing to memory does not fail.
        let _ = write!(Ascii(out), "\"{encapsulation}\",");
    }
    if path.is_cut() {
        out.extend_from_slice(TUNNEL_CUT);
    }
    out.pop();
    out.push(b']');
}

/// From `request_body_bytes` to `interim`.
#[inline(always)]
fn sizes_and_times(exchange: &Exchange, slow: &mut SlowPath, buffer: &mut LineBuffer<'_>) {
    let (request, response) = (&exchange.request, &exchange.response);
    let between = |from: Option<TimestampNs>, to: Option<TimestampNs>| Some(to?.since(from?));
    let mut optional = |key: &[u8], value: Option<u64>| {
        if let Some(value) = value {
            number(key, value, buffer);
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
        let statuses = exchange.interim.iter().take(INTERIM_COUNT_MAX).copied();
        buffer.put(slow.piece(|out| append_list(KEY_INTERIM, statuses, out)));
        if exchange.interim.len() > INTERIM_COUNT_MAX {
            number(KEY_INTERIM_LEN, exchange.interim.len() as u64, buffer);
        }
    }
}

/// From `outcome` to `early`.
#[inline(always)]
fn fate(exchange: &Exchange, buffer: &mut LineBuffer<'_>) {
    if let Some(outcome) = exchange.outcome {
        buffer.put(KEY_OUTCOME);
        // First what nearly all are: its length is known here.
        match outcome {
            Outcome::Complete => buffer.put(b"complete"),
            other => buffer.put(other.name().as_bytes()),
        }
        buffer.put(b"\"");
    }
    if let Some(end) = exchange.end {
        buffer.put(KEY_END);
        buffer.put(end.name().as_bytes());
        buffer.put(b"\"");
    }
    if exchange.gap_bytes > 0 {
        number(KEY_GAP, exchange.gap_bytes, buffer);
    }
    let flags = [
        (MIDSTREAM, exchange.is_midstream),
        (SWITCHED, exchange.is_switched),
        (CONFLICT, exchange.is_conflict),
        (EARLY, exchange.is_early),
    ];
    for (rendered, is_set) in flags {
        if is_set {
            buffer.put(rendered);
        }
    }
}

#[inline(always)]
fn number(key: &[u8], value: u64, buffer: &mut LineBuffer<'_>) {
    buffer.put(key);
    buffer.decimal(value);
}

/// A text as it is on the wire, if it is there.
#[inline(always)]
fn text(
    field: &TextField,
    message: &Message,
    span: Span,
    slow: &mut SlowPath,
    buffer: &mut LineBuffer<'_>,
) {
    let Some((rest, len)) = span.with_rest(&message.text) else { return };
    buffer.put(field.open);
    if len <= field.reserve_bytes && buffer.put_plain(rest, len) {
        buffer.put(b"\"");
    } else {
        buffer.put(slow.text(field, &rest[..len], len));
    }
}

/// A text that is long, or has something to escape, or is not UTF-8. Its key is there already.
#[inline(never)]
fn text_slow_path(
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
        out.extend_from_slice(field.open_len);
        append_decimal(wire_bytes as u64, out);
    }
    *spare -= used.saturating_sub(field.reserve_bytes);
}

/// How much of an allowance the shown text may take: where it has a twin in base64, which takes 4
/// bytes for 3, both get what the same bytes need.
const fn text_limit(allowance_bytes: usize, is_utf8: bool) -> usize {
    if is_utf8 { allowance_bytes } else { allowance_bytes * 3 / 7 }
}
