//! [`Recorder`]: owns the open exchanges of a shard, and the sink that they are reported to.

use super::FlowRef;
use super::classes::ExchangeClasses;
use super::grpc;
use super::pool::{ExchangeId, ExchangePool};
use crate::config::HttpConfig;
use crate::flow::{End, SegmentMeta};
use crate::record::{
    Event, EventSink, Exchange, ExchangeRecord, FlowIdentity, MessageRecord, Outcome,
    PartialRecord, TlsConnection, TlsRecord, Wants, WebSocketRecord, WebSocketTalk,
};
use crate::stats::ExchangeStats;
use crate::time::TimestampNs;

/// All protocols report through it.
#[derive(Debug)]
pub struct Recorder<S> {
    pub(crate) pool: ExchangePool,
    /// Counts of what was reported.
    pub stats: ExchangeStats,
    /// Counts of it by what it was.
    pub(super) classes: ExchangeClasses,
    /// What the sink uses.
    wants: Wants,
    /// See [`HttpConfig::is_answered_only`].
    is_answered_only: bool,
    /// See [`HttpConfig::is_classified`].
    is_classified: bool,
    /// Where events go.
    pub sink: S,
}

impl<S> Recorder<S> {
    /// Whether the sink uses connections of TLS.
    pub(crate) fn wants_tls(&self) -> bool {
        self.wants.tls
    }

    /// Whether it uses them when their handshake has ended.
    pub(crate) fn wants_tls_early(&self) -> bool {
        self.wants.tls_early
    }
}

impl<S: EventSink> Recorder<S> {
    /// Starts without any open exchange.
    pub(super) fn new(limits: &HttpConfig, sink: S) -> Recorder<S> {
        let pool = ExchangePool::new(limits.held_bytes_shard_max);
        let (stats, is_answered_only) = (ExchangeStats::default(), limits.is_answered_only);
        let (classes, is_classified) = (ExchangeClasses::default(), limits.is_classified);
        let wants = sink.wants();
        Recorder { pool, stats, classes, wants, is_answered_only, is_classified, sink }
    }

    /// Whether the sink uses all headers of a message.
    #[inline(always)]
    pub(crate) fn wants_headers(&self) -> bool {
        self.wants.headers
    }

    /// Starts an exchange. The first byte of its first message came in `first`.
    #[inline(always)]
    pub(crate) fn begin(&mut self, n: u32, first: &SegmentMeta) -> ExchangeId {
        let id = self.pool.take();
        let entry = self.pool.entry(id);
        entry.start = first.seq;
        let exchange = &mut entry.exchange;
        exchange.n = n;
        exchange.iface = first.iface;
        exchange.tunnel = first.tunnel;
        id
    }

    /// Whether the sink uses events for single messages.
    #[inline(always)]
    pub(crate) fn wants_messages(&self) -> bool {
        self.wants.messages
    }

    /// Whether the sink uses talks of WebSocket.
    pub(crate) fn wants_websockets(&self) -> bool {
        self.wants.websockets
    }

    /// Reports a connection of TLS.
    #[cold]
    pub(crate) fn tls(&mut self, flow: FlowIdentity<'_>, tls: &TlsConnection<'_>) {
        self.sink.event(Event::Tls(TlsRecord { flow, tls }));
    }

    /// Reports a talk of WebSocket.
    #[cold]
    pub(crate) fn websocket(&mut self, flow: FlowIdentity<'_>, talk: &WebSocketTalk<'_>) {
        self.sink.event(Event::WebSocket(WebSocketRecord { flow, talk }));
    }

    /// Reports a message of the exchange, whose head was complete at `when`.
    pub(crate) fn message(
        &mut self,
        flow: FlowIdentity<'_>,
        id: ExchangeId,
        is_request: bool,
        when: TimestampNs,
    ) {
        let message = self.pool.exchange(id).message_mut(is_request);
        self.sink.event(Event::Message(MessageRecord { flow, message, when }));
    }

    /// Reports the exchange, which is over, unless it is left out, and returns it to the pool.
    #[inline]
    pub(crate) fn report(
        &mut self,
        identity: FlowIdentity<'_>,
        flow: FlowRef<'_>,
        id: ExchangeId,
        outcome: Outcome,
        end: Option<End>,
    ) {
        let mut exchange = self.pool.exchange(id);
        exchange.is_answered = flow.handshake.is_answered();
        if !exchange.is_answered && self.is_answered_only && exchange.request.is_seen {
            self.stats.exchanges_left_out += 1;
            return self.pool.give_back(id);
        }
        if end == Some(End::Shed) {
            self.stats.exchanges_shed += 1;
            return self.pool.give_back(id);
        }
        if exchange.grpc.is_some() {
            grpc::tell(&mut self.pool, id, true);
            exchange = self.pool.exchange(id);
        }
        exchange.outcome = Some(outcome);
        exchange.end = end;
        exchange.is_midstream = flow.handshake.is_midstream();
        exchange.connect_ns = (exchange.n == 0).then(|| flow.handshake.connect_ns()).flatten();
        forget_unended_times(exchange);
        let stats = &mut self.stats;
        *match outcome {
            Outcome::Complete => &mut stats.exchanges_complete,
            Outcome::NoResponse => &mut stats.exchanges_no_response,
            Outcome::NoRequest => &mut stats.exchanges_no_request,
            Outcome::Truncated => &mut stats.exchanges_truncated,
        } += 1;
        stats.exchanges_with_gap += u64::from(exchange.gap_bytes > 0);
        if self.is_classified {
            self.classes.count(exchange);
        }
        self.sink.event(Event::Exchange(ExchangeRecord { flow: identity, exchange }));
        self.pool.give_back(id);
    }

    /// Reports the exchange, which has been under way for `active_ns` since its first byte, unless
    /// it would be left out if it were over. It goes on as before.
    #[cold]
    pub(crate) fn report_active(
        &mut self,
        identity: FlowIdentity<'_>,
        flow: FlowRef<'_>,
        id: ExchangeId,
        active_ns: u64,
        unknown: UnknownBodies,
    ) {
        let exchange = self.pool.exchange(id);
        exchange.is_answered = flow.handshake.is_answered();
        if !exchange.is_answered && self.is_answered_only && exchange.request.is_seen {
            return;
        }
        exchange.is_midstream = flow.handshake.is_midstream();
        exchange.connect_ns = (exchange.n == 0).then(|| flow.handshake.connect_ns()).flatten();
        let known = [&exchange.request, &exchange.response].map(|it| (it.last, it.body_bytes));
        forget_unended_times(exchange);
        if unknown.request {
            exchange.request.body_bytes = None;
        }
        if unknown.response {
            exchange.response.body_bytes = None;
        }
        if exchange.grpc.is_some() {
            grpc::tell(&mut self.pool, id, false);
        }
        let exchange = self.pool.exchange(id);
        self.sink.event(Event::Partial(PartialRecord { flow: identity, exchange, active_ns }));
        let exchange = self.pool.exchange(id);
        let messages = [&mut exchange.request, &mut exchange.response];
        for (message, (last, body_bytes)) in messages.into_iter().zip(known) {
            (message.last, message.body_bytes) = (last, body_bytes);
        }
    }
}

/// Of which messages it is unknown how much of the body has passed, although some was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnknownBodies {
    pub request: bool,
    pub response: bool,
}

/// An unfinished message has no last byte, so its time is removed.
fn forget_unended_times(exchange: &mut Exchange) {
    for message in [&mut exchange.request, &mut exchange.response] {
        if !message.is_ended {
            message.last = None;
        }
    }
}
