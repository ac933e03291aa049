//! [`SlowWatch`]: reports that an output takes lines too slowly when that begins, and when it is
//! over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// It is over when no line was dropped for this long. So there are at most two messages in this
/// time.
const QUIET_TIME: Duration = Duration::from_secs(5);

/// What one sender could not hand over. Only that sender writes it.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) lines: AtomicU64,
    /// Its queue had not been emptied since the last drop when the run ended.
    pub(super) is_until_the_end: AtomicBool,
}

/// Watches the senders of a run. Someone must look now and then.
#[derive(Debug, Default)]
pub(super) struct SlowWatch {
    /// The name of the output for all senders, or for each.
    names: Vec<String>,
    senders: Vec<Arc<Dropped>>,
    /// Lines that had been dropped at the last look.
    lines: u64,
    /// The current time of dropping, if there is one.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    name: String,
    lines_before: u64,
    last_drop: Instant,
}

impl SlowWatch {
    pub(super) fn new(names: Vec<String>, senders: Vec<Arc<Dropped>>) -> SlowWatch {
        SlowWatch { names, senders, lines: 0, current: None }
    }

    /// Returns what there is to report at the time `now`.
    pub(super) fn look(&mut self, now: Instant) -> Option<String> {
        let lines_of = |sender: &Arc<Dropped>| sender.lines.load(Ordering::Relaxed);
        let before = self.lines;
        self.lines = self.senders.iter().map(lines_of).sum();
        let is_dropping = self.lines > before;
        match &mut self.current {
            Some(current) if is_dropping => current.last_drop = now,
            Some(current) if now >= current.last_drop + QUIET_TIME => {
                let (name, lines) = (&current.name, self.lines - current.lines_before);
                let said = format!("{name}: fast enough again; {lines} lines were dropped");
                self.current = None;
                return Some(said);
            }
            None if is_dropping => {
                // With several outputs, the one that has lost most.
                let worst = (0..self.senders.len()).max_by_key(|at| lines_of(&self.senders[*at]));
                let name = self.name(worst.unwrap_or(0));
                let said = format!(
                    "{name}: its reader or disk is too slow; lines are being dropped and counted"
                );
                self.current = Some(Current { name, lines_before: before, last_drop: now });
                return Some(said);
            }
            _ => {}
        }
        None
    }

    /// The output that dropped lines until the end, if there is one.
    pub(super) fn slow_until_the_end(&self) -> Option<String> {
        let is_slow = |sender: &Arc<Dropped>| sender.is_until_the_end.load(Ordering::Relaxed);
        self.senders.iter().position(is_slow).map(|at| self.name(at))
    }

    fn name(&self, sender: usize) -> String {
        self.names.get(sender).or(self.names.first()).cloned().unwrap_or_default()
    }
}

#[test]
fn beginning_and_end_are_reported_once_each() {
    let senders = vec![Arc::new(Dropped::default()), Arc::new(Dropped::default())];
    let names = vec!["a".to_string(), "b".to_string()];
    let mut watch = SlowWatch::new(names, senders.clone());
    let begin = Instant::now();
    let mut look = |ms: u64| watch.look(begin + Duration::from_millis(ms)).unwrap_or_default();
    assert_eq!(look(0), "");
    senders[1].lines.store(3, Ordering::Relaxed);
    assert_eq!(look(200), "b: its reader or disk is too slow; lines are being dropped and counted");
    assert_eq!(look(400), "");
    senders[0].lines.store(7, Ordering::Relaxed);
    assert_eq!(look(600), "");
    assert_eq!(look(5_500), "", "dropping may go on");
    assert_eq!(look(5_600), "b: fast enough again; 10 lines were dropped");
    assert_eq!(look(20_000), "");
    senders[0].lines.store(8, Ordering::Relaxed);
    assert_eq!(
        look(20_200),
        "a: its reader or disk is too slow; lines are being dropped and counted"
    );
    assert_eq!(look(25_200), "a: fast enough again; 1 lines were dropped");
}
