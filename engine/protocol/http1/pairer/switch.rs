//! How a connection leaves HTTP/1: by CONNECT or Upgrade, for a protocol that is not read; by
//! `Upgrade: h2c` (RFC 7540 section 3.2) for HTTP/2, where the response comes as that of stream 1.

use super::Pairer;
use crate::protocol::http1::framer::ParseState;
use crate::protocol::http1::head::HeaderLines;
use crate::protocol::http1::{Http1Context, ParsedHead};
use crate::protocol::pool::ExchangeId;
use crate::record::EventSink;
use crate::time::TimestampNs;

impl Pairer {
    /// The connection leaves HTTP. The exchange is complete, and nothing that follows is read.
    pub(super) fn switch<S: EventSink>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        last: TimestampNs,
    ) {
        let is_sure = self.guess.is_none();
        self.has_switched = is_sure;
        let exchange = cx.pool().exchange(id);
        exchange.is_switched = true;
        if exchange.request.is_seen && !exchange.request.is_ended {
            exchange.request.is_ended = true;
        }
        self.open[cx.direction.opposite().index()].id = None;
        self.end_message(cx, Some(last));
        let state = if is_sure { ParseState::Off } else { ParseState::Search };
        let pool = &mut cx.shared.recorder.pool;
        cx.framers.iter_mut().for_each(|framer| framer.restart(state, pool));
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
            (self.upgraded, self.has_switched) = (Some(id), true);
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
