//! What is noted of a connection, against a naive twin of the filter that reads the notes.

use super::*;
use crate::config::{FlowConfig, HttpConfig};
use crate::decode::{Segment, SeqNumber, TcpFlags, TunnelPath};
use crate::flow::{Chunk, End, FlowEvents, Origins};
use crate::ids::Direction::{Forward, Reverse};
use crate::ids::IfaceId;
use crate::protocol::{Context, FlowRef};
use crate::record::{Event, EventSink};
use crate::time::TimestampNs;

const KEY: FlowKey =
    FlowKey { address: [[0; 16]; 2], port: [[0, 80], [1, 1]], vlan: [0; 4], realm: 0 };
/// As BIG TCP has them.
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
    fn chunk(&mut self, _: &FlowKey, _: &Origins, _: &mut FlowState, _: Direction, _: Chunk<'_>) {
        panic!("something waited");
    }

    fn ended(&mut self, _: &FlowKey, _: &Origins, _: &mut FlowState, _: End) {
        panic!("a flow ended");
    }
}

/// A connection whose server is the first endpoint, and the rooms it goes through.
struct Talk {
    notes: Notes,
    feedback: Feedback,
    flows: FlowTable<FlowState>,
    shared: Shared<Bodies>,
    isn: [u32; 2],
    /// What comes next, by direction.
    next: [SeqNumber; 2],
    segments: u64,
}

impl Talk {
    fn new(elide_bytes_min: Option<u64>, isn: [u32; 2]) -> Talk {
        let notes = Notes::on_heap(1);
        let mut talk = Talk {
            notes: notes.clone(),
            feedback: Feedback::new(notes, elide_bytes_min),
            flows: FlowTable::new(FlowConfig::default()),
            shared: Shared::new(HttpConfig::default(), Bodies::default()),
            isn,
            next: isn.map(SeqNumber),
            segments: 0,
        };
        talk.flows.set_filtered();
        talk.send(Reverse, TcpFlags::SYN, b"", 0);
        talk.send(Forward, TcpFlags::SYN | TcpFlags::ACK, b"", 0);
        talk
    }

    /// A segment whose payload begins with `payload` and goes on for `cut_bytes` that stay below.
    fn send(&mut self, direction: Direction, flags: u8, payload: &[u8], cut_bytes: u32) {
        let flags = TcpFlags(flags);
        self.segments += 1;
        let segment = Segment {
            key: KEY,
            direction,
            seq: self.next[direction.index()],
            ack: flags.is_ack().then_some(self.next[direction.opposite().index()]),
            flags,
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
        self.flows.accept(index, &segment, |key, origins, it, direction, chunk| {
            let flow = FlowRef { key, origins };
            it.protocol.chunk(&mut Context { flow, shared }, direction, chunk);
        });
        self.feedback.follow(&mut self.flows, index, &mut self.shared);
    }

    /// How far ahead the filter has a grant for what `direction` sends next, as the filter
    /// computes it: with wrapping numbers, below 2^30.
    fn granted_bytes(&self, direction: Direction) -> u32 {
        let Some((marks, grants)) = self.notes.find(&KEY) else { return 0 };
        let grant = grants[direction.index()];
        let is_own =
            marks.has(Marks::isn(direction)) && (grant >> 32) as u32 == self.isn[direction.index()];
        let ahead = (grant as u32).wrapping_sub(self.next[direction.index()].0);
        if is_own && ahead < 1 << 30 { ahead } else { 0 }
    }

    /// The server's data go by: cut where the filter would cut them. How many bytes came up.
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
    }
}

/// The grant moves on with the body, is never too far ahead, and ends where the body ends.
#[test]
fn a_body_of_many_gigabytes_stays_in_the_kernel_to_its_last_byte() {
    for isn in [[5, 9], [u32::MAX - 3, 1 << 31]] {
        let mut talk = Talk::new(Some(1 << 16), isn);
        for bytes in [(5 << 30) + 12_345, 1 << 30, (1 << 30) + 1, 1 << 29, 1 << 16] {
            talk.head(bytes);
            let ahead = u64::from(talk.granted_bytes(Forward));
            assert_eq!(ahead, bytes.min(u64::from(GRANT_AHEAD_BYTES_MAX)));
            assert_eq!(talk.pass(bytes), 0, "all of {bytes} is cut");
            assert_eq!(talk.granted_bytes(Forward), 0, "nothing behind the body");
            assert_eq!(talk.shared.recorder.sink.0.pop(), Some(Some(bytes)));
        }
        // A grant for each 2^28 bytes, not for each segment.
        assert!(talk.feedback.stats().grants <= 5 + 4 * 6 + 3 * 4);
        assert_eq!(talk.flows.stats().gap_bytes + talk.flows.stats().bytes_cut, 0);
    }
}

/// Where sequence numbers come around to the end of an old grant, nothing is cut.
#[test]
fn an_old_grant_is_moved_on_before_numbers_come_around_to_it() {
    let mut talk = Talk::new(Some(1 << 27), [7, 11]);
    talk.head(1 << 28);
    assert_eq!(talk.pass(1 << 28), 0);
    let grants = talk.feedback.stats().grants;
    // Bodies for which no grant is made, for more than two rounds of the numbers.
    let small = (1 << 27) - 1;
    for _ in 0..80 {
        talk.head(small);
        assert_eq!(talk.pass(small), small, "of an old grant nothing is cut");
    }
    assert_eq!(talk.feedback.stats().grants, grants, "what was moved on is no grant");
    talk.head(1 << 28);
    assert_eq!(talk.pass(1 << 28), 0);
    assert!(talk.shared.recorder.sink.0.iter().all(Option::is_some));
}

#[test]
fn without_elision_the_filter_hears_of_sessions_only() {
    let mut talk = Talk::new(None, [7, 11]);
    talk.head(1 << 20);
    assert_eq!(talk.pass(1 << 20), 1 << 20);
    assert!(talk.notes.find(&KEY).is_some());
    assert_eq!((talk.feedback.stats().notes, talk.feedback.stats().grants), (1, 0));
}

#[test]
fn a_verdict_is_told_once_and_outlives_the_end() {
    for (is_final, mark) in [(true, Marks::FOREIGN), (false, Marks::OTHER)] {
        let mut talk = Talk::new(Some(1 << 16), [7, 11]);
        talk.head(100);
        let index = talk.flows.indices()[0];
        talk.feedback.dismiss(&mut talk.flows, index, is_final);
        talk.feedback.dismiss(&mut talk.flows, index, !is_final);
        let (marks, grants) = talk.notes.find(&KEY).expect("a note");
        assert!(marks.has(mark.with(Marks::isn(Forward)).with(Marks::isn(Reverse))));
        assert_eq!(grants.map(|grant| (grant >> 32) as u32), [7, 11]);
        assert_eq!(talk.feedback.stats().verdicts, 1);
        let (_, _, it) = talk.flows.link(index).expect("a flow");
        talk.feedback.close(&mut it.note);
        assert!(talk.notes.find(&KEY).is_some(), "a verdict is of all that comes");
        let (_, _, it) = talk.flows.link(index).expect("a flow");
        talk.feedback.forget(&mut it.note);
        assert_eq!(talk.notes.taken_count(), 0);
    }
}

#[test]
fn what_is_over_is_granted_nothing() {
    let mut talk = Talk::new(Some(1 << 16), [7, 11]);
    talk.head(1 << 20);
    assert_eq!(talk.granted_bytes(Forward), 1 << 20);
    let index = talk.flows.indices()[0];
    let (_, _, it) = talk.flows.link(index).expect("a flow");
    talk.feedback.close(&mut it.note);
    assert_eq!((talk.granted_bytes(Forward), talk.notes.taken_count()), (0, 0));
}

/// Both places of the key are taken: the connection comes up whole until one is free.
#[test]
fn a_note_that_found_no_place_tries_again_with_the_next_grant() {
    let mut talk = Talk::new(Some(1 << 16), [7, 11]);
    talk.feedback.forget(&mut Note::default());
    let index = talk.flows.indices()[0];
    let (_, _, it) = talk.flows.link(index).expect("a flow");
    talk.feedback.forget(&mut it.note);
    let others = [[9, 9], [8, 8]].map(|port| FlowKey { port: [[0, 80], port], ..KEY });
    let taken = others.map(|key| talk.notes.take(&key).expect("a place"));
    talk.head(1 << 20);
    assert_eq!(talk.granted_bytes(Forward), 0);
    assert!(talk.feedback.stats().notes_refused > 0);
    talk.notes.erase(taken[0]);
    talk.send(Forward, TcpFlags::ACK, b"xxx", 0);
    assert_eq!(talk.granted_bytes(Forward), (1 << 20) - 3);
}
