//! The writer and its senders over sinks in memory.

use super::*;
use crate::output::{MemorySink, Sink, SinkFault};
use crate::stats::EmitStats;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const LIMITS: Limits =
    Limits { batch_bytes: 256, direct_batch_bytes: 256, batch_count_max: 4, line_bytes_max: 64 };

fn start(sink: &MemorySink, shards: u16, policy: Policy) -> (Vec<BatchSender>, Writer) {
    Writer::start(vec![Box::new(sink.clone())], shards, LIMITS, policy).unwrap()
}

/// Two shards, each with a sink of its own.
fn start_each(policy: Policy) -> ([MemorySink; 2], Vec<BatchSender>, Writer) {
    let sinks = [MemorySink::new(), MemorySink::new()];
    let boxed = sinks.iter().map(|sink| Box::new(sink.clone()) as Box<dyn Sink>).collect();
    let (senders, writer) = Writer::start(boxed, 2, LIMITS, policy).unwrap();
    (sinks, senders, writer)
}

fn say(sender: &mut BatchSender, stats: &mut EmitStats, number: u64) {
    let shard = sender.shard().0;
    sender.line(stats, |out| out.extend_from_slice(format!("{shard} line {number}\n").as_bytes()));
}

/// The numbers of a shard's lines, in their order.
fn numbers(bytes: &[u8], shard: u16) -> Vec<u64> {
    assert!(bytes.is_empty() || bytes.ends_with(b"\n"));
    let text = std::str::from_utf8(bytes).unwrap();
    let prefix = format!("{shard} line ");
    text.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The end of a run that may have dropped lines until then.
fn finish(writer: Writer) -> WriterStats {
    let (written, result) = writer.finish();
    assert!(matches!(result, Ok(()) | Err(WriterError::TooSlowUntilTheEnd { .. })), "{result:?}");
    written
}

#[test]
fn waiting_shards_lose_nothing_and_keep_their_order() {
    let sink = MemorySink::new();
    let (senders, writer) = start(&sink, 3, Policy::Wait);
    let shards: Vec<_> = senders
        .into_iter()
        .map(|mut sender| {
            std::thread::spawn(move || {
                let mut stats = EmitStats::default();
                for number in 0..20_000 {
                    say(&mut sender, &mut stats, number);
                }
                sender.close(&mut stats);
                stats
            })
        })
        .collect();
    let mut stats = EmitStats::default();
    for shard in shards {
        stats.add(&shard.join().unwrap());
    }
    let (written, result) = writer.finish();
    result.unwrap();
    let bytes = sink.bytes();
    for shard in 0..3 {
        assert_eq!(numbers(&bytes, shard), (0..20_000).collect::<Vec<_>>());
    }
    assert_eq!((stats.lines, stats.lines_dropped), (60_000, 0));
    assert_eq!(written.lines_written, 60_000);
    assert_eq!(written.bytes_written, bytes.len() as u64);
    assert_eq!(stats.line_bytes, bytes.len() as u64);
    assert_eq!(written.lines_lost, 0);
}

/// A sink that blocks until it is released. Its memory counts as reopened with the first append.
struct StuckSink {
    go_on: mpsc::Receiver<()>,
    memory: MemorySink,
}

impl Sink for StuckSink {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        if self.memory.reopened() == 0 {
            self.memory.reopen().unwrap();
        }
        let _ = self.go_on.recv();
        self.memory.append(batches)
    }

    fn name(&self) -> String {
        "stuck".into()
    }
}

/// A live shard whose sink is stuck until what is returned first is dropped.
fn start_stuck() -> (mpsc::Sender<()>, MemorySink, BatchSender, Writer) {
    let memory = MemorySink::new();
    let (release, go_on) = mpsc::channel();
    let sink = StuckSink { go_on, memory: memory.clone() };
    let (mut senders, writer) =
        Writer::start(vec![Box::new(sink)], 1, LIMITS, Policy::Drop).unwrap();
    (release, memory, senders.pop().unwrap(), writer)
}

#[test]
fn a_live_shard_never_waits_and_counts_what_it_drops() {
    let (release, memory, mut sender, writer) = start_stuck();
    let mut stats = EmitStats::default();
    for number in 0..5_000 {
        say(&mut sender, &mut stats, number);
    }
    assert!(stats.batches_dropped > 0 && stats.lines_dropped > 4_000);
    drop(release);
    sender.close(&mut stats);
    let written = finish(writer);
    assert_eq!(written.lines_written + stats.lines_dropped, stats.lines);
    let numbers = numbers(&memory.bytes(), 0);
    assert_eq!(numbers.len() as u64, written.lines_written);
    assert!(numbers.is_sorted());
}

/// A run with a stuck sink in which a line was dropped, and a queue that is nearly full.
fn start_dropping() -> (mpsc::Sender<()>, BatchSender, EmitStats, Writer) {
    let (release, memory, mut sender, writer) = start_stuck();
    let mut stats = EmitStats::default();
    say(&mut sender, &mut stats, 0);
    sender.flush(&mut stats);
    wait_until("the first append", || memory.reopened() > 0);
    while !sender.is_behind() {
        say(&mut sender, &mut stats, 1);
        sender.flush(&mut stats);
    }
    sender.drop_line(&mut stats);
    (release, sender, stats, writer)
}

#[test]
fn lines_that_are_dropped_until_the_end_are_an_error() {
    let (release, sender, mut stats, writer) = start_dropping();
    sender.close(&mut stats);
    drop(release);
    let (written, result) = writer.finish();
    let says = "stuck: its reader or disk is too slow; lines were lost until the end";
    assert_eq!(result.unwrap_err().to_string(), says);
    assert_eq!(written.lines_written + 1, stats.lines);
}

#[test]
fn lines_that_were_dropped_before_are_none() {
    let (release, mut sender, mut stats, writer) = start_dropping();
    drop(release);
    wait_until("the queue is empty", || !sender.is_behind());
    say(&mut sender, &mut stats, 0);
    sender.close(&mut stats);
    let (written, result) = writer.finish();
    result.unwrap();
    assert_eq!(written.lines_written + 1, stats.lines);
}

#[test]
fn a_full_disk_drops_whole_lines_and_writing_resumes() {
    let sink = MemorySink::new();
    sink.set_capacity(1_000, io::ErrorKind::StorageFull);
    let (mut senders, writer) = start(&sink, 1, Policy::Drop);
    let mut sender = senders.pop().unwrap();
    let mut stats = EmitStats::default();
    // The disk is tried again only when there is something to write.
    let (mut count, start) = (0, Instant::now());
    while writer.stats().write_errors < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", writer.stats());
        say(&mut sender, &mut stats, count);
        sender.flush(&mut stats);
        count += 1;
        std::thread::sleep(Duration::from_micros(50));
    }
    assert_eq!(writer.stats().faults, 1);
    assert!(!writer.is_closed());
    sink.set_capacity(usize::MAX, io::ErrorKind::StorageFull);
    let resumed = writer.stats().lines_written;
    for number in count..count + 100 {
        say(&mut sender, &mut stats, number);
    }
    sender.close(&mut stats);
    let (written, result) = writer.finish();
    result.unwrap();
    assert!(written.lines_written > resumed);
    assert_eq!(written.faults, 1);
    assert_eq!(written.lines_written + written.lines_lost + stats.lines_dropped, count + 100);
    let numbers = numbers(&sink.bytes(), 0);
    assert_eq!(numbers.len() as u64, written.lines_written);
    assert!(numbers.is_sorted() && numbers.last() == Some(&(count + 99)));
}

#[test]
fn a_full_disk_ends_a_run_that_waits() {
    let sink = MemorySink::new();
    sink.set_capacity(1_000, io::ErrorKind::StorageFull);
    let (mut senders, writer) = start(&sink, 1, Policy::Wait);
    let mut sender = senders.pop().unwrap();
    let mut stats = EmitStats::default();
    for number in 0..5_000 {
        say(&mut sender, &mut stats, number);
    }
    assert!(sender.is_closed() && writer.is_closed());
    sender.close(&mut stats);
    let totals = writer.stats();
    let error = writer.finish().1.unwrap_err();
    assert!(matches!(error, WriterError::Write { .. }), "{error}");
    assert_eq!(numbers(&sink.bytes(), 0).len() as u64, totals.lines_written);
    assert!(totals.lines_written > 0);
}

#[test]
fn a_reader_that_went_is_an_orderly_end() {
    let sink = MemorySink::new();
    sink.set_capacity(1_000, io::ErrorKind::BrokenPipe);
    let (mut senders, writer) = start(&sink, 2, Policy::Wait);
    let mut stats = EmitStats::default();
    for number in 0..5_000 {
        say(&mut senders[0], &mut stats, number);
    }
    wait_until("closing", || senders[1].is_closed());
    for sender in senders {
        sender.close(&mut stats);
    }
    let (written, result) = writer.finish();
    result.unwrap();
    assert_eq!(written.lines_written + written.lines_lost + stats.lines_dropped, 5_000);
    assert_eq!(written.faults, 0);
}

#[test]
fn buffers_come_back() {
    for (policy, most) in
        [(Policy::Drop, LIMITS.batch_count_max + APPEND_COUNT_MAX), (Policy::Wait, 1)]
    {
        come_back(policy, most);
    }
}

fn come_back(policy: Policy, count_max: usize) {
    let sink = MemorySink::new();
    let (mut senders, writer) = start(&sink, 1, policy);
    let mut sender = senders.pop().unwrap();
    let mut stats = EmitStats::default();
    let mut places = std::collections::HashSet::new();
    for number in 0..10_000 {
        say(&mut sender, &mut stats, number);
        sender.line(&mut stats, |out| {
            places.insert(out.as_ptr() as usize);
        });
    }
    // The first buffer grows a few times; after that there are only as many as can be in flight.
    assert!(places.len() <= count_max + 8, "{}", places.len());
    sender.close(&mut stats);
    finish(writer);
}

/// Keeps the capacity of each batch's buffer.
#[derive(Clone, Debug, Default)]
struct Capacities(Arc<Mutex<Vec<usize>>>, MemorySink);

impl Sink for Capacities {
    fn append(&mut self, batches: &mut [Batch]) -> Result<(), SinkFault> {
        self.0.lock().unwrap().extend(batches.iter().map(|batch| batch.bytes.capacity()));
        self.1.append(batches)
    }

    fn name(&self) -> String {
        "capacities".into()
    }
}

/// On a quiet link each line is flushed by itself. While the writer is stuck, that leaves space in
/// the queue for full batches.
#[test]
fn lines_that_are_flushed_one_by_one_do_not_fill_the_queue() {
    let (release, memory, mut sender, writer) = start_stuck();
    let mut stats = EmitStats::default();
    for number in 0..40 {
        say(&mut sender, &mut stats, number);
        sender.flush(&mut stats);
    }
    assert_eq!(stats.lines_dropped, 0);
    drop(release);
    sender.close(&mut stats);
    writer.finish().1.unwrap();
    assert_eq!(numbers(&memory.bytes(), 0), (0..40).collect::<Vec<_>>());
}

/// Lines of text may be longer than those of JSON. Batches stay as large as they are counted.
#[test]
fn long_lines_leave_buffers_as_they_are() {
    const BUFFER_BYTES: usize = LIMITS.batch_bytes + 2 * LIMITS.line_bytes_max;
    for policy in [Policy::Drop, Policy::Wait] {
        let sink = Capacities::default();
        let (mut senders, writer) =
            Writer::start(vec![Box::new(sink.clone())], 1, LIMITS, policy).unwrap();
        let (mut sender, mut stats) = (senders.pop().unwrap(), EmitStats::default());
        for number in 0..500 {
            // Some do not fit behind the others, but each fits into a buffer of its own.
            let width = if number % 7 == 3 { BUFFER_BYTES - 20 } else { 40 };
            let line = format!("0 line {number:0width$}\n");
            sender.line(&mut stats, |out| out.extend_from_slice(line.as_bytes()));
        }
        sender.close(&mut stats);
        let written = finish(writer);
        assert_eq!((stats.lines, written.lines_written + stats.lines_dropped), (500, 500));
        let told = numbers(&sink.1.bytes(), 0);
        assert!(told.is_sorted() && told.len() as u64 == written.lines_written);
        let capacities = sink.0.lock().unwrap();
        let largest = capacities.iter().max().copied();
        assert!(largest <= Some(BUFFER_BYTES), "{policy:?}: {largest:?}");
    }
}

#[test]
fn each_shard_has_its_own_sink_and_reopening_reaches_all() {
    let (sinks, mut senders, writer) = start_each(Policy::Drop);
    let mut stats = EmitStats::default();
    for sender in &mut senders {
        say(sender, &mut stats, 7);
    }
    writer.reopen();
    wait_until("reopening", || writer.is_reopened());
    assert!(sinks.iter().all(|sink| sink.reopened() == 1));
    for sender in senders {
        sender.close(&mut stats);
    }
    assert_eq!(writer.finish().0.reopens, 2);
    assert_eq!(sinks[0].bytes(), b"0 line 7\n");
    assert_eq!(sinks[1].bytes(), b"1 line 7\n");
}

#[test]
fn a_reopening_is_over_when_the_writer_has_come_to_it() {
    let (release, sender, mut stats, writer) = start_dropping();
    assert!(writer.is_reopened());
    writer.reopen();
    writer.reopen();
    assert!(!writer.is_reopened());
    drop(release);
    wait_until("reopening", || writer.is_reopened());
    sender.close(&mut stats);
    writer.finish().1.unwrap();
}

#[test]
fn who_writes_itself_reopens_with_the_next_batch() {
    let (sinks, mut senders, writer) = start_each(Policy::Wait);
    let mut stats = EmitStats::default();
    say(&mut senders[0], &mut stats, 7);
    writer.reopen();
    assert!(writer.is_reopened(), "nobody waits for their lines");
    senders[0].flush(&mut stats);
    assert_eq!(sinks.each_ref().map(MemorySink::reopened), [1, 0]);
    for mut sender in senders {
        say(&mut sender, &mut stats, 8);
        sender.close(&mut stats);
    }
    assert_eq!(writer.finish().0.reopens, 2);
    assert_eq!(sinks[0].bytes(), b"0 line 7\n0 line 8\n");
    assert_eq!(sinks[1].bytes(), b"1 line 8\n");
}

#[test]
fn a_line_at_which_its_shard_panicked_is_not_written() {
    for policy in [Policy::Drop, Policy::Wait] {
        let sink = MemorySink::new();
        let (mut senders, writer) = start(&sink, 1, policy);
        let (mut sender, mut stats) = (senders.remove(0), EmitStats::default());
        say(&mut sender, &mut stats, 0);
        let half_a_line = std::panic::AssertUnwindSafe(|| {
            sender.line(&mut stats, |out| {
                out.extend_from_slice(b"0 line");
                panic!("a panic that a test asks for");
            });
        });
        assert!(std::panic::catch_unwind(half_a_line).is_err());
        sender.close(&mut stats);
        assert_eq!((finish(writer).lines_written, stats.lines), (1, 1));
        assert_eq!(numbers(&sink.bytes(), 0), [0]);
    }
}
