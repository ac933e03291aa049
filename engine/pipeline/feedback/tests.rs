//! The hints for a connection, checked against a naive twin of the filter that reads them.

use super::*;
use crate::config::{FlowConfig, HttpConfig};
use crate::decode::{Segment, SeqNumber, TcpFlags, TunnelPath};
use crate::flow::{Chunk, End, FlowEvents, Handshake};
use crate::ids::Direction::{Forward, Reverse};
use crate::ids::{FlowHashKey, IfaceId};
use crate::protocol::{Context, FlowRef};
use crate::record::{Event, EventSink};
use crate::time::TimestampNs;

const KEY: FlowKey =
    FlowKey { address: [[0; 16]; 2], port: [[0, 80], [1, 1]], vlan: [0; 4], realm: 0 };
/// As large as those of BIG TCP.
const SEGMENT_BYTES: u32 = 400_000;
const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// Response body bytes of the exchanges.
#[derive(Default)]
struct Bodies(Vec<Option<u64>>);

impl EventSink for Bodies {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Exchange(exchange) = event {
            self.0.push(exchange.response.body_bytes);
        }
    }
}

/// No flow of these tests waits for anything, or ends.
struct NoEvents;

impl FlowEvents<FlowState> for NoEvents {
    fn chunk(&mut self, _: &FlowKey, _: &Handshake, _: &mut FlowState, _: Direction, _: Chunk<'_>) {
        panic!("something waited");
    }

    fn ended(&mut self, _: &FlowKey, _: &Handshake, _: &mut FlowState, _: End) {
        panic!("a flow ended");
    }
}

/// A connection whose server is the first endpoint, with the stages that process it.
struct HintedConnection {
    hints: FlowHints,
    feedback: Feedback,
    flows: FlowTable<FlowState>,
    shared: Shared<Bodies>,
    isn: [u32; 2],
    /// The next sequence number, by direction.
    next: [SeqNumber; 2],
    segments: u64,
}

impl HintedConnection {
    fn new(elide_bytes_min: Option<u64>, isn: [u32; 2]) -> HintedConnection {
        let hints = FlowHints::on_heap(1, FlowHashKey::random());
        let mut hinted = HintedConnection {
            hints: hints.clone(),
            feedback: Feedback::new(hints, elide_bytes_min),
            flows: FlowTable::new(FlowConfig::default()),
            shared: Shared::new(HttpConfig::default(), Bodies::default()),
            isn,
            next: isn.map(SeqNumber),
            segments: 0,
        };
        hinted.flows.set_filtered();
        hinted.send(Reverse, TcpFlags::SYN, b"", 0);
        hinted.send(Forward, TcpFlags::SYN | TcpFlags::ACK, b"", 0);
        hinted
    }

    /// A segment whose payload is `payload`, then `cut_bytes` bytes that stay in the kernel.
    fn send(&mut self, direction: Direction, flags: u8, payload: &[u8], cut_bytes: u32) {
        let flags = TcpFlags(flags);
        self.segments += 1;
        let segment = Segment {
            key: KEY,
            direction,
            seq: self.next[direction.index()],
            ack: flags.is_ack().then_some(self.next[direction.opposite().index()]),
            flags,
            window: 65_535,
            header: &[],
            is_checksum_trusted: false,
            payload,
            payload_wire_bytes: payload.len() as u32 + cut_bytes,
            timestamp: TimestampNs(self.segments * 1000),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
        };
        let taken = segment.payload_wire_bytes + u32::from(flags.is_syn());
        self.next[direction.index()] = segment.seq.plus(taken);
        let index = self.flows.enter(&segment, &mut NoEvents).expect("a flow");
        let shared = &mut self.shared;
        self.flows.accept(index, &segment, |key, handshake, it, direction, chunk| {
            let flow = FlowRef { key, handshake };
            it.protocol.chunk(&mut Context { flow, shared }, direction, chunk);
        });
        self.feedback.follow(&mut self.flows, index, &mut self.shared);
    }

    /// How far ahead the filter's grant reaches for the next bytes of `direction`, as the filter
    /// computes it: with wrapping numbers, below 2^30.
    fn granted_bytes(&self, direction: Direction) -> u32 {
        let Some((flags, grants)) = self.hints.find(&KEY) else { return 0 };
        let grant = grants[direction.index()];
        let is_own = flags.has(HintFlags::isn(direction))
            && (grant >> 32) as u32 == self.isn[direction.index()];
        let ahead = (grant as u32).wrapping_sub(self.next[direction.index()].0);
        if is_own && ahead < 1 << 30 { ahead } else { 0 }
    }

    /// The server sends data, cut as the filter would cut them. Returns how many bytes reached user
    /// space.
    fn pass(&mut self, mut bytes: u64) -> u64 {
        let (body, mut up_bytes) = (vec![b'x'; SEGMENT_BYTES as usize], 0);
        while bytes > 0 {
            let size = bytes.min(u64::from(SEGMENT_BYTES)) as u32;
            let is_cut = self.granted_bytes(Forward) >= size;
            if is_cut {
                self.send(Forward, TcpFlags::ACK, b"", size);
            } else {
                up_bytes += u64::from(size);
                self.send(Forward, TcpFlags::ACK, &body[..size as usize], 0);
            }
            bytes -= u64::from(size);
        }
        up_bytes
    }

    fn head(&mut self, body_bytes: u64) {
        self.send(Reverse, TcpFlags::ACK, GET, 0);
        assert_eq!(self.granted_bytes(Forward), 0, "no head is ever cut");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n\r\n");
        self.send(Forward, TcpFlags::ACK, head.as_bytes(), 0);
        assert_eq!(self.granted_bytes(Forward), 0, "the client has not read the head yet");
        self.send(Reverse, TcpFlags::ACK, b"", 0);
    }
}

/// The grant moves with the body, is never too far ahead, and ends where the body ends.
#[test]
fn a_body_of_many_gigabytes_stays_in_the_kernel_to_its_last_byte() {
    for isn in [[5, 9], [u32::MAX - 3, 1 << 31]] {
        let mut hinted = HintedConnection::new(Some(1 << 16), isn);
        for bytes in [(5 << 30) + 12_345, 1 << 30, (1 << 30) + 1, 1 << 29, 1 << 16] {
            hinted.head(bytes);
            let ahead = u64::from(hinted.granted_bytes(Forward));
            assert_eq!(ahead, bytes.min(u64::from(GRANT_AHEAD_BYTES_MAX)));
            assert_eq!(hinted.pass(bytes), 0, "all of {bytes} is cut");
            assert_eq!(hinted.granted_bytes(Forward), 0, "nothing behind the body");
            assert_eq!(hinted.shared.recorder.sink.0.pop(), Some(Some(bytes)));
        }
        // A grant for each 2^28 bytes, not for each segment.
        assert!(hinted.feedback.stats().grants <= 5 + 4 * 6 + 3 * 4);
        assert_eq!(hinted.flows.stats().gap_bytes + hinted.flows.stats().bytes_cut, 0);
    }
}

/// When sequence numbers wrap around to the end of an old grant, nothing is cut.
#[test]
fn an_old_grant_is_moved_on_before_numbers_come_around_to_it() {
    let mut hinted = HintedConnection::new(Some(1 << 27), [7, 11]);
    hinted.head(1 << 28);
    assert_eq!(hinted.pass(1 << 28), 0);
    let grants = hinted.feedback.stats().grants;
    // Bodies without a grant, for more than two rounds of the sequence numbers.
    let small = (1 << 27) - 1;
    for _ in 0..80 {
        hinted.head(small);
        assert_eq!(hinted.pass(small), small, "of an old grant nothing is cut");
    }
    assert_eq!(hinted.feedback.stats().grants, grants, "what was moved on is no grant");
    hinted.head(1 << 28);
    assert_eq!(hinted.pass(1 << 28), 0);
    assert!(hinted.shared.recorder.sink.0.iter().all(Option::is_some));
}

#[test]
fn without_elision_the_filter_hears_of_sessions_only() {
    let mut hinted = HintedConnection::new(None, [7, 11]);
    hinted.head(1 << 20);
    assert_eq!(hinted.pass(1 << 20), 1 << 20);
    assert!(hinted.hints.find(&KEY).is_some());
    assert_eq!((hinted.feedback.stats().hints, hinted.feedback.stats().grants), (1, 0));
}

#[test]
fn a_verdict_is_told_once_and_outlives_the_end() {
    for mark in [HintFlags::FOREIGN, HintFlags::OTHER, HintFlags::TLS] {
        let mut hinted = HintedConnection::new(Some(1 << 16), [7, 11]);
        hinted.head(100);
        let index = hinted.flows.indices()[0];
        hinted.feedback.dismiss(&mut hinted.flows, index, mark);
        for later in [HintFlags::FOREIGN, HintFlags::OTHER] {
            hinted.feedback.dismiss(&mut hinted.flows, index, later);
        }
        let (flags, grants) = hinted.hints.find(&KEY).expect("a hint");
        assert_eq!(flags, mark.with(HintFlags::isn(Forward)).with(HintFlags::isn(Reverse)));
        assert_eq!(grants.map(|grant| (grant >> 32) as u32), [7, 11]);
        assert_eq!(hinted.feedback.stats().verdicts, 1);
        let (_, _, it) = hinted.flows.link(index).expect("a flow");
        hinted.feedback.close(&mut it.hint);
        assert!(hinted.hints.find(&KEY).is_some(), "a verdict is of all that comes");
        let (_, _, it) = hinted.flows.link(index).expect("a flow");
        hinted.feedback.forget(&mut it.hint);
        assert_eq!(hinted.hints.taken_count(), 0);
    }
}

#[test]
fn what_is_over_is_granted_nothing() {
    let mut hinted = HintedConnection::new(Some(1 << 16), [7, 11]);
    hinted.head(1 << 20);
    assert_eq!(hinted.granted_bytes(Forward), 1 << 20);
    let index = hinted.flows.indices()[0];
    let (_, _, it) = hinted.flows.link(index).expect("a flow");
    hinted.feedback.close(&mut it.hint);
    assert_eq!((hinted.granted_bytes(Forward), hinted.hints.taken_count()), (0, 0));
}

/// A segment of a connection of its own, which user space takes and follows.
fn follow_one(hinted: &mut HintedConnection, port: u8, offset: u32, payload: &[u8]) {
    let segment = Segment {
        key: FlowKey { port: [[0, 80], [port, 1]], ..KEY },
        direction: Reverse,
        seq: SeqNumber(1).plus(offset),
        ack: Some(SeqNumber(1)),
        flags: TcpFlags(TcpFlags::ACK),
        window: 65_535,
        header: &[],
        is_checksum_trusted: false,
        payload,
        payload_wire_bytes: payload.len() as u32,
        timestamp: TimestampNs(1),
        iface: IfaceId(0),
        tunnel: TunnelPath::default(),
    };
    let index = hinted.flows.enter(&segment, &mut NoEvents).expect("a flow");
    let shared = &mut hinted.shared;
    hinted.flows.accept(index, &segment, |key, handshake, it, direction, chunk| {
        let flow = FlowRef { key, handshake };
        it.protocol.chunk(&mut Context { flow, shared }, direction, chunk);
    });
    hinted.feedback.follow(&mut hinted.flows, index, &mut hinted.shared);
}

/// The table has two slots, and one packet from anybody takes none.
#[test]
fn a_flood_of_requests_takes_no_hint_from_a_connection_that_is_answered() {
    let mut hinted = HintedConnection::new(Some(1 << 16), [7, 11]);
    for port in 2..200 {
        let payload =
            if port % 2 == 0 { GET } else { b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" };
        follow_one(&mut hinted, port, 0, payload);
    }
    let of_own = HintStats { hints: 1, ..HintStats::default() };
    assert_eq!(hinted.feedback.stats(), of_own, "none was refused, either");
    hinted.head(1 << 20);
    assert_eq!(hinted.granted_bytes(Forward), 1 << 20);
}

/// Where one direction is captured, no connection is answered. A large body stays in the kernel all
/// the same, once a part of it has passed.
#[test]
fn an_upload_that_goes_on_without_an_answer_gets_a_hint() {
    let mut hinted = HintedConnection::new(Some(1 << 16), [7, 11]);
    let head = b"PUT / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n";
    follow_one(&mut hinted, 9, 0, head);
    let (mut offset, body) = (head.len() as u32, vec![b'x'; 100_000]);
    while hinted.hints.taken_count() == 1 {
        assert!(offset < 1_200_000, "no hint after {offset} bytes");
        follow_one(&mut hinted, 9, offset, &body);
        offset += body.len() as u32;
    }
    assert!(offset > UNANSWERED_BYTES_MIN, "a hint after {offset} bytes");
    assert_eq!(hinted.feedback.stats().grants, 1);
}

/// Both slots of the key are taken: the whole connection is passed to user space until one is free.
#[test]
fn a_note_that_found_no_place_tries_again_with_the_next_grant() {
    let mut hinted = HintedConnection::new(Some(1 << 16), [7, 11]);
    hinted.feedback.forget(&mut Hint::default());
    let index = hinted.flows.indices()[0];
    let (_, _, it) = hinted.flows.link(index).expect("a flow");
    hinted.feedback.forget(&mut it.hint);
    let others = [[9, 9], [8, 8]].map(|port| FlowKey { port: [[0, 80], port], ..KEY });
    let taken = others.map(|key| hinted.hints.take(&key).expect("a free slot"));
    hinted.head(1 << 20);
    assert_eq!(hinted.granted_bytes(Forward), 0);
    assert!(hinted.feedback.stats().hints_refused > 0);
    hinted.hints.erase(taken[0]);
    hinted.send(Forward, TcpFlags::ACK, b"xxx", 0);
    assert_eq!(hinted.granted_bytes(Forward), (1 << 20) - 3);
}
