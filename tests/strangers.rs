//! Frames that no endpoint of a connection has sent, or that none accepts. They hide no exchange,
//! end none and make none up, but for the one that they touch. docs/exactness.md has what remains
//! ("What can fool it").

use crate::support::capture_file::WrittenFrame;
use crate::support::packet::{ACK, FIN, PSH, Packet, RST, SYN};
use crate::support::reported::{Reported, reported_of};
use serde_json::Value;
use std::net::SocketAddr;

const CLIENT: &str = "10.0.0.1:40000";
const SERVER: &str = "10.0.0.2:80";
const STEP_NS: u64 = 10_000_000;
/// The exchanges of a talk, and before which of them the stranger comes.
const COUNT: usize = 8;
const AT: usize = 3;

/// A connection, and the frames on it so far.
struct Talk {
    /// The next numbers of client and server.
    next: [u32; 2],
    frames: Vec<WrittenFrame>,
}

impl Talk {
    fn new() -> Talk {
        let mut talk = Talk { next: [1000, 5000], frames: Vec::new() };
        talk.send(0, SYN, b"");
        talk.send(1, SYN | ACK, b"");
        talk.send(0, ACK, b"");
        talk
    }

    /// A packet of the client (0) or the server (1) as it would be now.
    fn packet(&self, side: usize, flags: u8, payload: &[u8]) -> Packet {
        let ends: [SocketAddr; 2] = [CLIENT, SERVER].map(|end| end.parse().expect("an address"));
        let ack = if flags & ACK != 0 { self.next[1 - side] } else { 0 };
        let packet = Packet::tcp(ends[side], ends[1 - side]).seq(self.next[side]).ack(ack);
        packet.flags(flags).payload(payload)
    }

    fn add(&mut self, bytes: &[u8]) {
        let ns = 1_700_000_000_000_000_000 + self.frames.len() as u64 * STEP_NS;
        self.frames.push(WrittenFrame::new(ns, bytes));
    }

    fn send(&mut self, side: usize, flags: u8, payload: &[u8]) {
        self.add(&self.packet(side, flags, payload).ethernet());
        let is_counted = flags & (SYN | FIN) != 0;
        self.next[side] =
            self.next[side].wrapping_add(payload.len() as u32 + u32::from(is_counted));
    }

    fn exchange(&mut self, number: usize) {
        self.send(0, ACK | PSH, format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        self.send(1, ACK | PSH, b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 2\r\n\r\nok");
        self.send(0, ACK, b"");
    }

    fn close(&mut self) -> Reported {
        self.send(0, FIN | ACK, b"");
        self.send(1, FIN | ACK, b"");
        reported_of(&self.frames)
    }
}

/// The frame with a checksum that its receiver does not accept.
fn spoilt(packet: &Packet) -> Vec<u8> {
    let mut bytes = packet.ethernet();
    bytes[50] ^= 0x12; // behind 14 bytes of Ethernet and 20 of IP, the 16th byte of TCP
    bytes
}

/// The numbers of the exchanges that are told as they took place.
fn told(reported: &Reported) -> Vec<usize> {
    let number = |record: &Value| {
        let is_right = record["outcome"] == "complete"
            && record["status"] == 200
            && record["response_body_bytes"] == 2
            && record["gap_bytes"].is_null();
        let target = record["target"].as_str().filter(|_| is_right)?;
        target.strip_prefix('/')?.parse().ok()
    };
    let mut told: Vec<usize> = reported.records.iter().filter_map(number).collect();
    told.sort_unstable();
    told
}

/// What is told of a talk in which a stranger does something: before the first exchange if
/// `is_first`, and else with the request of a later one (`is_asked`) or before it.
fn talk_with(is_first: bool, is_asked: bool, stranger: impl Fn(&mut Talk)) -> Reported {
    let mut talk = Talk::new();
    let at = if is_first { 0 } else { AT };
    for number in 0..COUNT {
        if number == at && !is_asked {
            stranger(&mut talk);
        }
        if number == at && is_asked {
            let request = format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n");
            talk.send(0, ACK | PSH, request.as_bytes());
            stranger(&mut talk);
            talk.send(1, ACK | PSH, b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 2\r\n\r\nok");
            talk.send(0, ACK, b"");
        } else {
            talk.exchange(number);
        }
    }
    talk.close()
}

/// All exchanges are told, and nothing else.
fn assert_all(what: &str, reported: &Reported) {
    assert_eq!(told(reported), (0..COUNT).collect::<Vec<_>>(), "{what}: {:?}", reported.records);
    assert_eq!(reported.records.len(), COUNT, "{what}: {:?}", reported.records);
}

/// All exchanges are told but the one that the stranger has touched.
fn assert_others(what: &str, reported: &Reported, touched: usize) {
    let others = (0..COUNT).filter(|number| *number != touched).collect::<Vec<_>>();
    let mut told = told(reported);
    told.retain(|number| *number != touched);
    assert_eq!(told, others, "{what}: {:?}", reported.records);
    assert!(reported.records.len() <= COUNT + 1, "{what}: {:?}", reported.records);
}

const FORGED: &[u8] = b"GET /forged HTTP/1.1\r\nHost: h\r\n\r\n";
const TLS: &[u8] = b"\x16\x03\x01\x00\x05hello";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Two frames of PING.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingping\0\0\x08\x06\0\0\0\0\0pingping";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
const FORGED_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const LONG: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n";

/// Whatever numbers it has, and in whichever direction it goes.
#[test]
fn a_stranger_that_comes_first_hides_nothing_of_a_connection_joined_late() {
    for (side, payload) in [(0, FORGED), (1, FORGED_RESPONSE), (0, PREFACE), (0, PING), (1, PING)] {
        // It may be held together with what comes next, or not.
        for (count, earlier_ms) in [(1, 0), (1, 500), (COUNT, 0), (COUNT, 500), (COUNT, 5000)] {
            let mut talk = Talk::new();
            talk.frames.clear();
            let forged = talk.packet(side, ACK | PSH, payload).seq(77_000_000).ack(3_000_000_000);
            talk.add(&forged.ethernet());
            talk.frames[0].ns -= earlier_ms * 1_000_000;
            (0..count).for_each(|number| talk.exchange(number));
            let reported = talk.close();
            let what = format!("{payload:?} by {side} {earlier_ms} ms before {count}");
            assert_eq!(
                told(&reported),
                (0..count).collect::<Vec<_>>(),
                "{what}: {:?}",
                reported.records
            );
            assert!(reported.records.len() <= count + 1, "{what}: {:?}", reported.records);
        }
    }
}

/// Segments of a stranger that confirm each other, in turn from both sides.
fn add_forged(talk: &mut Talk, count: usize) {
    let honest = std::mem::replace(&mut talk.next, [90_000_000, 70_000_000]);
    (0..count).for_each(|number| {
        let payload = if number % 2 == 0 { FORGED } else { FORGED_RESPONSE };
        talk.send(number % 2, ACK | PSH, payload);
    });
    talk.next = honest;
}

/// Only one direction is captured, but for what somebody makes up.
#[test]
fn strangers_hide_nothing_of_a_connection_joined_late_of_one_side() {
    for (side, what) in [(0, "client"), (1, "server")] {
        let reported = |forged_count: usize| {
            let mut talk = Talk::new();
            talk.frames.clear();
            for number in 0..100 {
                if number == 5 {
                    add_forged(&mut talk, forged_count);
                }
                let from = talk.frames.len();
                talk.exchange(number);
                let sent = talk.frames.split_off(from);
                talk.frames.extend(match side {
                    0 => [sent[0].clone(), sent[2].clone()].to_vec(),
                    _ => sent[1..2].to_vec(),
                });
            }
            reported_of(&talk.frames)
        };
        let control = reported(0);
        assert_eq!(control.records.len(), 100);
        for count in 3..6 {
            let reported = reported(count);
            assert_eq!(reported.records.len(), 100, "{what} {count}: {:?}", reported.stats.flow);
            for (record, expected) in reported.records.iter().zip(&control.records) {
                for field in ["target", "status", "outcome", "flow", "n"] {
                    assert_eq!(record[field], expected[field], "{what} {count}: {record}");
                }
            }
        }
    }
}

/// The server of a connection joined late is silent while somebody makes up another one.
#[test]
fn strangers_hide_nothing_of_a_long_poll_joined_late() {
    for count in 3..6 {
        let mut talk = Talk::new();
        talk.frames.clear();
        talk.send(0, ACK | PSH, b"GET /0 HTTP/1.1\r\nHost: h\r\n\r\n");
        let paused_at = talk.frames.len();
        add_forged(&mut talk, count);
        let answered_at = talk.frames.len();
        talk.send(1, ACK | PSH, b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 2\r\n\r\nok");
        talk.send(0, ACK, b"");
        (1..COUNT).for_each(|number| talk.exchange(number));
        for (at, frame) in talk.frames.iter_mut().enumerate() {
            let pauses = [paused_at, answered_at].iter().filter(|from| at >= **from).count();
            frame.ns += pauses as u64 * 3_000_000_000;
        }
        assert_all("a long poll", &talk.close());
    }
}

#[test]
fn without_a_stranger_all_is_told() {
    assert_all("nobody", &talk_with(false, false, |_| {}));
}

#[test]
fn first_bytes_that_the_receiver_discards_hide_nothing() {
    for (what, payload) in [("TLS", TLS), ("HTTP/2", PREFACE)] {
        for side in [0, 1] {
            let forged = |talk: &mut Talk| talk.add(&spoilt(&talk.packet(side, ACK, payload)));
            let reported = talk_with(true, false, forged);
            assert_all(what, &reported);
            assert_eq!(reported.stats.flow.checksums_wrong, 1);
        }
    }
}

/// A packet with a low time to live looks right and does not arrive.
#[test]
fn first_bytes_of_which_another_copy_differs_hide_no_later_exchange() {
    for (what, payload) in [("TLS", TLS), ("HTTP/2", PREFACE)] {
        let forged = |talk: &mut Talk| talk.add(&talk.packet(0, ACK, payload).ethernet());
        assert_others(what, &talk_with(true, false, forged), 0);
    }
}

#[test]
fn an_answer_that_another_contradicts_ends_nothing() {
    for (what, payload) in [("a switch", SWITCH), ("a long body", LONG)] {
        for is_right in [true, false] {
            let forged = |talk: &mut Talk| {
                let packet = talk.packet(1, ACK, payload);
                talk.add(&if is_right { packet.ethernet() } else { spoilt(&packet) });
            };
            let reported = talk_with(false, true, forged);
            match is_right || payload == LONG {
                true => assert_others(what, &reported, AT),
                false => assert_all(what, &reported),
            }
        }
    }
}

#[test]
fn an_answer_ahead_of_its_request_is_contradicted_by_the_servers() {
    let forged = |talk: &mut Talk| {
        let packet = talk.packet(1, ACK, LONG).ack(talk.next[0] + 20);
        talk.add(&packet.ethernet());
    };
    let reported = talk_with(false, false, forged);
    assert_others("ahead", &reported, AT);
    assert_eq!(reported.stats.protocol.http1.heads_contradicted, 1);
}

#[test]
fn what_acknowledges_nothing_or_too_much_is_refused() {
    let no_ack = |talk: &mut Talk| talk.add(&talk.packet(0, PSH, FORGED).ethernet());
    let reported = talk_with(false, false, no_ack);
    assert_all("no ACK", &reported);
    assert_eq!(reported.stats.flow.segments_without_ack, 1);
    for ahead in [9 << 20, 1 << 29, 1 << 31] {
        let ahead = |talk: &mut Talk| {
            let packet = talk.packet(0, ACK, FORGED).ack(talk.next[1].wrapping_add(ahead));
            talk.add(&packet.ethernet());
        };
        let reported = talk_with(false, false, ahead);
        assert_all("ahead", &reported);
        assert_eq!((reported.stats.flow.left_refused(), reported.stats.flow.gaps), (1, 0));
    }
}

#[test]
fn resets_and_ends_that_the_receiver_discards_end_nothing() {
    for flags in [RST, RST | ACK, FIN | ACK] {
        let forged = |talk: &mut Talk| {
            for side in [0, 1] {
                talk.add(&spoilt(&talk.packet(side, flags, b"")));
            }
        };
        assert_all("a wrong checksum", &talk_with(false, false, forged));
        let far = |talk: &mut Talk| {
            for side in [0, 1] {
                let packet = talk.packet(side, flags, b"").seq(talk.next[side] ^ 0x4000_0000);
                talk.add(&packet.ethernet());
            }
        };
        assert_all("far away", &talk_with(false, false, far));
    }
}

#[test]
fn a_handshake_of_strangers_changes_nothing() {
    let rival = |talk: &mut Talk| {
        let honest = talk.next;
        for _ in 0..3 {
            talk.next = talk.next.map(|next| next.wrapping_add(700_000_000));
            talk.send(0, SYN, b"");
            talk.send(1, SYN | ACK, b"");
            talk.send(0, ACK, b"");
            talk.send(0, ACK | PSH, PREFACE);
            talk.send(0, ACK | PSH, &[0; 360]);
        }
        talk.next = honest;
    };
    for is_first in [true, false] {
        let reported = talk_with(is_first, false, rival);
        assert_all("a handshake", &reported);
        assert!(reported.stats.flow.handshakes_refused > 0);
        assert_eq!(reported.stats.protocol.flows.total(), 1);
    }
}

/// A new connection on the ports of one whose end was not captured is not taken for a stranger.
#[test]
fn the_next_connection_on_the_same_ports_is_told() {
    let mut talk = Talk::new();
    (0..AT).for_each(|number| talk.exchange(number));
    talk.next = talk.next.map(|next| next.wrapping_add(700_000_000));
    talk.send(0, SYN, b"");
    talk.send(1, SYN | ACK, b"");
    talk.send(0, ACK, b"");
    (AT..COUNT).for_each(|number| talk.exchange(number));
    let reported = talk.close();
    assert_all("the next one", &reported);
    assert_eq!(reported.stats.flow.flows_reused, 1);
    let flows = reported.records.iter().map(|record| record["flow"].to_string());
    assert_eq!(flows.collect::<std::collections::BTreeSet<_>>().len(), 2);
}

/// Whoever replaces addresses in a capture often leaves the checksums wrong, of all frames.
#[test]
fn where_all_checksums_are_wrong_they_mean_nothing() {
    let mut talk = Talk::new();
    (0..COUNT).for_each(|number| talk.exchange(number));
    talk.close();
    for frame in &mut talk.frames {
        frame.bytes[50] ^= 0x12;
    }
    let reported = reported_of(&talk.frames);
    assert_all("wrong", &reported);
    assert_eq!(reported.stats.flow.checksums_wrong, 0);
    assert_eq!(reported.stats.flow.gaps, 0);
}

/// Copies that the receiver discards, and one that contradicts a head, are no retransmissions.
#[test]
fn copies_that_the_receiver_discards_do_not_count() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
    for contradicting in [false, true] {
        let mut talk = Talk::new();
        let [asked_at, answered_at] = talk.next;
        talk.send(0, ACK | PSH, b"GET / HTTP/1.1\r\n\r\n");
        let copy = talk.packet(0, ACK | PSH, b"GET / HTTP/1.1\r\n\r\n").seq(asked_at);
        talk.add(&spoilt(&copy));
        talk.add(&copy.ethernet());
        talk.send(1, ACK | PSH, head);
        // Behind a hole of 4 bytes.
        let body_at = talk.next[1];
        let waiting = talk.packet(1, ACK | PSH, b"efgh").seq(body_at + 4);
        talk.add(&waiting.ethernet());
        talk.add(&spoilt(&waiting));
        talk.add(&talk.packet(1, ACK | PSH, b"abcdefgh").seq(body_at).ethernet());
        if contradicting {
            let other = talk.packet(1, ACK | PSH, b"HTTP/1.1 404 No\r\n").seq(answered_at);
            talk.add(&other.ethernet());
        }
        talk.next[1] = body_at + 8;
        talk.send(1, ACK | PSH, b"ijkl");
        let reported = talk.close();
        assert_eq!(reported.records[0]["retransmitted_bytes"], 18 + 4, "{:?}", reported.records);
        assert_eq!(reported.records[0]["conflict"].as_bool(), contradicting.then_some(true));
    }
}
