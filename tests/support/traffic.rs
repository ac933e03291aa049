//! Generated HTTP connections: the messages of clients and servers, their order, and the segments
//! that carry them, as honest endpoints would send them. Each exchange has its number in its target
//! and in its reason phrase, so that a wrong pair is visible.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;

use httplines::decode::begins_like_message;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::capture_file::WrittenFrame;
use super::conversation::Side;
use super::packet::{ACK, FIN, Packet, RST, SYN};
use super::websocket::{self, frame};

/// How a body is framed, and how long it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// No body is announced.
    None,
    /// By Content-Length.
    Length(usize),
    /// In chunks of a size.
    Chunked(usize, usize),
}

/// What the last exchange does to its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last {
    /// Nothing special.
    Plain,
    /// Its response has no length and ends with the connection.
    UntilClose,
    /// It is a CONNECT; the bytes after it are not HTTP.
    Connect,
    /// It is an Upgrade that the server accepts.
    Upgrade,
    /// It is an Upgrade to WebSocket; messages of both sides follow, as long as the bodies of the
    /// exchanges.
    WebSocket,
}

impl Last {
    /// Whether the connection leaves HTTP with it.
    fn leaves(self) -> bool {
        matches!(self, Last::Connect | Last::Upgrade | Last::WebSocket)
    }
}

/// When a client sends a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Style {
    /// When it has the responses to all its requests.
    Waiting,
    /// In batches of these sizes, each after the responses to the last one.
    Batches(Vec<usize>),
    /// At any time: true if the client sends next.
    Sliding(Vec<bool>),
}

/// One exchange.
#[derive(Clone, Debug)]
pub struct Shape {
    pub method: &'static str,
    pub asked: Body,
    /// The client waits for `100 Continue` before it sends the body.
    pub is_expecting: bool,
    pub interim_count: usize,
    pub status: u16,
    pub got: Body,
}

/// A connection, before it is put into segments.
#[derive(Clone, Debug)]
pub struct Plan {
    pub style: Style,
    pub shapes: Vec<Shape>,
    pub last: Last,
    /// Bytes of the segments, repeated cyclically.
    pub cuts: Vec<usize>,
    /// Initial sequence numbers.
    pub isn: [u32; 2],
    /// How far a pipelining client's acknowledgement lags behind, in bytes.
    pub lags: Vec<u32>,
    /// Whether the receiver sends a bare acknowledgement, and whether a pause follows.
    pub beats: Vec<(bool, bool)>,
    /// Every head begins a segment, and no other segment begins like a head. (The rest of a split
    /// method may look like another method. Senders split one only in a stream of requests.)
    pub is_tidy: bool,
    /// The client resets the connection instead of closing it.
    pub is_reset: bool,
}

/// One segment on its way. Sequence numbers count from the first byte of data.
#[derive(Clone, Debug)]
pub struct Sent {
    pub is_client: bool,
    pub offset: u32,
    pub ack: u32,
    pub flags: u8,
    pub payload: Vec<u8>,
    pub at_us: u64,
    /// The exchanges whose bytes it carries.
    pub exchanges: Vec<usize>,
}

/// A connection in segments.
#[derive(Clone, Debug)]
pub struct PlannedTraffic {
    pub plan: Plan,
    pub sent: Vec<Sent>,
    /// Ranges of exchanges between two moments at which no request was unanswered.
    pub groups: Vec<Range<usize>>,
    pub addresses: [SocketAddr; 2],
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::None),
        (0usize..600).prop_map(Body::Length),
        (0usize..600, 1usize..200).prop_map(|(len, size)| Body::Chunked(len, size)),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let method = prop::sample::select(vec!["GET", "POST", "HEAD", "PROPFIND", "M-SEARCH", "get"]);
    let status = prop::sample::select(vec![200u16, 201, 204, 302, 304, 404, 503]);
    (method, body(), any::<bool>(), 0usize..3, status, body()).prop_map(
        |(method, asked, is_expecting, interim_count, status, got)| Shape {
            method,
            asked,
            is_expecting: is_expecting && asked != Body::None && asked != Body::Length(0),
            interim_count,
            status,
            // Without a length, the response would end with the connection.
            got: if got == Body::None { Body::Length(0) } else { got },
        },
    )
}

fn style() -> impl Strategy<Value = Style> {
    prop_oneof![
        3 => Just(Style::Waiting),
        2 => vec(1usize..4, 1..6).prop_map(Style::Batches),
        1 => vec(any::<bool>(), 1..12).prop_map(Style::Sliding),
    ]
}

/// Any connection.
pub fn plan() -> impl Strategy<Value = Plan> {
    let last = prop_oneof![
        4 => Just(Last::Plain),
        1 => Just(Last::UntilClose),
        1 => Just(Last::Connect),
        1 => Just(Last::Upgrade),
    ];
    let isn = || prop_oneof![any::<u32>(), (0u32..2000).prop_map(|near| u32::MAX - near)];
    let cuts = prop_oneof![vec(1usize..40, 1..20), vec(20usize..400, 1..20), Just(vec![1460])];
    (
        (style(), vec(shape(), 1..8), last),
        (cuts, [isn(), isn()], vec(0u32..300, 1..8), vec(any::<(bool, bool)>(), 1..12)),
        any::<bool>(),
    )
        .prop_map(|((style, shapes, last), (cuts, isn, lags, beats), is_reset)| Plan {
            style,
            shapes,
            last,
            cuts,
            isn,
            lags,
            beats,
            is_tidy: false,
            is_reset,
        })
}

/// Any connection that goes on in WebSocket.
pub fn talks() -> impl Strategy<Value = Plan> {
    plan().prop_map(|plan| Plan { last: Last::WebSocket, ..plan })
}

/// A piece of a conversation: its sender and its exchange.
struct Turn {
    is_client: bool,
    exchange: usize,
    bytes: Vec<u8>,
}

fn opposite(side: Side) -> Side {
    if side == Side::Client { Side::Server } else { Side::Client }
}

/// Bytes of a body. Some of them look like a message, but are not.
fn filling(len: usize, is_client: bool) -> Vec<u8> {
    let fake: &[u8] = match is_client {
        true => b"b=1\r\n\r\nGET /fake HTTP/1.1\r\n\r\n",
        false => b"<p>\r\n\r\nHTTP/1.1 599 fake\r\nContent-Length: 0\r\n\r\n",
    };
    fake.iter().copied().cycle().take(len).collect()
}

fn framed(head: String, body: Body, is_sent: bool, is_client: bool) -> [Vec<u8>; 2] {
    let (mut head, mut bytes) = (head.into_bytes(), Vec::new());
    match body {
        Body::None => {}
        Body::Length(len) => {
            head.extend(format!("Content-Length: {len}\r\n").bytes());
            bytes = filling(len, is_client);
        }
        Body::Chunked(len, size) => {
            head.extend(b"Transfer-Encoding: chunked\r\n");
            for chunk in filling(len, is_client).chunks(size) {
                bytes.extend(format!("{:x};x=y\r\n", chunk.len()).bytes());
                bytes.extend([chunk, b"\r\n"].concat());
            }
            bytes.extend(b"0\r\nT: t\r\n\r\n");
        }
    }
    head.extend(b"\r\n");
    [head, if is_sent { bytes } else { Vec::new() }]
}

impl Plan {
    fn is_last(&self, exchange: usize) -> bool {
        exchange + 1 == self.shapes.len()
    }

    fn asks(&self, exchange: usize) -> Vec<Turn> {
        let shape = &self.shapes[exchange];
        let last = if self.is_last(exchange) { self.last } else { Last::Plain };
        let (method, asked) = match last {
            Last::Connect => ("CONNECT", Body::None),
            Last::UntilClose => ("GET", shape.asked),
            Last::WebSocket => ("GET", Body::None),
            _ => (shape.method, shape.asked),
        };
        let target = if last == Last::Connect { "a.test:" } else { "/" };
        let mut head = format!("{method} {target}{exchange} HTTP/1.1\r\nHost: h{exchange}\r\n");
        let is_expecting =
            shape.is_expecting && self.style == Style::Waiting && asked != Body::None;
        if is_expecting {
            head += "Expect: 100-continue\r\n";
        }
        if matches!(last, Last::Upgrade | Last::WebSocket) {
            head += "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        }
        let [head, body] = framed(head, asked, true, true);
        let turn = |is_client, bytes| Turn { is_client, exchange, bytes };
        if is_expecting {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            return vec![turn(true, head), turn(false, go_on), turn(true, body)];
        }
        vec![turn(true, [head, body].concat())]
    }

    fn answers(&self, exchange: usize) -> Vec<Turn> {
        let shape = &self.shapes[exchange];
        let last = if self.is_last(exchange) { self.last } else { Last::Plain };
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\n".repeat(shape.interim_count);
        let is_bodiless = shape.method == "HEAD" || matches!(shape.status, 204 | 304);
        let [head, body] = match last {
            Last::Plain => framed(
                format!("HTTP/1.1 {} {exchange}\r\nServer: s{exchange}\r\n", shape.status),
                shape.got,
                !is_bodiless,
                false,
            ),
            Last::UntilClose => {
                let [head, _] =
                    framed(format!("HTTP/1.1 200 {exchange}\r\n"), Body::None, true, false);
                [head, filling(700, false)]
            }
            Last::Connect => {
                framed(format!("HTTP/1.1 200 {exchange}\r\n"), Body::None, true, false)
            }
            Last::Upgrade => {
                framed(format!("HTTP/1.1 101 {exchange}\r\n"), Body::None, true, false)
            }
            Last::WebSocket => {
                let head = format!("HTTP/1.1 101 {exchange}\r\nUpgrade: websocket\r\n");
                framed(head, Body::None, true, false)
            }
        };
        bytes.extend([head, body].concat());
        let mut turns = vec![Turn { is_client: false, exchange, bytes }];
        if last == Last::WebSocket {
            turns.extend(self.talk_turns(exchange));
        } else if last.leaves() {
            for is_client in [true, false] {
                turns.push(Turn { is_client, exchange, bytes: filling(90, is_client) });
            }
        }
        turns
    }

    /// Messages of WebSocket: of each exchange one of the client and one of the server, in frames
    /// as long as its chunks, and pings between. A plan that is reset has no close.
    fn talk_turns(&self, exchange: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        let mut turn = |is_client, bytes| turns.push(Turn { is_client, exchange, bytes });
        for shape in &self.shapes {
            for (is_client, body) in [(true, shape.asked), (false, shape.got)] {
                let side = if is_client { Side::Client } else { Side::Server };
                let (len, size) = match body {
                    Body::None => (0, 1),
                    Body::Length(len) => (len, len.max(1)),
                    Body::Chunked(len, size) => (len, size),
                };
                let payload = filling(len, is_client);
                let mut kind = websocket::TEXT;
                for piece in payload.chunks(size) {
                    turn(is_client, frame(side, kind, piece));
                    kind = websocket::CONTINUATION;
                }
                turn(is_client, frame(side, websocket::FIN | kind, b""));
                turn(!is_client, frame(opposite(side), websocket::FIN | websocket::PING, b"p"));
            }
        }
        for is_client in [true, false].into_iter().filter(|_| !self.is_reset) {
            let side = if is_client { Side::Client } else { Side::Server };
            turn(is_client, websocket::close(side, 1000, "bye"));
        }
        turns
    }

    /// The order of requests and responses, and the ranges between moments at which no request is
    /// unanswered.
    fn order(&self) -> (Vec<(bool, usize)>, Vec<Range<usize>>) {
        let count = self.shapes.len();
        let (mut asked, mut answered, mut order) = (0, 0, Vec::new());
        let mut groups: Vec<Range<usize>> = Vec::new();
        let (mut sizes, mut turns) = match &self.style {
            Style::Waiting => (vec![1].into_iter().cycle(), vec![].into_iter().cycle()),
            Style::Batches(sizes) => {
                (sizes.clone().into_iter().cycle(), vec![].into_iter().cycle())
            }
            Style::Sliding(turns) => {
                (vec![1].into_iter().cycle(), turns.clone().into_iter().cycle())
            }
        };
        while answered < count {
            let start = answered;
            let size = sizes.next().unwrap_or(1).min(count - asked);
            for _ in 0..size {
                order.push((true, asked));
                asked += 1;
            }
            while answered < asked {
                // A client that leaves HTTP has read all earlier responses.
                let is_to_ask = asked + 1 < count || asked < count && self.last == Last::Plain;
                if is_to_ask && turns.next() == Some(true) {
                    order.push((true, asked));
                    asked += 1;
                } else {
                    order.push((false, answered));
                    answered += 1;
                }
            }
            groups.push(start..answered);
        }
        (order, groups)
    }

    /// The connection in segments.
    pub fn talk(self) -> PlannedTraffic {
        let (order, groups) = self.order();
        let mut writer = Writer {
            next: [0; 2],
            acked: [0; 2],
            floor: [0; 2],
            at_us: 0,
            sent: Vec::new(),
            cut_count: 0,
            plan: &self,
        };
        writer.push(true, SYN, Vec::new(), Vec::new());
        writer.push(false, SYN | ACK, Vec::new(), Vec::new());
        writer.push(true, ACK, Vec::new(), Vec::new());
        let turns = order.iter().flat_map(|(is_ask, exchange)| match is_ask {
            true => self.asks(*exchange),
            false => self.answers(*exchange),
        });
        let mut turns = turns.peekable();
        let starts: Vec<usize> = groups.iter().map(|group| group.start).collect();
        let mut begun = 0;
        while let Some(turn) = turns.next() {
            if turn.is_client && starts.get(begun) == Some(&turn.exchange) {
                begun += 1;
                writer.rest();
            }
            let mut bytes: Vec<(u8, usize)> =
                turn.bytes.iter().map(|byte| (*byte, turn.exchange)).collect();
            let mut heads = vec![0];
            // Consecutive messages of one side may share segments.
            while let Some(more) =
                turns.next_if(|next| next.is_client == turn.is_client && !self.beats[0].0)
            {
                heads.push(bytes.len());
                bytes.extend(more.bytes.iter().map(|byte| (*byte, more.exchange)));
            }
            writer.say(turn.is_client, &bytes, &heads);
        }
        writer.close();
        let sent = writer.sent;
        let addresses = ["10.0.0.1:4000", "10.0.0.2:80"].map(|text| text.parse().unwrap());
        PlannedTraffic { plan: self, sent, groups, addresses }
    }
}

/// Writes messages into segments. Index 0 is the client.
struct Writer<'a> {
    next: [u32; 2],
    acked: [u32; 2],
    /// The position that a side must have read by now.
    floor: [u32; 2],
    at_us: u64,
    sent: Vec<Sent>,
    cut_count: usize,
    plan: &'a Plan,
}

impl Writer<'_> {
    fn push(&mut self, is_client: bool, flags: u8, payload: Vec<u8>, exchanges: Vec<usize>) {
        let own = usize::from(!is_client);
        let mut ack = self.next[1 - own];
        // A side that sends after the end of HTTP has read that HTTP has ended.
        let last = self.plan.shapes.len() - 1;
        let has_left = self.plan.last.leaves()
            && self.sent.iter().any(|sent| !sent.is_client && sent.exchanges.contains(&last));
        if is_client && !payload.is_empty() && self.plan.style != Style::Waiting && !has_left {
            // The server's last bytes may still be in flight.
            let lag = self.plan.lags[self.sent.len() % self.plan.lags.len()];
            ack = ack.saturating_sub(lag).max(self.acked[own]).max(self.floor[own]);
        }
        self.acked[own] = self.acked[own].max(ack);
        let (offset, len, at_us) = (self.next[own], payload.len() as u32, self.at_us);
        self.sent.push(Sent { is_client, offset, ack, flags, payload, at_us, exchanges });
        self.next[own] += len + u32::from(flags & FIN != 0);
        self.at_us += 1000;
    }

    /// No request is unanswered: the next request is sent after everything was read.
    fn rest(&mut self) {
        self.floor[0] = self.next[1];
        if self.plan.beats[self.sent.len() % self.plan.beats.len()].1 {
            self.at_us += 30_000;
        }
    }

    fn say(&mut self, is_client: bool, bytes: &[(u8, usize)], heads: &[usize]) {
        let mut start = 0;
        while start < bytes.len() {
            let cuts = &self.plan.cuts;
            let mut end = (start + cuts[self.cut_count % cuts.len()]).min(bytes.len());
            self.cut_count += 1;
            let text =
                |at: usize| bytes[at..].iter().take(64).map(|(byte, _)| *byte).collect::<Vec<_>>();
            while self.plan.is_tidy
                && end < bytes.len()
                && !heads.contains(&end)
                && (begins_like_message(&text(end)) || matches!(bytes[end].0, b'\r' | b'\n'))
            {
                end += 1;
            }
            let mut exchanges: Vec<usize> =
                bytes[start..end].iter().map(|(_, exchange)| *exchange).collect();
            exchanges.dedup();
            let payload = bytes[start..end].iter().map(|(byte, _)| *byte).collect();
            self.push(is_client, ACK, payload, exchanges);
            start = end;
        }
        if self.plan.beats[self.sent.len() % self.plan.beats.len()].0 {
            self.push(!is_client, ACK, Vec::new(), Vec::new());
        }
    }

    /// Everything is acknowledged, then the server or the client ends it.
    fn close(&mut self) {
        self.at_us += 30_000;
        self.push(true, ACK, Vec::new(), Vec::new());
        self.push(false, ACK, Vec::new(), Vec::new());
        let last = self.plan.shapes.len() - 1;
        match self.plan.last {
            Last::UntilClose => self.push(false, FIN | ACK, Vec::new(), vec![last]),
            _ if self.plan.is_reset => return self.push(true, RST | ACK, Vec::new(), Vec::new()),
            _ => self.push(true, FIN | ACK, Vec::new(), Vec::new()),
        }
        let is_client_next = self.plan.last == Last::UntilClose;
        self.push(is_client_next, FIN | ACK, Vec::new(), Vec::new());
        self.push(!is_client_next, ACK, Vec::new(), Vec::new());
    }
}

impl PlannedTraffic {
    /// The frames, `ns_per_us` slowed down or sped up.
    pub fn frames_of(&self, sent: &[Sent], start_ns: u64, ns_per_us: u64) -> Vec<WrittenFrame> {
        let frame = |one: &Sent| {
            let own = usize::from(!one.is_client);
            let is_syn = one.flags & SYN != 0;
            let seq = self.plan.isn[own].wrapping_add(one.offset + u32::from(!is_syn));
            let ack = self.plan.isn[1 - own].wrapping_add(1 + one.ack);
            let packet = Packet::tcp(self.addresses[own], self.addresses[1 - own])
                .seq(seq)
                .ack(if one.flags & ACK != 0 { ack } else { 0 })
                .flags(one.flags)
                .payload(&one.payload);
            WrittenFrame::new(start_ns + one.at_us * ns_per_us, &packet.ethernet())
        };
        sent.iter().map(frame).collect()
    }

    /// The content of each record if everything is captured: method, target, status, body bytes.
    pub fn truth(&self) -> Vec<String> {
        let plan = &self.plan;
        let len = |body| match body {
            Body::None => 0,
            Body::Length(len) | Body::Chunked(len, _) => len,
        };
        let tell = |(number, shape): (usize, &Shape)| {
            let is_bodiless = shape.method == "HEAD" || matches!(shape.status, 204 | 304);
            let got = if is_bodiless { 0 } else { len(shape.got) };
            let asked = len(shape.asked);
            let last = if plan.is_last(number) { plan.last } else { Last::Plain };
            match last {
                Last::Plain => {
                    format!("{} /{number} {asked} {} {got}", shape.method, shape.status)
                }
                Last::UntilClose => format!("GET /{number} {asked} 200 700"),
                Last::Connect => format!("CONNECT a.test:{number} 0 200 0"),
                Last::Upgrade => format!("{} /{number} {asked} 101 0", shape.method),
                Last::WebSocket => format!("GET /{number} 0 101 0"),
            }
        };
        plan.shapes.iter().enumerate().map(tell).collect()
    }
}

/// The fields that a loss may change in an exchange that it did not touch: numbers count the
/// captured exchanges, and a missed handshake is reported.
pub const LOSS_DEPENDENT_FIELDS: [&str; 4] = ["n", "flow", "midstream", "connect_ns"];

/// The number of the exchange that the request belongs to, and that of the response.
pub fn marks(record: &Value) -> [Option<usize>; 2] {
    let number =
        |text: &str| text.trim_start_matches("a.test:").trim_start_matches('/').parse().ok();
    [record["target"].as_str().and_then(number), record["reason"].as_str().and_then(number)]
}

/// Checks that no wrong pair, no invented message and no duplicate is reported.
pub fn invented(talk: &PlannedTraffic, records: &[Value]) -> Option<String> {
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for record in records {
        let [asked, answered] = marks(record);
        let is_pair = asked.is_none() || answered.is_none() || asked == answered;
        let is_known = [("method", asked), ("status", answered)]
            .iter()
            .all(|(name, mark)| record[*name].is_null() || mark.is_some());
        let is_new = seen.iter_mut().zip([asked, answered]).all(|(seen, mark)| {
            mark.is_none_or(|mark| mark < talk.plan.shapes.len() && seen.insert(mark))
        });
        if !is_pair || !is_known || !is_new {
            return Some(record.to_string());
        }
    }
    None
}
