//! One JSON object per exchange or talk, on one line, as `docs/schema.json` defines it.
//!
//! A line is never longer than `line_bytes_max`, whatever was on the wire. A byte budget ensures
//! this. Everything that is not text (keys, numbers, punctuation) takes at most
//! [`FIXED_BYTES_MAX`], and what is there on request a bound of its own. Each text has a reserve of
//! its own. The rest of the line is the spare: a text longer than its reserve takes bytes from the
//! spare, up to its cap. So all texts together take at most the sum of the reserves and the spare.
//! Bytes of a text are counted as rendered, including escapes and base64. Lists of headers come
//! last and use what is left then, which is never less than their reserves.

use super::digits::{Rfc3339, append_decimal, append_list};
use super::escape::{append_base64, append_escaped, append_json_text};
use super::line_buffer::{LINE_BYTES_MAX, LineBuffer, append_line};
use super::mask::{Kind, Masks};
use super::{
    Event, Exchange, FlowIdentity, Format, Http2Fields, INTERIM_COUNT_MAX, Message, Outcome,
    PartialRecord, Span, Wants,
};
#[cfg(doc)]
use crate::config::HeaderShape;
use crate::config::{EmitConfig, SensorName};
use crate::decode::{Encapsulation, TunnelPath};
use crate::ids::{IfaceId, IfaceNames};
use crate::time::TimestampNs;
use std::fmt::Write;

mod budget;
mod headers;
mod http2;
mod identity;
mod tls;
mod websocket;

use budget::*;
pub use budget::{FIXED_BYTES_MAX, LINE_BYTES_MIN};
use headers::Headers;
use identity::Identities;

/// Makes the JSON lines. Nothing is allocated for a line; the memory that is kept is bounded.
///
/// Details:
/// - `ts` is the time of the exchange's first byte. If that byte was lost, it is the first known
///   time in this order: request's first byte, request's last, response's first, response's last.
///   If no time is known, there is no `ts`; it is never invented.
/// - A duration between timestamps that run backwards is 0.
/// - Further headers are in `"request_headers"` and `"response_headers"`, the same for `--header`
///   and `--all-headers`: as a list or as an object, see [`HeaderShape`].
/// - What is masked is shown as `***`. `_len` is the length on the wire, nevertheless.
#[derive(Debug)]
pub struct JsonFormat {
    line_bytes_max: usize,
    /// The bytes of a line for texts beyond their reserves.
    spare_bytes: usize,
    headers: Headers,
    masks: Masks,
    /// `"sensor":"…",`, or nothing.
    sensor: Box<[u8]>,
    /// All lines may have what usual ones do not: masks, a sensor, a Community ID.
    is_unusual: bool,
    is_websocket_told: bool,
    is_tls_told: bool,
    is_tls_early: bool,
    times: Rfc3339,
    identities: Identities,
    names: IfaceNames,
    ifaces: Vec<(IfaceId, Vec<u8>)>,
    slow: SlowPath,
    /// A value whose secret part was masked.
    masked: Vec<u8>,
}

/// For values that cannot simply be copied.
#[derive(Debug, Default)]
struct SlowPath {
    /// A piece of a line.
    piece: Vec<u8>,
    /// The bytes left for texts beyond their reserves.
    spare: usize,
}

impl JsonFormat {
    /// Creates the format from `config`. `names` is asked once for each interface.
    pub fn new(config: &EmitConfig, names: IfaceNames) -> JsonFormat {
        let line_bytes_max = config.line_bytes_max.clamp(LINE_BYTES_MIN, LINE_BYTES_MAX);
        let masks = Masks::new(config);
        let sensor = rendered_sensor(config.sensor.as_ref());
        let community_id_bytes = config.community_id_seed.map_or(0, |_| COMMUNITY_ID_FIELD_BYTES);
        let identity_bytes = sensor.len() + community_id_bytes;
        JsonFormat {
            line_bytes_max,
            spare_bytes: line_bytes_max - LINE_BYTES_MIN + IDENTITY_BYTES_MAX - identity_bytes,
            headers: Headers::new(config),
            sensor,
            is_unusual: masks.are_for_fields() || identity_bytes > 0,
            masks,
            is_websocket_told: config.records.websocket,
            is_tls_told: config.records.tls,
            is_tls_early: config.records.is_tls_early,
            times: Rfc3339::default(),
            identities: Identities::new(config.community_id_seed),
            names,
            ifaces: Vec::new(),
            slow: SlowPath::default(),
            masked: Vec::new(),
        }
    }

    /// What a record that is no exchange begins with: its type, time, connection and number, and
    /// where it was captured.
    fn other_front(
        &mut self,
        kind: &[u8],
        began_at: TimestampNs,
        (flow, n): (&FlowIdentity<'_>, u32),
        (tunnel, iface): (&TunnelPath, IfaceId),
        buffer: &mut LineBuffer<'_>,
    ) {
        buffer.put(kind);
        let (whole, most, last) = self.times.parts(began_at);
        buffer.put(KEY_TS);
        buffer.put(whole);
        buffer.put(&most);
        buffer.put(&last);
        buffer.put(b"\",");
        buffer.put(&self.sensor);
        self.identities.write::<true>(flow, n, buffer);
        if !tunnel.is_empty() {
            buffer.put(self.slow.piece(|out| encapsulations(*tunnel, out)));
        }
        let iface = self.iface(iface);
        buffer.put(iface);
    }

    /// The rendered `iface` field, cached for each interface.
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

    /// A text. `IS_MASKED` is whether more than hidden lines may be masked.
    #[inline(always)]
    fn text<const IS_MASKED: bool>(
        &mut self,
        field: &TextField,
        message: &Message,
        span: Span,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        if IS_MASKED {
            return self.masked_text(field, message, span, slow, buffer);
        }
        let Some((rest, len)) = span.with_rest(&message.text) else { return };
        buffer.put(field.open);
        if len <= field.reserve_bytes && buffer.put_plain(rest, len) {
            buffer.put(b"\"");
        } else {
            buffer.put(slow.wire_text(field, &rest[..len], &self.masks));
        }
    }

    #[inline(never)]
    fn masked_text(
        &mut self,
        field: &TextField,
        message: &Message,
        span: Span,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        let Some(value) = span.of(&message.text) else { return };
        let shown =
            self.masks.shown(field.kind, value, message.is_cut_behind(value), &mut self.masked);
        buffer.put(field.open);
        if shown.len() <= field.reserve_bytes && buffer.put_plain(shown, shown.len()) {
            buffer.put(b"\"");
        } else {
            buffer.put(slow.text(field, shown, value.len()));
        }
    }

    #[inline(always)]
    fn request<const IS_MASKED: bool>(
        &mut self,
        request: &Message,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        let fields = &request.fields;
        self.text::<IS_MASKED>(&METHOD, request, fields.method, slow, buffer);
        self.text::<IS_MASKED>(&TARGET, request, fields.target, slow, buffer);
        match fields.version.of(&request.text) {
            Some(b"HTTP/1.1") if !IS_MASKED => buffer.put(VERSION_1_1),
            _ => self.text::<IS_MASKED>(&VERSION, request, fields.version, slow, buffer),
        }
        self.text::<IS_MASKED>(&HOST, request, fields.host, slow, buffer);
        self.text::<IS_MASKED>(&USER_AGENT, request, fields.user_agent, slow, buffer);
        self.text::<IS_MASKED>(&REFERER, request, fields.referer, slow, buffer);
        self.text::<IS_MASKED>(&REQUEST_CONTENT_TYPE, request, fields.content_type, slow, buffer);
    }

    #[inline(always)]
    fn response<const IS_MASKED: bool>(
        &mut self,
        response: &Message,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        let fields = &response.fields;
        if response.status != 0 {
            number(KEY_STATUS, u64::from(response.status), buffer);
        }
        self.text::<IS_MASKED>(&REASON, response, fields.reason, slow, buffer);
        self.text::<IS_MASKED>(&RESPONSE_CONTENT_TYPE, response, fields.content_type, slow, buffer);
        self.text::<IS_MASKED>(&SERVER, response, fields.server, slow, buffer);
        self.text::<IS_MASKED>(&LOCATION, response, fields.location, slow, buffer);
    }

    /// A line up to its lists of headers. `IS_MASKED` is as for [`JsonFormat::text`];
    /// `MAY_HAVE_MORE` is whether the exchange may be one of HTTP/2 or gRPC, and the line may have
    /// a sensor and a Community ID.
    #[inline(always)]
    fn fields<const IS_MASKED: bool, const MAY_HAVE_MORE: bool>(
        &mut self,
        flow: &FlowIdentity<'_>,
        exchange: &Exchange,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        buffer.put(b"{");
        if let Some(time) = exchange.began_at() {
            let (whole, most, last) = self.times.parts(time);
            buffer.put(KEY_TS);
            buffer.put(whole);
            buffer.put(&most);
            buffer.put(&last);
            buffer.put(b"\",");
        }
        if MAY_HAVE_MORE {
            buffer.put(&self.sensor);
        }
        self.identities.write::<MAY_HAVE_MORE>(flow, exchange.n, buffer);
        if !exchange.tunnel.is_empty() {
            buffer.put(slow.piece(|out| encapsulations(exchange.tunnel, out)));
        }
        let iface = self.iface(exchange.iface);
        if !iface.is_empty() {
            buffer.put(iface);
        }
        let http2 = exchange.http2.as_ref().filter(|_| MAY_HAVE_MORE);
        if let Some(http2) = http2 {
            self.http2_front::<IS_MASKED>(http2, &exchange.request, slow, buffer);
        }
        let (request, response) = (&exchange.request, &exchange.response);
        if request.is_seen {
            self.request::<IS_MASKED>(request, slow, buffer);
        } else {
            let span = response.fields.version;
            self.text::<IS_MASKED>(&VERSION, response, span, slow, buffer);
        }
        if response.is_seen {
            self.response::<IS_MASKED>(response, slow, buffer);
        }
        let grpc = exchange.grpc.as_deref().filter(|_| MAY_HAVE_MORE);
        if let Some(grpc) = grpc {
            self.grpc(grpc, slow, buffer);
        }
        let goes_both_ways = http2.is_some() || grpc.is_some();
        sizes_and_times(exchange, (http2.is_some(), goes_both_ways), slow, buffer);
        outcome_and_flags(exchange, http2, buffer);
    }

    /// [`JsonFormat::fields`] for what is not the usual case: an exchange of HTTP/2 or gRPC, one of
    /// which more than hidden lines may be masked, or one with a sensor or a Community
    /// ID. It makes its own buffer: the position of a borrowed one could not stay in a register.
    #[inline(never)]
    fn other_fields<const IS_MASKED: bool>(
        &mut self,
        flow: &FlowIdentity<'_>,
        exchange: &Exchange,
        slow: &mut SlowPath,
        out: &mut Vec<u8>,
    ) {
        append_line(out, |buffer| {
            self.fields::<IS_MASKED, true>(flow, exchange, slow, buffer);
        });
    }
}

impl SlowPath {
    /// The bytes that `append` appends.
    #[cold]
    #[inline(never)]
    fn piece(&mut self, append: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        self.piece.clear();
        append(&mut self.piece);
        &self.piece
    }

    /// A text that was not plain, after its key. Only hidden lines are masked in it.
    #[cold]
    #[inline(never)]
    fn wire_text(&mut self, field: &TextField, value: &[u8], masks: &Masks) -> &[u8] {
        let mut memory = Vec::new();
        let shown = masks.shown(Kind::Other, value, false, &mut memory);
        self.text(field, shown, value.len())
    }

    /// A text after its key.
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
        Wants {
            messages: false,
            headers: !self.headers.is_empty(),
            websockets: self.is_websocket_told,
            tls: self.is_tls_told,
            tls_early: self.is_tls_early,
        }
    }

    #[inline]
    fn line(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Exchange(record) => self.exchange(&record.flow, record.exchange, None, out),
            other => self.other_line(other, out),
        }
    }
}

impl JsonFormat {
    /// The line of anything but an exchange that is over.
    #[cold]
    fn other_line(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Partial(PartialRecord { flow, exchange, active_ns }) => {
                self.exchange(flow, exchange, Some(*active_ns), out);
            }
            Event::WebSocket(record) => self.websocket(&record.flow, record.talk, out),
            Event::Tls(record) => self.tls(&record.flow, record.tls, out),
            Event::Message(_) | Event::Exchange(_) => {}
        }
    }

    /// The exchange is over, or has been under way for `active_ns`.
    #[inline(always)]
    fn exchange(
        &mut self,
        flow: &FlowIdentity<'_>,
        exchange: &Exchange,
        active_ns: Option<u64>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let mut slow = std::mem::take(&mut self.slow);
        slow.spare = self.spare_bytes;
        if self.is_unusual && self.masks.are_for_fields() {
            self.other_fields::<true>(flow, exchange, &mut slow, out);
        } else if self.is_unusual
            || exchange.http2.is_some()
            || exchange.grpc.is_some()
            || active_ns.is_some()
        {
            self.other_fields::<false>(flow, exchange, &mut slow, out);
        } else {
            append_line(out, |buffer| {
                self.fields::<false, false>(flow, exchange, &mut slow, buffer);
            });
        }
        self.slow = slow;
        if let Some(active_ns) = active_ns {
            out.extend_from_slice(KEY_PARTIAL);
            append_decimal(active_ns, out);
        }
        if !self.headers.is_empty() {
            // All other fields are written, so bytes that they did not use are available as well.
            let free_bytes = self.line_bytes_max - (out.len() - start) - HEADERS_FIXED_BYTES;
            self.headers.append(exchange, &self.masks, free_bytes, out);
        }
        out.extend_from_slice(b"}\n");
        debug_assert!(out.len() - start <= self.line_bytes_max);
    }
}

/// `"sensor":"…",`; nothing without a name.
fn rendered_sensor(name: Option<&SensorName>) -> Box<[u8]> {
    let mut rendered = Vec::new();
    if let Some(name) = name {
        rendered.extend_from_slice(KEY_SENSOR);
        append_json_text(name.as_str(), &mut rendered);
        rendered.extend_from_slice(b"\",");
    }
    rendered.into()
}

/// Receives formatted text.
struct Ascii<'a>(&'a mut Vec<u8>);

impl Write for Ascii<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// `vlan`, if the path lists VLANs, and `tunnel`: the other encapsulations, and `...` if there were
/// more than a path holds.
#[cold]
fn encapsulations(path: TunnelPath, out: &mut Vec<u8>) {
    let vlan_of = |encapsulation| match encapsulation {
        Encapsulation::Vlan(id) => Some(id),
        _ => None,
    };
    let mut vlans = path.outermost_first().filter_map(vlan_of).peekable();
    if vlans.peek().is_some() {
        append_list(KEY_VLAN, vlans, out);
    }
    let mut tunnels = path.outermost_first().filter(|it| vlan_of(*it).is_none()).peekable();
    if tunnels.peek().is_none() && !path.is_cut() {
        return;
    }
    out.extend_from_slice(KEY_TUNNEL);
    for encapsulation in tunnels {
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
fn sizes_and_times(
    exchange: &Exchange,
    (is_http2, goes_both_ways): (bool, bool),
    slow: &mut SlowPath,
    buffer: &mut LineBuffer<'_>,
) {
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
    if response.is_seen || is_http2 {
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
    if goes_both_ways && request.is_seen && response.is_seen {
        optional(KEY_DURATION, between(request.first, response.last));
    }
    if !exchange.interim.is_empty() {
        let statuses = exchange.interim.iter().take(INTERIM_COUNT_MAX).copied();
        buffer.put(slow.piece(|out| append_list(KEY_INTERIM, statuses, out)));
        let len = exchange.interim.len() as u64 + u64::from(exchange.interim_omitted);
        if len > INTERIM_COUNT_MAX as u64 {
            number(KEY_INTERIM_LEN, len, buffer);
        }
    }
}

/// From `outcome` to `early_response`.
#[inline(always)]
fn outcome_and_flags(
    exchange: &Exchange,
    http2: Option<&Http2Fields>,
    buffer: &mut LineBuffer<'_>,
) {
    if let Some(outcome) = exchange.outcome {
        buffer.put(KEY_OUTCOME);
        // The usual case first: its length is known at compile time.
        match outcome {
            Outcome::Complete => buffer.put(b"complete"),
            other => buffer.put(other.name().as_bytes()),
        }
        buffer.put(b"\"");
    }
    if let Some(end) = exchange.end {
        buffer.put(KEY_END_REASON);
        buffer.put(end.name().as_bytes());
        buffer.put(b"\"");
    }
    if let Some(http2) = http2 {
        JsonFormat::http2_end(http2, buffer);
    }
    if exchange.gap_bytes > 0 {
        number(KEY_GAP, exchange.gap_bytes, buffer);
    }
    if exchange.retransmitted_bytes > 0 {
        number(KEY_RETRANSMITTED, exchange.retransmitted_bytes, buffer);
    }
    let flags = [
        (MIDSTREAM, exchange.is_midstream),
        (SWITCHED, exchange.is_switched),
        (CONFLICT, exchange.is_conflict),
        (EARLY_RESPONSE, exchange.is_early),
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

/// A text that is long, needs escapes, or is not UTF-8. Its key was already written. Returns
/// whether it was cut.
#[inline(never)]
fn text_slow_path(
    field: &TextField,
    value: &[u8],
    wire_bytes: usize,
    spare: &mut usize,
    out: &mut Vec<u8>,
) -> bool {
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
    let is_cut = whole < value.len();
    if is_cut {
        out.extend_from_slice(field.open_len);
        append_decimal(wire_bytes as u64, out);
    }
    *spare -= used.saturating_sub(field.reserve_bytes);
    is_cut
}
