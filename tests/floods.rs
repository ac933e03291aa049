//! One-packet requests from ever new addresses, beside connections that exist: at the output, on a
//! wire, and with `--answered-only`. The bounds of memory are in `bounds.rs`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc;

use httplines::capture::LinkType;
use httplines::config::{Config, Input, LineFormat};
use httplines::ids::IfaceNames;
use httplines::output::{
    Batch, Limits, MemorySink, Policy, RecordWriter, Sink, SinkFault, Writer, WriterError,
};
use httplines::pipeline::Pipeline;
use httplines::record::JsonFormat;
use serde_json::Value;

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
use crate::support::conversation::Conversation;
use crate::support::packet::{ACK, FIN, Packet, RST, SYN};
use crate::support::{program, records};

const START_NS: u64 = 1_700_000_000_000_000_000;

fn server() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 80))
}

/// The request of stranger `number`: one packet, of a connection that does not exist.
fn stranger(number: u32) -> Packet {
    let [_, _, high, low] = number.to_be_bytes();
    let client = SocketAddr::from(([11, 0, high, low], 1024));
    Packet::tcp(client, server()).flags(ACK).seq(1).payload(b"GET /f HTTP/1.1\r\n\r\n")
}

/// A whole exchange on a connection of its own.
fn exchange(number: u16, at_ns: u64) -> Vec<WrittenFrame> {
    let mut talk = Conversation::new(&format!("10.0.0.9:{}", 4000 + number), "10.0.0.1:80");
    talk.handshake().client(format!("GET /honest{number} HTTP/1.1\r\n\r\n").as_bytes());
    talk.server(b"HTTP/1.1 204 No Content\r\n\r\n").finish();
    talk.frames(at_ns, 1000)
}

/// A sink that writes once it is released.
struct StuckSink {
    go_on: mpsc::Receiver<()>,
    memory: MemorySink,
}

impl Sink for StuckSink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        let _ = self.go_on.recv();
        self.memory.append(batches)
    }

    fn name(&self) -> String {
        "stuck".into()
    }
}

/// The disk is slow, and the table of connections is full of requests that nobody answered: their
/// lines are dropped before those of exchanges.
#[test]
fn lines_without_an_answer_give_way_when_the_writer_is_behind() {
    let mut config = Config::new(Input::Stdin);
    config.emit.format = LineFormat::Json;
    config.flow.flow_count_max = 100;
    (config.emit.batch_bytes, config.emit.batch_count_max) = (32 << 10, 8);
    let memory = MemorySink::new();
    let (release, go_on) = mpsc::channel();
    let sink = Box::new(StuckSink { go_on, memory: memory.clone() });
    let limits = Limits::from(&config.emit);
    let (mut senders, writer) = Writer::start(vec![sink], 1, limits, Policy::Drop).expect("starts");
    let format = Box::new(JsonFormat::new(&config.emit, IfaceNames::default()));
    let records = RecordWriter::new(format, senders.remove(0), None, false);
    let mut pipeline = Pipeline::new(&config, records);
    for number in 0..5000 {
        let at_ns = START_NS + u64::from(number) * 1_000_000;
        let mut frames = vec![WrittenFrame::new(at_ns, &stranger(number).ethernet())];
        if number % 100 == 0 {
            frames.extend(exchange(number as u16, at_ns));
        }
        frames.iter().for_each(|frame| pipeline.frame(&frame.as_frame(LinkType::Ethernet)));
    }
    pipeline.finish();
    drop(release);
    pipeline.sink_mut().close();
    let stats = pipeline.sink().stats().clone();
    drop(pipeline);
    let (written, result) = writer.finish();
    // It depends on how soon the released sink empties the queue.
    assert!(matches!(result, Ok(()) | Err(WriterError::TooSlowUntilTheEnd { .. })), "{result:?}");
    let lines = records::parse(&memory.bytes());
    let honest = lines.iter().filter(|line| line["status"] == 204).count();
    assert_eq!(honest, 50, "{stats:?}");
    assert!(stats.lines_dropped > 1000);
    assert_eq!(stats.lines, 5050);
    assert_eq!(stats.lines, written.lines_written + stats.lines_dropped);
}

/// The records of a capture, and the totals.
fn told(frames: &[WrittenFrame], more: &[&str]) -> (Vec<Value>, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&pcap(Order::Little, Unit::Nano, 1, frames)).expect("room for it");
    let path = file.path().to_str().expect("a path in UTF-8");
    let output = program::run(&[&["-r", path, "-o", "-"], more].concat(), None);
    let totals = String::from_utf8(output.stderr).expect("text");
    assert!(totals.contains("every frame, flow and line is accounted for"), "{totals}");
    (records::parse(&output.stdout), totals)
}

/// A client's frames, and of the server's those with one of `flags`.
fn one_sided(frames: Vec<WrittenFrame>, client: &str, flags: u8) -> Vec<WrittenFrame> {
    let client: std::net::Ipv4Addr = client.parse().expect("an address");
    let is_of_client = |frame: &WrittenFrame| frame.bytes[26..30] == client.octets();
    let keeps = |frame: &WrittenFrame| is_of_client(frame) || frame.bytes[47] & flags != 0;
    frames.into_iter().filter(keeps).collect()
}

#[test]
fn requests_that_nobody_answered_are_left_out_on_request() {
    let client = SocketAddr::from(([10, 0, 0, 7], 4000));
    let at = |number: u64, packet: Packet| WrittenFrame::new(START_NS + number, &packet.ethernet());
    let ask = |port: u16, target: &str| {
        let client = SocketAddr::new(client.ip(), port);
        let payload = format!("GET /{target} HTTP/1.1\r\n\r\n");
        Packet::tcp(client, server()).flags(ACK).seq(1).ack(1).payload(payload.as_bytes())
    };
    let answer = |port: u16, flags: u8| {
        let client = SocketAddr::new(client.ip(), port);
        Packet::tcp(server(), client).flags(flags).seq(1).ack(23)
    };
    let syn = Packet::tcp(SocketAddr::new(client.ip(), 3), server()).flags(SYN).seq(0);
    let mut frames = exchange(0, START_NS);
    // One on which the second request was not answered any more.
    let mut talk = Conversation::new("10.0.0.9:77", "10.0.0.1:80");
    talk.handshake().client(b"GET /first HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 204 No\r\n\r\n");
    talk.client(b"GET /second HTTP/1.1\r\n\r\n");
    frames.extend(talk.frames(START_NS, 1000));
    frames.extend([
        at(10, ask(1, "alone")),
        at(20, ask(2, "acked")),
        at(30, answer(2, ACK)),
        at(40, syn),
        at(50, ask(3, "begun")),
        at(60, ask(4, "reset")),
        at(70, answer(4, RST | ACK)),
        at(80, ask(5, "closed")),
        at(90, answer(5, FIN | ACK)),
    ]);
    let targets = |lines: &[Value]| {
        let name =
            |line: &Value| format!("{} {}", line["target"].as_str().expect("one"), line["n"]);
        let mut names: Vec<String> = lines.iter().map(name).collect();
        names.sort_unstable();
        names.join(", ")
    };
    let answered = "/acked 0, /closed 0, /first 0, /honest0 0, /second 1";
    let (lines, totals) = told(&frames, &["--answered-only"]);
    assert_eq!(targets(&lines), answered);
    assert!(totals.contains("3 no response, 3 unanswered, left out"), "{totals}");
    assert!(totals.contains("httplines: 5 exchanges in"), "{totals}");
    let (lines, totals) = told(&frames, &["--answered-only", "--shards", "2", "-c", "5"]);
    assert_eq!(lines.len(), 5, "the others are not counted for -c: {totals}");
    let (lines, totals) = told(&frames, &[]);
    let all = "/acked 0, /alone 0, /begun 0, /closed 0, /first 0, /honest0 0, /reset 0, /second 1";
    assert_eq!(targets(&lines), all);
    assert!(!totals.contains("left out"), "{totals}");
}

/// Where only one direction is captured, nothing is answered.
#[test]
fn in_one_direction_nothing_is_answered_and_the_totals_say_so() {
    let frames = one_sided(exchange(1, START_NS), "10.0.0.9", 0);
    let (lines, totals) = told(&frames, &["--answered-only"]);
    assert!(lines.is_empty());
    assert!(totals.contains("1 unanswered, left out"), "{totals}");
    assert!(totals.contains("why        all requests were left out"), "{totals}");
    // With the SYN-ACK, there was an answer.
    let frames = one_sided(exchange(1, START_NS), "10.0.0.9", SYN);
    assert_eq!(told(&frames, &["--answered-only"]).0.len(), 1);
    let frames = one_sided(exchange(1, START_NS), "10.0.0.1", 0);
    let (lines, _) = told(&frames, &["--answered-only"]);
    assert_eq!(lines[0]["outcome"], "no_request", "a response is no unanswered request");
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::support::live_capture::small;
    use crate::support::skip;
    use crate::support::wire::Wire;
    use httplines::record::Event;

    const HONEST: u16 = 20;
    /// Several times as many as the filter has sessions and hints.
    const STRANGERS: u32 = 5000;
    const BODY_BYTES: usize = 3000;

    /// Strangers come before, between and after the pieces of honest messages. They take all
    /// sessions of the filter, but no hint: hints restore what belongs to connections.
    #[test]
    fn a_flood_of_requests_hides_no_exchange() {
        let mut told = Vec::new();
        let sink = |event: Event<'_>| {
            if let Event::Exchange(exchange) = event
                && exchange.request.target().is_some_and(|target| target.starts_with(b"/honest"))
            {
                let is_whole = exchange.outcome == Some(httplines::record::Outcome::Complete);
                told.push((is_whole, exchange.response.body_bytes, exchange.gap_bytes));
            }
        };
        let Some(mut wire) = Wire::new(small(), sink) else { skip!("needs root") };
        let mut strangers = 0;
        let mut flood = |wire: &mut Wire<_>| {
            let frames = (strangers..strangers + STRANGERS).map(|it| stranger(it).ethernet());
            wire.send(frames.collect());
            strangers += STRANGERS;
        };
        let mut next = [[1, 1]; HONEST as usize];
        // A segment of each honest connection.
        let mut say = |wire: &mut Wire<_>, from: usize, flags: u8, text: &str| {
            let mut frames = Vec::new();
            for number in 0..HONEST {
                let client = SocketAddr::from(([10, 0, 0, 9], 40_000 + number));
                let ends = [client, super::server()];
                let payload = text.replace("{n}", &format!("{number:02}"));
                let at = &mut next[usize::from(number)];
                let seq = if flags & SYN != 0 { 0 } else { at[from] };
                let packet = Packet::tcp(ends[from], ends[1 - from]).flags(flags).seq(seq);
                let packet = if flags & ACK != 0 { packet.ack(at[1 - from]) } else { packet };
                frames.push(packet.payload(payload.as_bytes()).ethernet());
                at[from] += payload.len() as u32 + u32::from(flags & FIN != 0);
            }
            wire.send(frames);
        };
        flood(&mut wire);
        say(&mut wire, 0, SYN, "");
        say(&mut wire, 1, SYN | ACK, "");
        say(&mut wire, 0, ACK, "");
        say(&mut wire, 0, ACK, "POST /honest{n} HTTP/1.1\r\nHo");
        flood(&mut wire);
        say(&mut wire, 0, ACK, "st: h\r\nContent-Length: 0\r\n\r\n");
        say(&mut wire, 1, ACK, "");
        flood(&mut wire);
        say(&mut wire, 1, ACK, "HTTP/1.1 200 OK\r\nServer: slow\r\n");
        flood(&mut wire);
        say(&mut wire, 1, ACK, &format!("Content-Length: {BODY_BYTES}\r\n\r\n"));
        for _ in 0..3 {
            flood(&mut wire);
            say(&mut wire, 1, ACK, &"k".repeat(BODY_BYTES / 3));
        }
        flood(&mut wire);
        say(&mut wire, 1, FIN | ACK, "");
        wire.pipeline.finish();
        let hints = wire.pipeline.stats().hints;
        let restored_count = wire.control.totals().expect("counters").filter.sessions_restored;
        drop(wire);
        assert_eq!(told, vec![(true, Some(BODY_BYTES as u64), 0); usize::from(HONEST)]);
        assert_eq!((hints.hints, hints.hints_refused), (HONEST.into(), 0), "one for each");
        assert!(restored_count > 0, "the flood evicted sessions");
    }
}
