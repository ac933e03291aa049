//! How a connection comes to be another protocol's: by its first bytes, by what both sides have
//! said before, or by an answer.

use super::{Http1Connection, PREFACE_LINE, Spoken};
use crate::decode::{SeqNumber, looks_like_frames};
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::first_bytes::FirstBytes;
use crate::protocol::http1::ParsedHead;
use crate::protocol::http1::framer::ParseState;
use crate::protocol::http1::pairer::{Pairer, Switch};
use crate::protocol::{
    self, Context, HandOver, Inheritance, Kind as ProtocolKind, Step, Upgraded, tls, websocket,
};

impl Http1Connection {
    /// Handles payload before the first message. `first` holds its bytes, if they were captured.
    #[cold]
    pub(super) fn begin<S>(
        &mut self,
        cx: &Context<'_, S>,
        direction: Direction,
        first: Option<&[u8]>,
        meta: &SegmentMeta,
    ) -> Step {
        if let Some(at) = first.and_then(|first| self.tls_in(cx, direction, first, meta)) {
            self.leave_to(ProtocolKind::Tls, meta.seq.plus(at as u32), None);
            return Step::HandOver;
        }
        if self.spoken != Spoken::Nothing {
            return Step::Done;
        }
        if let Some(to) = first.and_then(protocol::detect) {
            self.leave_to(to, meta.seq, None);
            return Step::HandOver;
        }
        if first.is_some_and(|first| self.leaves_to_frames(first, meta)) {
            return Step::HandOver;
        }
        self.spoken = Spoken::Unclear;
        if cx.flow.handshake.is_midstream() {
            // It is unknown what came before. This may be the middle of a body.
            self.framers.iter_mut().for_each(|framer| framer.state = ParseState::Search);
        }
        Step::Done
    }

    /// Where in `payload` TLS begins, if anybody wants to know: behind a header of the PROXY
    /// protocol, or behind what both sides have said before.
    fn tls_in<S>(
        &self,
        cx: &Context<'_, S>,
        direction: Direction,
        payload: &[u8],
        meta: &SegmentMeta,
    ) -> Option<usize> {
        let is_client = cx.flow.handshake.client == Some(direction);
        let is_possible = cx.shared.recorder.wants_tls()
            && is_client
            && meta.is_frame_start
            && self.spoken != Spoken::Other;
        // Some send the first byte by itself, which too little is known by otherwise.
        let is_first = self.spoken == Spoken::Nothing && payload == [0x16];
        if is_possible && is_first {
            Some(0)
        } else {
            is_possible.then(|| tls::hello_in(payload))?
        }
    }

    /// The connection speaks another protocol from `at` on.
    #[cold]
    pub(super) fn leave_to(
        &mut self,
        to: ProtocolKind,
        at: SeqNumber,
        kept: Option<(Vec<u8>, SegmentMeta)>,
    ) {
        let Pairer { next_n, flow_id, .. } = self.pairer;
        let inheritance = Inheritance { next_n, flow_id, ..Inheritance::default() };
        self.successor = Some(Box::new(HandOver { to, at, kept, inheritance }));
        self.leave();
    }

    /// Whether a segment's `payload` looks like frames of HTTP/2. Then the connection is handed
    /// over; HTTP/2 hands it back if it is none.
    #[cold]
    pub(super) fn leaves_to_frames(&mut self, payload: &[u8], meta: &SegmentMeta) -> bool {
        let is_leaving = meta.is_frame_start
            && (looks_like_frames(payload) || payload.starts_with(PREFACE_LINE));
        if is_leaving {
            self.leave_to(ProtocolKind::Http2, meta.seq, None);
        }
        is_leaving
    }

    /// The server has answered a request with `head`, and the connection leaves HTTP/1.
    #[cold]
    pub(super) fn note_switch(&mut self, server: Direction, head: &ParsedHead<'_>) {
        let answer = FirstBytes::of(server, head.bytes, head.first);
        let Some(switch) = self.pairer.upgraded.take() else {
            self.left_by = Some(answer);
            return;
        };
        if let Switch::Tunnel = switch {
            return self.leave_to_tunnel(answer, head);
        }
        // What it goes on in is known, and read: the server does behind its answer.
        self.pairer.has_switched = false;
        let (to, upgraded, websocket) = match switch {
            Switch::Http2(exchange) => {
                let upgraded = Upgraded { exchange, client: server.opposite(), answer };
                (ProtocolKind::Http2, Some(upgraded), None)
            }
            Switch::Tunnel => return,
            Switch::WebSocket(talk) => {
                (ProtocolKind::WebSocket, None, Some(websocket::Switch { talk, answer }))
            }
        };
        self.leave_to(to, head.first.seq.plus(head.head.len_bytes as u32), None);
        if let Some(successor) = &mut self.successor {
            (successor.inheritance.upgraded, successor.inheritance.websocket) =
                (upgraded, websocket);
        }
    }

    /// A proxy has opened a connection, which may carry TLS.
    #[cold]
    fn leave_to_tunnel(&mut self, answer: FirstBytes, head: &ParsedHead<'_>) {
        self.pairer.has_switched = false;
        let at = head.first.seq.plus(head.head.len_bytes as u32);
        self.leave_to(ProtocolKind::Tls, at, None);
        if let Some(successor) = &mut self.successor {
            successor.inheritance.tunnel = Some(answer);
        }
    }
}
