//! A round: the frames of whole connections, interleaved. A trial is a sequence of rounds. So every
//! connection that a trial opens is also closed, and the exchanges that a receiver should find are
//! known one by one.

use super::frame::{
    self, HEADER_BYTES, Heading, SEGMENT_BYTES, TUNNEL_BYTES, Turn, flag, kind, text,
};
use crate::traffic::{Step, TEMPLATE_BYTES};
use std::collections::HashMap;

pub mod http2;
pub mod tls;
pub mod websocket;

/// The properties of an exchange that a receiver should find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Its request's method.
    pub method: &'static str,
    /// Its response's status.
    pub status: u16,
    /// Bytes of the request's body.
    pub request_body_bytes: u64,
    /// Bytes of the response's body.
    pub response_body_bytes: u64,
    /// What the record of the talk behind it should say.
    pub talk: Option<websocket::Talk>,
    /// What the record of the connection should say: then it is no exchange, but TLS.
    pub tls: Option<tls::Secured>,
    /// Which frame of the round is its last, from 0.
    pub last_step: usize,
}

/// The frames of a round, and what a receiver should find.
#[derive(Debug, Default)]
pub struct Round {
    /// Frames, in order.
    pub steps: Vec<Step>,
    /// What they are made from.
    pub templates: Vec<Vec<u8>>,
    /// Its exchanges, by number; empty where frames carry no numbers.
    pub expected: Vec<Expected>,
    /// Connections.
    pub connection_count: u32,
    /// Frames of connections that speak HTTP.
    pub http_frame_count: u64,
    /// Bytes of all frames.
    pub byte_count: u64,
    /// The most connections that are open at a time.
    pub concurrency_max: usize,
    /// Bytes of the headers of the tunnel that all of it goes through; 0: none.
    pub prefix_bytes: usize,
}

impl Round {
    /// The values in which the frames of round `round` differ from those of others.
    pub fn turn(&self, round: u32) -> Turn {
        Turn {
            round,
            connection_count: self.connection_count,
            request_count: self.expected.len() as u32,
            prefix_bytes: self.prefix_bytes,
        }
    }

    /// How many whole rounds `frames` frames are.
    pub fn count_in(&self, frames: u64) -> u64 {
        frames / self.steps.len() as u64
    }

    /// Whether there are records of WebSocket to be found.
    pub fn has_talks(&self) -> bool {
        self.expected.iter().any(|exchange| exchange.talk.is_some())
    }

    /// Whether there are records of TLS to be found.
    pub fn has_tls(&self) -> bool {
        self.expected.iter().any(|exchange| exchange.tls.is_some())
    }

    /// Whether a frame is too long for the kernel's generator.
    pub fn has_superpackets(&self) -> bool {
        self.templates.iter().any(|template| template.len() > TEMPLATE_BYTES)
    }
}

/// A body, and how it is framed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// By Content-Length.
    Length(usize),
    /// In chunks of up to 16 KiB.
    Chunked(usize),
}

/// The frames of one connection, in order.
#[derive(Debug, Default)]
struct Thread {
    steps: Vec<Step>,
    is_http: bool,
    is_tls: bool,
}

/// Collects connections, and interleaves them into a round.
#[derive(Debug)]
pub struct Weaver {
    random: u64,
    concurrency: usize,
    round: Round,
    /// Templates, by their bytes.
    known: HashMap<Vec<u8>, u32>,
    /// Templates of whole responses, by their parameters: long ones are built once.
    answers: HashMap<String, Vec<u32>>,
    threads: Vec<Thread>,
    planned: usize,
}

impl Weaver {
    /// An empty round with up to `concurrency` open connections.
    pub fn new(seed: u64, concurrency: usize) -> Weaver {
        Weaver {
            random: seed,
            concurrency,
            round: Round::default(),
            known: HashMap::new(),
            answers: HashMap::new(),
            threads: Vec::new(),
            planned: 0,
        }
    }

    /// Everything added from now on goes through a VXLAN tunnel.
    pub fn enter_tunnel(&mut self) {
        self.round.prefix_bytes = TUNNEL_BYTES;
    }

    /// Frames so far.
    pub fn planned(&self) -> usize {
        self.planned
    }

    /// A number below `bound`: splitmix64.
    pub fn pick(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    /// The number of a new connection.
    pub fn connection(&mut self) -> u32 {
        self.round.connection_count += 1;
        self.round.connection_count - 1
    }

    /// A new TCP connection to `server_port`; it is added to the round when the script is dropped.
    pub fn script(&mut self, server_port: u16) -> Script<'_> {
        let connection = self.connection();
        Script {
            weaver: self,
            thread: Thread::default(),
            connection,
            server_port,
            segment_bytes: SEGMENT_BYTES,
            next: [0; 2],
        }
    }

    /// Frames of one sender that are not TCP connections of ours: template and connection of each.
    pub fn frames(&mut self, kind: u8, frames: Vec<(Vec<u8>, u32)>) {
        let mut thread = Thread::default();
        for (template, connection) in frames {
            let frame_bytes = template.len() as u16;
            let template = self.template(template);
            thread.steps.push(Step { template, connection, frame_bytes, kind, ..Step::default() });
        }
        self.add(thread);
    }

    fn tcp(&mut self, way: Heading, flags: u8, server_port: u16, payload: &[u8]) -> u32 {
        let frame = frame::tcp(way, flags, server_port, payload);
        self.template(match self.round.prefix_bytes {
            0 => frame,
            _ => frame::in_tunnel(way, &frame),
        })
    }

    fn template(&mut self, bytes: Vec<u8>) -> u32 {
        let next = self.round.templates.len() as u32;
        *self.known.entry(bytes).or_insert_with_key(|bytes| {
            self.round.templates.push(bytes.clone());
            next
        })
    }

    fn add(&mut self, thread: Thread) {
        self.planned += thread.steps.len();
        self.threads.push(thread);
    }

    /// Builds the round: each position gets the next frame of an open connection that is picked at
    /// random. Connections open one by one, so that a round does not begin with a flood of SYNs.
    pub fn weave(mut self) -> Round {
        let mut waiting = std::mem::take(&mut self.threads).into_iter();
        let mut open: Vec<(std::vec::IntoIter<Step>, bool, bool)> = Vec::new();
        loop {
            let allowed = self.concurrency.min(16 + self.round.steps.len() / 4);
            while open.len() < allowed {
                let Some(thread) = waiting.next() else { break };
                open.push((thread.steps.into_iter(), thread.is_http, thread.is_tls));
            }
            self.round.concurrency_max = self.round.concurrency_max.max(open.len());
            if open.is_empty() {
                return self.round;
            }
            let picked = self.pick(open.len() as u64) as usize;
            let (steps, is_http, is_tls) = &mut open[picked];
            match steps.next() {
                Some(step) => {
                    let template = &self.round.templates[step.template as usize];
                    let tcp = &template[self.round.prefix_bytes..];
                    if (*is_http || *is_tls)
                        && step.kind == kind::SERVER
                        && frame::payload_bytes(tcp) > 0
                        && let Some(exchange) = self.round.expected.get_mut(step.number as usize)
                    {
                        exchange.last_step = self.round.steps.len();
                    }
                    self.round.http_frame_count += u64::from(*is_http);
                    self.round.byte_count += template.len() as u64;
                    self.round.steps.push(step);
                }
                None => drop(open.swap_remove(picked)),
            }
        }
    }
}

/// A connection that is being written, one message after the other.
#[derive(Debug)]
pub struct Script<'a> {
    weaver: &'a mut Weaver,
    thread: Thread,
    connection: u32,
    server_port: u16,
    segment_bytes: usize,
    /// The next sequence numbers of client and server, relative to their initial ones.
    next: [u32; 2],
}

impl Script<'_> {
    /// Sets the maximum payload of a segment.
    pub fn set_segment_bytes(&mut self, segment_bytes: usize) {
        self.segment_bytes = segment_bytes;
    }

    /// SYN, SYN and ACK, ACK.
    pub fn open(&mut self) {
        self.send_syn();
        self.frame(Heading::ToClient, flag::SYN | flag::ACK, &[], text::NONE);
        self.acknowledge(Heading::ToServer);
    }

    /// Both sides close.
    pub fn close(&mut self) {
        self.frame(Heading::ToServer, flag::FIN | flag::ACK, &[], text::NONE);
        self.frame(Heading::ToClient, flag::FIN | flag::ACK, &[], text::NONE);
        self.acknowledge(Heading::ToServer);
    }

    /// A SYN that may never be answered.
    pub fn send_syn(&mut self) {
        self.frame(Heading::ToServer, flag::SYN, &[], text::NONE);
    }

    /// An ACK without data.
    pub fn acknowledge(&mut self, way: Heading) {
        self.frame(way, flag::ACK, &[], text::NONE);
    }

    /// A segment of another protocol.
    pub fn data(&mut self, way: Heading, flags: u8, payload: &[u8]) {
        self.frame(way, flag::ACK | flags, payload, text::NONE);
    }

    /// A request in one segment: `rest` is what follows its first line, without the body.
    pub fn request(&mut self, method: &'static str, rest: &str, body_bytes: usize) {
        let place = if method.len() == 3 { "/qq/" } else { "/q/" };
        let digits = "\0".repeat(frame::REQUEST_DIGITS);
        let head = format!("{method} {place}{digits} HTTP/1.1\r\n{rest}");
        debug_assert_eq!(head.find('\0'), Some(frame::REQUEST_AT - HEADER_BYTES));
        let payload = [head.as_bytes(), &vec![b'x'; body_bytes]].concat();
        self.thread.is_http = true;
        self.weaver.round.expected.push(Expected {
            method,
            status: 0,
            request_body_bytes: body_bytes as u64,
            response_body_bytes: 0,
            talk: None,
            tls: None,
            last_step: 0,
        });
        self.frame(Heading::ToServer, flag::ACK | flag::PSH, &payload, text::REQUEST);
    }

    /// A request without a body and with a payload of this size.
    pub fn request_of(&mut self, method: &'static str, payload_bytes: usize) {
        let fixed = "GET /qq/ HTTP/1.1\r\n".len() + frame::REQUEST_DIGITS;
        let around = "Host: www.example.com\r\nCookie: \r\n\r\n".len();
        let cookie = "c".repeat(payload_bytes - fixed - around);
        self.request(method, &format!("Host: www.example.com\r\nCookie: {cookie}\r\n\r\n"), 0);
    }

    /// The response to the last request: `status` is the code and a reason of two letters. The
    /// client acknowledges every second segment.
    pub fn response(&mut self, status: &str, kind: &str, answer: &Answer) {
        let (Answer::Length(body_bytes) | Answer::Chunked(body_bytes)) = *answer;
        self.expect(status, body_bytes);
        let key = format!("{status} {kind} {answer:?} {} {}", self.segment_bytes, self.server_port);
        let known = self.weaver.answers.get(&key).cloned();
        let templates = known.unwrap_or_else(|| {
            let payload = response_bytes(status, kind, answer);
            let segments = payload.chunks(self.segment_bytes);
            let template = |segment| {
                self.weaver.tcp(Heading::ToClient, flag::ACK | flag::PSH, self.server_port, segment)
            };
            let made: Vec<u32> = segments.map(template).collect();
            self.weaver.answers.insert(key, made.clone());
            made
        });
        for (index, template) in templates.into_iter().enumerate() {
            self.push(
                Heading::ToClient,
                template,
                if index == 0 { text::RESPONSE } else { text::NONE },
            );
            if index % 2 == 1 {
                self.acknowledge(Heading::ToServer);
            }
        }
    }

    /// A response whose first segment has a payload of `payload_bytes`, and the second `more_bytes`
    /// of body.
    pub fn response_of(&mut self, payload_bytes: usize, more_bytes: usize) {
        let whole_bytes = payload_bytes + more_bytes;
        let head_bytes = |body_bytes| {
            response_bytes("200 OK", "a/b", &Answer::Length(body_bytes)).len() - body_bytes
        };
        // The longer the body, the more digits its length has.
        let body_bytes = whole_bytes - head_bytes(whole_bytes - head_bytes(whole_bytes));
        let payload = response_bytes("200 OK", "a/b", &Answer::Length(body_bytes));
        let (first, rest) = payload.split_at(payload_bytes.min(payload.len()));
        self.expect("200 OK", body_bytes);
        self.frame(Heading::ToClient, flag::ACK | flag::PSH, first, text::RESPONSE);
        if !rest.is_empty() {
            self.frame(Heading::ToClient, flag::ACK | flag::PSH, rest, text::NONE);
        }
    }

    fn expect(&mut self, status: &str, body_bytes: usize) {
        let expected = self.weaver.round.expected.last_mut().expect("a request came before");
        expected.status = status[..3].parse().expect("a status has three digits");
        expected.response_body_bytes = body_bytes as u64;
    }

    fn frame(&mut self, way: Heading, flags: u8, payload: &[u8], text: u8) {
        let template = self.weaver.tcp(way, flags, self.server_port, payload);
        self.push(way, template, text);
    }

    fn push(&mut self, way: Heading, template: u32, text: u8) {
        let (own, other) = match way {
            Heading::ToServer => (0, 1),
            Heading::ToClient => (1, 0),
        };
        let round = &self.weaver.round;
        let bytes = &round.templates[template as usize];
        let step = Step {
            template,
            connection: self.connection,
            seq: self.next[own],
            ack: self.next[other],
            number: (round.expected.len() as u32).saturating_sub(1),
            frame_bytes: u16::try_from(bytes.len()).expect("no frame is that long"),
            kind: way.kind(),
            text,
        };
        self.next[own] =
            self.next[own].wrapping_add(frame::sequence_length(&bytes[round.prefix_bytes..]));
        self.thread.steps.push(step);
    }
}

/// A response's head and body, with zeros in place of its request's number.
fn response_bytes(status: &str, kind: &str, answer: &Answer) -> Vec<u8> {
    let framing = match answer {
        Answer::Length(bytes) => format!("Content-Length: {bytes}"),
        Answer::Chunked(_) => "Transfer-Encoding: chunked".to_string(),
    };
    let digits = "\0".repeat(frame::RESPONSE_DIGITS);
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: n{digits}\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n"
    );
    debug_assert_eq!(head.find('\0'), Some(frame::RESPONSE_AT - HEADER_BYTES));
    let mut payload = head.into_bytes();
    match *answer {
        Answer::Length(bytes) => payload.resize(payload.len() + bytes, b'x'),
        Answer::Chunked(bytes) => {
            for chunk in vec![b'x'; bytes].chunks(16 << 10) {
                payload.extend(format!("{:x}\r\n", chunk.len()).bytes());
                payload.extend(chunk);
                payload.extend(b"\r\n");
            }
            payload.extend(b"0\r\n\r\n");
        }
    }
    payload
}

impl Drop for Script<'_> {
    fn drop(&mut self) {
        let thread = std::mem::take(&mut self.thread);
        self.weaver.add(thread);
    }
}
