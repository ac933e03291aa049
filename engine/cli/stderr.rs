//! Messages on standard error: sentences that begin with the program's name.

use httplines::record::is_unsafe;
use httplines::sys::wait::is_writable;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// How often a message that waits looks whether to go on waiting.
const LOOK_INTERVAL_MS: u32 = 100;

/// How long a message may wait until somebody reads standard error.
static WAIT_MS_MAX: AtomicU64 = AtomicU64::new(u64::MAX);

/// From now on a message that nobody reads for `wait` is dropped, so that the program can end.
pub fn wait_at_most(wait: Duration) {
    WAIT_MS_MAX.store(wait.as_millis() as u64, Ordering::Relaxed);
}

/// Prints `text`, which may have several lines. An error (a full device, a closed pipe) is ignored;
/// `eprint!` would panic.
pub fn say(text: fmt::Arguments<'_>) {
    // One write, so that the messages of two threads do not mix.
    let _ = Stderr.write_all(visible(text.to_string()).as_bytes());
}

/// Prints `text` if that is possible now; else it is dropped. For what comes again.
pub fn say_or_drop(text: fmt::Arguments<'_>) {
    if is_writable(io::stderr(), 0).unwrap_or(false) {
        say(text);
    }
}

/// Standard error, which nobody may be reading: it is often the same pipe as standard output.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let stderr = io::stderr();
        while !is_writable(&stderr, LOOK_INTERVAL_MS)? {
            let wait_ms_max = WAIT_MS_MAX.load(Ordering::Relaxed);
            if begun.elapsed() >= Duration::from_millis(wait_ms_max) {
                // Nor does the next one wait.
                wait_at_most(Duration::ZERO);
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        stderr.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
fn a_terminal_obeys_no_name() {
    let plain = "httplines: a\n  b é\n".to_string();
    assert_eq!(visible(plain.clone()), plain);
    let odd = "\u{1b}[2J\u{9b}\u{202e}\u{2028}".to_string();
    assert_eq!(visible(odd), r"\u{1b}[2J\u{9b}\u{202e}\u{2028}");
}
