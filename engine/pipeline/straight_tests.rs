//! The straight path of HTTP/1 beside the full path: the same segments through two pipelines, of
//! which one may not take it. After each segment, both have made the same lines, counted the same,
//! and are in the same state.

use crate::config::Config;
use crate::decode::{Segment, SeqNumber, TcpFlags, TunnelPath};
use crate::ids::Direction::{self, Forward, Reverse};
use crate::ids::{FlowHashKey, FlowKey, IfaceId, IfaceNames};
use crate::pipeline::Pipeline;
use crate::record::{Event, EventSink, Format, JsonFormat, Wants};
use crate::sys::flow_hints::FlowHints;
use crate::time::TimestampNs;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// The lines of a format.
#[derive(Debug)]
struct Lines {
    format: JsonFormat,
    text: Vec<u8>,
}

impl EventSink for Lines {
    fn wants(&self) -> Wants {
        self.format.wants()
    }

    fn event(&mut self, event: Event<'_>) {
        self.format.line(&event, &mut self.text);
    }
}

/// What one side sends, and what the other answers.
const REQUESTS: [&str; 17] = [
    "GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\n\r\n",
    "GET /b?c=d HTTP/1.0\r\nReferer: \"e\"\r\n\r\n",
    "POST /f HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody",
    "POST /g HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo",
    "PUT /h HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyGET /i HTTP/1.1\r\n\r\n",
    "HEAD /j HTTP/1.1\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nContent-Length: 2, 2\r\n\r\nok",
    "CONNECT k:1 HTTP/1.1\r\n\r\n",
    "POST /l HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    "POST /m HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "POST /n HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: identity\r\n\r\nbody",
    "POST /o HTTP/1.1\r\nContent-Type: application/grpc-web\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0",
    "GET /p HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "GET /q HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "\r\nGET /r HTTP/1.1\r\n\r\n",
    "GET /s HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    "GET /t",
];
const RESPONSES: [&str; 17] = [
    "HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 4\r\n\r\nbody",
    "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nbody",
    "body",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nbody",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nbody",
    "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\nbody",
    "HTT",
];

/// What becomes of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Sent,
    /// It is never captured.
    Lost,
    /// It comes behind the next one.
    Late,
    Twice,
    /// It is captured in part.
    Cut,
    /// It is two segments.
    Split,
    /// It acknowledges less, or more, than was sent.
    Behind,
    Ahead,
    Fin,
    Rst,
    /// Nobody expects its number.
    Stray,
}

/// A connection, a direction, a text, what becomes of it, and the time before it.
type Step = (u16, bool, usize, Fate, u16);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = || prop_oneof![3 => 0..3_usize, 1 => 0..17_usize];
    let fate = || {
        let odd = prop::sample::select(vec![
            Fate::Lost,
            Fate::Late,
            Fate::Twice,
            Fate::Cut,
            Fate::Split,
            Fate::Behind,
            Fate::Ahead,
            Fate::Fin,
            Fate::Rst,
            Fate::Stray,
        ]);
        prop_oneof![30 => Just(Fate::Sent), 1 => odd]
    };
    let pause = prop_oneof![8 => 0..4_u16, 1 => 0..900_u16];
    let turn = (0..2_u16, text(), fate(), text(), fate(), pause);
    let one = (0..2_u16, any::<bool>(), text(), fate(), 0..40_u16).prop_map(|step| vec![step]);
    let both = turn.prop_map(|(flow, asked, fate, answered, other, pause)| {
        vec![(flow, true, asked, fate, pause), (flow, false, answered, other, 1)]
    });
    prop::collection::vec(prop_oneof![4 => both, 1 => one], 1..24)
        .prop_map(|parts: Vec<Vec<Step>>| parts.concat())
}

/// The options that messages depend on.
#[derive(Clone, Copy, Debug)]
struct Options {
    head_bytes_max: usize,
    held_bytes_shard_max: usize,
    active_timeout_ms: Option<u64>,
    is_answered_only: bool,
    has_filter: bool,
    has_handshake: bool,
}

fn options() -> impl Strategy<Value = Options> {
    let head = prop_oneof![2 => Just(65_536_usize), 1 => 40..80_usize];
    let held = prop_oneof![3 => Just(256_usize << 20), 1 => 500_000..600_000_usize];
    let flags = any::<[bool; 3]>();
    (head, held, prop::option::of(20..200_u64), flags).prop_map(|(head, held, active, flags)| {
        let [is_answered_only, has_filter, has_handshake] = flags;
        Options {
            head_bytes_max: head,
            held_bytes_shard_max: held,
            active_timeout_ms: active,
            is_answered_only,
            has_filter,
            has_handshake,
        }
    })
}

fn pipeline(options: Options, is_straight: bool, hints: &FlowHints) -> Pipeline<Lines> {
    let mut config = Config::default();
    config.http.head_bytes_max = options.head_bytes_max;
    config.http.held_bytes_shard_max = options.held_bytes_shard_max;
    config.http.is_answered_only = options.is_answered_only;
    config.http.is_classified = true;
    config.flow.active_timeout_ms = options.active_timeout_ms;
    let format = JsonFormat::new(&config.emit, IfaceNames::default());
    let mut pipeline = Pipeline::new(&config, Lines { format, text: Vec::new() });
    if options.has_filter {
        pipeline = pipeline.with_filter(Some(hints.clone()), Some(2));
    }
    assert!(pipeline.connections.shared.straight.is_allowed);
    pipeline.connections.shared.straight.is_allowed = is_straight;
    pipeline
}

/// Both pipelines, and where the streams of the connections are.
struct Twins {
    pipelines: [Pipeline<Lines>; 2],
    next: Vec<[u32; 2]>,
    at_ms: u64,
    /// They are compared after each segment.
    is_compared: bool,
    late: Option<Segment<'static>>,
}

impl Twins {
    fn new(options: Options, flow_count: u16) -> Twins {
        let hints = [(); 2].map(|()| FlowHints::on_heap(1, FlowHashKey::random()));
        let pipelines = [true, false]
            .map(|is_straight| pipeline(options, is_straight, &hints[usize::from(is_straight)]));
        let next = vec![[1; 2]; flow_count.into()];
        let mut twins = Twins { pipelines, next, at_ms: 1_000, is_compared: true, late: None };
        if options.has_handshake {
            for flow in 0..flow_count {
                for (direction, flags) in [(Forward, 2), (Reverse, 0x12)] {
                    let ack = u32::from(direction == Reverse);
                    let syn = twins.segment(flow, direction, (0, ack), b"", flags);
                    twins.take(&syn);
                }
            }
        }
        twins
    }

    fn segment(
        &self,
        flow: u16,
        direction: Direction,
        (seq, ack): (u32, u32),
        payload: &'static [u8],
        flags: u8,
    ) -> Segment<'static> {
        let flags = TcpFlags(flags);
        Segment {
            key: FlowKey { port: [[0, 80], (0x100 + flow).to_be_bytes()], ..FlowKey::default() },
            direction,
            seq: SeqNumber(seq),
            ack: flags.is_ack().then_some(SeqNumber(ack)),
            flags,
            window: 65_535,
            header: &[],
            is_checksum_trusted: false,
            payload,
            payload_wire_bytes: payload.len() as u32,
            timestamp: TimestampNs(self.at_ms * MS),
            iface: IfaceId(0),
            tunnel: TunnelPath::default(),
        }
    }

    fn take(&mut self, segment: &Segment<'_>) {
        for pipeline in &mut self.pipelines {
            pipeline.segment(segment);
        }
        if self.is_compared {
            self.compare();
        }
    }

    /// One step of the traffic.
    fn step(&mut self, (flow, is_request, text, fate, pause_ms): Step) {
        self.at_ms += u64::from(pause_ms);
        let (direction, texts) =
            if is_request { (Forward, &REQUESTS) } else { (Reverse, &RESPONSES) };
        let payload = texts[text].as_bytes();
        let next = &mut self.next[usize::from(flow)];
        let (own, len) = (direction.index(), payload.len() as u32);
        let (seq, ack) = (next[own], next[1 - own]);
        next[own] = seq.wrapping_add(len);
        let (seq, ack) = match fate {
            Fate::Behind => (seq, ack.saturating_sub(9)),
            Fate::Ahead => (seq, ack + 9),
            Fate::Stray => (seq.wrapping_sub(1 << 24), ack),
            _ => (seq, ack),
        };
        let flags = TcpFlags::ACK
            | match fate {
                Fate::Fin => TcpFlags::FIN,
                Fate::Rst => TcpFlags::RST,
                _ => 0,
            };
        let mut segment = self.segment(flow, direction, (seq, ack), payload, flags);
        match fate {
            Fate::Lost => return,
            Fate::Late => {
                let before = self.late.replace(segment);
                before.iter().for_each(|before| self.take(before));
                return;
            }
            Fate::Cut => segment.payload = &payload[..payload.len() / 2],
            Fate::Split => {
                let (first, second) = payload.split_at(payload.len() / 2);
                let at = seq.wrapping_add(first.len() as u32);
                let second = self.segment(flow, direction, (at, ack), second, flags);
                let first = self.segment(flow, direction, (seq, ack), first, flags);
                self.take(&first);
                segment = second;
            }
            Fate::Twice => self.take(&segment.clone()),
            _ => {}
        }
        self.take(&segment);
        let late = self.late.take();
        late.iter().for_each(|late| self.take(late));
        if text % 3 == 0 {
            let now = TimestampNs(self.at_ms * MS);
            self.pipelines.iter_mut().for_each(|pipeline| pipeline.sweep(now));
        }
    }

    /// Both have told the same, and are in the same state.
    fn compare(&mut self) {
        let [straight, full] = &mut self.pipelines;
        let text = |pipeline: &Pipeline<Lines>| {
            String::from_utf8_lossy(&pipeline.sink().text).into_owned()
        };
        assert_eq!(text(straight), text(full));
        assert_eq!(straight.stats(), full.stats());
        assert_eq!(straight.held_bytes(), full.held_bytes());
        let state = |pipeline: &mut Pipeline<Lines>| {
            let pool = format!("{:?}", pipeline.connections.shared.recorder.pool);
            let flows = &mut pipeline.connections.flows;
            let indices = flows.indices();
            let protocols = indices.into_iter().filter_map(|index| {
                let (_, _, state) = flows.parts(index)?;
                Some(format!("{:?}", state.protocol))
            });
            (pool, protocols.collect::<Vec<_>>())
        };
        assert_eq!(state(straight), state(full));
    }

    /// Ends both. Returns the number of messages that took the straight path.
    fn end(mut self) -> u64 {
        for pipeline in &mut self.pipelines {
            pipeline.finish();
            assert_eq!(pipeline.exchanges_in_use(), 0);
        }
        self.compare();
        let [straight, full] = &self.pipelines;
        assert_eq!(full.connections.shared.straight.count, 0);
        straight.connections.shared.straight.count
    }
}

proptest! {
    #[test]
    fn the_straight_path_leaves_what_the_full_path_leaves(
        steps in steps(),
        options in options(),
    ) {
        let mut twins = Twins::new(options, 2);
        steps.into_iter().for_each(|step| twins.step(step));
        twins.end();
    }
}

const USUAL: Options = Options {
    head_bytes_max: 65_536,
    held_bytes_shard_max: 256 << 20,
    active_timeout_ms: None,
    is_answered_only: false,
    has_filter: true,
    has_handshake: true,
};

/// When memory runs short, the same connections give some up.
#[test]
fn memory_that_runs_short_is_taken_from_the_same_connections() {
    let mut twins = Twins::new(Options { held_bytes_shard_max: 700_000, ..USUAL }, 400);
    twins.is_compared = false;
    for turn in 0..3 {
        for flow in 0..400 {
            let is_answered = turn == 0 || flow % 7 == 0;
            twins.step((flow, true, usize::from(flow % 3), Fate::Sent, 0));
            if is_answered {
                twins.step((flow, false, usize::from(flow % 2), Fate::Sent, 1));
            }
            if flow % 40 == 0 {
                twins.compare();
            }
        }
    }
    let relieved = |pipeline: &Pipeline<Lines>| pipeline.stats().flow.flows_evicted;
    assert!(relieved(&twins.pipelines[0]) > 0, "memory never ran short");
    assert!(twins.end() > 400);
}

/// Usual messages do take it, all but the first one of a connection.
#[test]
fn usual_messages_take_the_straight_path() {
    let mut twins = Twins::new(USUAL, 1);
    for turn in 0..10 {
        twins.step((0, true, turn % 3, Fate::Sent, 1));
        twins.step((0, false, (turn + 1) % 3, Fate::Sent, 1));
    }
    assert_eq!(twins.end(), 19);
}
