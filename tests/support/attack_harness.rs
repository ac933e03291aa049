//! Attacks on one shard: any number of frames, generated one by one, with honest traffic spread
//! among them. The outcome is the peak memory, the counters, and the records of the honest traffic.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use httplines::capture::{Frame, FrameSource, LinkType, Polled, SourceError};
use httplines::config::{Config, Input, LineFormat};
use httplines::ids::{IfaceId, IfaceNames};
use httplines::output::{Batch, Limits, Policy, RecordWriter, Sink, SinkFault, Writer};
use httplines::pipeline::{Partition, Pipeline};
use httplines::record::{EventSink, JsonFormat};
use httplines::shard::{Shard, ShardStats, StopSignal};
use httplines::time::TimestampNs;

use super::capture_file::{self, Order, Unit, WrittenFrame};
use super::conversation::{Conversation, Side};

/// The system's allocator, which also counts the memory that each thread holds. A shard is one
/// thread, so the count is exact, whatever other tests do at the same time.
pub struct Counting;

thread_local! {
    /// Bytes that this thread holds, and the most it held since [`reset_peak`].
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The bytes that glibc needs for `size` bytes: a word in front, rounded up to multiples of 16.
fn chunk_bytes(size: usize) -> isize {
    (size + 8).next_multiple_of(16).max(32) as isize
}

fn count(bytes: isize) {
    // A thread that ends still frees memory after its thread-locals are gone.
    let _ = HELD.try_with(|held| {
        let (now, peak) = held.get();
        held.set((now + bytes, peak.max(now + bytes)));
    });
}

// SAFETY: every call is passed to the system's allocator unchanged. Counting allocates nothing,
// because the cell has a constant initialiser and nothing to drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(chunk_bytes(layout.size()));
        // SAFETY: as the caller promised for this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(chunk_bytes(layout.size()));
        // SAFETY: as the caller promised for this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-chunk_bytes(layout.size()));
        // SAFETY: as the caller promised for this function.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(chunk_bytes(size) - chunk_bytes(layout.size()));
        // SAFETY: as the caller promised for this function.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Returns the bytes held now, and restarts the peak from there.
fn reset_peak() -> isize {
    HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    })
}

/// The bytes that this thread holds.
pub fn held_now() -> isize {
    HELD.with(|held| held.get().0)
}

fn peak() -> isize {
    HELD.with(|held| held.get().1)
}

/// Generates the frames of an attack, one after the other, as raw IP packets.
pub trait Attack {
    /// Writes frame `number`, from 0, into the empty `frame`.
    fn frame(&mut self, number: u64, frame: &mut Vec<u8>);
}

impl Attack for Box<dyn Attack> {
    fn frame(&mut self, number: u64, frame: &mut Vec<u8>) {
        (**self).frame(number, frame);
    }
}

impl<F: FnMut(u64, &mut Vec<u8>)> Attack for F {
    fn frame(&mut self, number: u64, frame: &mut Vec<u8>) {
        self(number, frame);
    }
}

/// A TCP segment from `client` to 10.9.0.1:80, or back, as a raw IP packet.
#[derive(Clone, Copy, Debug)]
pub struct AttackSegment {
    /// Address and port of the client.
    pub client: (u32, u16),
    /// Whether it goes from the server to the client.
    pub is_answer: bool,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// TCP's control bits.
    pub flags: u8,
}

/// The attacked server.
pub const SERVER: (u32, u16) = (0x0a09_0001, 80);

impl AttackSegment {
    /// A segment from the client, with these control bits.
    pub fn from(client: (u32, u16), flags: u8) -> AttackSegment {
        AttackSegment { client, is_answer: false, seq: 0, ack: 0, flags }
    }

    /// Writes the segment with `payload`.
    pub fn write(&self, payload: &[u8], frame: &mut Vec<u8>) {
        let (from, to) = if self.is_answer { (SERVER, self.client) } else { (self.client, SERVER) };
        let bytes = 40 + payload.len() as u32;
        let words = [0x4500_0000 | bytes, 0x0000_4000, 0x4006_0000, from.0, to.0];
        let sum: u32 = words.iter().map(|word| (word >> 16) + (word & 0xffff)).sum();
        let sum = !((sum >> 16) + (sum & 0xffff)) & 0xffff;
        frame.extend(
            [words[0], words[1], words[2] | sum, from.0, to.0].map(u32::to_be_bytes).as_flattened(),
        );
        frame.extend(from.1.to_be_bytes());
        frame.extend(to.1.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend_from_slice(payload);
    }
}

/// Time between two frames of honest traffic. The frames of the attack pass between them.
const HONEST_STEP_NS: u64 = 200_000;
const START_NS: u64 = 1_700_000_000_000_000_000;
/// Honest connections that are open at the same time.
const HONEST_TOGETHER: u64 = 4;

/// `count` connections with an exchange each, a few at a time. Some come in pieces, and some out of
/// order.
pub fn honest(count: u64) -> Vec<WrittenFrame> {
    let mut frames = Vec::new();
    for number in 0..count {
        let client = Ipv4Addr::from(0x0a01_0000 + number as u32);
        let mut talk = Conversation::new(&format!("{client}:4242"), "10.2.0.1:80");
        talk = talk.segment_bytes(if number % 2 == 0 { 1460 } else { 40 });
        let request = format!("GET /{number} HTTP/1.1\r\nHost: honest\r\nAccept: */*\r\n\r\n");
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n{number:064}");
        talk.handshake().client(request.as_bytes()).server(response.as_bytes());
        if number % 4 == 1 {
            talk.delay(Side::Server, 0, 1);
        }
        talk.finish();
        let start = number / HONEST_TOGETHER * 40 * HONEST_STEP_NS + number % HONEST_TOGETHER;
        frames.extend(talk.frames(START_NS + start, HONEST_STEP_NS));
    }
    frames.sort_by_key(|frame| frame.ns);
    // Without the Ethernet header, as the frames of attacks are.
    frames.iter().map(|frame| WrittenFrame::new(frame.ns, &frame.bytes[14..])).collect()
}

/// `count` connections that wait long for their responses: all open and send `request_count`
/// requests, and all are answered 12 s later. The frames of the attack pass in between as well.
pub fn slow(count: u64, request_count: usize) -> Vec<WrittenFrame> {
    let mut frames = Vec::new();
    for number in 0..count {
        let client = Ipv4Addr::from(0x0a01_0000 + number as u32);
        let mut talk = Conversation::new(&format!("{client}:4242"), "10.2.0.1:80");
        talk.handshake();
        for nth in 0..request_count {
            talk.client(format!("GET /{number}/{nth} HTTP/1.1\r\nHost: honest\r\n\r\n").as_bytes());
        }
        for nth in 0..request_count {
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n{nth:064}");
            talk.server(response.as_bytes());
        }
        talk.finish();
        let mut of_one = talk.frames(START_NS + number * HONEST_STEP_NS, HONEST_STEP_NS);
        let is_response =
            |frame: &WrittenFrame| frame.bytes.windows(9).any(|at| at == b"HTTP/1.1 ");
        let answered_at = of_one.iter().position(|frame| {
            is_response(frame) && frame.bytes.windows(7).any(|at| at == b" 200 OK")
        });
        for frame in &mut of_one[answered_at.expect("a response")..] {
            frame.ns += 12_000_000_000;
        }
        frames.extend(of_one);
    }
    frames.sort_by_key(|frame| frame.ns);
    frames.iter().map(|frame| WrittenFrame::new(frame.ns, &frame.bytes[14..])).collect()
}

/// The frames of an attack, with honest ones spread evenly among them.
struct AttackSource<A> {
    attack: A,
    frame_count: u64,
    next: u64,
    honest: Vec<WrittenFrame>,
    honest_next: usize,
    now_ns: u64,
    frame: Vec<u8>,
}

impl<A: Attack> AttackSource<A> {
    fn new(attack: A, frame_count: u64, honest: Vec<WrittenFrame>) -> AttackSource<A> {
        let frame = Vec::with_capacity(1 << 17);
        let (next, honest_next, now_ns) = (0, 0, START_NS);
        AttackSource { attack, frame_count, next, honest, honest_next, now_ns, frame }
    }

    /// The next frame; `None` behind the last.
    fn frame(&mut self) -> Option<Frame<'_>> {
        let (sent, all) = (self.honest_next as u64, self.honest.len() as u64);
        let is_honest = sent < all && sent * self.frame_count <= self.next * all;
        let bytes = if is_honest {
            let honest = &self.honest[self.honest_next];
            self.honest_next += 1;
            self.now_ns = honest.ns;
            &honest.bytes
        } else if self.next < self.frame_count {
            self.frame.clear();
            self.attack.frame(self.next, &mut self.frame);
            self.next += 1;
            &self.frame
        } else {
            return None;
        };
        Some(Frame {
            bytes,
            wire_bytes: bytes.len() as u32,
            timestamp: TimestampNs(self.now_ns),
            link: LinkType::Raw,
            vlan: None,
            iface: IfaceId(0),
            is_checksum_trusted: false,
        })
    }
}

impl<A: Attack> FrameSource for AttackSource<A> {
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        let mut count = 0;
        while count < 1000
            && let Some(frame) = self.frame()
        {
            visit(frame);
            count += 1;
        }
        Ok(if count == 0 { Polled::End } else { Polled::Frames(count) })
    }
}

/// Keeps the lines about honest traffic, counts the others, and records the longest line.
#[derive(Clone, Debug, Default)]
struct HonestSink(Arc<Mutex<(Vec<String>, u64, usize)>>);

impl Sink for HonestSink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        let mut kept = self.0.lock().expect("nobody panics with it");
        for line in batches.iter().flat_map(|batch| batch.bytes.split_inclusive(|b| *b == b'\n')) {
            kept.2 = kept.2.max(line.len());
            if memchr::memmem::find(line, b"\"10.2.0.1\"").is_some() {
                kept.0.push(String::from_utf8_lossy(line).into_owned());
            } else {
                kept.1 += 1;
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        "the attacked".into()
    }
}

/// The outcome of an attack.
#[derive(Debug)]
pub struct Outcome {
    /// All counters of the shard.
    pub stats: ShardStats,
    /// The most memory that the shard's thread held.
    pub peak_bytes: usize,
    /// Lines about honest traffic, in order of their text.
    pub honest: Vec<String>,
    /// Other lines.
    pub other_count: u64,
    /// Bytes of the longest line.
    pub longest_bytes: usize,
}

/// Bounds so small that an attack reaches them soon.
pub fn small() -> Config {
    let mut config = Config::new(Input::Stdin);
    config.flow.flow_count_max = 2000;
    config.flow.reorder_bytes_max = 64 << 10;
    config.flow.reorder_bytes_shard_max = 1 << 20;
    config.http.head_bytes_max = 4096;
    config.http.pending_count_max = 64;
    config.http.held_bytes_shard_max = 1 << 20;
    config.decode.fragmented_count_max = 500;
    config.decode.fragment_bytes_max = 512 << 10;
    config.emit.batch_bytes = 32 << 10;
    config.emit.direct_batch_bytes = 32 << 10;
    config.emit.batch_count_max = 2;
    config.emit.format = LineFormat::Json;
    config
}

/// Passes `frame_count` frames of `attack` to a pipeline, and calls `look` with it now and then.
pub fn watch_attack<S: EventSink>(
    pipeline: &mut Pipeline<S>,
    frame_count: u64,
    attack: impl Attack,
    mut look: impl FnMut(&Pipeline<S>),
) {
    let mut source = AttackSource::new(attack, frame_count, Vec::new());
    while let Some(frame) = source.frame() {
        pipeline.frame(&frame);
        if source.next.is_multiple_of(64) {
            look(pipeline);
        }
    }
}

/// Sends `frame_count` frames of `attack`, and `honest`, through a shard of their own.
pub fn run_attack(
    config: &Config,
    frame_count: u64,
    attack: impl Attack,
    honest: Vec<WrittenFrame>,
) -> Outcome {
    let sink = HonestSink::default();
    let (mut senders, writer) =
        Writer::start(vec![Box::new(sink.clone())], 1, Limits::from(&config.emit), Policy::Wait)
            .expect("a thread");
    let sender = senders.pop().expect("an sender for the shard");
    let source = AttackSource::new(attack, frame_count, honest);
    let before = reset_peak();
    let format = Box::new(JsonFormat::new(&config.emit, IfaceNames::default()));
    let records = RecordWriter::new(format, sender, None, false);
    let shard = Shard::new(config, source, Partition::All, records);
    let (stats, result) = shard.run(&StopSignal::default(), |_| {});
    result.expect("the source has no faults");
    let peak_bytes = (peak() - before) as usize;
    drop(senders);
    writer.finish().1.expect("the sink has no faults");
    let mut kept = sink.0.lock().expect("nobody panics with it");
    let (mut honest, other_count, longest_bytes) = std::mem::take(&mut *kept);
    honest.sort_unstable();
    Outcome { stats, peak_bytes, honest, other_count, longest_bytes }
}

/// The outcome of an attack on the program.
#[derive(Debug)]
pub struct Storm {
    /// The most memory that the process held, as the kernel counts it.
    pub peak_bytes: u64,
    /// CPU time of the process per frame.
    pub frame_ns: u64,
    /// Records about honest traffic, in order of their text.
    pub honest: Vec<String>,
    /// The totals.
    pub totals: String,
}

/// The Ethernet header of an IPv4 packet.
pub const ETHERNET: &[u8] = &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

/// Lets the program read the same from a pipe, with the additional `args`. Each frame starts with
/// `link`, which is empty or [`ETHERNET`].
pub fn storm(
    args: &[&str],
    link: &[u8],
    frame_count: u64,
    attack: impl Attack,
    honest: Vec<WrittenFrame>,
) -> Storm {
    let mut child = Command::new(crate::httplines())
        .args([&["-r", "-", "-o", "-"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("httplines starts");
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let reader = std::thread::spawn(move || {
        let lines = stdout.lines().map(|line| line.expect("lines are UTF-8"));
        let mut kept: Vec<_> = lines.filter(|line| line.contains("\"10.2.0.1\"")).collect();
        kept.sort_unstable();
        kept
    });
    let mut all_count = 0;
    let mut pipe = BufWriter::with_capacity(1 << 16, child.stdin.take().expect("a pipe"));
    let kind = if link.is_empty() { 101 } else { 1 };
    pipe.write_all(&capture_file::pcap(Order::Little, Unit::Nano, kind, &[])).expect("it reads");
    let mut source = AttackSource::new(attack, frame_count, honest);
    while let Some(frame) = source.frame() {
        let (seconds, rest) =
            (frame.timestamp.0 / 1_000_000_000, frame.timestamp.0 % 1_000_000_000);
        let bytes = frame.wire_bytes + link.len() as u32;
        for word in [seconds as u32, rest as u32, bytes, bytes] {
            pipe.write_all(&word.to_le_bytes()).expect("it reads");
        }
        pipe.write_all(link).expect("it reads");
        pipe.write_all(frame.bytes).expect("it reads");
        all_count += 1;
    }
    drop(pipe);
    let honest = reader.join().expect("lines are read");
    let mut totals = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut totals).expect("totals are text");
    let (peak_bytes, cpu_ns) = used_by(child);
    Storm { peak_bytes, frame_ns: cpu_ns / all_count, honest, totals }
}

/// Waits for the end of `child`. Returns its peak size in bytes, and its CPU time in nanoseconds.
fn used_by(child: Child) -> (u64, u64) {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes to both, which are alive, and all zeroes is a valid rusage.
    let usage = unsafe {
        let pid = libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr());
        assert_eq!(pid, child.id() as i32);
        usage.assume_init()
    };
    assert_eq!(status, 0, "httplines ended well");
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    (usage.ru_maxrss as u64 * 1024, ns(usage.ru_utime) + ns(usage.ru_stime))
}
