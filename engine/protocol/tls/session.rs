//! [`Session`]: both sides of a connection of TLS: the handshake as far as it is in clear, and then
//! only how many bytes pass and how it ends.

use super::certificate;
use super::hello::{self, ClientHello, ServerHello};
use super::parts::is_tls13;
use super::records::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, Piece};
use super::side::{Message, READ_BYTES_MAX, Side};
use crate::decode::{SeqNumber, TunnelPath};
use crate::flow::{End, SegmentMeta};
use crate::ids::{Direction, IfaceId};
use crate::protocol::{FlowRef, Shared};
use crate::record::{EventSink, FlowIdentity, TlsAlert, TlsCertificate, TlsConnection, TlsOutcome};
use crate::time::TimestampNs;

/// The memory of a session, except for its texts, with the overhead of the allocator.
const SESSION_BYTES: usize = size_of::<Session>() + 16;

/// The same of a certificate.
const CERTIFICATE_BYTES: usize = size_of::<TlsCertificate>() + 48;

/// Kinds of messages (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const SERVER_HELLO_DONE: u8 = 14;

/// Alerts that do not end a handshake in TLS 1.3, where the level says nothing.
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Session {
    /// By direction.
    sides: [Side; 2],
    /// Who sent the ClientHello.
    client: Option<Direction>,
    hello: Option<ClientHello>,
    hello_bytes: u32,
    server: Option<ServerHello>,
    /// The end of the ServerHello.
    server_hello_end: Option<SeqNumber>,
    group: Option<u16>,
    /// Of the server and the client.
    certificates: [Option<Box<TlsCertificate>>; 2],
    /// The alert that is told, and whether it ends the handshake.
    alert: Option<(TlsAlert, bool)>,
    is_retry: bool,
    is_resumed: Option<bool>,
    /// The server has sent what it sends for a new session only (up to TLS 1.2).
    has_new_session: bool,
    is_complete: bool,
    /// Nothing more is read.
    is_over: bool,
    /// It was reported, or is not to be.
    is_reported: bool,
    began_at: TimestampNs,
    hello_ended_at: Option<TimestampNs>,
    answered_at: Option<TimestampNs>,
    finished_at: Option<TimestampNs>,
    gap_bytes: u64,
    iface: IfaceId,
    tunnel: TunnelPath,
    /// The memory that it takes, without the messages.
    held_bytes: usize,
}

impl Session {
    /// A session whose first bytes come in `first`.
    pub fn begin<S>(shared: &mut Shared<S>, first: &SegmentMeta) -> Box<Session> {
        shared.recorder.pool.hold(SESSION_BYTES);
        Box::new(Session {
            sides: Default::default(),
            client: None,
            hello: None,
            hello_bytes: 0,
            server: None,
            server_hello_end: None,
            group: None,
            certificates: [None, None],
            alert: None,
            is_retry: false,
            is_resumed: None,
            has_new_session: false,
            is_complete: false,
            is_over: false,
            is_reported: false,
            began_at: first.timestamp,
            hello_ended_at: None,
            answered_at: None,
            finished_at: None,
            gap_bytes: 0,
            iface: first.iface,
            tunnel: first.tunnel,
            held_bytes: SESSION_BYTES,
        })
    }

    /// Whether nothing more is read.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the handshake has ended well.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether it was reported, or is not to be.
    pub fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// The memory that it takes.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes + self.sides.iter().map(Side::held_bytes).sum::<usize>()
    }

    /// Takes the next bytes of a direction.
    pub fn bytes<S>(
        &mut self,
        shared: &mut Shared<S>,
        direction: Direction,
        bytes: &[u8],
        meta: &SegmentMeta,
    ) {
        let side = &mut self.sides[direction.index()];
        let visible = &bytes[..side.pass(bytes.len() as u64).min(bytes.len())];
        if self.is_over {
            return;
        }
        if meta.is_frame_start {
            side.records.find(visible);
        }
        let mut done = 0;
        while done < visible.len() && !self.is_over {
            let (used, piece) = self.sides[direction.index()].records.next(&visible[done..]);
            done += used;
            let until = meta.seq.plus(done as u32);
            match piece {
                Piece::Partial | Piece::Lost => {}
                Piece::Head(kind, len) => self.record(shared, direction, (kind, len), meta),
                Piece::Content(HANDSHAKE, content, _) => {
                    self.handshake(shared, direction, content, (meta.timestamp, until));
                }
                Piece::Content(ALERT, content, _) => self.alert(shared, direction, content),
                Piece::Content(..) => {}
            }
        }
        self.stop_at_bounds(shared);
    }

    /// Takes the loss of `len_bytes` of a direction.
    pub fn gap<S>(&mut self, shared: &mut Shared<S>, direction: Direction, len_bytes: u64) {
        let side = &mut self.sides[direction.index()];
        let lost_bytes = (side.pass(len_bytes) as u64).min(len_bytes);
        if self.is_over || lost_bytes == 0 {
            return;
        }
        self.gap_bytes += lost_bytes;
        if side.records.skip(lost_bytes) {
            self.break_off(shared, direction);
        }
        self.stop_at_bounds(shared);
    }

    /// The messages of a direction are not known any more. Of the one in progress, what came of it
    /// is read.
    fn break_off<S>(&mut self, shared: &mut Shared<S>, direction: Direction) {
        let side = &mut self.sides[direction.index()];
        side.is_broken = true;
        let buffer = side.take_buffer();
        if let Some((kind, len, body)) = Message::cut(&buffer) {
            self.message(shared, direction, Message { kind, len, body, is_whole: false }, None);
        }
        shared.recorder.pool.give_buffer_back(buffer);
    }

    /// A record begins.
    fn record<S>(
        &mut self,
        shared: &mut Shared<S>,
        direction: Direction,
        (kind, len): (u8, u16),
        meta: &SegmentMeta,
    ) {
        if self.client == Some(direction.opposite()) && self.answered_at.is_none() {
            self.answered_at = Some(meta.timestamp);
        }
        let version = self.server.as_ref().filter(|it| !it.is_retry).map(|it| it.version);
        let side = &mut self.sides[direction.index()];
        match kind {
            CHANGE_CIPHER_SPEC => self.change_cipher(direction),
            HANDSHAKE | APPLICATION_DATA
                if version.is_some_and(|it| !is_tls13(it))
                    && (side.is_opaque || kind == APPLICATION_DATA) =>
            {
                self.finish_side(shared, direction, meta);
            }
            APPLICATION_DATA if self.client == Some(direction) && version.is_some_and(is_tls13) => {
                self.finish_tls13(shared, len, meta);
            }
            _ => {}
        }
    }

    /// What follows in this direction is encrypted, up to TLS 1.2. In TLS 1.3 it means nothing, but
    /// what is in clear behind it is not needed: except for what follows a HelloRetryRequest.
    fn change_cipher(&mut self, direction: Direction) {
        let is_server = self.client == Some(direction.opposite());
        let is_retry = is_server && self.server.as_ref().is_some_and(|it| it.is_retry);
        let side = &mut self.sides[direction.index()];
        if is_retry || side.is_opaque {
            return;
        }
        side.is_opaque = true;
        let is_old = self.server.as_ref().is_some_and(|it| !is_tls13(it.version));
        if is_server && is_old && !side.is_broken && !side.records.is_lost() {
            self.is_resumed = Some(!self.has_new_session);
        }
    }

    /// A direction has sent its Finished, up to TLS 1.2.
    fn finish_side<S>(&mut self, shared: &mut Shared<S>, direction: Direction, meta: &SegmentMeta) {
        let side = &mut self.sides[direction.index()];
        let is_news = !std::mem::replace(&mut side.is_finished, true);
        if is_news && side.is_opaque && self.client == Some(direction) {
            self.finished_at = Some(meta.timestamp);
        }
        if self.sides.iter().all(|side| side.is_finished) {
            self.is_complete = true;
            self.stop(shared);
        }
    }

    /// A record of the client is encrypted, in TLS 1.3. Early data is, too, but the client has sent
    /// it before it read the ServerHello.
    fn finish_tls13<S>(&mut self, shared: &mut Shared<S>, len: u16, meta: &SegmentMeta) {
        // An alert, with a tag of 16 or 8 bytes. No other message of a client is as short.
        const ALERT_BYTES: [u16; 2] = [2 + 1 + 16, 2 + 1 + 8];
        let is_early_data = self.hello.as_ref().is_none_or(|hello| hello.is_early_data);
        let has_read = self.server_hello_end.zip(meta.ack);
        let has_read = has_read.is_some_and(|(end, ack)| !ack.precedes(end));
        if is_early_data && !has_read {
            return;
        }
        if !ALERT_BYTES.contains(&len) {
            self.is_complete = true;
            self.finished_at = Some(meta.timestamp);
        }
        self.stop(shared);
    }

    /// Content of a record of the handshake.
    fn handshake<S>(
        &mut self,
        shared: &mut Shared<S>,
        direction: Direction,
        content: &[u8],
        (now, until): (TimestampNs, SeqNumber),
    ) {
        let side = &mut self.sides[direction.index()];
        if side.is_opaque || side.is_broken {
            return;
        }
        let mut buffer = side.take_buffer();
        if buffer.capacity() == 0 {
            buffer = shared.recorder.pool.take_buffer();
        }
        shared.recorder.pool.extend(&mut buffer, content);
        let mut done = 0;
        while let Some((kind, body)) = Message::whole(&buffer[done..]) {
            let len = body.len();
            let message = Message { kind, len, body, is_whole: true };
            self.message(shared, direction, message, Some((now, until)));
            done += len + Message::HEAD_BYTES;
        }
        buffer.drain(..done);
        let is_wrong = buffer.first().is_some_and(|kind| !Message::is_known(*kind));
        if buffer.is_empty() || is_wrong || self.is_over {
            shared.recorder.pool.give_buffer_back(buffer);
        } else {
            self.sides[direction.index()].put_buffer(buffer);
        }
        self.sides[direction.index()].is_broken |= is_wrong;
    }

    /// A message, of which a part may be missing. `now` is when and where it ended.
    fn message<S>(
        &mut self,
        shared: &mut Shared<S>,
        direction: Direction,
        message: Message<'_>,
        now: Option<(TimestampNs, SeqNumber)>,
    ) {
        let Message { kind, len, body, is_whole } = message;
        match kind {
            CLIENT_HELLO if self.hello.is_none() => {
                let Some(hello) = ClientHello::of(body, is_whole) else { return };
                self.hold(shared, hello.text_bytes());
                self.hello = Some(hello);
                self.hello_bytes = (len + Message::HEAD_BYTES) as u32;
                self.hello_ended_at = now.map(|(at, _)| at);
                self.client = Some(direction);
            }
            SERVER_HELLO if self.server.as_ref().is_none_or(|it| it.is_retry) => {
                let Some(server) = ServerHello::of(body, is_whole) else { return };
                self.client = Some(direction.opposite());
                self.is_retry |= server.is_retry;
                if is_tls13(server.version) && !server.is_retry {
                    self.is_resumed = Some(server.has_shared_key).filter(|_| is_whole);
                }
                self.group = server.group;
                self.hold(shared, server.alpn.as_ref().map_or(0, |alpn| alpn.len()));
                self.server = Some(server);
                self.server_hello_end = now.map(|(_, until)| until);
            }
            CERTIFICATE => {
                let is_client = self.client == Some(direction);
                self.has_new_session |= !is_client;
                let slot = usize::from(is_client);
                if let (None, Some(der)) = (&self.certificates[slot], certificate::first_of(body)) {
                    let told = certificate::read(der);
                    let text = |text: &Option<Box<[u8]>>| text.as_ref().map_or(0, |it| it.len());
                    let bytes = CERTIFICATE_BYTES + text(&told.cn) + text(&told.issuer);
                    self.hold(shared, bytes);
                    self.certificates[slot] = Some(Box::new(told));
                }
            }
            SERVER_KEY_EXCHANGE => {
                self.has_new_session = true;
                let cipher = self.server.as_ref().map(|it| it.cipher);
                let group = cipher.and_then(|it| hello::group_of_key_exchange(body, it));
                self.group = self.group.or(group);
            }
            SERVER_HELLO_DONE => self.has_new_session = true,
            _ => {}
        }
    }

    /// Content of a record with an alert.
    fn alert<S>(&mut self, shared: &mut Shared<S>, direction: Direction, content: &[u8]) {
        let side = &mut self.sides[direction.index()];
        if side.is_opaque {
            return;
        }
        let Some([level, code]) = side.alert(content) else { return };
        let is_tls13 = self.server.as_ref().is_some_and(|it| is_tls13(it.version));
        let is_fatal = level == 2 || is_tls13 && !matches!(code, CLOSE_NOTIFY | USER_CANCELED);
        // Without a hello, it is not known which side is which.
        let Some(client) = self.client else { return };
        let alert = TlsAlert { is_by_client: client == direction, code };
        if self.alert.is_none_or(|(_, was_fatal)| is_fatal && !was_fatal) {
            self.alert = Some((alert, is_fatal));
        }
        if is_fatal {
            self.stop(shared);
        }
    }

    /// Nothing that is behind the first bytes is read, since the filter does not let it through.
    fn stop_at_bounds<S>(&mut self, shared: &mut Shared<S>) {
        let is_full = |direction: Direction| {
            self.sides[direction.index()].passed_bytes >= READ_BYTES_MAX as u64
        };
        let [forward, reverse] = [Direction::Forward, Direction::Reverse].map(is_full);
        let is_enough = match self.client {
            Some(client) => {
                let has_spoken = self.sides[client.index()].passed_bytes > 0;
                is_full(client) || is_full(client.opposite()) && !has_spoken
            }
            None => forward || reverse,
        };
        if is_enough || self.sides.iter().all(|side| side.records.is_lost()) {
            self.stop(shared);
        }
    }

    /// The handshake is over.
    fn stop<S>(&mut self, shared: &mut Shared<S>) {
        if self.is_over {
            return;
        }
        for direction in [Direction::Forward, Direction::Reverse] {
            self.break_off(shared, direction);
        }
        self.is_over = true;
    }

    fn hold<S>(&mut self, shared: &mut Shared<S>, bytes: usize) {
        shared.recorder.pool.hold(bytes);
        self.held_bytes += bytes;
    }

    /// The segment that closes a direction passed. The latest one counts.
    pub fn closing(&mut self, direction: Direction, at: TimestampNs) {
        self.sides[direction.index()].closed_at = Some(at);
    }

    /// The sender closed its direction.
    pub fn fin(&mut self, direction: Direction) {
        self.sides[direction.index()].is_closed = true;
    }

    /// It turned out to be none: it is not reported.
    pub fn withdraw<S>(&mut self, shared: &mut Shared<S>) {
        if !std::mem::replace(&mut self.is_reported, true) {
            shared.stats.tls.connections_withdrawn += 1;
        }
    }

    /// Reports it: at its end, or, without `end`, since its handshake is over.
    pub fn report<S: EventSink>(
        &mut self,
        shared: &mut Shared<S>,
        flow: FlowRef<'_>,
        flow_id: u64,
        end: Option<End>,
    ) {
        if self.is_reported {
            return;
        }
        self.stop(shared);
        self.is_reported = true;
        if self.hello.is_none() && self.server.is_none() {
            return;
        }
        let is_answered = flow.handshake.is_answered();
        let stats = &mut shared.stats.tls;
        if end == Some(End::Shed) {
            stats.connections_shed += 1;
            return;
        }
        if !is_answered && shared.limits.is_answered_only {
            stats.connections_left_out += 1;
            return;
        }
        let outcome = self.outcome(is_answered, end);
        stats.count(&self.told(flow, outcome, end));
        let client = self.client.or(flow.handshake.client).unwrap_or_default();
        let identity = FlowIdentity { key: flow.key, client, id: flow_id };
        shared.recorder.tls(identity, &self.told(flow, outcome, end));
    }

    /// What became of the handshake, as far as is known.
    fn outcome(&self, is_answered: bool, end: Option<End>) -> Option<TlsOutcome> {
        if self.is_complete {
            return Some(TlsOutcome::Complete);
        }
        let server_bytes =
            self.client.map_or(1, |client| self.sides[client.opposite().index()].passed_bytes);
        let is_refused = self.alert.is_some_and(|(_, is_fatal)| is_fatal);
        // What was lost, or was not looked at, may have completed it.
        let is_known = self.gap_bytes == 0
            && is_answered
            && matches!(end, Some(End::Fin | End::Rst | End::Idle))
            && self.sides.iter().all(|side| side.passed_bytes < READ_BYTES_MAX as u64);
        if !is_refused && !is_known {
            return None;
        }
        Some(if server_bytes == 0 { TlsOutcome::NoServer } else { TlsOutcome::Failed })
    }

    /// All that is known.
    fn told(
        &self,
        flow: FlowRef<'_>,
        outcome: Option<TlsOutcome>,
        end: Option<End>,
    ) -> TlsConnection<'_> {
        let (hello, server) = (self.hello.as_ref(), self.server.as_ref());
        let client = self.client.or(flow.handshake.client).unwrap_or_default();
        let between = |from: Option<TimestampNs>, to: Option<TimestampNs>| {
            from.zip(to).map(|(from, to)| to.since(from))
        };
        let closed_at = self.sides.iter().filter_map(|side| side.closed_at).max();
        let is_ended = matches!(end, Some(End::Fin | End::Rst));
        let bytes =
            |direction: Direction| end.and_then(|end| self.sides[direction.index()].length(end));
        TlsConnection {
            sni: hello.and_then(|it| it.sni.as_deref()),
            alpn_offered: hello.and_then(|it| it.alpn.as_deref()),
            alpn: server.and_then(|it| it.alpn.as_deref()),
            version: server.map(|it| it.version),
            cipher: server.map(|it| it.cipher),
            group: self.group,
            ja3: hello.and_then(|it| it.ja3),
            ja3s: server.filter(|it| !it.is_retry).and_then(|it| it.ja3s),
            ja4: hello.and_then(|it| it.ja4),
            is_ech: hello.is_some_and(|it| it.is_ech),
            is_hello_retry: self.is_retry,
            is_resumed: self.is_resumed,
            is_early_data: hello.is_some_and(|it| it.is_early_data),
            certificate: self.certificates[0].as_deref(),
            client_certificate: self.certificates[1].as_deref(),
            alert: self.alert.map(|(alert, _)| alert),
            client_hello_bytes: hello.map(|_| self.hello_bytes),
            began_at: self.began_at,
            connect_ns: flow.handshake.connect_ns(),
            hello_ns: between(self.hello_ended_at, self.answered_at),
            handshake_ns: between(Some(self.began_at), self.finished_at),
            duration_ns: between(Some(self.began_at), closed_at).filter(|_| is_ended),
            client_bytes: bytes(client),
            server_bytes: bytes(client.opposite()),
            outcome: outcome.filter(|_| end.is_some()),
            end,
            gap_bytes: self.gap_bytes,
            is_midstream: flow.handshake.is_midstream(),
            iface: self.iface,
            tunnel: self.tunnel,
        }
    }

    /// It is removed, after its end.
    pub fn leave<S>(mut self, shared: &mut Shared<S>) {
        for side in &mut self.sides {
            let buffer = side.take_buffer();
            shared.recorder.pool.give_buffer_back(buffer);
        }
        shared.recorder.pool.release(self.held_bytes);
    }
}
