//! How a connection leaves HTTP/1: by CONNECT or Upgrade, for a protocol that is not read; by
//! `Upgrade: h2c` (RFC 7540 section 3.2) for HTTP/2, where the response comes as that of stream 1;
//! by `Upgrade: websocket` for WebSocket, if anybody wants to know about it.

use super::Pairer;
use crate::protocol::http1::framer::ParseState;
use crate::protocol::http1::head::HeaderLines;
use crate::protocol::http1::{Http1Context, ParsedHead};
use crate::protocol::pool::ExchangeId;
use crate::protocol::websocket::{self, Talk};
use crate::record::EventSink;

/// What a connection goes on in, if that is read.
#[derive(Debug)]
pub(in crate::protocol::http1) enum Switch {
    /// HTTP/2, in which the response to this request comes.
    Http2(ExchangeId),
    /// WebSocket.
    WebSocket(Box<Talk>),
    /// What a CONNECT asks for, which may be TLS.
    Tunnel,
}

impl Pairer {
    /// The connection leaves HTTP, by the answer `parsed`. The exchange is complete.
    pub(super) fn switch<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        parsed: &ParsedHead<'_>,
    ) {
        let is_sure = self.guess.is_none();
        self.has_switched = is_sure;
        if is_sure && parsed.head.is_whole && cx.shared.recorder.wants_websockets() {
            self.begin_talk(cx, id, parsed);
        }
        if is_sure && parsed.head.is_whole && cx.shared.recorder.wants_tls() {
            self.begin_tunnel(cx, id);
        }
        let exchange = cx.pool().exchange(id);
        exchange.is_switched = true;
        if exchange.request.is_seen && !exchange.request.is_ended {
            exchange.request.is_ended = true;
        }
        self.open[cx.direction.opposite().index()].id = None;
        self.end_message(cx, Some(parsed.last));
        let state = if is_sure { ParseState::Off } else { ParseState::Search };
        let pool = &mut cx.shared.recorder.pool;
        cx.framers.iter_mut().for_each(|framer| framer.restart(state, pool));
    }

    /// The answer may open a tunnel: then what it carries may be TLS. All that was asked before has
    /// been answered.
    #[cold]
    fn begin_tunnel<S>(&mut self, cx: &mut Http1Context<'_, S>, id: ExchangeId) {
        let exchange = cx.shared.recorder.pool.exchange(id);
        let is_tunnel = exchange.response.status / 100 == 2
            && exchange.request.is_seen
            && exchange.request.method() == Some(b"CONNECT");
        if is_tunnel && self.pending.first() == Some(id) && self.pending.count() == 1 {
            self.upgraded = Some(Switch::Tunnel);
        }
    }

    /// Begins the talk of WebSocket that the answer opens, if it opens one.
    #[cold]
    fn begin_talk<S>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        parsed: &ParsedHead<'_>,
    ) {
        let client = cx.direction.opposite();
        let shared = &mut *cx.shared;
        let exchange = shared.recorder.pool.exchange(id);
        let (request, status) = (&exchange.request, exchange.response.status);
        let is_ended = request.is_seen && request.is_ended;
        if status != 101 || !is_ended || !websocket::switches(request, parsed.bytes) {
            return;
        }
        let opening = websocket::Opening::new(exchange, parsed.bytes, parsed.last);
        let mut talk = Talk::open(shared, opening, client);
        // What the client has sent since its request was read as HTTP.
        let framer = &cx.framers[client.index()];
        let is_next = self.pending.first() == Some(id) && self.pending.count() == 1;
        if !is_next || !matches!(framer.state, ParseState::Start) {
            talk.lose_place(shared, client);
        }
        self.upgraded = Some(Switch::WebSocket(talk));
    }

    /// Whether the answer `parsed`, a 101, switches the connection to HTTP/2. Then the exchange is
    /// not among those of HTTP/1 any more.
    #[cold]
    pub(super) fn upgrades<S>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        parsed: &ParsedHead<'_>,
    ) -> bool {
        let request = &cx.pool().exchange(id).request;
        let begin = request.start_line_bytes as usize;
        let is_upgraded = parsed.head.is_whole
            && self.guess.is_none()
            && self.pending.first() == Some(id)
            // The rest of its body would still come in HTTP/1.
            && request.is_ended
            && names_h2c(&request.text, begin)
            && names_h2c(parsed.bytes, parsed.head.start_line_bytes as usize);
        if is_upgraded {
            self.pending.pop(cx.pool());
            (self.upgraded, self.has_switched) = (Some(Switch::Http2(id)), true);
        }
        is_upgraded
    }
}

/// Keeps a 101 that switches to HTTP/2 where the response of stream 1 will be. If none comes, it is
/// the final one.
#[cold]
pub(super) fn keep_switch<S: EventSink>(
    cx: &mut Http1Context<'_, S>,
    id: ExchangeId,
    parsed: &ParsedHead<'_>,
) {
    let response = &mut cx.pool().set_text(id, false, parsed.bytes).exchange.response;
    parsed.fill(response);
    (response.is_seen, response.body_bytes) = (false, None);
    let recorder = &mut cx.shared.recorder;
    if recorder.wants_headers() {
        recorder.pool.set_headers(id, false, parsed.header_lines());
    }
}

/// Whether the header lines of `head` from `begin` on offer or accept `h2c`.
fn names_h2c(head: &[u8], begin: usize) -> bool {
    HeaderLines::new(head, begin).any(|header| {
        let (name, value) = (header.name.of(head), header.value.of(head));
        let mut protocols = value.unwrap_or_default().split(|byte| *byte == b',');
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"upgrade"))
            && protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"h2c"))
    })
}
