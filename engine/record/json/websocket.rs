//! The line of a talk of WebSocket. Such lines are few, so nothing here is fast.

use super::budget::*;
use super::{JsonFormat, SlowPath, number, text_slow_path};
use crate::record::digits::append_decimal;
use crate::record::line_buffer::{LineBuffer, append_line};
use crate::record::{FlowIdentity, WebSocketCounts, WebSocketTalk};

const TYPE: &[u8] = b"{\"type\":\"websocket\",";
const DEFLATE: &[u8] = b",\"deflate\":true";
const KEY_PINGS: &[u8] = b",\"pings\":";
const KEY_PONGS: &[u8] = b",\"pongs\":";
const KEY_CLOSE_BY: &[u8] = b",\"close_by\":\"";
const KEY_CLOSE_CODE: &[u8] = b",\"close_code\":";

/// A count of one side.
type Count = fn(&WebSocketCounts) -> u64;

/// The counts of each side: the keys of the client and of the server, and the count.
const COUNTS: [([&[u8]; 2], Count); 5] = [
    ([b",\"client_messages\":", b",\"server_messages\":"], WebSocketCounts::messages),
    ([b",\"client_text\":", b",\"server_text\":"], |counts| counts.text),
    ([b",\"client_binary\":", b",\"server_binary\":"], |counts| counts.binary),
    ([b",\"client_message_bytes\":", b",\"server_message_bytes\":"], |counts| counts.message_bytes),
    ([b",\"client_frames\":", b",\"server_frames\":"], |counts| counts.frames),
];

// What only talks have takes no more than what only exchanges have, so that the line of a talk is
// no longer either.
const _: () = {
    let mut fixed_bytes = TYPE.len() + DEFLATE.len();
    fixed_bytes += KEY_CLOSE_BY.len() + 7 + KEY_CLOSE_CODE.len() + 5;
    fixed_bytes += KEY_PINGS.len() + KEY_PONGS.len() + 2 * DECIMAL_BYTES_MAX;
    fixed_bytes += SUBPROTOCOL.fixed_bytes() + CLOSE_REASON.fixed_bytes();
    let mut index = 0;
    while index < COUNTS.len() {
        let [client, server] = COUNTS[index].0;
        fixed_bytes += client.len() + server.len() + 2 * DECIMAL_BYTES_MAX;
        index += 1;
    }
    let texts = [&METHOD, &VERSION, &USER_AGENT, &REFERER, &REQUEST_CONTENT_TYPE, &REASON];
    let more = [&RESPONSE_CONTENT_TYPE, &SERVER, &LOCATION, &SCHEME, &CONNECT_PROTOCOL];
    let (mut own_bytes, mut index) = (0, 0);
    while index < texts.len() {
        own_bytes += texts[index].fixed_bytes();
        index += 1;
    }
    index = 0;
    while index < more.len() {
        own_bytes += more[index].fixed_bytes();
        index += 1;
    }
    assert!(fixed_bytes <= own_bytes);
    let reserves = IFACE.reserve_bytes + HOST.reserve_bytes + TARGET.reserve_bytes;
    assert!(reserves + SUBPROTOCOL.reserve_bytes + CLOSE_REASON.reserve_bytes <= RESERVE_BYTES);
};

impl JsonFormat {
    /// Appends the line of a talk.
    #[inline(never)]
    pub(super) fn websocket(
        &mut self,
        flow: &FlowIdentity<'_>,
        talk: &WebSocketTalk<'_>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        self.slow.spare = self.spare_bytes;
        append_line(out, |buffer| {
            self.websocket_fields(flow, talk, buffer);
            buffer.put(b"}\n");
        });
        debug_assert!(out.len() - start <= self.line_bytes_max);
    }

    fn websocket_fields(
        &mut self,
        flow: &FlowIdentity<'_>,
        talk: &WebSocketTalk<'_>,
        buffer: &mut LineBuffer<'_>,
    ) {
        let place = (&talk.tunnel, talk.iface);
        self.other_front(TYPE, talk.began_at, (flow, talk.n), place, buffer);
        for (field, value) in
            [(&TARGET, talk.target), (&HOST, talk.host), (&SUBPROTOCOL, talk.subprotocol)]
        {
            if let Some(value) = value {
                self.value(field, value, value.len(), buffer);
            }
        }
        if talk.is_deflate {
            buffer.put(DEFLATE);
        }
        for (keys, count) in COUNTS {
            for (key, counts) in keys.into_iter().zip([&talk.client, &talk.server]) {
                if let Some(counts) = counts {
                    number(key, count(counts), buffer);
                }
            }
        }
        for (key, count) in [(KEY_PINGS, talk.pings), (KEY_PONGS, talk.pongs)] {
            if let Some(count) = count {
                number(key, count, buffer);
            }
        }
        self.websocket_end(talk, buffer);
    }

    /// From `close_by` on.
    fn websocket_end(&mut self, talk: &WebSocketTalk<'_>, buffer: &mut LineBuffer<'_>) {
        if let Some(close) = talk.close {
            if let Some(is_by_client) = close.is_by_client {
                buffer.put(KEY_CLOSE_BY);
                buffer.put(if is_by_client { b"client\"" } else { b"server\"" });
            }
            if let Some(code) = close.code {
                number(KEY_CLOSE_CODE, code.into(), buffer);
            }
            if close.reason_wire_bytes > 0 && close.code.is_some() {
                self.value(&CLOSE_REASON, close.reason, close.reason_wire_bytes, buffer);
            }
        }
        number(KEY_DURATION, talk.duration_ns, buffer);
        let outcome = talk.outcome.map(|outcome| (KEY_OUTCOME, outcome.name()));
        let end = talk.end.map(|end| (KEY_END_REASON, end.name()));
        for (key, name) in outcome.into_iter().chain(end) {
            buffer.put(key);
            buffer.put(name.as_bytes());
            buffer.put(b"\"");
        }
        if talk.gap_bytes > 0 {
            number(KEY_GAP, talk.gap_bytes, buffer);
        }
        for (rendered, is_set) in [(MIDSTREAM, talk.is_midstream), (CONFLICT, talk.is_conflict)] {
            if is_set {
                buffer.put(rendered);
            }
        }
        if let Some(active_ns) = talk.active_ns {
            number(KEY_PARTIAL, active_ns, buffer);
        }
    }

    /// A text, of which `value` is known and `wire_bytes` were sent.
    fn value(
        &mut self,
        field: &TextField,
        value: &[u8],
        wire_bytes: usize,
        buffer: &mut LineBuffer<'_>,
    ) {
        let is_cut = value.len() < wire_bytes;
        let shown = self.masks.shown(field.kind, value, is_cut, &mut self.masked);
        buffer.put(field.open);
        let SlowPath { piece, spare } = &mut self.slow;
        piece.clear();
        let is_len_told = text_slow_path(field, shown, wire_bytes, spare, piece);
        if is_cut && !is_len_told {
            piece.extend_from_slice(field.open_len);
            append_decimal(wire_bytes as u64, piece);
        }
        buffer.put(piece);
    }
}
