//! Says what a start is doing, if it takes long.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a start may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A thread that logs the step of a start, once the start has lasted a second. After that it logs
/// each further step that lasts as long. Dropping this value ends it.
#[derive(Debug)]
pub(super) struct SlowStart {
    steps: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl SlowStart {
    /// Begins with the step `first`. Without a thread (`ulimit -u`) it stays silent.
    pub(super) fn begin(first: &str) -> SlowStart {
        SlowStart::with(first, SILENCE_MAX, |step| tracing::info!("{step} ..."))
    }

    fn with(
        first: &str,
        silence_max: Duration,
        say: impl FnMut(&str) + Send + 'static,
    ) -> SlowStart {
        let (steps, receiver) = channel();
        let first = first.to_string();
        let thread = std::thread::Builder::new().name("slow-start".into());
        let thread = thread.spawn(move || watch(first, &receiver, silence_max, say)).ok();
        SlowStart { steps: Some(steps), thread }
    }

    /// The next step has begun.
    pub(super) fn step(&self, step: String) {
        if let Some(steps) = &self.steps {
            let _ = steps.send(step);
        }
    }
}

impl Drop for SlowStart {
    /// Waits for the thread, so that nothing is said once the start is over.
    fn drop(&mut self) {
        self.steps = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn watch(
    first: String,
    steps: &Receiver<String>,
    silence_max: Duration,
    mut say: impl FnMut(&str),
) {
    let mut step = first;
    let mut until = Instant::now() + silence_max;
    loop {
        match steps.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(next) => step = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                say(&step);
                let Ok(next) = steps.recv() else { return };
                step = next;
                until = Instant::now() + silence_max;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// What is said, with a patience of `silence_max`, while `start` runs.
    fn said(silence_max: Duration, start: impl FnOnce(&SlowStart, &Receiver<()>)) -> Vec<String> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (sender, news) = channel();
        let list = said.clone();
        let slow = SlowStart::with("first", silence_max, move |step| {
            list.lock().unwrap().push(step.to_string());
            sender.send(()).unwrap();
        });
        start(&slow, &news);
        drop(slow);
        Arc::into_inner(said).expect("the thread has ended").into_inner().unwrap()
    }

    #[test]
    fn a_quick_start_is_silent() {
        let silence_max = Duration::from_secs(600);
        assert_eq!(said(silence_max, |slow, _| slow.step("second".into())), [""; 0]);
    }

    #[test]
    fn each_long_step_is_said_once() {
        let silence_max = Duration::from_millis(1);
        let steps = said(silence_max, |slow, news| {
            news.recv().unwrap();
            slow.step("second".into());
            news.recv().unwrap();
            assert!(news.recv_timeout(silence_max * 10).is_err());
        });
        assert_eq!(steps, ["first", "second"]);
    }
}
