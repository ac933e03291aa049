//! Connections of HTTP/2 whose beginning was not captured: from which segment on they are read, and
//! that the filter passes what user space reads.

use crate::support::capture_file::WrittenFrame;
use crate::support::kernel_packet::{ACK, SYN};
use crate::support::packet::Packet;
use crate::support::reported::{Reported, reported_of};
use httplines::protocol::Kind;
use serde_json::Value;
use std::net::SocketAddr;

const CLIENT_ISN: u32 = 1000;
const SERVER_ISN: u32 = 9000;

/// Fields of the static table (RFC 7541 appendix A).
const GET: u8 = 0x82;
const HTTP: u8 = 0x86;
const STATUS_200: u8 = 0x88;
/// The newest entry of the dynamic table.
const NEWEST: u8 = 0xbe;

fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS with a whole block. If it `is_end`, the message ends with it.
fn headers(stream: u32, is_end: bool, block: &[u8]) -> Vec<u8> {
    http2_frame(1, 4 | u8::from(is_end), stream, block)
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    // The path is a literal that is not put into the table.
    let block = [&[GET, HTTP, 0x04, path.len() as u8], path.as_bytes()].concat();
    headers(stream, true, &block)
}

/// A literal field that is put into the table.
fn inserted(name: &str, value: &str) -> Vec<u8> {
    let part = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [vec![0x40], part(name), part(value)].concat()
}

fn data(stream: u32, is_end: bool, bytes: usize) -> Vec<u8> {
    http2_frame(0, u8::from(is_end), stream, &vec![b'x'; bytes])
}

/// A connection, segment by segment.
struct Talk {
    frames: Vec<WrittenFrame>,
    next: [u32; 2],
}

impl Talk {
    /// After its handshake.
    fn new() -> Talk {
        let mut talk = Talk { frames: Vec::new(), next: [CLIENT_ISN, SERVER_ISN] };
        talk.segment(0, SYN, b"");
        talk.next[0] += 1;
        talk.segment(1, SYN | ACK, b"");
        talk.next[1] += 1;
        talk
    }

    fn segment(&mut self, from: usize, flags: u8, payload: &[u8]) {
        let ends: [SocketAddr; 2] =
            ["10.0.0.9:4000", "10.0.0.1:80"].map(|end| end.parse().expect("an address"));
        let ack = if flags == SYN { 0 } else { self.next[1 - from] };
        let packet = Packet::tcp(ends[from], ends[1 - from]).seq(self.next[from]).ack(ack);
        let bytes = packet.flags(flags).payload(payload).ethernet();
        let at_ns = 1_000_000_000 + self.frames.len() as u64 * 1_000_000;
        self.frames.push(WrittenFrame::new(at_ns, &bytes));
        self.next[from] += payload.len() as u32;
    }

    fn ask(&mut self, frames: &[Vec<u8>]) -> &mut Talk {
        self.segment(0, ACK, &frames.concat());
        self
    }

    fn answer(&mut self, frames: &[Vec<u8>]) -> &mut Talk {
        self.segment(1, ACK, &frames.concat());
        self
    }

    /// What is told, if the first `late` frames were not captured, and those `lost` neither.
    fn told(&self, late: usize, lost: &[usize]) -> Reported {
        let is_seen = |at: &usize| *at >= late && !lost.contains(at);
        let seen: Vec<_> =
            (0..self.frames.len()).filter(is_seen).map(|at| self.frames[at].clone()).collect();
        reported_of(&seen)
    }
}

/// A connection with all kinds of segments.
fn talk() -> Talk {
    let mut talk = Talk::new();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    talk.ask(&[preface, http2_frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]), get(1, "/1")])
        .answer(&[http2_frame(4, 0, 0, &[]), http2_frame(4, 1, 0, &[])])
        .answer(&[headers(1, false, &[&[STATUS_200][..], &inserted("server", "a")].concat())])
        .answer(&[data(1, false, 1300)])
        .answer(&[data(1, true, 1300)])
        .ask(&[http2_frame(8, 0, 0, &[0, 0, 8, 0]), http2_frame(4, 1, 0, &[])])
        .ask(&[get(3, "/3"), get(5, "/5")])
        .answer(&[headers(5, true, &[0x8d, NEWEST]), headers(3, false, &[STATUS_200, NEWEST])])
        .answer(&[data(3, true, 700)])
        .ask(&[http2_frame(6, 0, 0, b"12345678")])
        .answer(&[http2_frame(6, 1, 0, b"12345678")])
        .ask(&[get(7, "/7")])
        .answer(&[headers(7, false, &[&[STATUS_200][..], &inserted("etag", "b")].concat())])
        .answer(&[data(7, true, 20)])
        .ask(&[get(9, "/9")])
        .answer(&[headers(9, true, &[STATUS_200, NEWEST, NEWEST + 1])]);
    talk
}

/// The targets and statuses of the records.
fn shown(records: &[Value]) -> Vec<String> {
    let of = |value: &Value| value.as_str().map_or(value.to_string(), String::from);
    records.iter().map(|it| format!("{} {}", of(&it["target"]), of(&it["status"]))).collect()
}

#[test]
fn a_connection_joined_late_is_read_from_its_next_frames_on() {
    let talk = talk();
    let whole = ["/1 200", "/5 404", "/3 200", "/7 200", "/9 200"];
    assert_eq!(shown(&talk.told(0, &[]).records), whole);
    // From the head of a response on, whose request was missed; then from the next request on.
    assert_eq!(shown(&talk.told(4, &[]).records)[1..], whole[1..]);
    assert_eq!(shown(&talk.told(7, &[]).records), whole[1..]);
    let late = talk.told(11, &[]);
    assert_eq!(shown(&late.records), whole[3..]);
    assert_eq!(late.stats.protocol.flows.of(Kind::Http2), 1);
    // What was put into the table before is unknown, and what comes then is not.
    let unknown: Vec<_> = late.records.iter().map(|it| it["headers_unknown"].as_u64()).collect();
    assert_eq!(unknown, [None, Some(1)]);
}

/// The preface was lost, although the handshake was captured.
#[test]
fn a_connection_whose_preface_was_lost_is_read() {
    let told = talk().told(0, &[2]);
    assert_eq!(shown(&told.records)[1..], ["/5 404", "/3 200", "/7 200", "/9 200"]);
    assert_eq!(told.stats.protocol.flows.of(Kind::Http2), 1);
}

/// An interim response whose status is not known is not the final one.
#[test]
fn the_status_behind_an_unknown_one_is_told() {
    let mut talk = Talk::new();
    talk.ask(&[get(1, "/1")])
        .answer(&[headers(1, false, &[NEWEST]), headers(1, false, &[STATUS_200])])
        .answer(&[data(1, true, 5)]);
    let told = talk.told(2, &[]);
    assert_eq!(shown(&told.records), ["/1 200"]);
    assert_eq!(told.records[0]["headers_unknown"], 1);
    // What came between the two may have been a part of the body.
    assert_eq!(told.records[0]["response_body_bytes"], Value::Null);
}

/// A message of another protocol that looks like two frames' heads, and nothing behind it does.
#[test]
fn what_looks_like_a_frame_once_is_not_called_http2() {
    let mut talk = Talk::new();
    let message = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"somewhat"].concat();
    talk.ask(&[message]).answer(&[vec![0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7]]);
    talk.ask(&[vec![0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7]]).answer(&[vec![1; 900]]);
    let told = talk.told(2, &[]);
    assert!(told.records.is_empty(), "{:?}", told.records);
    assert_eq!(told.stats.protocol.flows.of(Kind::Http2), 0);
}

/// The numbers of streams grow beyond 2^24, if a connection is used for weeks.
#[test]
fn streams_with_great_numbers_are_found() {
    for one in [(1 << 24) - 1, (1 << 24) + 1, 18_131_981, (1 << 31) - 3] {
        let (mut talk, two) = (Talk::new(), one + 2);
        talk.ask(&[get(one, "/1")])
            .answer(&[headers(one, false, &[STATUS_200]), data(one, true, 700)])
            .ask(&[get(two, "/2"), http2_frame(8, 0, 0, &[0, 0, 8, 0])])
            .answer(&[headers(two, false, &[STATUS_200]), data(two, true, 700)]);
        assert_eq!(shown(&talk.told(2, &[]).records), ["/1 200", "/2 200"], "{one}");
        assert_eq!(shown(&talk.told(4, &[]).records), ["/2 200"], "{one}");
        // From a response on, whose request was missed.
        assert_eq!(shown(&talk.told(3, &[]).records), ["null 200", "/2 200"], "{one}");
        assert_eq!(shown(&talk.told(5, &[]).records), ["null 200"], "{one}");
    }
}

/// The bytes that were lost between two frames of a body may have been one more of them.
#[test]
fn a_body_is_not_told_if_a_frame_of_it_may_have_been_lost() {
    let mut talk = Talk::new();
    talk.ask(&[get(1, "/1")])
        .answer(&[headers(1, false, &[STATUS_200]), data(1, false, 100)])
        .answer(&[http2_frame(6, 0, 0, b"12345678")])
        .ask(&[http2_frame(6, 1, 0, b"12345678")])
        .answer(&[data(1, true, 100)])
        .ask(&[get(3, "/3")]);
    let body = |told: Reported| told.records[0]["response_body_bytes"].clone();
    assert_eq!(body(talk.told(2, &[])), 200);
    assert_eq!(body(talk.told(2, &[4])), Value::Null);
}

/// A body may hold anything, also what looks like frames and ends where a frame does.
#[test]
fn what_looks_like_frames_where_the_place_is_lost_makes_up_no_stream() {
    let ping = http2_frame(6, 0, 0, b"12345678");
    let all = [
        data(965, false, 50),
        [ping.clone(), data(965, false, 50)].concat(),
        // A block of which no field is known may be any bytes.
        headers(967, false, &[NEWEST]),
        [ping.clone(), headers(967, false, &[NEWEST])].concat(),
        // What is sent to whom has not asked begins with a promise.
        headers(2, false, &[STATUS_200]),
        [ping.clone(), data(2, false, 50)].concat(),
        // A server does not ask, and promises requests only.
        get(967, "/false"),
        http2_frame(5, 4, 1, &[&[0, 0, 0, 2][..], &[NEWEST]].concat()),
    ];
    for frames in all {
        let mut talk = Talk::new();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let lost = [b'x'; 41];
        let begin = data(1, false, lost.len() + frames.len())[..9].to_vec();
        talk.ask(&[preface, http2_frame(4, 0, 0, &[]), get(1, "/1")])
            .answer(&[http2_frame(4, 0, 0, &[]), headers(1, false, &[STATUS_200])])
            .answer(&[begin, lost.to_vec()])
            .answer(&[frames.clone(), ping.clone()])
            .answer(&[data(1, true, 10)])
            .ask(&[get(3, "/3")]);
        let body_bytes = lost.len() + frames.len() + 10;
        assert_eq!(talk.told(0, &[]).records[0]["response_body_bytes"], body_bytes);
        assert_eq!(shown(&talk.told(0, &[4]).records), ["/1 200", "/3 null"], "{frames:?}");
    }
}

/// What is found shows itself by the head of a message; then bodies without heads are told, too.
#[test]
fn behind_the_head_of_a_message_streams_are_told_whose_heads_were_lost() {
    let mut talk = Talk::new();
    talk.ask(&[get(1, "/1"), get(3, "/3"), get(5, "/5")])
        .answer(&[headers(3, false, &[STATUS_200])])
        .answer(&[headers(1, true, &[STATUS_200]), data(3, true, 10)])
        .ask(&[get(7, "/7")]);
    let record = |told: Reported| {
        let mut of_it = told.records.into_iter().filter(|record| record["stream"] == 3);
        of_it.next().map(|record| record["outcome"].clone())
    };
    // Without the requests.
    assert_eq!(record(talk.told(2, &[2, 3])), Some("no_request".into()));
}

/// Where nothing of the server was captured, nobody knows what it has answered.
#[test]
fn without_its_direction_a_response_is_not_called_empty() {
    let mut talk = Talk::new();
    talk.ask(&[get(1, "/1")]).ask(&[get(3, "/3")]).ask(&[get(5, "/5")]);
    for record in talk.told(2, &[]).records {
        assert_eq!(record["response_body_bytes"], Value::Null, "{record}");
        assert_eq!(record["outcome"], "no_response");
    }
}

/// Frames of one side, which a stranger may have sent, do not hide a connection of HTTP/1.
#[test]
fn frames_of_one_side_do_not_hide_a_connection_of_http1() {
    for sender in 0..2 {
        let mut talk = Talk::new();
        let ping = http2_frame(6, 0, 0, b"12345678");
        talk.segment(sender, ACK, &[ping.clone(), ping].concat());
        for n in 0..6 {
            talk.segment(0, ACK, format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            talk.segment(1, ACK, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
        }
        let told = talk.told(2, &[]);
        assert!(shown(&told.records).contains(&"/2 200".to_string()), "{:?}", told.records);
        assert_eq!(told.stats.protocol.flows.of(Kind::Http1), 1);
        // What was counted is not taken back: a counter never falls.
        let http2 = told.stats.protocol.http2;
        assert_eq!(http2.connections, http2.connections_withdrawn);
        assert_eq!(http2.connections, http2.joined_late);
    }
}

/// Needs CAP_BPF; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::support::kernel_packet::{config_for, forget, load, verdict_of};
    use crate::support::skip;
    use httplines::config::DecodeConfig;

    /// Wherever the capture begins, and whichever segment is lost.
    #[test]
    fn the_filter_passes_what_is_read_of_connections_joined_late() {
        let Some(filter) = load(&config_for(64), &DecodeConfig::default()) else {
            skip!("needs CAP_BPF")
        };
        let talk = talk();
        for late in 0..talk.frames.len() {
            for lost in late..talk.frames.len() {
                forget(&filter);
                let dropped: Vec<usize> = (late..talk.frames.len())
                    .filter(|at| *at != lost)
                    .filter(|at| verdict_of(&filter, &talk.frames[*at].bytes).1 == 0)
                    .chain([lost])
                    .collect();
                let records = talk.told(late, &dropped).records;
                assert_eq!(records, talk.told(late, &[lost]).records, "{late} {lost}");
            }
        }
    }
}
