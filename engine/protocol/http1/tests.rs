//! Conversations cut into arbitrary pieces; heads compared with httparse; framing compared with a
//! naive twin.

use super::body::{BodyFraming, ChunkState, Progress};
use super::idle::Http1;
use super::*;
use crate::config::HttpConfig;
use crate::decode::{SeqNumber, TunnelPath};
use crate::flow::{Chunk, End, Handshake, SegmentMeta};
use crate::ids::{Direction, FlowKey, IfaceId};
use crate::protocol::{Carried, ConnectionState, Context, Interest, Kind as ProtocolKind, Shared};
use crate::record::{Event, EventSink, Exchange, Message, Outcome, Wants};
use crate::time::TimestampNs;
use Direction::{Forward, Reverse};
use proptest::prelude::*;

/// The content of a record, as one line.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    pub(crate) lines: Vec<String>,
    pub(crate) exchanges: Vec<String>,
    /// The times of the first and the last byte of each response, in milliseconds.
    pub(super) response_spans: Vec<(Option<u64>, Option<u64>)>,
}

impl EventSink for Reported {
    fn wants(&self) -> Wants {
        Wants { tls: false, ..Wants::ALL }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Message(message) => {
                self.lines.push(String::from_utf8_lossy(message.start_line()).into_owned());
            }
            Event::Exchange(record) => self.exchange(record.exchange),
            Event::Partial(_) | Event::WebSocket(_) | Event::Tls(_) => {}
        }
    }
}

impl Reported {
    fn exchange(&mut self, exchange: &Exchange) {
        let (request, response) = (&exchange.request, &exchange.response);
        let text =
            |field: Option<&[u8]>| String::from_utf8_lossy(field.unwrap_or(b"-")).into_owned();
        let body = |message: &Message| match (message.is_seen, message.body_bytes) {
            (false, _) => "-".to_string(),
            (true, bytes) => bytes.map_or("?".to_string(), |bytes| bytes.to_string()),
        };
        let mut note = format!(
            "{} {} {} {} {}",
            text(request.method()),
            text(request.target()),
            body(request),
            if response.is_seen { response.status.to_string() } else { "-".to_string() },
            body(response),
        );
        if exchange.outcome != Some(Outcome::Complete) {
            note += &format!(" {}", exchange.outcome.map_or("none", Outcome::name));
        }
        if let Some(end) = exchange.end {
            note += &format!(" {}", end.name());
        }
        let Exchange { gap_bytes, retransmitted_bytes, .. } = exchange;
        for (bytes, name) in [(gap_bytes, "gap"), (retransmitted_bytes, "again")] {
            note += &if *bytes > 0 { format!(" {name}={bytes}") } else { String::new() };
        }
        for (is_set, name) in [
            (exchange.is_switched, " switched"),
            (exchange.is_conflict, " conflict"),
            (exchange.is_early, " early"),
        ] {
            if is_set {
                note += name;
            }
        }
        if !exchange.interim.is_empty() {
            note += &format!(" {:?}", exchange.interim);
        }
        if exchange.interim_omitted > 0 {
            note += &format!(" +{}", exchange.interim_omitted);
        }
        self.exchanges.push(note);
        let ms = |time: Option<TimestampNs>| time.map(|time| time.0 / 1_000_000);
        self.response_spans.push((ms(response.first), ms(response.last)));
    }
}

pub(super) struct TestConnection {
    pub(super) state: ConnectionState,
    /// It goes idle whenever it can.
    pub(super) is_idling: bool,
    pub(super) shared: Shared<Reported>,
    pub(super) key: FlowKey,
    pub(super) handshake: Handshake,
    pub(super) sent: [u32; 2],
    pub(super) at_ms: u64,
}

pub(super) fn connection_with(limits: HttpConfig) -> TestConnection {
    let shared = Shared::new(limits, Reported::default());
    let client_isn = Some(SeqNumber(0)).into();
    let handshake = Handshake { client: Some(Forward), client_isn, ..Handshake::default() };
    let (sent, at_ms) = ([0, 0], 0);
    TestConnection {
        state: ConnectionState::default(),
        is_idling: true,
        shared,
        key: FlowKey::default(),
        handshake,
        sent,
        at_ms,
    }
}

pub(super) fn connection() -> TestConnection {
    connection_with(HttpConfig::default())
}

impl TestConnection {
    /// One segment of one direction that acknowledges everything the other direction has sent.
    pub(super) fn say(&mut self, direction: Direction, bytes: &[u8]) -> &mut TestConnection {
        self.at_ms += 1;
        let meta = SegmentMeta {
            timestamp: TimestampNs(self.at_ms * 1_000_000),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: Some(SeqNumber(self.sent[direction.opposite().index()])),
            seq: SeqNumber(self.sent[direction.index()]),
            is_frame_start: true,
        };
        self.sent[direction.index()] += bytes.len() as u32;
        self.take(direction, Chunk::Bytes(bytes, &meta))
    }

    pub(super) fn ask(&mut self, text: &str) -> &mut TestConnection {
        self.say(Forward, text.as_bytes())
    }

    pub(super) fn answer(&mut self, text: &str) -> &mut TestConnection {
        self.say(Reverse, text.as_bytes())
    }

    pub(super) fn lose(&mut self, direction: Direction, len_bytes: u32) -> &mut TestConnection {
        let at = SeqNumber(self.sent[direction.index()]);
        self.sent[direction.index()] += len_bytes;
        self.take(direction, Chunk::Gap { len_bytes: u64::from(len_bytes), at })
    }

    pub(super) fn take(&mut self, direction: Direction, chunk: Chunk<'_>) -> &mut TestConnection {
        let TestConnection { state, shared, key, handshake, .. } = self;
        state.chunk(&mut Context { flow: FlowRef { key, handshake }, shared }, direction, chunk);
        if let (true, ConnectionState::Http1(http1)) = (self.is_idling, &mut self.state) {
            http1.go_idle(&mut self.shared);
        }
        self
    }

    pub(super) fn end(&mut self, end: End) -> Vec<String> {
        let TestConnection { state, shared, key, handshake, .. } = self;
        state.end(&mut Context { flow: FlowRef { key, handshake }, shared }, end);
        state.leave(shared);
        assert_eq!(shared.exchanges_in_use(), 0, "every exchange was given back");
        std::mem::take(&mut shared.recorder.sink.exchanges)
    }

    pub(super) fn interest(&self) -> Interest {
        self.state.interest()
    }

    pub(super) fn carried(&self) -> Carried {
        self.state.carried()
    }

    /// The active state of the HTTP/1 connection.
    pub(super) fn active(&self) -> Option<&super::connection::Http1Connection> {
        match &self.state {
            ConnectionState::Http1(Http1::Active(active)) => Some(active.connection()),
            _ => None,
        }
    }
}

#[test]
fn keep_alive_and_pipelining_pair_in_order() {
    let notes = connection()
        .ask("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nHEAD /c HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .answer(
            "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        )
        .ask("GET /d HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["GET /a 0 200 2", "GET /b 0 404 0", "HEAD /c 0 200 0", "GET /d 0 304 0"]);
}

#[test]
fn a_body_until_close_ends_with_the_fin_and_is_cut_by_a_reset() {
    let mut closed = connection();
    closed.ask("GET / HTTP/1.0\r\n\r\n").answer("HTTP/1.0 200 OK\r\n\r\nabc").answer("defg");
    assert_eq!(closed.take(Reverse, Chunk::Fin).end(End::Fin), ["GET / 0 200 7"]);
    let mut reset = connection();
    reset.ask("GET / HTTP/1.0\r\n\r\n").answer("HTTP/1.0 200 OK\r\n\r\nabc");
    assert_eq!(reset.take(Reverse, Chunk::Reset).end(End::Exit), ["GET / 0 200 3 truncated rst"]);
}

#[test]
fn a_head_goes_on_behind_the_servers_fin() {
    let mut connection = connection();
    connection.ask("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nHo").take(Reverse, Chunk::Fin);
    connection.ask("st: example");
    let expected = ["GET /a 0 - - no_response fin", "GET /b ? - - truncated exit"];
    assert_eq!(connection.end(End::Exit), expected);
    assert_eq!(connection.shared.held_bytes(), 0, "every head was given back");
}

#[test]
fn interim_answers_belong_to_the_exchange() {
    let notes = connection()
        .ask("POST /u HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .answer("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        .ask("abc")
        .answer("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["POST /u 3 201 0 [103, 100]"]);
}

#[test]
fn a_body_that_is_withheld_after_a_refusal_is_not_waited_for() {
    let notes = connection()
        .ask("PUT /big HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
        .answer("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        .ask("GET /next HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["PUT /big 0 417 0 early", "GET /next 0 200 0"]);
}

#[test]
fn what_follows_connect_and_upgrade_is_not_http() {
    let notes = connection()
        .ask("CONNECT a.test:443 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 407 Who\r\nContent-Length: 2\r\n\r\nno")
        .ask("CONNECT a.test:443 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 Connected\r\n\r\n")
        .ask("GET /fake HTTP/1.1\r\n\r\n")
        .end(End::Exit);
    let expected = ["CONNECT a.test:443 0 407 2", "CONNECT a.test:443 0 200 0 switched"];
    assert_eq!(notes, expected);
    let notes = connection()
        .ask("GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        .answer("HTTP/1.1 101 Switching Protocols\r\n\r\n")
        .answer("HTTP/1.1 599 fake\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["GET /chat 0 101 0 switched"]);
}

#[test]
fn bodies_are_not_taken_for_heads() {
    let fake = "GET /fake HTTP/1.1\r\n\r\n";
    let notes = connection()
        .ask(&format!("POST /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n", fake.len()))
        .ask(fake)
        .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n")
        .answer("HTTP/1.1 599 fake\r\n\r\n")
        .answer("\r\n0\r\nTrailer: x\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["POST /a 22 200 21"]);
}

#[test]
fn a_gap_inside_a_body_of_known_length_loses_nothing_else() {
    let notes = connection()
        .ask("GET /a HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        .lose(Reverse, 90)
        .answer("0123456789HTTP/1.1 599 not a head of its own\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes[0], "GET /a 0 200 100 gap=90");
    assert!(notes[1].contains("599 0 no_request"), "what follows the body is a message: {notes:?}");
}

#[test]
fn a_lost_response_leaves_its_request_without_one() {
    let notes = connection()
        .ask("GET /1 HTTP/1.1\r\n\r\n")
        .lose(Reverse, 300)
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["GET /1 0 - - no_response gap=300", "GET /2 0 200 0"]);
}

#[test]
fn where_pairing_cannot_be_known_nothing_is_paired() {
    let notes = connection()
        .ask("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        .lose(Reverse, 300)
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    let expected = [
        "- - - 200 0 no_request",
        "GET /1 0 - - no_response exit gap=300",
        "GET /2 0 - - no_response exit",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn the_answer_to_a_lost_request_is_not_given_to_the_next() {
    let notes = connection()
        .ask("GET /1 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .lose(Forward, 40)
        .answer("HTTP/1.1 500 to the lost one\r\nContent-Length: 0\r\n\r\n")
        .ask("GET /3 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        .end(End::Exit);
    assert_eq!(notes, ["GET /1 0 200 0", "- - - 500 0 no_request", "GET /3 0 200 1"]);
}

#[test]
fn a_head_with_a_hole_is_told_with_what_came_before_it() {
    let notes = connection()
        .ask("GET /1 HTTP/1.1\r\nUser-Ag")
        .lose(Forward, 50)
        .ask("\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .end(End::Exit);
    assert_eq!(notes, ["GET /1 ? 200 0 gap=50", "GET /2 0 200 0"]);
}

#[test]
fn contradicting_lengths_are_flagged_and_not_guessed() {
    let notes = connection()
        .ask("POST /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde")
        .answer("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
        .ask(
            "POST /b HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc")
        .end(End::Exit);
    assert_eq!(notes, ["POST /a ? 400 0 conflict", "POST /b 0 200 3 conflict"]);
}

#[test]
fn unanswered_requests_are_bounded() {
    let mut connection =
        connection_with(HttpConfig { pending_count_max: 10, ..HttpConfig::default() });
    for number in 0..100 {
        connection.ask(&format!("GET /{number} HTTP/1.1\r\n\r\n"));
        assert!(connection.shared.exchanges_in_use() <= 10);
    }
    assert_eq!(connection.shared.stats.http1.pending_overflow, 90);
    assert_eq!(connection.end(End::Exit).len(), 100);
}

/// Many connections on one shard, each with its own conversation.
fn crowd(count: usize, limits: &HttpConfig) -> Vec<TestConnection> {
    (0..count).map(|_| connection_with(limits.clone())).collect()
}

/// Runs `connection` with the memory that all of them share.
fn among(
    shared: &mut Shared<Reported>,
    connection: &mut TestConnection,
    speak: impl FnOnce(&mut TestConnection),
) {
    std::mem::swap(shared, &mut connection.shared);
    speak(connection);
    std::mem::swap(shared, &mut connection.shared);
}

#[test]
fn slow_heads_on_many_connections_are_bounded_and_honest_traffic_is_told() {
    let limits = HttpConfig { held_bytes_shard_max: 1 << 20, ..HttpConfig::default() };
    let mut shared = connection_with(limits.clone()).shared;
    let mut attackers = crowd(200, &limits);
    for round in 0..60 {
        for attacker in &mut attackers {
            let piece = if round == 0 { "GET /slow HTTP/1.1\r\n".into() } else { "x".repeat(1000) };
            among(&mut shared, attacker, |connection| _ = connection.ask(&piece));
            assert!(shared.held_bytes() <= limits.held_bytes_shard_max + 2000);
        }
    }
    assert!(shared.stats.http1.heads_cut > 0, "the slow heads are reported as far as they came");
    let mut honest = connection_with(limits);
    among(&mut shared, &mut honest, |connection| {
        connection.ask("GET /honest HTTP/1.1\r\n\r\n");
        connection.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    assert_eq!(
        shared.recorder.sink.exchanges.last().map(String::as_str),
        Some("GET /honest 0 200 0")
    );
}

#[test]
fn unanswered_requests_of_many_connections_are_bounded_and_honest_traffic_is_told() {
    let limits = HttpConfig { held_bytes_shard_max: 1 << 20, ..HttpConfig::default() };
    let mut shared = connection_with(limits.clone()).shared;
    let mut attackers = crowd(20, &limits);
    let request = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(500));
    for _ in 0..300 {
        for attacker in &mut attackers {
            among(&mut shared, attacker, |connection| _ = connection.ask(&request));
            assert!(shared.held_bytes() <= limits.held_bytes_shard_max);
        }
    }
    let reported = shared.recorder.sink.exchanges.len() + shared.exchanges_in_use();
    assert_eq!(reported, 20 * 300, "what was given up was reported");
    let mut honest = connection_with(limits);
    among(&mut shared, &mut honest, |connection| {
        connection.ask("GET /honest HTTP/1.1\r\n\r\n");
        connection.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    assert_eq!(
        shared.recorder.sink.exchanges.last().map(String::as_str),
        Some("GET /honest 0 200 0")
    );
}

#[test]
fn a_head_longer_than_what_is_kept_is_cut_and_the_place_is_kept() {
    let mut connection =
        connection_with(HttpConfig { head_bytes_max: 1024, ..HttpConfig::default() });
    let long = "x".repeat(5000);
    connection.ask(&format!("POST /a HTTP/1.1\r\nContent-Length: 4\r\nX: {long}\r\n\r\nbody"));
    connection.ask(&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"));
    connection.ask("GET /b HTTP/1.1\r\n\r\n");
    let notes = connection.end(End::Exit);
    assert_eq!(notes[0], "POST /a 4 - - no_response exit");
    assert!(notes[1].starts_with("GET /xxxx") && notes[1].ends_with("x 0 - - no_response exit"));
    assert_eq!(notes[2], "GET /b 0 - - no_response exit");
    assert_eq!(connection.shared.stats.http1.heads_cut, 2);
}

#[test]
fn what_is_not_http_makes_no_record() {
    for (text, carried) in [
        ("\x16\x03\x01\x02\x00\x01", Carried::Protocol(ProtocolKind::Tls)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Carried::Protocol(ProtocolKind::Http2)),
        ("SSH-2.0-OpenSSH_9.2\r\n", Carried::Unknown),
        ("DESCRIBE rtsp://a/b RTSP/1.0\r\n\r\n", Carried::Unknown),
        ("GET key\r\n", Carried::Unknown),
        ("HTTP/1.1 hello\r\n\r\n", Carried::Unknown),
    ] {
        let mut connection = connection();
        connection.ask(text).ask("and more of it\r\n\r\n");
        assert_eq!(connection.carried(), carried, "{text:?}");
        assert_eq!(connection.end(End::Exit), [""; 0], "{text:?}");
    }
}

/// An exchange to be held, with its expected record.
#[derive(Clone, Debug)]
struct Held {
    request: Vec<u8>,
    response: Vec<u8>,
    note: String,
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for piece in body.chunks(size.max(1)) {
        coded.extend_from_slice(format!("{:X};ext=\"a\"\r\n", piece.len()).as_bytes());
        coded.extend_from_slice(piece);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"000\r\nTrailer: t\r\n\r\n");
    coded
}

fn framed(start: &str, body: &[u8], chunk_bytes: Option<usize>) -> Vec<u8> {
    let mut message = format!("{start}\r\nX-Filler: abc def\r\n").into_bytes();
    match chunk_bytes {
        Some(size) => {
            message.extend_from_slice(b"transfer-encoding: gzip, Chunked\r\n\r\n");
            message.extend_from_slice(&chunked(body, size));
        }
        None => {
            message.extend_from_slice(format!("Content-Length:{}\r\n\r\n", body.len()).as_bytes());
            message.extend_from_slice(body);
        }
    }
    message
}

fn held() -> impl Strategy<Value = Held> {
    let body = || prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'G'), any::<u8>()], 0..300);
    let chunk = || prop::option::of(1usize..64);
    (body(), chunk(), body(), chunk(), "[A-Z]{3,8}", "/[!-~]{0,30}", 0usize..3).prop_map(
        |(sent, sent_chunk, got, got_chunk, method, target, interim_count)| {
            let method =
                if method == "HEAD" || method == "CONNECT" { "GET".into() } else { method };
            let mut response = b"HTTP/1.1 102 Wait\r\n\r\n".repeat(interim_count);
            response.extend_from_slice(&framed("HTTP/1.1 203 Sure thing", &got, got_chunk));
            let mut note = format!("{method} {target} {} 203 {}", sent.len(), got.len());
            if interim_count > 0 {
                note += &format!(" {:?}", vec![102; interim_count]);
            }
            let request = framed(&format!("{method} {target} HTTP/1.1"), &sent, sent_chunk);
            Held { request, response, note }
        },
    )
}

proptest! {
    /// However the streams are cut into pieces, the exchanges are those that were held.
    #[test]
    #[cfg_attr(miri, ignore = "takes minutes under Miri")]
    fn any_segmentation_gives_the_same_exchanges(
        exchanges in prop::collection::vec(held(), 1..6),
        cuts in prop::collection::vec(1usize..400, 1..20),
        is_pipelined in any::<bool>(),
    ) {
        let mut connection = connection();
        let mut cuts = cuts.iter().cycle();
        let mut turns: Vec<(Direction, Vec<u8>)> = Vec::new();
        if is_pipelined {
            turns.push((Forward, exchanges.iter().flat_map(|held| held.request.clone()).collect()));
            let answers = exchanges.iter().flat_map(|held| held.response.clone());
            turns.push((Reverse, answers.collect()));
        } else {
            for held in &exchanges {
                turns.push((Forward, held.request.clone()));
                turns.push((Reverse, held.response.clone()));
            }
        }
        for (direction, bytes) in turns {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let size = cuts.next().map_or(1, |size| *size).min(rest.len());
                connection.say(direction, &rest[..size]);
                rest = &rest[size..];
            }
        }
        let expected: Vec<String> = exchanges.iter().map(|held| held.note.clone()).collect();
        prop_assert_eq!(connection.end(End::Exit), expected);
    }

    /// Nothing on the wire panics or leaves an exchange behind.
    #[test]
    #[cfg_attr(miri, ignore = "takes minutes under Miri")]
    fn no_bytes_panic(
        turns in prop::collection::vec(
            (
                any::<bool>(),
                "[ -~\r\n]{0,80}|(HTTP/1.1 200 |GET / HTTP/1.1|\r\n|:|\x00|5){0,20}",
                0u32..9,
            ),
            0..30,
        ),
    ) {
        let mut connection = connection_with(HttpConfig {
            head_bytes_max: 1024,
            pending_count_max: 3,
            held_bytes_shard_max: 8192,
            ..HttpConfig::default()
        });
        for (is_forward, text, lost) in turns {
            let direction = if is_forward { Forward } else { Reverse };
            connection.say(direction, text.as_bytes());
            if lost > 6 {
                connection.lose(direction, lost * 50);
            }
        }
        connection.end(End::Idle);
    }

    /// Chunked coding in any pieces, compared with a twin that has all of it at once.
    #[test]
    fn chunks_in_any_pieces(
        body in prop::collection::vec(any::<u8>(), 0..500),
        chunk_bytes in 1usize..70,
        piece_bytes in 1usize..90,
    ) {
        let mut coded = chunked(&body, chunk_bytes);
        let coded_len = coded.len();
        coded.extend_from_slice(b"GET /next");
        let mut framing = BodyFraming::Chunked(ChunkState::START);
        let (mut used, mut body_bytes) = (0, 0);
        for piece in coded.chunks(piece_bytes) {
            let fed = framing.feed(piece);
            used += fed.used;
            body_bytes += fed.body_bytes;
            prop_assert_ne!(fed.progress, Progress::Broken);
            if fed.progress == Progress::Done {
                break;
            }
        }
        prop_assert_eq!((used, body_bytes), (coded_len, body.len() as u64));
    }
}
