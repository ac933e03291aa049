//! The cost of each stage alone, in the order of the data path: one group per stage.

#![deny(unsafe_code)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hpack::encoder::{Encoder, Habit};
use hpack::random::Random;
use hpack::{Pair, talk};
use httplines::capture::{Frame, LinkType};
use httplines::config::{DecodeConfig, EmitConfig, FlowConfig, HttpConfig};
use httplines::decode::{Decoder, Segment, SeqNumber, TcpFlags, TunnelPath};
use httplines::flow::{Chunk, End, FlowEvents, FlowIndex, FlowTable, Handshake, SegmentMeta};
use httplines::ids::{Direction, FlowKey, IfaceId, IfaceNames};
use httplines::protocol::http1::parse_head;
use httplines::protocol::http2::hpack::Decoder as HpackDecoder;
use httplines::protocol::{ConnectionState, Context, FlowRef, Shared};
use httplines::record::{Event, EventSink, JsonFormat, Wants};
use httplines::sys::ring::{Ring, RingFrame};
use httplines::time::TimestampNs;
use measure::{CpuTime, by_cpu_time, measure};
use packet::Packet;
use std::hint::black_box;
use std::path::Path;

mod allocations;
mod clock;
#[path = "../tests/support/exchange.rs"]
#[allow(dead_code)]
mod exchange;
#[path = "../tests/support/hpack/mod.rs"]
#[allow(dead_code)]
mod hpack;
mod measure;
#[path = "../tests/support/packet.rs"]
#[allow(dead_code)]
mod packet;
#[path = "../tests/support/tunnel.rs"]
#[allow(dead_code)]
mod tunnel;

/// Payload of a segment that fills an Ethernet frame.
const SEGMENT_BYTES: usize = 1460;

const NOW: TimestampNs = TimestampNs(exchange::START_NS);

/// Walks the blocks of a ring and hands them back; the header of each frame is read.
fn ring_walk(criterion: &mut Criterion<CpuTime>) {
    const BLOCK_BYTES: usize = 1 << 20;
    let mut group = criterion.benchmark_group("ring_walk");
    for (name, frame_bytes, block_count) in
        [("64 B, in cache", 64, 1), ("64 B", 64, 64), ("1514 B", 1514, 64)]
    {
        let payload = vec![b'x'; frame_bytes];
        let frame = RingFrame {
            bytes: &payload,
            wire_bytes: frame_bytes as u32,
            timestamp: NOW,
            vlan: None,
            ifindex: 1,
            hardware_type: 1,
            packet_type: 0,
            is_checksum_trusted: false,
        };
        // A frame takes 80 bytes of headers and is padded to 8.
        let in_block = (BLOCK_BYTES - 48) / (80 + frame_bytes).next_multiple_of(8);
        let mut ring = Ring::on_heap(BLOCK_BYTES, &vec![vec![frame; in_block]; block_count]);
        group.throughput(Throughput::Elements((in_block * block_count) as u64));
        measure(&mut group, name, || {
            while let Some(block) = ring.next_block() {
                for frame in block.frames() {
                    black_box(&frame);
                }
            }
            ring.hand_over();
        });
    }
    group.finish();
}

/// Decodes a frame to a segment.
fn decode(criterion: &mut Criterion<CpuTime>) {
    let (v4, v6) = (("10.0.0.1:4242", "10.0.0.2:80"), ("[fd00::1]:4242", "[fd00::2]:80"));
    let tcp = |(client, server): (&str, &str)| {
        let address = |text: &str| text.parse().expect("an address");
        Packet::tcp(address(client), address(server)).options(&[1; 12]).payload(&[b'x'; 1400])
    };
    let vxlan = tunnel::vxlan(4789, 42, &tcp(v4).ethernet());
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, bytes) in [
        ("IPv4", tcp(v4).ethernet()),
        ("IPv6", tcp(v6).ethernet()),
        ("IPv4, QinQ", tcp(v4).tag(0x88a8, 1).vlan(2).ethernet()),
        ("IPv4 in VXLAN", tunnel::ethernet(0x0800, &vxlan)),
    ] {
        let frame = Frame {
            bytes: &bytes,
            wire_bytes: bytes.len() as u32,
            timestamp: NOW,
            link: LinkType::Ethernet,
            vlan: None,
            iface: IfaceId(0),
            is_checksum_trusted: false,
        };
        let mut decoder = Decoder::new(DecodeConfig::default());
        assert_eq!(decoder.decode(&frame).map(|segment| segment.payload.len()), Ok(1400));
        measure(&mut group, name, || {
            black_box(&decoder.decode(black_box(&frame)));
        });
    }
    group.finish();
}

/// A segment of client connection `number`, with `payload` at `seq`.
fn segment(number: u32, seq: u32, flags: u8, payload: &[u8]) -> Segment<'_> {
    let mut client = [0; 16];
    client[..4].copy_from_slice(&(0x0a00_0000 | number).to_be_bytes());
    let server = [192, 168, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (key, direction) =
        FlowKey::new((client, [0x9c, 0x40]), (server, [0, 80]), Default::default(), 0);
    Segment {
        key,
        direction,
        seq: SeqNumber(seq),
        ack: (flags & TcpFlags::ACK != 0).then_some(SeqNumber(1)),
        flags: TcpFlags(flags),
        window: 65_535,
        header: &[],
        is_checksum_trusted: false,
        payload,
        payload_wire_bytes: payload.len() as u32,
        timestamp: NOW,
        iface: IfaceId(0),
        tunnel: TunnelPath::default(),
    }
}

/// A reassembly consumer that ignores everything: nothing is pending or ended here.
struct IgnoreAll;

impl FlowEvents<ConnectionState> for IgnoreAll {
    fn chunk(
        &mut self,
        _: &FlowKey,
        _: &Handshake,
        _: &mut ConnectionState,
        _: Direction,
        _: Chunk<'_>,
    ) {
    }

    fn ended(&mut self, _: &FlowKey, _: &Handshake, _: &mut ConnectionState, _: End) {}
}

/// A table in which `flow_count` clients have sent a SYN of sequence number 0; and the last one's
/// flow.
fn table(flow_count: u32) -> (FlowTable<ConnectionState>, FlowIndex) {
    let mut table = FlowTable::new(FlowConfig::default());
    let mut last = None;
    for number in 0..flow_count {
        let syn = segment(number, 0, TcpFlags::SYN, b"");
        let index = table.enter(&syn, &mut IgnoreAll).expect("a SYN begins a flow");
        table.accept(index, &syn, |_, _, _, _, _| {});
        last = Some(index);
    }
    (table, last.expect("some flows"))
}

/// Looks up the flow of a segment among a million: one of a few that were looked up just before, or
/// any.
fn flow_lookup(criterion: &mut Criterion<CpuTime>) {
    const FLOW_COUNT: u32 = 1 << 20;
    let (mut table, _) = table(FLOW_COUNT);
    let mut group = criterion.benchmark_group("flow_lookup");
    group.throughput(Throughput::Elements(1));
    for (name, among) in [("hot, 16 flows", 16), ("cold, a million flows", FLOW_COUNT)] {
        let mut number = 0u32;
        measure(&mut group, name, || {
            // Numerical Recipes' generator, which visits all numbers below a power of two.
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % among;
            let found = table.enter(&segment(number, 1, TcpFlags::ACK, b""), &mut IgnoreAll);
            debug_assert!(found.is_some());
            found
        });
    }
    group.finish();
}

/// Reassembles in-order payload of one connection; a call is two full segments.
fn reassembly(criterion: &mut Criterion<CpuTime>) {
    let payload = vec![b'x'; SEGMENT_BYTES];
    let step = SEGMENT_BYTES as u32;
    let mut group = criterion.benchmark_group("reassembly");
    group.throughput(Throughput::ElementsAndBytes { elements: 2, bytes: 2 * u64::from(step) });
    for (name, order) in [("in order", [0, step]), ("swapped", [step, 0])] {
        let (mut table, index) = table(1);
        let (mut seq, mut passed, mut sent) = (1u32, 0, 0);
        measure(&mut group, name, || {
            for ahead in order {
                let segment = segment(0, seq.wrapping_add(ahead), TcpFlags::ACK, &payload);
                table.accept(index, &segment, |_, _, _, _, chunk| {
                    passed += u64::from(matches!(black_box(chunk), Chunk::Bytes(..)));
                });
                sent += 1;
            }
            seq = seq.wrapping_add(2 * step);
        });
        assert_eq!(passed, sent, "every segment is delivered");
    }
    group.finish();
}

/// Parses a head from its first byte to its empty line.
fn head(criterion: &mut Criterion<CpuTime>) {
    let exchange = exchange::typical();
    let mut group = criterion.benchmark_group("head");
    for (name, message) in [("request", exchange.request), ("response", exchange.response)] {
        let bytes = message.text;
        assert_eq!(parse_head(&bytes).map(|(len_bytes, _)| len_bytes), Some(bytes.len()));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        measure(&mut group, name, || parse_head(black_box(&bytes)));
    }
    group.finish();
}

/// The header blocks of one connection.
type Blocks = Vec<Vec<u8>>;

/// Decodes the blocks. Returns the bytes of the names and values.
fn decode_blocks(decoder: &mut HpackDecoder, blocks: &Blocks, scratch: &mut Vec<u8>) -> usize {
    let mut decoded_bytes = 0;
    for block in blocks {
        let decoded = decoder.block(black_box(block), scratch, |field| {
            let len_bytes = |text: Option<&[u8]>| text.map_or(0, <[u8]>::len);
            decoded_bytes +=
                len_bytes(black_box(field.name())) + len_bytes(black_box(field.value()));
        });
        decoded.expect("a valid block");
    }
    decoded_bytes
}

/// The blocks of the stories of hpack-test-case by one encoder, which are not part of the project.
fn stories(encoder: &str) -> Option<Vec<Blocks>> {
    let stories =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/protocols/stories");
    let files = std::fs::read_dir(stories.join(encoder)).ok()?;
    let octet = |digits: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(digits).expect("text"), 16).expect("two digits")
    };
    let block = |case: &serde_json::Value| {
        let digits = case["wire"].as_str().expect("digits").as_bytes();
        digits.chunks(2).map(octet).collect()
    };
    let story = |path| -> Blocks {
        let text = std::fs::read(path).expect("a story");
        let story: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        story["cases"].as_array().expect("cases").iter().map(block).collect()
    };
    Some(files.map(|file| story(file.expect("an entry").path())).collect())
}

/// Decodes the header blocks of a connection; the throughput is that of names and values.
fn header_blocks(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("hpack");
    let mut scratch = Vec::new();
    type Fields = fn(&mut Random) -> Vec<Pair>;
    let cases: [(&str, Habit, Fields); 3] = [
        ("requests", Habit::Usual, talk::request),
        ("responses", Habit::Usual, talk::response),
        ("any form", Habit::Wild, talk::any_fields),
    ];
    for (name, habit, fields) in cases {
        let (mut encoder, mut random) = (Encoder::new(habit, 1), Random(2));
        // The first block empties the table, so that they can be decoded again and again.
        encoder.set_size_max(0);
        encoder.set_size_max(4096);
        let blocks: Blocks = (0..100).map(|_| encoder.block(&fields(&mut random))).collect();
        let mut decoder = HpackDecoder::default();
        let decoded_bytes = decode_blocks(&mut decoder, &blocks, &mut scratch);
        group.throughput(Throughput::Bytes(decoded_bytes as u64));
        measure(&mut group, &format!("100 blocks, {name}"), || {
            decode_blocks(&mut decoder, &blocks, &mut scratch)
        });
    }
    for encoder in ["nghttp2", "go-hpack", "python-hpack"] {
        let Some(stories) = stories(encoder) else { continue };
        let mut decode_stories = || {
            let decode = |story| {
                let mut decoder = HpackDecoder::default();
                decode_blocks(&mut decoder, story, &mut scratch)
            };
            stories.iter().map(decode).sum()
        };
        let decoded_bytes: usize = decode_stories();
        group.throughput(Throughput::Bytes(decoded_bytes as u64));
        measure(&mut group, &format!("stories of {encoder}"), decode_stories);
    }
    group.finish();
}

/// Counts events.
#[derive(Debug, Default)]
struct Tally(u64);

impl EventSink for Tally {
    fn wants(&self) -> Wants {
        Wants { messages: false, headers: false, websockets: false, tls: false, tls_early: false }
    }

    fn event(&mut self, _event: Event<'_>) {
        self.0 += 1;
    }
}

/// A connection that receives bytes in order.
struct FedConnection {
    key: FlowKey,
    handshake: Handshake,
    state: ConnectionState,
    shared: Shared<Tally>,
    next: [u32; 2],
}

impl FedConnection {
    fn new() -> FedConnection {
        let handshake = Handshake { client_isn: Some(SeqNumber(0)).into(), ..Handshake::default() };
        let shared = Shared::new(HttpConfig::default(), Tally::default());
        let state = ConnectionState::default();
        FedConnection { key: exchange::key_v4(), handshake, state, shared, next: [1, 1] }
    }

    fn receive(&mut self, direction: Direction, bytes: &[u8]) {
        let own = direction.index();
        let meta = SegmentMeta {
            timestamp: NOW,
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
            ack: Some(SeqNumber(self.next[1 - own])),
            seq: SeqNumber(self.next[own]),
            is_frame_start: true,
        };
        self.next[own] = self.next[own].wrapping_add(bytes.len() as u32);
        let flow = FlowRef { key: &self.key, handshake: &self.handshake };
        let mut cx = Context { flow, shared: &mut self.shared };
        self.state.chunk(&mut cx, direction, Chunk::Bytes(bytes, &meta));
    }
}

/// A request and its response without a body, from in-order bytes to a finished exchange.
fn conversation(criterion: &mut Criterion<CpuTime>) {
    let exchange = exchange::typical();
    let request = exchange.request.text;
    let response = b"HTTP/1.1 304 Not Modified\r\nServer: nginx/1.29.3\r\nETag: \"6a1f\"\r\n\r\n";
    let mut group = criterion.benchmark_group("conversation");
    group.throughput(Throughput::Elements(1));
    let mut fed = FedConnection::new();
    let mut calls = 0;
    measure(&mut group, "two heads", || {
        fed.receive(Direction::Forward, black_box(&request));
        fed.receive(Direction::Reverse, black_box(response));
        calls += 1;
    });
    assert_eq!(fed.shared.recorder.sink.0, calls, "each is an exchange");
    group.finish();
}

/// Skips bytes of an endless body, in segments.
fn framing(criterion: &mut Criterion<CpuTime>) {
    let plain = vec![b'x'; 3 * SEGMENT_BYTES];
    let chunks =
        |bytes: usize, count| format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes)).repeat(count);
    let mut group = criterion.benchmark_group("framing");
    for (name, header, stream) in [
        ("length", "Content-Length: 9223372036854775807", plain),
        ("chunks of 4096 B", "Transfer-Encoding: chunked", chunks(4096, 1).into_bytes()),
        ("chunks of 64 B", "Transfer-Encoding: chunked", chunks(64, 60).into_bytes()),
    ] {
        let mut fed = FedConnection::new();
        fed.receive(Direction::Forward, b"GET / HTTP/1.1\r\n\r\n");
        fed.receive(Direction::Reverse, format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n").as_bytes());
        group.throughput(Throughput::Bytes(stream.len() as u64));
        measure(&mut group, name, || {
            for segment in stream.chunks(SEGMENT_BYTES) {
                fed.receive(Direction::Reverse, black_box(segment));
            }
        });
        assert_eq!(fed.shared.recorder.sink.0, 0, "the body has not ended");
        assert_eq!(fed.shared.stats().exchanges.responses, 1);
    }
    group.finish();
}

/// Formats an exchange as a JSON line, in a batch of 256 KiB that starts over when it is full.
fn json_line(criterion: &mut Criterion<CpuTime>) {
    let key = exchange::key_v4();
    let flow = exchange::flow(&key);
    let names = IfaceNames::default();
    names.insert(IfaceId(0), "eth0");
    let mut batch = Vec::with_capacity(512 << 10);
    let mut group = criterion.benchmark_group("json_line");
    let mut hostile = exchange::typical();
    exchange::header(&mut hostile.request, "User-Agent", "\"é\" \\ \u{1f600}".as_bytes());
    exchange::header(&mut hostile.request, "Referer", b"https://www.example.com/\xff\xfe?q=\x01");
    let all = EmitConfig { is_all_headers: true, ..EmitConfig::default() };
    let cases = [
        ("typical", exchange::typical(), EmitConfig::default()),
        ("escapes", hostile, EmitConfig::default()),
        ("all_headers", exchange::typical(), all),
    ];
    for (name, exchange, config) in cases {
        let mut format = JsonFormat::new(&config, names.clone());
        batch.clear();
        exchange::line(&mut format, &flow, &exchange, &mut batch);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        measure(&mut group, name, || {
            exchange::line(&mut format, &flow, black_box(&exchange), &mut batch);
            if batch.len() >= 256 << 10 {
                batch.clear();
            }
        });
    }
    group.finish();
}

criterion_group!(
    name = stages;
    config = by_cpu_time();
    targets = ring_walk,
        decode,
        flow_lookup,
        reassembly,
        head,
        header_blocks,
        conversation,
        framing,
        json_line
);
criterion_main!(stages);
