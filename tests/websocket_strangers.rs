//! Talks of WebSocket on connections that strangers touch, that are used again, that were refused,
//! and inside tunnels. No frame of another changes what is told of a talk.

use crate::support::capture_file::WrittenFrame;
use crate::support::conversation::Side;
use crate::support::packet::{ACK, FIN, PSH, Packet, RST, SYN};
use crate::support::reported::{Reported, reported_with};
use crate::support::strangers::{Stranger, stranger};
use crate::support::websocket::{self, BINARY, PING, PONG, TEXT, answer, frame};
use crate::support::{records, tunnel};
use httplines::config::{EmitConfig, RecordKinds};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use std::net::SocketAddr;

const LAST: u8 = websocket::FIN;
const SIDES: [Side; 2] = [Side::Client, Side::Server];
const STEP_NS: u64 = 10_000_000;
/// A connection that nobody touches, and one that somebody may.
const PORTS: [u16; 2] = [40_000, 40_001];

fn ends(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::from(([10, 0, 0, 1], port)), SocketAddr::from(([10, 0, 0, 2], 80))]
}

/// A connection, and the frames on it so far. Side 0 is the client.
struct Talk {
    port: u16,
    next: [u32; 2],
    frames: Vec<Vec<u8>>,
}

impl Talk {
    fn new(port: u16, isn: [u32; 2]) -> Talk {
        let mut talk = Talk { port, next: isn, frames: Vec::new() };
        talk.send(0, SYN, b"");
        talk.send(1, SYN | ACK, b"");
        talk.send(0, ACK, b"");
        talk
    }

    /// A packet of a side as it would be now.
    fn packet(&self, side: usize, flags: u8, payload: &[u8]) -> Packet {
        let ends = ends(self.port);
        let ack = if flags & ACK != 0 { self.next[1 - side] } else { 0 };
        let packet = Packet::tcp(ends[side], ends[1 - side]).seq(self.next[side]).ack(ack);
        packet.flags(flags).payload(payload)
    }

    fn send(&mut self, side: usize, flags: u8, payload: &[u8]) {
        self.frames.push(self.packet(side, flags, payload).ethernet());
        let counted = u32::from(flags & (SYN | FIN) != 0);
        self.next[side] = self.next[side].wrapping_add(payload.len() as u32 + counted);
    }

    /// A side sends bytes, and the other one acknowledges them.
    fn say(&mut self, side: usize, bytes: &[u8]) {
        self.send(side, ACK | PSH, bytes);
        self.send(1 - side, ACK, b"");
    }

    fn open(&mut self, target: &str) {
        self.say(0, websocket::request_for(target).as_bytes());
        self.say(1, answer("").as_bytes());
    }

    /// Five messages, a ping and its answer; `before` each, something else.
    fn talk(&mut self, mut before: impl FnMut(&mut Talk, usize)) {
        let frames = [
            (0, LAST | TEXT, 20),
            (1, LAST | TEXT, 100),
            (0, LAST | PING, 4),
            (1, LAST | PONG, 4),
            (1, LAST | BINARY, 1200),
            (0, LAST | BINARY, 700),
            (1, LAST | TEXT, 0),
        ];
        for (number, (side, first, bytes)) in frames.into_iter().enumerate() {
            before(self, number);
            self.say(side, &frame(SIDES[side], first, &vec![b'x'; bytes]));
        }
    }

    fn close(&mut self) {
        self.say(0, &websocket::close(Side::Client, 1000, "bye"));
        self.say(1, &websocket::close(Side::Server, 1000, ""));
        self.send(0, FIN | ACK, b"");
        self.send(1, FIN | ACK, b"");
        self.send(0, ACK, b"");
    }
}

fn told_of(frames: impl IntoIterator<Item = Vec<u8>>) -> Reported {
    let written = |(at, bytes): (usize, Vec<u8>)| {
        WrittenFrame::new(1_700_000_000_000_000_000 + at as u64 * STEP_NS, &bytes)
    };
    let frames: Vec<WrittenFrame> = frames.into_iter().enumerate().map(written).collect();
    let kinds = RecordKinds { websocket: true, ..RecordKinds::default() };
    let config = EmitConfig { records: kinds, ..EmitConfig::default() };
    reported_with(&frames, &config)
}

fn talks(reported: &Reported) -> Vec<&Value> {
    reported.records.iter().filter(|record| record["type"] == "websocket").collect()
}

fn exchanges(reported: &Reported) -> Vec<&Value> {
    reported.records.iter().filter(|record| record["type"].is_null()).collect()
}

/// The record of the whole talk.
#[track_caller]
fn assert_whole(what: &str, record: &Value) {
    for (name, value) in [
        ("client_messages", 2),
        ("server_messages", 3),
        ("client_message_bytes", 720),
        ("server_message_bytes", 1300),
        ("client_frames", 4),
        ("server_frames", 5),
        ("pings", 1),
        ("pongs", 1),
        ("close_code", 1000),
    ] {
        assert_eq!(record[name], value, "{what}: {name}: {record}");
    }
    assert_eq!((&record["outcome"], &record["close_by"]), (&"complete".into(), &"client".into()));
    for name in ["gap_bytes", "conflict", "end_reason"] {
        assert!(record[name].is_null(), "{what}: {name}: {record}");
    }
}

/// What a stranger sends in the midst of a talk.
type Forgery<'a> = &'a dyn Fn(&mut Talk);

/// A talk in which a stranger sends frames before each frame.
fn talk_with(stranger: impl Fn(&mut Talk)) -> Reported {
    let mut talk = Talk::new(PORTS[0], [1000, 5000]);
    talk.open("/chat");
    talk.talk(|talk, _| stranger(talk));
    talk.close();
    told_of(talk.frames)
}

#[test]
fn a_talk_is_told_beside_its_exchange() {
    let reported = talk_with(|_| {});
    let (talks, exchanges) = (talks(&reported), exchanges(&reported));
    assert_eq!((talks.len(), exchanges.len()), (1, 1), "{:?}", reported.records);
    assert_whole("nobody", talks[0]);
    assert_eq!((&exchanges[0]["status"], &exchanges[0]["switched"]), (&101.into(), &true.into()));
    for name in ["flow", "n", "client_port", "target"] {
        assert_eq!(talks[0][name], exchanges[0][name], "{name}");
    }
}

#[test]
fn frames_that_no_endpoint_takes_change_nothing() {
    // The head of a frame with a payload of 2^40 bytes, and one that closes the talk.
    let long = [&[0x82, 127][..], &(1u64 << 40).to_be_bytes()].concat();
    let end = websocket::close(Side::Server, 1002, "forged");
    for payload in [&long[..], &end] {
        for side in [0, 1] {
            let far = |talk: &Talk, ahead: u32| talk.next[side].wrapping_add(ahead);
            let beyond = |talk: &mut Talk| {
                for ahead in [9 << 20, 1 << 30, 1 << 31, 3 << 30] {
                    let packet = talk.packet(side, ACK, payload).seq(far(talk, ahead));
                    talk.frames.push(packet.ethernet());
                }
            };
            let without_ack =
                |talk: &mut Talk| talk.frames.push(talk.packet(side, PSH, payload).ethernet());
            let acknowledging = |talk: &mut Talk| {
                let ack = talk.next[1 - side].wrapping_add(1 << 29);
                talk.frames.push(talk.packet(side, ACK, payload).ack(ack).ethernet());
            };
            let reset = |talk: &mut Talk| {
                let packet = talk.packet(side, RST | ACK, b"").seq(far(talk, 1 << 30));
                talk.frames.push(packet.ethernet());
            };
            let others: [(&str, Forgery<'_>); 4] = [
                ("outside of the window", &beyond),
                ("no ACK", &without_ack),
                ("acknowledges too much", &acknowledging),
                ("a reset elsewhere", &reset),
            ];
            for (what, other) in others {
                let reported = talk_with(other);
                assert_eq!(reported.records.len(), 2, "{what}: {:?}", reported.records);
                assert_whole(what, talks(&reported)[0]);
            }
        }
    }
}

/// Another copy of what has passed does not count again.
#[test]
fn copies_change_nothing() {
    let reported = talk_with(|talk| {
        let frames = talk.frames.len();
        let again: Vec<_> = talk.frames[frames.saturating_sub(4)..].to_vec();
        talk.frames.extend(again);
    });
    assert_whole("copies", talks(&reported)[0]);
}

/// A stranger's answer comes first; the server's differs, and is what the client reads.
#[test]
fn a_forged_switch_begins_no_talk() {
    let mut talk = Talk::new(PORTS[0], [1000, 5000]);
    talk.say(0, websocket::request_for("/chat").as_bytes());
    talk.frames.push(talk.packet(1, ACK, answer("").as_bytes()).ethernet());
    let refusal = format!("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{}", "\u{81}".repeat(150));
    talk.say(1, refusal.as_bytes());
    for number in 0..3 {
        talk.say(0, format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        talk.say(1, b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    talk.send(0, FIN | ACK, b"");
    talk.send(1, FIN | ACK, b"");
    let reported = told_of(talk.frames);
    assert!(talks(&reported).is_empty(), "{:?}", reported.records);
    let targets: Vec<_> = exchanges(&reported).iter().map(|it| it["target"].clone()).collect();
    for number in 0..3 {
        assert!(targets.contains(&format!("/{number}").into()), "{targets:?}");
    }
    assert_eq!(reported.stats.protocol.websocket.talks_withdrawn, 1);
}

/// The same endpoints meet again: after a close, after a reset, and without any end.
#[test]
fn a_port_that_is_used_again_is_another_talk() {
    for (end, end_reason) in [(Some(FIN), None), (Some(RST), Some("rst")), (None, Some("reused"))] {
        let mut first = Talk::new(PORTS[0], [1000, 5000]);
        first.open("/first");
        // A frame is not whole.
        first.talk(|_, _| {});
        match end {
            Some(RST) => first.send(1, RST | ACK, b""),
            Some(_) => first.close(),
            None => first.say(1, &frame(Side::Server, LAST | BINARY, &[b'x'; 1000])[..400]),
        }
        let mut second = Talk::new(PORTS[0], [3_000_000, 9_000_000]);
        second.open("/second");
        second.talk(|_, _| {});
        second.close();
        let reported = told_of([first.frames, second.frames].concat());
        assert_eq!(reported.records.len(), 4, "{:?}", reported.records);
        let talks = talks(&reported);
        assert_eq!(talks[0]["target"], "/first");
        assert_eq!(talks[0]["end_reason"].as_str(), end_reason, "{}", talks[0]);
        assert_eq!(talks[1]["target"], "/second");
        assert_whole("again", talks[1]);
        assert_ne!(talks[0]["flow"], talks[1]["flow"]);
    }
}

/// A server that refuses goes on in HTTP, and so does one that answers 101 without an Upgrade to
/// WebSocket only as far as it always did: the connection has left HTTP, and nothing is read.
#[test]
fn no_talk_without_a_switch() {
    let frames =
        [frame(Side::Client, LAST | TEXT, &[b'x'; 20]), frame(Side::Server, LAST | TEXT, b"hello")];
    let refusals = [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 7\r\n\r\n",
    ];
    for refusal in refusals {
        let mut talk = Talk::new(PORTS[0], [1000, 5000]);
        talk.say(0, websocket::request_for("/refused").as_bytes());
        // The body is a frame.
        talk.say(1, &[refusal.as_bytes(), &frames[1]].concat());
        talk.say(0, b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        talk.say(1, b"HTTP/1.1 204 No Content\r\n\r\n");
        talk.open("/chat");
        talk.talk(|_, _| {});
        talk.close();
        let reported = told_of(talk.frames);
        let told: Vec<_> = exchanges(&reported)
            .iter()
            .map(|it| (it["n"].as_u64(), it["target"].as_str(), it["outcome"].as_str()))
            .collect();
        let complete = Some("complete");
        let expected = [
            (Some(0), Some("/refused"), complete),
            (Some(1), Some("/next"), complete),
            (Some(2), Some("/chat"), complete),
        ];
        assert_eq!(told, expected, "{refusal}");
        assert_whole(refusal, talks(&reported)[0]);
        assert_eq!(talks(&reported)[0]["n"], 2);
    }
    let ask = |upgrade: &str| format!("GET /x HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n").into_bytes();
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (request, answer) in [
        (ask(websocket), "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (ask(""), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
        (ask(websocket), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n"),
        (ask("Upgrade: other\r\n"), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n"),
    ] {
        let mut talk = Talk::new(PORTS[0], [1000, 5000]);
        talk.say(0, &request);
        talk.say(1, answer.as_bytes());
        talk.talk(|_, _| {});
        talk.close();
        let reported = told_of(talk.frames);
        assert_eq!(reported.records.len(), 1, "{answer}: {:?}", reported.records);
        assert_eq!(reported.records[0]["switched"], true, "{answer}");
    }
}

/// Behind VLANs, and in a tunnel.
#[test]
fn a_talk_has_the_place_of_its_connection() {
    let mut talk = Talk::new(PORTS[0], [1000, 5000]);
    talk.open("/chat");
    talk.talk(|_, _| {});
    talk.close();
    let plain = told_of(talk.frames.clone());
    let tagged =
        |frame: &Vec<u8>| [&frame[..12], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9], &frame[12..]].concat();
    let tunnelled = |frame: &Vec<u8>| tunnel::bridged(&tunnel::vxlan(4789, 42, frame));
    let by_vlan = told_of(talk.frames.iter().map(tagged));
    let by_tunnel = told_of(talk.frames.iter().map(tunnelled));
    for (reported, name, value) in [
        (&by_vlan, "vlan", serde_json::json!([7, 9])),
        (&by_tunnel, "tunnel", serde_json::json!(["vxlan:42"])),
    ] {
        assert_whole(name, talks(reported)[0]);
        assert_eq!(talks(reported)[0][name], value);
        let bare = |reported: &Reported| {
            records::without(reported.records.clone(), &["flow", "vlan", "tunnel"])
        };
        assert_eq!(bare(reported), bare(&plain));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever strangers do to one connection, the talk on another one is told as it was.
    #[test]
    fn strangers_on_one_connection_change_no_other(strangers in vec(stranger(), 1..6)) {
        let talk = |port: u16| {
            let mut talk = Talk::new(port, [1000, u32::MAX - 500]);
            talk.open("/chat");
            talk.talk(|_, _| {});
            talk.close();
            talk.frames
        };
        let mut touched = talk(PORTS[1]);
        strangers.iter().for_each(|it: &Stranger| it.meddle(ends(PORTS[1]), &mut touched));
        let mut frames = Vec::new();
        let (mut one, mut other) = (talk(PORTS[0]).into_iter(), touched.into_iter());
        while one.len() + other.len() > 0 {
            frames.extend(one.next());
            frames.extend(other.next());
        }
        let reported = told_of(frames);
        let own: Vec<_> = talks(&reported)
            .into_iter()
            .filter(|record| record["client_port"] == PORTS[0])
            .collect();
        prop_assert_eq!(own.len(), 1);
        assert_whole("beside strangers", own[0]);
    }
}
