//! The cost of a whole shard, from a frame in memory to a JSON line that the writer accepts: one
//! group, one benchmark per workload.

#![deny(unsafe_code)]

use allocations::Allocations;
use capture_file::{Order, Unit, WrittenFrame, pcap};
use conversation::{Conversation, Side};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixtures::{Fixture, Nowhere};
use http2::{DATA, END_HEADERS, END_STREAM, HEADERS, Talk, WHOLE, fields, frame};
use httplines::capture::pcap::PcapSource;
use httplines::config::{Config, Input};
use httplines::ids::IfaceNames;
use measure::{CpuTime, by_cpu_time};
use std::sync::Arc;

mod allocations;
// `httplines-bench replay` uses more of a run's results.
#[path = "../tests/support/capture_file.rs"]
#[allow(dead_code)]
mod capture_file;
mod clock;
#[path = "../tests/support/conversation.rs"]
#[allow(dead_code)]
mod conversation;
#[allow(dead_code)]
mod fixtures;
#[path = "../tests/support/hpack/mod.rs"]
#[allow(dead_code)]
mod hpack;
#[path = "../tests/support/http2.rs"]
#[allow(dead_code)]
mod http2;
#[allow(dead_code)]
mod measure;
#[path = "../tests/support/packet.rs"]
#[allow(dead_code)]
mod packet;

const START_NS: u64 = 1_795_442_400_000_000_000;
/// Time between two packets of a connection.
const STEP_NS: u64 = 100_000;

const REQUEST: &str = "GET /api/v1/items/4711?page=3&sort=asc HTTP/1.1\r\nHost: 10.0.0.1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0\r\n\
    Accept: application/json,text/html;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate\r\n\
    Accept-Language: en-US,en;q=0.9\r\nCookie: sid=4f9d2c1b7a6e5f3d8c0b; theme=dark\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.29.3\r\n\
    Date: Mon, 23 Nov 2026 14:00:00 GMT\r\n\
    Content-Type: application/json\r\nConnection: keep-alive\r\n";

/// The messages of one connection, between its handshake and its end.
type Script = fn(&mut Conversation);

fn small(conversation: &mut Conversation) {
    for _ in 0..40 {
        conversation.client(REQUEST.as_bytes());
        let body = "x".repeat(80);
        conversation
            .server(format!("{RESPONSE}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }
}

/// The exchanges of `small`, in HTTP/2.
fn small_http2(conversation: &mut Conversation) {
    let request = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/api/v1/items/4711?page=3&sort=asc"),
        (":authority", "10.0.0.1"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"),
        ("accept", "application/json,text/html;q=0.9,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate"),
        ("accept-language", "en-US,en;q=0.9"),
        ("cookie", "sid=4f9d2c1b7a6e5f3d8c0b; theme=dark"),
    ]);
    let response = fields(&[
        (":status", "200"),
        ("server", "nginx/1.29.3"),
        ("date", "Mon, 23 Nov 2026 14:00:00 GMT"),
        ("content-type", "application/json"),
        ("content-length", "80"),
    ]);
    let mut talk = Talk::new();
    for number in 0..40 {
        let stream = 2 * number + 1;
        talk.ask(stream, WHOLE, &request);
        let block = talk.block(Side::Server, &response);
        let body = frame(DATA, END_STREAM, stream, "x".repeat(80).as_bytes());
        talk.server([frame(HEADERS, END_HEADERS, stream, &block), body].concat());
    }
    say(conversation, &talk);
}

/// Unary calls of gRPC, as grpcio makes them.
fn unary(conversation: &mut Conversation) {
    let request = fields(&[
        (":scheme", "http"),
        (":method", "POST"),
        (":authority", "10.0.0.1:50051"),
        (":path", "/example.v1.Items/Get"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-python/1.85.0 grpc-c/54.0.0 (linux; chttp2)"),
        ("grpc-accept-encoding", "identity, deflate, gzip"),
    ]);
    let response = fields(&[(":status", "200"), ("content-type", "application/grpc")]);
    let trailers = fields(&[("grpc-status", "0"), ("grpc-message", "")]);
    let message = |bytes: u8| [&[0, 0, 0, 0, bytes][..], &vec![b'x'; bytes.into()]].concat();
    let mut talk = Talk::new();
    for number in 0..40 {
        let stream = 2 * number + 1;
        let block = talk.block(Side::Client, &request);
        let body = frame(DATA, END_STREAM, stream, &message(100));
        talk.client([frame(HEADERS, END_HEADERS, stream, &block), body].concat());
        let block = talk.block(Side::Server, &response);
        let end = talk.block(Side::Server, &trailers);
        let frames = [
            frame(HEADERS, END_HEADERS, stream, &block),
            frame(DATA, 0, stream, &message(200)),
            frame(HEADERS, WHOLE, stream, &end),
        ];
        talk.server(frames.concat());
    }
    say(conversation, &talk);
}

fn say(conversation: &mut Conversation, talk: &Talk) {
    for (side, bytes) in &talk.sent {
        match side {
            Side::Client => conversation.client(bytes),
            Side::Server => conversation.server(bytes),
        };
    }
}

/// Like `small`, but one segment in ten arrives late.
fn reordered(conversation: &mut Conversation) {
    small(conversation);
    for late in 0..4 {
        conversation.delay(Side::Client, late * 10 + 5, 3);
        conversation.delay(Side::Server, late * 10, 3);
    }
}

fn bulk(conversation: &mut Conversation) {
    for _ in 0..4 {
        let body = "x".repeat(256 << 10);
        conversation.client(REQUEST.as_bytes());
        conversation
            .server(format!("{RESPONSE}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }
}

fn chunked(conversation: &mut Conversation) {
    for _ in 0..4 {
        let body = format!("1000\r\n{}\r\n", "x".repeat(4096)).repeat(64);
        conversation.client(REQUEST.as_bytes());
        conversation.server(
            format!("{RESPONSE}Transfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n").as_bytes(),
        );
    }
}

/// This many concurrent connections.
fn fixture(connections: u8, script: Script) -> Arc<Fixture> {
    let mut frames: Vec<WrittenFrame> = Vec::new();
    for number in 0..connections {
        let mut conversation = Conversation::new(&format!("10.0.{number}.9:40000"), "10.0.0.1:80");
        conversation.handshake();
        script(&mut conversation);
        conversation.finish();
        frames.extend(conversation.frames(START_NS + u64::from(number) * 700, STEP_NS));
    }
    frames.sort_by_key(|frame| frame.ns);
    let file = pcap(Order::Little, Unit::Nano, 1, &frames);
    let names = IfaceNames::default();
    let mut source = PcapSource::new(&file[..], 1 << 20, &names).expect("a capture");
    Arc::new(Fixture::new(&mut source, &names).expect("a whole capture"))
}

fn shard(criterion: &mut Criterion<CpuTime>) {
    let config = Config::new(Input::Stdin);
    let mut group = criterion.benchmark_group("shard");
    let workloads: [(&str, u8, Script); 6] = [
        ("small", 64, small),
        ("small, HTTP/2", 64, small_http2),
        ("unary, gRPC", 64, unary),
        ("reordered", 64, reordered),
        ("bulk", 16, bulk),
        ("chunked", 16, chunked),
    ];
    for (name, connections, script) in workloads {
        let fixture = fixture(connections, script);
        let run = || fixtures::run(&fixture, &config, Box::new(Nowhere)).expect("it adds up");
        group.throughput(Throughput::ElementsAndBytes {
            elements: fixture.frame_count() as u64,
            bytes: fixture.byte_count() as u64,
        });
        let mut counted = None;
        group.bench_function(name, |bencher| {
            counted.get_or_insert_with(run);
            bencher.iter(run);
        });
        if let Some(ran) = counted {
            let Allocations { count, bytes } = ran.allocations_steady;
            let (half, lines) =
                (fixture.frame_count().div_ceil(2), ran.totals.writer.lines_written);
            println!(
                "{:24}alloc:  {count} allocations, {bytes} bytes for the last {half} of {} \
                 packets, {} for all; {lines} lines",
                "",
                fixture.frame_count(),
                ran.allocations.count,
            );
        }
    }
    group.finish();
}

criterion_group!(name = pipeline; config = by_cpu_time(); targets = shard);
criterion_main!(pipeline);
