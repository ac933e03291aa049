//! Which bodies need not reach user space, and that records do not show which did.

use super::framer::ParseState;
use super::tests::{TestConnection, connection};
use crate::decode::{SeqNumber, TunnelPath};
use crate::flow::{Chunk, End, SegmentMeta};
use crate::ids::{Direction, IfaceId};
use crate::protocol::Interest;
use crate::time::TimestampNs;
use Direction::{Forward, Reverse};
use proptest::prelude::*;

const GET: &str = "GET / HTTP/1.1\r\n\r\n";
const AHEAD: u32 = 1 << 29;

impl TestConnection {
    /// `len_bytes` passed that were asked to be elided.
    fn elide(&mut self, direction: Direction, len_bytes: u32, at_ms: u64) -> &mut TestConnection {
        let seq = SeqNumber(self.sent[direction.index()]);
        self.sent[direction.index()] += len_bytes;
        let meta = SegmentMeta {
            timestamp: TimestampNs(at_ms * 1_000_000),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: Some(SeqNumber(self.sent[direction.opposite().index()])),
            seq,
            is_frame_start: true,
        };
        self.take(direction, Chunk::Elided { len_bytes, meta: &meta })
    }

    /// Whether the next `len_bytes` of `direction` may belong to a body: the filter may know it
    /// before us.
    fn may_be_body(&self, direction: Direction, len_bytes: u32) -> bool {
        let Some(connection) = self.active() else { return false };
        match &connection.framers[direction.index()].state {
            ParseState::Body(framing) => framing.rest_bytes() >= len_bytes.into(),
            state => matches!(state, ParseState::Start | ParseState::Search),
        }
    }

    /// How many bytes of `direction` need not reach user space, from its current position.
    fn rest(&mut self, direction: Direction) -> Option<u32> {
        let until = self.state.elidable_until(&mut self.shared, direction, 1000, AHEAD)?.until;
        Some(until.0.wrapping_sub(self.sent[direction.index()]))
    }
}

#[test]
fn the_rest_of_a_long_response_need_not_come_up() {
    for (request, response, rest) in [
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 1005\r\n\r\nhello", Some(1000)),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 1004\r\n\r\nhello", None),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", Some(AHEAD)),
        (GET, "HTTP/1.0 200 OK\r\n\r\nuntil close", Some(AHEAD)),
        (GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800\r\nabc", Some(2045)),
        (GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800", None),
        (GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e7\r\n", None),
        (
            GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n800;x\r\n",
            Some(2048),
        ),
        (
            GET,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
            Some(5000),
        ),
        (GET, "HTTP/1.1 304 No\r\nContent-Length: 5000\r\n\r\n", None),
        (GET, "HTTP/1.1 204 No\r\nContent-Length: 5000\r\n\r\n", None),
        (GET, "HTTP/1.1 101 Switching\r\nContent-Length: 5000\r\n\r\n", None),
        ("HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", None),
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", None),
        (
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "HTTP/1.1 403 No\r\nContent-Length: 5000\r\n\r\n",
            Some(5000),
        ),
        ("", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", None),
        ("", "HTTP/1.1 200 OK\r\n\r\n", None),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nContent-Length: 5001\r\n\r\n", None),
        (
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n",
            None,
        ),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: x5000\r\n\r\n", None),
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n", None),
    ] {
        let mut connection = connection();
        if !request.is_empty() {
            connection.ask(request);
        }
        connection.answer(response);
        assert_eq!(connection.rest(Reverse), rest, "{request:?} {response:?}");
        assert_eq!(connection.rest(Forward), None, "{request:?} {response:?}");
    }
}

#[test]
fn the_rest_of_a_long_request_need_not_come_up() {
    for (request, rest) in [
        ("PUT / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n", Some(5000)),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n", Some(2048)),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", None),
        ("PUT / HTTP/1.1\r\n\r\n", None),
        // Whether the body comes is only known when it does.
        ("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n", None),
        ("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\nab", Some(4998)),
    ] {
        let mut connection = connection();
        connection.ask(request);
        assert_eq!(connection.rest(Forward), rest, "{request:?}");
    }
}

/// The messages of gRPC-Web are counted. The filter finds bodies of GET by itself, so those are not
/// read.
#[test]
fn bodies_with_messages_must_come_up() {
    let request = |method: &str, kind: &str| {
        format!("{method} / HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: 5000\r\n\r\n")
    };
    let response = |kind: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 5000\r\n\r\n")
    };
    for (method, asked, answered, rest) in [
        ("POST", "application/grpc-web", "application/grpc-web", [None, None]),
        ("POST", "application/grpc-web-text", "text/html", [None, Some(5000)]),
        ("POST", "application/json", "application/grpc-web+proto", [Some(5000), None]),
        ("POST", "application/json", "application/json", [Some(5000), Some(5000)]),
        ("GET", "application/grpc-web", "application/grpc-web", [Some(5000), Some(5000)]),
    ] {
        let mut connection = connection();
        connection.ask(&request(method, asked));
        let told = connection.rest(Forward);
        connection.say(Forward, &[b'x'; 5000]).answer(&response(answered));
        assert_eq!([told, connection.rest(Reverse)], rest, "{method} {asked} {answered}");
    }
}

#[test]
fn after_a_loss_only_what_is_certain_need_not_come_up() {
    const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
    // A hole inside the body does not move its end.
    let mut inside = connection();
    inside.ask(GET).answer(RESPONSE).lose(Reverse, 100);
    assert_eq!(inside.rest(Reverse), Some(4900));
    // A request was lost, so it is not certain which one the response belongs to.
    let mut request = connection();
    request.ask(GET).lose(Forward, 40).ask(GET).answer(RESPONSE);
    assert_eq!(request.rest(Reverse), None);
    // The response stream lost synchronisation.
    let mut response = connection();
    response.ask(GET).lose(Reverse, 40).ask(GET).answer(RESPONSE);
    assert_eq!(response.rest(Reverse), Some(5000), "the second request had read past the hole");
    // What looks like a request may be text in the body of another one.
    const UPLOAD: &str = "PUT / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n";
    let mut text = connection();
    text.handshake = crate::flow::Handshake::default();
    text.ask(UPLOAD);
    assert_eq!(text.rest(Forward), Some(5000));
    text.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(text.rest(Forward), None, "the next request shows whether it was one");
    // A head with a hole.
    let mut head = connection();
    head.ask(GET).answer("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n").lose(Reverse, 20);
    assert_eq!(head.rest(Reverse), None);
}

#[test]
fn what_connections_turn_out_to_be() {
    let interest = |pieces: &[(Direction, &[u8])]| {
        let mut connection = connection();
        for (direction, bytes) in pieces {
            connection.say(*direction, bytes);
        }
        connection.interest()
    };
    let noise = [0xff; 4096];
    let connect = b"CONNECT a:1 HTTP/1.1\r\n\r\n";
    assert_eq!(interest(&[]), Interest::Undecided);
    let (hello, answered) = (&b"\x16\x03\x01"[..], &b"\x16\x03\x03"[..]);
    let refused = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    assert_eq!(interest(&[(Forward, hello)]), Interest::Undecided);
    assert_eq!(interest(&[(Forward, hello), (Reverse, answered)]), Interest::Encrypted);
    assert_eq!(interest(&[(Forward, hello), (Reverse, refused)]), Interest::Wanted);
    let long = [0xff; 16 << 10];
    assert_eq!(interest(&[(Forward, hello), (Forward, &long)]), Interest::Encrypted);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(interest(&[(Forward, preface)]), Interest::Wanted);
    assert_eq!(interest(&[(Forward, preface), (Reverse, refused)]), Interest::Wanted);
    assert_eq!(interest(&[(Forward, GET.as_bytes())]), Interest::Wanted);
    assert_eq!(interest(&[(Forward, GET.as_bytes()), (Forward, &noise)]), Interest::Wanted);
    let tunnel: &[(Direction, &[u8])] =
        &[(Forward, connect), (Reverse, b"HTTP/1.1 200 OK\r\n\r\n")];
    assert_eq!(interest(tunnel), Interest::Foreign);
    let refused: &[(Direction, &[u8])] =
        &[(Forward, connect), (Reverse, b"HTTP/1.1 403 No\r\n\r\n")];
    assert_eq!(interest(refused), Interest::Wanted);
    // Earlier requests were sent before it left HTTP: their responses are still reported.
    let ahead: &[(Direction, &[u8])] =
        &[(Forward, connect), (Forward, GET.as_bytes()), (Reverse, b"HTTP/1.1 200 OK\r\n\r\n")];
    assert_eq!(interest(ahead), Interest::Wanted);
    assert_eq!(interest(&[(Forward, &noise[1..])]), Interest::Undecided);
    assert_eq!(interest(&[(Forward, &noise)]), Interest::Dormant);
    assert_eq!(
        interest(&[(Forward, &noise[2048..]), (Reverse, &noise[2048..])]),
        Interest::Dormant
    );
    // A long head has not ended yet.
    let long = [GET.trim_end().as_bytes(), b"\r\nCookie: ", &[b'x'; 5000]].concat();
    assert_eq!(interest(&[(Forward, &long)]), Interest::Wanted);
    // Nor has one of which a piece has arrived.
    assert_eq!(interest(&[(Forward, b"POST / HTTP/1.1\r\nHo")]), Interest::Wanted);
    // A prefix in front of HTTP, as SOCKS has it. It is HTTP once both sides speak it.
    let mut socks: Vec<(Direction, &[u8])> =
        vec![(Forward, b"\x05\x01\0"), (Reverse, b"\x05\0"), (Forward, GET.as_bytes())];
    assert_eq!(interest(&socks), Interest::Undecided);
    socks.push((Reverse, b"HTTP/1.1 200 OK\r\n\r\n"));
    assert_eq!(interest(&socks), Interest::Wanted);
}

/// The size of a chunk, or `None` for a body until the connection closes, and how its bytes are
/// cut.
fn bodies() -> impl Strategy<Value = (u8, Vec<u16>)> {
    (0..3u8, prop::collection::vec(1..4000u16, 1..12))
}

/// Pieces of a connection, whatever came before: complete messages, and beginnings of some.
const SAID: [(Direction, &str); 16] = [
    (Forward, GET),
    (Forward, "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),
    (Forward, "HEAD / HTTP/1.1\r\n\r\n"),
    (Forward, "PUT / HTTP/1.1\r\nContent-Length: 2000\r\n\r\n"),
    (Forward, "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n"),
    (Forward, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (Reverse, "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n"),
    (Reverse, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    (Reverse, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (Reverse, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (Reverse, "HTTP/1.1 200 OK\r\n\r\n"),
    (Reverse, "HTTP/1.1 100 Continue\r\n\r\n"),
    (Reverse, "3e8\r\n"),
    (Reverse, "\r\n0\r\n\r\n"),
    (Forward, "\r\n0\r\n\r\n"),
    (Reverse, "HTTP/1.1 200"),
];

proptest! {
    /// Whatever was lost before, and whatever is known of it, bytes that the filter cut off count
    /// as bytes of a body.
    #[test]
    fn bytes_that_were_cut_off_count_as_those_of_a_body(
        steps in prop::collection::vec(
            (0..SAID.len() + 8, prop::sample::select(vec![1u32, 500, 1000, 2000]), any::<bool>()),
            0..24,
        ),
        is_late: bool,
    ) {
        let reported = [false, true].map(|is_eliding| {
            let mut connection = connection();
            connection.is_idling = false;
            if is_late {
                connection.handshake.client_isn.set(None);
            }
            for (what, len_bytes, is_forward) in &steps {
                let way = if *is_forward { Forward } else { Reverse };
                match SAID.get(*what) {
                    Some((way, text)) => {
                        connection.say(*way, text.as_bytes());
                    }
                    None if what % 4 == 0 => {
                        connection.lose(way, *len_bytes);
                    }
                    None if !connection.may_be_body(way, *len_bytes) => {}
                    None if is_eliding => {
                        connection.at_ms += 1;
                        connection.elide(way, *len_bytes, connection.at_ms);
                    }
                    None => {
                        connection.say(way, &vec![0xff; *len_bytes as usize]);
                    }
                }
            }
            let (interest, carried) = (connection.interest(), connection.carried());
            let notes = connection.end(End::Idle);
            let spans = connection.shared.recorder.sink.response_spans.clone();
            format!("{interest:?} {carried:?} {notes:?} {spans:?} {:?}", connection.shared.stats())
        });
        prop_assert_eq!(&reported[0], &reported[1]);
    }

    /// Everything that may be elided is; records, times and counters stay the same.
    #[test]
    fn records_do_not_show_what_did_not_come_up(
        (framing, pieces) in bodies(),
        is_cut_short in any::<bool>(),
        is_reset in any::<bool>(),
    ) {
        let total: u32 = pieces.iter().map(|piece| u32::from(*piece)).sum();
        let announced = total + if is_cut_short { 7 } else { 0 };
        let (head, tail) = match framing {
            0 => (format!("HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\n\r\n"), ""),
            1 => (
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{announced:x}\r\n"),
                "\r\n0\r\n\r\n",
            ),
            _ => ("HTTP/1.1 200 OK\r\n\r\n".to_string(), ""),
        };
        let mut elided_bytes = 0;
        let mut results = Vec::new();
        for is_eliding in [false, true] {
            let mut connection = connection();
            connection.ask(GET).answer(&head);
            let mut at_ms = 2;
            for piece in &pieces {
                at_ms += 1;
                let piece = u32::from(*piece);
                if is_eliding && connection.rest(Reverse).is_some_and(|rest| rest >= piece) {
                    connection.elide(Reverse, piece, at_ms);
                    elided_bytes += piece;
                } else {
                    connection.at_ms = at_ms - 1;
                    connection.say(Reverse, &vec![b'x'; piece as usize]);
                }
            }
            connection.at_ms = at_ms;
            if !is_cut_short && framing != 2 {
                connection.answer(tail);
                connection.ask("GET /next HTTP/1.1\r\n\r\n");
                connection.answer("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
            }
            connection.take(Reverse, if is_reset { Chunk::Reset } else { Chunk::Fin });
            let notes = connection.end(End::Exit);
            let spans = connection.shared.recorder.sink.response_spans.clone();
            results.push((notes, spans, connection.shared.stats()));
        }
        prop_assert_eq!(&results[0], &results[1]);
        if framing == 2 || total > 5000 {
            prop_assert!(elided_bytes > 0);
        }
    }
}
