//! [`Facts`]: what is counted of a record, whether it comes as an event or as a line.

use crate::flow::End;
use crate::protocol::classes::{grpc_code_of, status_class_of};
use crate::record::digits::append_ip;
use crate::record::{Exchange, ExchangeRecord, FlowIdentity, Outcome, WebSocketRecord};
use crate::record::{TlsConnection, TlsRecord, alert_name, version_name};
use crate::time::TimestampNs;
use std::borrow::Cow;

/// What is counted of an exchange. What is not known is `None`.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// When it began: `ts`.
    pub began_at: Option<TimestampNs>,
    /// The client's address.
    pub client: &'a str,
    /// The server's address.
    pub server: &'a str,
    /// The server's port.
    pub server_port: u16,
    /// The requested host, as sent.
    pub host: Option<Cow<'a, str>>,
    /// The method.
    pub method: Option<Cow<'a, str>>,
    /// The target, as sent.
    pub target: Option<Cow<'a, str>>,
    /// The version, such as `HTTP/1.1`.
    pub version: Option<Cow<'a, str>>,
    /// The final status.
    pub status: Option<u16>,
    /// It is a call of gRPC or gRPC-Web.
    pub is_grpc: bool,
    /// The call's status.
    pub grpc_status: Option<u32>,
    /// The length of the request's body.
    pub request_body_bytes: Option<u64>,
    /// The length of the response's body.
    pub response_body_bytes: Option<u64>,
    /// The time from SYN to SYN-ACK, on the connection's first exchange.
    pub connect_ns: Option<u64>,
    /// From the last byte of the request to the first byte of the response.
    pub ttfb_ns: Option<u64>,
    /// From the first byte of the request to the last of the response.
    pub duration_ns: Option<u64>,
    /// Its outcome.
    pub outcome: Option<Outcome>,
    /// Why it ended, if it is not complete.
    pub end: Option<End>,
    /// Bytes that were not captured.
    pub gap_bytes: u64,
    /// Bytes that passed again.
    pub retransmitted_bytes: u64,
    /// Its connection was joined late.
    pub is_midstream: bool,
}

/// The beginning of the `content-type` of all calls of gRPC.
const GRPC_TYPE: &[u8] = b"application/grpc";

pub(super) fn is_grpc_type(content_type: &[u8]) -> bool {
    content_type.get(..GRPC_TYPE.len()).is_some_and(|it| it.eq_ignore_ascii_case(GRPC_TYPE))
}

/// The time from the first to the last byte of an exchange, if all its parts are known.
pub(super) fn sum_of(
    request_ns: Option<u64>,
    ttfb_ns: Option<u64>,
    response_ns: Option<u64>,
) -> Option<u64> {
    request_ns?.checked_add(ttfb_ns?)?.checked_add(response_ns?)
}

/// A text as lines show it. Nearly all are valid, which is found faster than where they are not.
fn shown(text: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(text),
    }
}

/// The texts of a connection's addresses: memory that is used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    client: Vec<u8>,
    server: Vec<u8>,
    server_port: u16,
}

impl Addresses {
    /// Sets them to those of a connection.
    pub(super) fn set(&mut self, flow: &FlowIdentity<'_>) {
        let (client, server) = (flow.client.index(), flow.client.opposite().index());
        self.client.clear();
        append_ip(flow.key.ip(client), &mut self.client);
        self.server.clear();
        append_ip(flow.key.ip(server), &mut self.server);
        self.server_port = flow.key.port(server);
    }

    fn text(bytes: &[u8]) -> &str {
        // They are ASCII.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl<'a> Facts<'a> {
    /// Of an exchange that is over, between these addresses.
    pub(super) fn of_exchange(record: &ExchangeRecord<'a>, addresses: &'a Addresses) -> Facts<'a> {
        let exchange: &'a Exchange = record.exchange;
        let (request, response) = (&exchange.request, &exchange.response);
        let (asked, answered) = (request.is_seen, response.is_seen);
        let text = |value: Option<&'a [u8]>| value.map(shown);
        let of_request = |value: Option<&'a [u8]>| text(value.filter(|_| asked));
        let between = |from: Option<TimestampNs>, to: Option<TimestampNs>| Some(to?.since(from?));
        let is_both = asked && answered;
        let is_timed = is_both && request.is_ended && !exchange.is_early;
        let ttfb_ns = between(request.last, response.first).filter(|_| is_timed);
        let is_typed = |content_type: Option<&[u8]>| content_type.is_some_and(is_grpc_type);
        let call = exchange.grpc.as_deref();
        let is_call = call.is_some_and(|call| {
            call.status.is_some()
                || call.message.is_some()
                || call.request_messages.is_some()
                || call.response_messages.is_some()
                || (asked && is_typed(request.content_type()))
                || (answered && is_typed(response.content_type()))
        });
        let is_two_way = exchange.http2.is_some() || call.is_some();
        let request_ns = between(request.first, request.last).filter(|_| asked);
        let response_ns = between(response.first, response.last).filter(|_| answered);
        let whole_ns = between(request.first, response.last).filter(|_| is_both && is_two_way);
        let duration_ns = whole_ns.or_else(|| sum_of(request_ns, ttfb_ns, response_ns));
        Facts {
            began_at: exchange.began_at(),
            client: Addresses::text(&addresses.client),
            server: Addresses::text(&addresses.server),
            server_port: addresses.server_port,
            host: of_request(request.host()),
            method: of_request(request.method()),
            target: of_request(request.target()),
            version: text(if asked { request.version() } else { response.version() }),
            status: Some(response.status).filter(|status| answered && *status != 0),
            is_grpc: is_call,
            grpc_status: call.and_then(|call| call.status),
            request_body_bytes: request.body_bytes.filter(|_| asked),
            response_body_bytes: response
                .body_bytes
                .filter(|_| answered || exchange.http2.is_some()),
            connect_ns: exchange.connect_ns,
            ttfb_ns,
            duration_ns,
            outcome: exchange.outcome,
            end: exchange.end,
            gap_bytes: exchange.gap_bytes,
            retransmitted_bytes: exchange.retransmitted_bytes,
            is_midstream: exchange.is_midstream,
        }
    }

    /// The place of the status in [`STATUSES`](crate::protocol::classes::STATUSES).
    pub fn status_class(&self) -> Option<usize> {
        self.status.map(status_class_of)
    }

    /// The place of the call's status in [`GRPC_CODES`](crate::protocol::classes::GRPC_CODES).
    pub fn grpc_code(&self) -> usize {
        grpc_code_of(self.grpc_status)
    }

    /// The server says that it has failed: status 5xx, or one of the codes of gRPC that are errors
    /// of a server by the semantic conventions of OpenTelemetry: UNKNOWN, DEADLINE_EXCEEDED,
    /// UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS.
    pub fn is_error(&self) -> bool {
        matches!(self.status, Some(500..=599))
            || (self.is_grpc && matches!(self.grpc_status, Some(2 | 4 | 12..=15)))
    }

    /// The endpoints have broken it off: the connection or the stream ended before the exchange
    /// was complete, or stayed silent, and nothing of the exchange was lost on the way to us.
    pub fn is_broken(&self) -> bool {
        matches!(self.outcome, Some(Outcome::NoResponse | Outcome::Truncated))
            && matches!(
                self.end,
                Some(End::Fin | End::Rst | End::StreamReset | End::GoAway | End::Idle)
            )
            && self.gap_bytes == 0
    }
}

/// What is counted of a talk of WebSocket that is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct TalkFacts {
    /// When it began.
    pub began_at: Option<TimestampNs>,
    /// Messages of the client.
    pub client_messages: Option<u64>,
    /// Messages of the server.
    pub server_messages: Option<u64>,
    /// Bytes of the client's messages on the wire.
    pub client_message_bytes: Option<u64>,
    /// Bytes of the server's messages on the wire.
    pub server_message_bytes: Option<u64>,
    /// From its beginning to its last byte.
    pub duration_ns: Option<u64>,
    /// Its outcome.
    pub outcome: Option<Outcome>,
    /// Why it ended, if it is not complete.
    pub end: Option<End>,
    /// Bytes that were not captured.
    pub gap_bytes: u64,
}

impl TalkFacts {
    pub(super) fn of(record: &WebSocketRecord<'_>) -> TalkFacts {
        let talk = record.talk;
        let (client, server) = (talk.client.as_ref(), talk.server.as_ref());
        TalkFacts {
            began_at: Some(talk.began_at),
            client_messages: client.map(|counts| counts.messages()),
            server_messages: server.map(|counts| counts.messages()),
            client_message_bytes: client.map(|counts| counts.message_bytes),
            server_message_bytes: server.map(|counts| counts.message_bytes),
            duration_ns: Some(talk.duration_ns),
            outcome: talk.outcome,
            end: talk.end,
            gap_bytes: talk.gap_bytes,
        }
    }
}

/// What is counted of a connection of TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsFacts<'a> {
    /// When it began.
    pub began_at: Option<TimestampNs>,
    /// The server's name that the client asked for.
    pub sni: Option<Cow<'a, str>>,
    /// The protocol that was chosen.
    pub alpn: Option<Cow<'a, str>>,
    /// The version.
    pub version: Option<Cow<'a, str>>,
    /// An alert that ended it, such as `server:handshake_failure`.
    pub alert: Option<Cow<'a, str>>,
    /// `complete`, `failed` or `no_server`.
    pub outcome: Option<Cow<'a, str>>,
    /// From ClientHello to ServerHello.
    pub hello_ns: Option<u64>,
    /// From ClientHello to the client's end of the handshake.
    pub handshake_ns: Option<u64>,
    /// Bytes of the client.
    pub client_bytes: Option<u64>,
    /// Bytes of the server.
    pub server_bytes: Option<u64>,
}

impl<'a> TlsFacts<'a> {
    pub(super) fn of(record: &TlsRecord<'a>) -> TlsFacts<'a> {
        let tls: &'a TlsConnection<'a> = record.tls;
        let text = |value: Option<&'a [u8]>| value.map(String::from_utf8_lossy);
        let alert = tls.alert.map(|alert| {
            let side = if alert.is_by_client { "client" } else { "server" };
            let code = || alert.code.to_string();
            let name = alert_name(alert.code).map_or_else(code, str::to_owned);
            Cow::Owned(format!("{side}:{name}"))
        });
        TlsFacts {
            began_at: Some(tls.began_at),
            sni: text(tls.sni),
            alpn: text(tls.alpn),
            version: tls.version.map(|code| match version_name(code) {
                Some(name) => Cow::Borrowed(name),
                None => Cow::Owned(format!("0x{code:04x}")),
            }),
            alert,
            outcome: tls.outcome.map(|outcome| Cow::Borrowed(outcome.name())),
            hello_ns: tls.hello_ns,
            handshake_ns: tls.handshake_ns,
            client_bytes: tls.client_bytes,
            server_bytes: tls.server_bytes,
        }
    }

    /// The handshake failed, or nobody answered.
    pub fn is_failed(&self) -> bool {
        matches!(self.outcome.as_deref(), Some("failed" | "no_server"))
    }
}
