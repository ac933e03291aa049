//! Toy protocols through a whole pipeline: handing over, nesting, and yielding chunks.

use crate::config::{Config, FlowConfig};
use crate::decode::{Segment, SeqNumber, TcpFlags, TunnelPath};
use crate::ids::Direction::{self, Forward, Reverse};
use crate::ids::{FlowKey, IfaceId};
use crate::pipeline::Pipeline;
use crate::protocol::Kind;
use crate::protocol::toys::{Cipher, Mux};
use crate::record::{Event, EventSink};
use crate::time::TimestampNs;

const GET_A: &[u8] = b"GET /a HTTP/1.1\r\n\r\n";
const GET_B: &[u8] = b"GET /b HTTP/1.1\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NO: &[u8] = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";

/// The payload of a side.
type Payload<'a> = (Direction, &'a [u8]);

/// Passes a connection to a pipeline: its handshake, then these payloads, `pause_ns` apart.
fn play<S: EventSink>(pipeline: &mut Pipeline<S>, payloads: &[Payload<'_>], pause_ns: u64) {
    let mut next = [100_u32; 2];
    let mut at_ns = 0;
    let handshake = [(Forward, TcpFlags::SYN), (Reverse, TcpFlags::SYN | TcpFlags::ACK)];
    let syns = handshake.map(|(direction, flags)| (direction, flags, &b""[..]));
    let data = payloads.iter().map(|(direction, payload)| (*direction, TcpFlags::ACK, *payload));
    for (direction, flags, payload) in syns.into_iter().chain(data) {
        at_ns += pause_ns;
        let flags = TcpFlags(flags);
        let own = &mut next[direction.index()];
        let seq = SeqNumber(*own);
        *own += payload.len() as u32 + u32::from(flags.is_syn());
        let ack = SeqNumber(next[direction.opposite().index()]);
        pipeline.segment(&Segment {
            key: FlowKey { port: [[1, 1], [0, 80]], ..FlowKey::default() },
            direction,
            seq,
            ack: flags.is_ack().then_some(ack),
            flags,
            window: 65_535,
            header: &[],
            is_checksum_trusted: false,
            payload,
            payload_wire_bytes: payload.len() as u32,
            timestamp: TimestampNs(at_ns),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
        });
    }
}

/// Reports of a connection that carries these payloads, in this order, and ends with the run:
/// target and status of each exchange, and the kind that the connection was counted as.
fn told(payloads: &[Payload<'_>]) -> (Vec<String>, Vec<Kind>) {
    let sink = |told: &mut Vec<String>, event: Event<'_>| {
        if let Event::Exchange(exchange) = event {
            let target = String::from_utf8_lossy(exchange.request.target().unwrap_or(b"-"));
            let outcome = exchange.outcome.expect("an outcome").name();
            told.push(format!("{target} {} {outcome}", exchange.response.status));
        }
    };
    let mut lines = Vec::new();
    let mut pipeline =
        Pipeline::new(&Config::default(), |event: Event<'_>| sink(&mut lines, event));
    play(&mut pipeline, payloads, 1_000_000);
    pipeline.finish();
    assert_eq!(pipeline.exchanges_in_use(), 0, "every exchange was given back");
    let flows = pipeline.stats().protocol.flows;
    drop(pipeline);
    (lines, Kind::ALL.iter().copied().filter(|kind| flows.of(*kind) > 0).collect())
}

#[test]
fn a_protocol_hands_over_to_another_within_a_chunk_and_between_chunks() {
    let joined = [b"RELAY to x\n", GET_A].concat();
    let both = (vec!["/a 200 complete".to_string()], vec![Kind::Http1]);
    assert_eq!(told(&[(Forward, &joined), (Reverse, OK)]), both);
    let parts = [(Forward, &b"RELAY t"[..]), (Forward, b"o x\n"), (Forward, GET_A), (Reverse, OK)];
    assert_eq!(told(&parts), both);
}

#[test]
fn a_protocol_nests_others_each_in_a_stream_of_its_own() {
    let frame = |number: u8, data: &[u8]| [&[number, data.len() as u8][..], data].concat();
    let (half, rest) = GET_A.split_at(7);
    let requests = [Mux::MAGIC, &frame(1, half), &frame(2, GET_B), &frame(1, rest)].concat();
    let answers = [frame(2, NO), frame(1, OK)].concat();
    let exchanges = vec!["/b 404 complete".to_string(), "/a 200 complete".to_string()];
    let told = told(&[(Forward, &requests), (Reverse, &answers)]);
    assert_eq!(told, (exchanges, vec![Kind::Mux]));
}

#[test]
fn a_protocol_yields_chunks_to_the_one_inside() {
    let request = [Cipher::MAGIC, &Cipher::text(GET_A)].concat();
    let answer = [Cipher::MAGIC, &Cipher::text(OK)].concat();
    let told_of = told(&[(Forward, &request), (Reverse, &answer), (Forward, &Cipher::text(GET_B))]);
    let exchanges = vec!["/a 200 complete".to_string(), "/b 0 no_response".to_string()];
    assert_eq!(told_of, (exchanges, vec![Kind::Cipher]));
}

/// If a connection switches to another protocol, exchanges that are still open in the first one are
/// reported at the end.
#[test]
fn what_was_under_way_before_the_preface_of_http2_is_told_at_the_end() {
    let told_of = told(&[(Forward, GET_A), (Forward, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]);
    assert_eq!(told_of, (vec!["/a 0 no_response".to_string()], vec![Kind::Http2]));
}

#[test]
fn tls_is_known_by_its_first_record_and_http2_by_its_preface_in_pieces() {
    assert_eq!(told(&[(Forward, b"\x16\x03\x01\x00\x05hello")]), (vec![], vec![Kind::Tls]));
    let pieces = [(Forward, &b"PRI * HT"[..]), (Forward, b"TP/2.0\r\n\r\nSM\r\n\r\n\0\0\0")];
    assert_eq!(told(&pieces), (vec![], vec![Kind::Http2]));
}

/// The targets of partial records, of a connection with a payload each second and a timeout of 4 s.
fn told_under_way(payloads: &[Payload<'_>]) -> Vec<String> {
    let flow = FlowConfig { active_timeout_ms: Some(4_000), ..FlowConfig::default() };
    let config = Config { flow, ..Config::default() };
    let mut targets = Vec::new();
    let mut pipeline = Pipeline::new(&config, |event: Event<'_>| {
        if let Event::Partial(partial) = event {
            let target = partial.request.target().unwrap_or(b"-");
            targets.push(String::from_utf8_lossy(target).into_owned());
        }
    });
    play(&mut pipeline, payloads, 1_000_000_000);
    pipeline.finish();
    drop(pipeline);
    targets
}

#[test]
fn what_is_under_way_inside_and_before_another_protocol_is_told() {
    let frame = |number: u8, data: &[u8]| [&[number, data.len() as u8][..], data].concat();
    let requests = [Mux::MAGIC, &frame(1, GET_A), &frame(2, GET_B)].concat();
    let answer = frame(2, NO);
    let waits: Vec<Payload<'_>> = vec![(Reverse, b""); 5];
    let mux = [&[(Forward, &requests[..]), (Reverse, &answer)], &waits[..]].concat();
    assert_eq!(told_under_way(&mux), ["/a"]);
    let request = [Cipher::MAGIC, &Cipher::text(GET_A)].concat();
    assert_eq!(told_under_way(&[&[(Forward, &request[..])], &waits[..]].concat()), ["/a"]);
    let preface = (Forward, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
    assert_eq!(told_under_way(&[&[(Forward, GET_A), preface], &waits[..]].concat()), ["/a"]);
}
