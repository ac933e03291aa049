//! Random talk of HTTP/2 with random losses and late starts: nothing that is told is ever wrong,
//! and without a loss everything is told.

use crate::support::calls;
use crate::support::capture_file::WrittenFrame;
use crate::support::conversation::Side::{self, Client, Server};
use crate::support::hpack::Pair;
use crate::support::hpack::encoder::{Encoder, Habit};
use crate::support::hpack::random::Random;
use crate::support::hpack::talk;
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PREFACE, RST_STREAM,
    SETTINGS, frame, padded,
};
use crate::support::packet::{ACK, FIN, PSH, Packet, SYN};
use crate::support::reported::records_as;
use httplines::config::EmitConfig;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One message: what is true of it.
#[derive(Clone, Debug, Default)]
struct Truth {
    fields: Vec<Pair>,
    body_bytes: u64,
    /// Its messages, if it is one of gRPC.
    call: Option<calls::Body>,
    trailers: Vec<Pair>,
}

impl Truth {
    fn field(&self, name: &str) -> Option<String> {
        value_of(&self.fields, name)
    }
}

fn value_of(fields: &[Pair], name: &str) -> Option<String> {
    let found = fields.iter().find(|(known, _)| known == name.as_bytes());
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

/// An exchange.
#[derive(Clone, Debug, Default)]
struct Exchange {
    request: Truth,
    response: Truth,
    interim: Vec<u64>,
    /// This side has reset the stream before its response had ended.
    reset: Option<Side>,
}

impl Exchange {
    fn message(&mut self, sender: Side) -> &mut Truth {
        if sender == Client { &mut self.request } else { &mut self.response }
    }
}

/// A connection: what both sides send, in order, and what is true.
#[derive(Debug)]
pub struct Dialogue {
    pub sent: Vec<(Side, Vec<u8>)>,
    exchanges: BTreeMap<u64, Exchange>,
}

impl Dialogue {
    pub fn exchange_count(&self) -> usize {
        self.exchanges.len()
    }
}

/// One side of the connection that is being made.
struct Sender {
    side: Side,
    encoder: Encoder,
}

impl Sender {
    /// HEADERS of any form, with CONTINUATION.
    fn headers(
        &mut self,
        stream: u32,
        is_last: bool,
        fields: &[Pair],
        random: &mut Random,
    ) -> Vec<u8> {
        let block = self.encoder.block(fields);
        let flags = if is_last { END_STREAM } else { 0 };
        let part_bytes = if random.is_in(20) { 1 + random.below(40) } else { 1 << 14 };
        let mut parts: Vec<&[u8]> = block.chunks(part_bytes).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let mut out = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let end = if number + 1 == parts.len() { END_HEADERS } else { 0 };
            if number > 0 {
                out.extend(frame(CONTINUATION, end, stream, part));
            } else if random.is_in(20) {
                let padding = random.below(30) as u8;
                out.extend(frame(HEADERS, flags | end | PADDED, stream, &padded(part, padding)));
            } else {
                out.extend(frame(HEADERS, flags | end, stream, part));
            }
        }
        out
    }
}

/// A message that is being sent.
struct Open {
    stream: u32,
    side: Side,
    /// What is left of its body.
    left: Vec<u8>,
    /// Behind its body.
    trailers: Vec<Pair>,
}

/// A connection of either habit, with everything that HTTP/2 has for messages.
pub fn dialogue(random: &mut Random) -> Dialogue {
    let habit = if random.is_in(50) { Habit::Usual } else { Habit::Wild };
    let mut senders =
        [Client, Server].map(|side| Sender { side, encoder: Encoder::new(habit, random.number()) });
    let mut all = Dialogue { sent: Vec::new(), exchanges: BTreeMap::new() };
    all.sent.push((Client, [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()));
    all.sent.push((Server, frame(SETTINGS, 0, 0, &[])));
    let (mut open, mut stream, count) = (Vec::<Open>::new(), 1, 2 + random.below(12));
    let mut begun = 0;
    while begun < count || !open.is_empty() {
        if begun < count && (open.is_empty() || random.is_in(30)) {
            begun += 1;
            let (request, left) = message(Client, random.is_in(30), random);
            let bytes = senders[0].headers(stream, left.is_empty(), &request.fields, random);
            all.sent.push((Client, bytes));
            let trailers = request.trailers.clone();
            let exchange = Exchange { request, ..Exchange::default() };
            all.exchanges.insert(stream.into(), exchange);
            open.push(Open { stream, side: Client, left, trailers });
            stream += 2;
        }
        if open.is_empty() {
            continue;
        }
        let at = random.below(open.len());
        advance(&mut all, &mut senders, &mut open, at, random);
        if random.is_in(4) && !open.is_empty() {
            reset(&mut all, &mut open, random);
        }
        if random.is_in(10) {
            between(&mut all, &mut senders, random);
        }
    }
    all
}

/// Frames of WINDOW_UPDATE and PRIORITY, whose payloads say nothing here.
const WINDOW_UPDATE: u8 = 8;
const PRIORITY_FRAME: u8 = 2;
/// CANCEL, as in records.
const CANCEL: u32 = 8;

/// A side ends a stream whose response has not ended.
fn reset(all: &mut Dialogue, open: &mut Vec<Open>, random: &mut Random) {
    let Open { stream, side: sender, .. } = open.swap_remove(random.below(open.len()));
    let side = random.one_of(&[Client, Server]);
    all.sent.push((side, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())));
    let exchange = all.exchanges.get_mut(&stream.into()).expect("it began");
    exchange.reset = Some(side);
    exchange.message(sender).trailers.clear();
}

/// What comes between messages. The peer of who sends SETTINGS may change the size of its table.
fn between(all: &mut Dialogue, senders: &mut [Sender; 2], random: &mut Random) {
    let at = random.below(2);
    let side = senders[at].side;
    let bytes = match random.below(4) {
        0 => frame(PING, 0, 0, &[0; 8]),
        1 => frame(WINDOW_UPDATE, 0, random.below(20) as u32, &[0, 0, 1, 0]),
        2 => frame(PRIORITY_FRAME, 0, 1 + random.below(20) as u32, &[0, 0, 0, 0, 9]),
        _ => {
            let size = random.one_of(&[0_usize, 100, 1000, 4096, 10_000]);
            senders[1 - at].encoder.set_size_max(size);
            let value = (size as u32).to_be_bytes();
            frame(SETTINGS, 0, 0, &[&[0, 1][..], &value].concat())
        }
    };
    all.sent.push((side, bytes));
}

/// A message, and its body.
fn message(side: Side, is_call: bool, random: &mut Random) -> (Truth, Vec<u8>) {
    let fields = match side {
        Client => talk::request(random),
        Server => talk::response(random),
    };
    let mut truth = Truth { fields, ..Truth::default() };
    let body = match is_call {
        true => {
            calls::head(&mut truth.fields, random);
            let call = calls::body(random);
            truth.call = Some(call.clone());
            call.bytes
        }
        false => match random.below(4) {
            0 | 1 => Vec::new(),
            2 => vec![b'x'; 1 + random.below(100)],
            // It looks like messages.
            _ => vec![0; 1 + random.below(6000)],
        },
    };
    if is_call && side == Server {
        truth.trailers = calls::trailers(random);
    } else if !body.is_empty() && random.is_in(10) {
        truth.trailers = vec![(b"x-trailer".to_vec(), b"end".to_vec())];
    }
    (truth, body)
}

/// A message goes on: a frame of its body, or what follows it.
fn advance(
    all: &mut Dialogue,
    senders: &mut [Sender; 2],
    open: &mut Vec<Open>,
    at: usize,
    random: &mut Random,
) {
    let Open { stream, side, ref mut left, ref trailers } = open[at];
    let exchange = all.exchanges.get_mut(&stream.into()).expect("it began");
    if !left.is_empty() || !trailers.is_empty() {
        let len = (1 + random.below(4000)).min(left.len());
        let content: Vec<u8> = left.drain(..len).collect();
        let is_last = left.is_empty() && trailers.is_empty();
        let end = if is_last { END_STREAM } else { 0 };
        let bytes = match random.is_in(20) {
            true => frame(DATA, end | PADDED, stream, &padded(&content, random.below(99) as u8)),
            false => frame(DATA, end, stream, &content),
        };
        if len > 0 {
            exchange.message(side).body_bytes += len as u64;
            all.sent.push((side, bytes));
        }
        if left.is_empty() && !trailers.is_empty() {
            let sender = senders.iter_mut().find(|sender| sender.side == side).expect("a side");
            all.sent.push((side, sender.headers(stream, true, trailers, random)));
        }
        if !left.is_empty() {
            return;
        }
    }
    if side == Server {
        open.swap_remove(at);
        return;
    }
    // The request is over.
    while random.is_in(15) {
        let interim = vec![(b":status".to_vec(), b"103".to_vec())];
        all.sent.push((Server, senders[1].headers(stream, false, &interim, random)));
        exchange.interim.push(103);
    }
    // Now and then a page answers a call.
    let is_call = exchange.request.call.is_some() && random.is_in(85);
    let (mut response, left) = message(Server, is_call, random);
    let mut trailers = response.trailers.clone();
    if left.is_empty() && random.is_in(50) {
        response.fields.append(&mut trailers);
    }
    let is_whole = left.is_empty() && trailers.is_empty();
    all.sent.push((Server, senders[1].headers(stream, is_whole, &response.fields, random)));
    exchange.response = response;
    match is_whole {
        true => _ = open.swap_remove(at),
        false => open[at] = Open { stream, side: Server, left, trailers },
    }
}

/// What is lost of the capture, and how the bytes are cut into segments.
#[derive(Clone, Copy, Debug)]
struct Damage {
    late_count: usize,
    loss_percent: usize,
    segment_bytes: usize,
    has_one_side: Option<Side>,
}

/// The packets of the dialogue that are captured.
fn frames(dialogue: &Dialogue, damage: Damage, random: &mut Random) -> Vec<WrittenFrame> {
    let address: [SocketAddr; 2] =
        ["10.0.0.1:4000", "10.0.0.2:80"].map(|address| address.parse().expect("an address"));
    let mut next = [1000_u32, 2000];
    let mut all = Vec::new();
    let mut push = |side: Side, flags: u8, payload: &[u8], is_lost: bool| {
        let (own, peer) = (side as usize, 1 - side as usize);
        let ack = if flags & ACK != 0 { next[peer] } else { 0 };
        let packet = Packet::tcp(address[own], address[peer])
            .seq(next[own])
            .ack(ack)
            .flags(flags)
            .payload(payload);
        next[own] += payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        all.push((packet, is_lost || damage.has_one_side.is_some_and(|kept| kept != side)));
    };
    push(Client, SYN, b"", false);
    push(Server, SYN | ACK, b"", false);
    push(Client, ACK, b"", false);
    for (side, bytes) in &dialogue.sent {
        for segment in bytes.chunks(damage.segment_bytes) {
            push(*side, PSH | ACK, segment, random.is_in(damage.loss_percent));
        }
        push(if *side == Client { Server } else { Client }, ACK, b"", false);
    }
    push(Client, FIN | ACK, b"", false);
    push(Server, FIN | ACK, b"", false);
    let captured = all.iter().enumerate().skip(damage.late_count).filter(|(_, (_, lost))| !lost);
    let frame = |(number, (packet, _)): (usize, &(Packet, bool))| {
        WrittenFrame::new(
            1_795_442_400_000_000_000 + number as u64 * 20_000_000,
            &packet.ethernet(),
        )
    };
    captured.map(frame).collect()
}

fn records(frames: &[WrittenFrame]) -> Vec<Value> {
    let emit = EmitConfig { is_all_headers: true, is_secrets_shown: true, ..EmitConfig::default() };
    records_as(&emit, frames)
}

/// Asserts that what the record says of a call is true. Returns whether it says everything.
fn assert_call(record: &Value, truth: &Exchange) -> bool {
    let (request, response) = (&truth.request, &truth.response);
    let is_complete = record["outcome"] == "complete";
    let is_call = request.call.is_some() || response.call.is_some();
    let end = response.trailers.iter().filter(|_| is_call);
    let end: Vec<Pair> = end.cloned().collect();
    let mut is_whole = true;
    for (key, name) in [("grpc_status", "grpc-status"), ("grpc_message", "grpc-message")] {
        let truth = value_of(&end, name);
        match record.get(key) {
            Some(Value::Number(told)) => assert_eq!(Some(told.to_string()), truth, "{record}"),
            Some(told) => assert_eq!(told.as_str(), truth.as_deref(), "{record}"),
            None => is_whole &= truth.is_none(),
        }
    }
    for (key, call) in
        [("grpc_request_messages", &request.call), ("grpc_response_messages", &response.call)]
    {
        let truth = call.as_ref().map(|call| call.message_count);
        match record.get(key).and_then(Value::as_u64) {
            Some(told) if is_complete => assert_eq!(Some(told), truth, "{key}: {record}"),
            // Where no response was seen, it has no messages.
            Some(told) => {
                let most = truth.unwrap_or_default();
                assert!(told <= most && (truth.is_some() || told == 0), "{key}: {record}");
            }
            None => is_whole &= truth.is_none(),
        }
    }
    let bodies = [request, response].map(|message| message.call.as_ref());
    let is_compressed = bodies.iter().flatten().any(|call| call.is_compressed);
    match record.get("grpc_encoding") {
        Some(told) => assert!(is_compressed && told == "gzip", "{record}"),
        // A compressed message need not have been sent before a reset.
        None => is_whole &= !is_compressed || truth.reset.is_some(),
    }
    is_whole
}

/// Whether `told` is a part of what is true, in the same order.
fn assert_headers(told: &Value, truth: &[Pair], what: &str) {
    let mut rest = truth.iter();
    for pair in told.as_array().into_iter().flatten() {
        let (name, value) = (pair[0].as_str().expect("a name"), pair[1].as_str().expect("a value"));
        let is_it = |(known_name, known): &&Pair| {
            let known_name = if known_name == b":authority" { b"host" } else { &known_name[..] };
            known_name == name.as_bytes() && known == value.as_bytes()
        };
        assert!(rest.any(|pair| is_it(&pair)), "{what}: {name}: {value} of {truth:?}");
    }
}

/// Asserts that what the record says is true. Returns whether it says everything.
pub fn assert_true(record: &Value, dialogue: &Dialogue) -> bool {
    let what = record.to_string();
    let Some(stream) = record["stream"].as_u64() else { panic!("another protocol: {what}") };
    let truth = dialogue.exchanges.get(&stream).unwrap_or_else(|| panic!("invented: {what}"));
    let (request, response) = (&truth.request, &truth.response);
    let mut is_whole = (record["outcome"] == "complete") == truth.reset.is_none();
    for (key, truth, name) in [
        ("method", request, ":method"),
        ("target", request, ":path"),
        ("host", request, ":authority"),
        ("scheme", request, ":scheme"),
        ("user_agent", request, "user-agent"),
        ("referer", request, "referer"),
        ("server", response, "server"),
        ("response_content_type", response, "content-type"),
    ] {
        match record.get(key) {
            Some(told) => assert_eq!(told.as_str(), truth.field(name).as_deref(), "{key}: {what}"),
            None => is_whole &= truth.field(name).is_none(),
        }
    }
    is_whole &= assert_reset(record, truth) == truth.reset.is_some();
    match record.get("status") {
        Some(status) => {
            assert_eq!(response.field(":status"), Some(status.to_string()), "{what}");
        }
        None => is_whole &= response.fields.is_empty(),
    }
    for (key, truth, without) in [
        ("request_body_bytes", request, "no_request"),
        ("response_body_bytes", response, "no_response"),
    ] {
        // Nobody has seen that more of it will come.
        let is_all = record["outcome"] == "complete" || record["outcome"] == without;
        match record.get(key).and_then(Value::as_u64) {
            Some(told) if is_all => assert_eq!(told, truth.body_bytes, "{key}: {what}"),
            Some(told) => assert!(told <= truth.body_bytes, "{key}: {what}"),
            None => is_whole = false,
        }
    }
    for status in record["interim"].as_array().into_iter().flatten() {
        assert!(truth.interim.contains(&status.as_u64().expect("a number")), "{what}");
    }
    let interim_count = record["interim"].as_array().map_or(0, Vec::len);
    assert!(interim_count <= truth.interim.len(), "{what}");
    assert_headers(&record["request_headers"], &request.fields, &what);
    assert_headers(&record["response_headers"], &response.fields, &what);
    assert_headers(&record["request_trailers"], &request.trailers, &what);
    assert_headers(&record["response_trailers"], &response.trailers, &what);
    is_whole &= assert_call(record, truth);
    for never in ["early_response", "conflict", "pushed", "upgraded"] {
        assert_eq!(record.get(never), None, "{what}");
    }
    is_whole && record.get("headers_unknown").is_none()
}

/// What the record says of a reset is true. Returns whether the stream was reset and that is told.
fn assert_reset(record: &Value, truth: &Exchange) -> bool {
    assert!(truth.reset.is_none() || record["outcome"] != "complete", "{record}");
    let Some(by) = record.get("reset_by") else { return false };
    let side = truth.reset.map(|side| if side == Client { "client" } else { "server" });
    assert_eq!(by.as_str(), side, "{record}");
    assert!(record.get("reset_code").is_none_or(|code| code == "cancel"), "{record}");
    assert_eq!(record["end_reason"], "reset", "{record}");
    true
}

fn check(seed: u64, damage: Damage) -> (usize, usize) {
    let mut random = Random(seed);
    let dialogue = dialogue(&mut random);
    let records = records(&frames(&dialogue, damage, &mut random));
    let mut streams: Vec<_> = records.iter().map(|record| record["stream"].as_u64()).collect();
    streams.sort_unstable();
    let told_count = streams.len();
    streams.dedup();
    assert_eq!(streams.len(), told_count, "a stream was told twice: {records:?}");
    let whole = records.iter().filter(|record| assert_true(record, &dialogue)).count();
    (whole, dialogue.exchanges.len())
}

/// A case is a whole connection. `PROPTEST_CASES=20000 cargo test --release --test main
/// http2_losses::` tries more of them.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 96;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    /// Without a loss, everything is told.
    #[test]
    fn without_a_loss_everything_is_told(
        seed: u64,
        segment_bytes in prop_oneof![Just(1_usize), 2..60_usize, Just(1448), Just(1 << 14)],
    ) {
        let damage =
            Damage { late_count: 0, loss_percent: 0, segment_bytes, has_one_side: None };
        let (whole, count) = check(seed, damage);
        prop_assert_eq!(whole, count);
    }

    /// With losses, with a late start, or with one direction alone, nothing is told that is wrong.
    #[test]
    fn nothing_that_is_told_is_wrong(
        seed: u64,
        late_count in prop_oneof![Just(0_usize), 1..60_usize],
        loss_percent in prop_oneof![Just(0_usize), Just(3), Just(15), Just(50)],
        segment_bytes in prop_oneof![5..60_usize, Just(536), Just(1448)],
        has_one_side in prop_oneof![
            4 => Just(None),
            1 => Just(Some(Client)),
            1 => Just(Some(Server)),
        ],
    ) {
        check(seed, Damage { late_count, loss_percent, segment_bytes, has_one_side });
    }
}
