//! Messages on standard error: sentences that begin with the program's name.

use httplines::record::is_unsafe;
use httplines::sys::wait::is_writable;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// How often a message that waits looks whether to go on waiting.
const LOOK_INTERVAL_MS: u32 = 100;

/// How long a message may wait until somebody reads standard error, while a run goes on. It comes
/// from the thread that looks after the run.
const RUN_WAIT_MS_MAX: u64 = 500;

/// How long a message may wait at the start and at the end.
static WAIT_MS_MAX: AtomicU64 = AtomicU64::new(u64::MAX);

/// What a pipe takes at once if it can be written at all: `PIPE_BUF` of pipe(7).
const PIPE_BYTES: usize = 4096;

/// A run goes on.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);

/// Nobody read the last message in time. The next one does not wait.
static IS_STUCK: AtomicBool = AtomicBool::new(false);

/// Messages that were not printed, and were not told of.
static DROPPED_COUNT: AtomicU64 = AtomicU64::new(0);

/// Messages that are held back while the screen belongs to somebody else.
#[derive(Debug, Default)]
struct Held {
    messages: VecDeque<String>,
    /// Older ones, which were given up.
    forgotten_count: u64,
}

/// So many messages are held back at most: the last ones.
const HELD_COUNT_MAX: usize = 1000;

static HELD: Mutex<Option<Held>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on messages are held back, until [`release`]: the terminal shows something else.
pub fn hold() {
    held().get_or_insert_default();
}

/// Prints the messages that were held back, and holds back no more.
pub fn release() {
    let Some(Held { messages, forgotten_count }) = held().take() else { return };
    if forgotten_count > 0 {
        say(format_args!("httplines: {forgotten_count} messages before these are not shown\n"));
    }
    messages.iter().for_each(|message| say(format_args!("{message}")));
}

/// Holds `message` back, if messages are.
pub fn hold_back(message: &str) -> bool {
    let mut held = held();
    let Some(held) = &mut *held else { return false };
    if held.messages.len() == HELD_COUNT_MAX {
        held.messages.pop_front();
        held.forgotten_count += 1;
    }
    held.messages.push_back(message.to_string());
    true
}

/// The last message that is held back.
pub fn last_held() -> Option<String> {
    held().as_ref()?.messages.back().cloned()
}

/// From now on a message that nobody reads for `wait` is dropped, so that the program can end.
pub fn wait_at_most(wait: Duration) {
    WAIT_MS_MAX.store(wait.as_millis() as u64, Ordering::Relaxed);
}

/// A run begins or ends. While it goes on, a message waits half a second at most, and is counted
/// if nobody reads it. The next message that somebody reads tells how many these are.
pub fn set_running(is_running: bool) {
    IS_RUNNING.store(is_running, Ordering::Relaxed);
    IS_STUCK.store(false, Ordering::Relaxed);
}

/// Tells how many messages were not printed, if that was not told yet and somebody reads. A quiet
/// run may end without another message.
pub fn tell_dropped() {
    if DROPPED_COUNT.load(Ordering::Relaxed) > 0 {
        // It stays counted.
        let _ = Stderr.told_of_dropped();
    }
}

/// Prints `text`, which may have several lines. An error (a full device, a closed pipe) is ignored;
/// `eprint!` would panic.
pub fn say(text: fmt::Arguments<'_>) {
    // One write, so that the messages of two threads do not mix.
    let text = visible(text.to_string());
    if !hold_back(&text) {
        let _ = Stderr.write_all(text.as_bytes());
    }
}

/// Prints `text` if that is possible now; else it is dropped. For what comes again.
pub fn say_or_drop(text: fmt::Arguments<'_>) {
    if is_writable(io::stderr(), 0).unwrap_or(false) {
        say(text);
    }
}

/// Standard error, which nobody may be reading: it is often the same pipe as standard output.
struct Stderr;

impl Stderr {
    /// Waits until somebody reads, as long as that is allowed.
    fn wait(&self) -> io::Result<()> {
        let begun = Instant::now();
        let stderr = io::stderr();
        loop {
            let is_running = IS_RUNNING.load(Ordering::Relaxed);
            let run_wait_ms_max = if is_running { RUN_WAIT_MS_MAX } else { u64::MAX };
            let is_stuck = IS_STUCK.load(Ordering::Relaxed);
            let wait_ms_max = WAIT_MS_MAX.load(Ordering::Relaxed).min(run_wait_ms_max);
            let wait_ms_max = if is_stuck { 0 } else { wait_ms_max };
            if is_writable(&stderr, LOOK_INTERVAL_MS.min(wait_ms_max as u32))? {
                IS_STUCK.store(false, Ordering::Relaxed);
                return Ok(());
            }
            if begun.elapsed() >= Duration::from_millis(wait_ms_max) {
                IS_STUCK.store(true, Ordering::Relaxed);
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Tells how many messages were not printed, if there are any.
    fn told_of_dropped(&self) -> io::Result<()> {
        if DROPPED_COUNT.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.wait()?;
        match DROPPED_COUNT.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            count => io::stderr().lock().write_all(sentence_of_dropped(count).as_bytes()),
        }
    }
}

impl Write for Stderr {
    /// Writes no more than a pipe takes: more would wait in write(2), for nobody knows how long.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if hold_back(&String::from_utf8_lossy(bytes)) {
            return Ok(bytes.len());
        }
        let written = self.told_of_dropped().and_then(|()| {
            self.wait()?;
            io::stderr().lock().write(piece_of(bytes))
        });
        if matches!(&written, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
            DROPPED_COUNT.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first bytes of `bytes`, as many as a pipe takes at once: whole lines, if possible, so that
/// no line is cut if nobody reads the rest.
fn piece_of(bytes: &[u8]) -> &[u8] {
    let Some(head) = bytes.get(..PIPE_BYTES) else { return bytes };
    let lines = head.iter().rposition(|byte| *byte == b'\n').map(|end| &head[..=end]);
    lines.unwrap_or(head)
}

fn sentence_of_dropped(count: u64) -> String {
    let messages = if count == 1 { "a message was" } else { &format!("{count} messages were") };
    format!("httplines: {messages} not printed, since nobody read standard error\n")
}

/// `text` with the characters escaped that must not reach a terminal, as names of files and
/// interfaces may have them.
pub fn visible(text: String) -> String {
    let is_shown = |character: char| character == '\n' || !is_unsafe(character);
    if text.chars().all(is_shown) {
        return text;
    }
    let mut out = String::new();
    for character in text.chars() {
        if is_shown(character) {
            out.push(character);
        } else {
            out.extend(character.escape_unicode());
        }
    }
    out
}

/// From now on prints the engine's warnings and, without `is_quiet`, its informational messages.
pub fn start(is_quiet: bool) {
    let level = if is_quiet { Level::WARN } else { Level::INFO };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| Stderr)
        .log_internal_errors(false)
        .event_format(Sentence)
        .init();
}

/// Formats an event as a sentence, without its level: the words say how serious it is.
struct Sentence;

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        writeln!(writer, "httplines: {}", visible(message.0))
    }
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // A String takes everything.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[test]
fn what_was_not_printed_is_told() {
    let says = "httplines: a message was not printed, since nobody read standard error\n";
    assert_eq!(sentence_of_dropped(1), says);
    assert!(sentence_of_dropped(12).starts_with("httplines: 12 messages were not printed, "));
}

#[test]
fn a_message_is_written_in_pieces_that_a_pipe_takes() {
    assert_eq!(piece_of(b"httplines: a\n  b"), b"httplines: a\n  b");
    let lines = "0123456789012345678\n".repeat(1000);
    assert_eq!(piece_of(lines.as_bytes()).len(), 4080);
    assert_eq!(piece_of(&[b'a'; PIPE_BYTES]).len(), PIPE_BYTES);
    assert_eq!(piece_of(&[b'a'; PIPE_BYTES + 1]).len(), PIPE_BYTES);
}

#[test]
fn a_terminal_obeys_no_name() {
    let plain = "httplines: a\n  b é\n".to_string();
    assert_eq!(visible(plain.clone()), plain);
    let odd = "\u{1b}[2J\u{9b}\u{202e}\u{2028}".to_string();
    assert_eq!(visible(odd), r"\u{1b}[2J\u{9b}\u{202e}\u{2028}");
}

#[test]
fn messages_are_held_back_for_a_screen() {
    assert!(!hold_back("before\n"));
    hold();
    for number in 0..=HELD_COUNT_MAX {
        say(format_args!("httplines: {number}\n"));
    }
    assert_eq!(last_held().as_deref(), Some("httplines: 1000\n"));
    let held = held().take().expect("it holds");
    assert_eq!((held.messages.len(), held.forgotten_count), (HELD_COUNT_MAX, 1));
    assert_eq!(held.messages[0], "httplines: 1\n");
    assert_eq!(last_held(), None);
}
