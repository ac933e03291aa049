//! What is shown: counts of the last seconds and since the start, and their history.

use super::input::View;
use super::run_state::RunState;
use httplines::observe::summary::{Histogram, Summary, TopK};
use std::collections::VecDeque;
use std::time::Duration;

/// Rates and times of late are of so much time, or somewhat more.
const RECENT: Duration = Duration::from_secs(10);

/// A history has this many values; no screen is wider.
const HISTORY_COUNT_MAX: usize = 600;

/// Where records come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Interfaces, captured by this process.
    Interfaces,
    /// Capture files.
    Capture,
    /// Lines that another process writes.
    Lines,
}

/// What a source hands over, about once a second.
#[derive(Debug, Default)]
pub struct Sample {
    /// The time that it covers.
    pub elapsed: Duration,
    /// What was counted in it.
    pub summary: Summary,
    /// The state of the run; `None`: nothing new is known.
    pub run: Option<RunState>,
    /// What the source does, in a few words.
    pub doing: String,
    /// Nothing comes any more.
    pub is_over: bool,
    /// What went wrong with the source, a sentence.
    pub problem: Option<String>,
}

impl Sample {
    /// Adds a later one.
    pub fn merge(&mut self, later: Sample) {
        self.elapsed += later.elapsed;
        self.summary.merge(&later.summary);
        self.run = later.run.or(self.run.take());
        self.doing = later.doing;
        self.is_over |= later.is_over;
        self.problem = later.problem;
    }
}

/// A second of the history.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// Exchanges a second.
    pub rate: f64,
    /// The times to the first byte, in nanoseconds: p50, p90, p99 and the greatest.
    pub times: [Option<f64>; 4],
}

/// The quantiles that are shown; the last one is the greatest time.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

impl Point {
    fn of(elapsed: Duration, count: u64, times: &Histogram) -> Point {
        let seconds = elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let time = |(_, quantile)| times.quantile_ns(quantile).map(|time| time as f64);
        Point { rate, times: QUANTILES.map(time) }
    }
}

/// What a run has done in each second, between its last two states.
#[derive(Clone, Debug, Default)]
pub struct RunRates {
    /// As [`RunState::losses`].
    pub losses: [f64; 6],
    /// Parts of a CPU.
    pub shards: Vec<f64>,
    pub all_shards: f64,
    pub writer: f64,
    /// Bytes on the wire.
    pub frame_bytes: f64,
}

/// What is counted, and when.
#[derive(Debug)]
pub struct Model {
    pub kind: SourceKind,
    /// The interfaces or files.
    pub name: String,
    /// Since the start.
    pub total: Summary,
    /// Of the last samples together, and the time that they cover.
    pub recent: Summary,
    pub recent_time: Duration,
    samples: VecDeque<(Duration, Summary)>,
    history: VecDeque<Point>,
    /// The greatest rate so far.
    pub rate_max: f64,
    /// The time that all samples cover.
    pub elapsed: Duration,
    pub run: Option<RunState>,
    pub run_rates: RunRates,
    pub doing: String,
    pub is_over: bool,
    pub problem: Option<String>,
}

impl Model {
    pub fn new(kind: SourceKind, name: String) -> Model {
        Model {
            kind,
            name,
            total: Summary::default(),
            recent: Summary::default(),
            recent_time: Duration::ZERO,
            samples: VecDeque::new(),
            history: VecDeque::new(),
            rate_max: 0.0,
            elapsed: Duration::ZERO,
            run: None,
            run_rates: RunRates::default(),
            doing: String::new(),
            is_over: false,
            problem: None,
        }
    }

    /// Takes a sample.
    pub fn apply(&mut self, sample: Sample) {
        let Sample { elapsed, summary, run, doing, is_over, problem } = sample;
        (self.doing, self.is_over, self.problem) = (doing, is_over, problem);
        self.total.merge(&summary);
        self.elapsed += elapsed;
        if let Some(run) = run {
            self.take_state(run);
        }
        // A file is read faster than its packets passed: it has its own time.
        if self.kind != SourceKind::Capture && elapsed > Duration::ZERO {
            self.remember(elapsed, summary);
        }
    }

    fn remember(&mut self, elapsed: Duration, summary: Summary) {
        let totals = &summary.totals;
        let point = Point::of(elapsed, totals.exchanges, &totals.ttfb);
        // One that covers several seconds, as after a pause, stands for each of them.
        let seconds = (elapsed.as_secs_f64().round() as usize).clamp(1, HISTORY_COUNT_MAX);
        self.history.extend(std::iter::repeat_n(point, seconds));
        self.history.drain(..self.history.len().saturating_sub(HISTORY_COUNT_MAX));
        self.rate_max = self.rate_max.max(point.rate);
        self.recent_time += elapsed;
        self.recent.merge(&summary);
        self.samples.push_back((elapsed, summary));
        let mut is_old = false;
        // What is left covers the time without it. After a long pause nothing is left of it.
        while let Some((time, _)) = self.samples.front()
            && (*time > RECENT || self.recent_time - *time >= RECENT)
        {
            self.recent_time -= *time;
            self.samples.pop_front();
            is_old = true;
        }
        if is_old {
            self.recent = Summary::default();
            self.samples.iter().for_each(|(_, summary)| self.recent.merge(summary));
        }
    }

    fn take_state(&mut self, run: RunState) {
        let before = self.run.take().filter(|before| run.continues(before));
        if let Some(before) = &before {
            let seconds = (run.elapsed - before.elapsed).as_secs_f64();
            // Told twice, it has not gone on.
            self.run_rates = match seconds > 0.0 {
                true => rates_between(before, &run, seconds),
                false => RunRates::default(),
            };
        } else {
            self.run_rates = RunRates::default();
        }
        self.run = Some(run);
    }

    /// Whether what is shown is of the whole time, since there is no other.
    pub fn is_whole(&self) -> bool {
        self.kind == SourceKind::Capture
    }

    /// The time from the first record to the last, by their own clocks.
    pub fn record_time(&self) -> Duration {
        match (self.total.first, self.total.last) {
            (Some(first), Some(last)) => Duration::from_nanos(last.since(first)),
            _ => Duration::ZERO,
        }
    }

    /// The counts that are shown, and the time that they cover: those of the last seconds, or all.
    pub fn shown(&self, is_all: bool) -> (&Summary, Duration) {
        match (self.is_whole(), is_all) {
            (true, _) => (&self.total, self.record_time()),
            (false, true) => (&self.total, self.elapsed),
            (false, false) => (&self.recent, self.recent_time),
        }
    }

    /// Exchanges a second, in the last second.
    pub fn rate(&self) -> f64 {
        match self.is_whole() {
            true => {
                let seconds = self.record_time().as_secs_f64();
                let count = self.total.totals.exchanges as f64;
                if seconds > 0.0 { count / seconds } else { 0.0 }
            }
            false => self.history.back().map_or(0.0, |point| point.rate),
        }
    }

    /// The history: a value a second; of a capture file one for each span of its time.
    pub fn history(&self) -> Vec<Point> {
        if !self.is_whole() {
            return self.history.iter().copied().collect();
        }
        let width = Duration::from_nanos(self.total.timeline.width_ns());
        let spans = self.total.timeline.spans();
        spans.map(|(_, span)| Point::of(width, span.count, &span.ttfb)).collect()
    }

    /// The table of a view.
    pub fn table(&self, view: View, is_all: bool) -> &TopK {
        view.table(self.shown(is_all).0)
    }
}

fn rates_between(before: &RunState, now: &RunState, seconds: f64) -> RunRates {
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let load = |before: Duration, now: Duration| now.saturating_sub(before).as_secs_f64() / seconds;
    let mut losses = [0.0; 6];
    for (at, loss) in losses.iter_mut().enumerate() {
        *loss = rate(before.losses[at].total, now.losses[at].total);
    }
    let shards = before.shards.iter().zip(&now.shards);
    RunRates {
        losses,
        shards: shards.map(|(before, now)| load(before.cpu, now.cpu)).collect(),
        all_shards: load(before.shards_cpu, now.shards_cpu),
        writer: load(before.writer_cpu, now.writer_cpu),
        frame_bytes: rate(before.frame_bytes, now.frame_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::sample_lines::{line, summary_of};

    fn sample(count: usize) -> Sample {
        let lines: Vec<String> = (0..count).map(|_| line("a.example", 200, 1_000_000)).collect();
        let (summary, elapsed) = (summary_of(&lines), Duration::from_secs(1));
        Sample { elapsed, summary, ..Sample::default() }
    }

    #[test]
    fn rates_are_of_the_last_seconds_and_totals_of_all() {
        let mut model = Model::new(SourceKind::Lines, "http.jsonl".into());
        for _ in 0..12 {
            model.apply(sample(5));
        }
        model.apply(sample(20));
        assert_eq!((model.rate(), model.rate_max), (20.0, 20.0));
        let (recent, time) = model.shown(false);
        assert_eq!((recent.totals.exchanges, time), (9 * 5 + 20, Duration::from_secs(10)));
        let (all, time) = model.shown(true);
        assert_eq!((all.totals.exchanges, time), (12 * 5 + 20, Duration::from_secs(13)));
        let history = model.history();
        assert_eq!((history.len(), history[0].rate, history[12].rate), (13, 5.0, 20.0));
        assert!(history[0].times[0].is_some_and(|time| (time - 1e6).abs() < 1e4));
    }

    /// As after a pause.
    #[test]
    fn a_sample_of_several_seconds_stands_for_each_of_them() {
        let mut model = Model::new(SourceKind::Lines, "http.jsonl".into());
        let mut pause = sample(4);
        (0..3).for_each(|_| pause.merge(sample(4)));
        model.apply(pause);
        let rates: Vec<_> = model.history().iter().map(|point| point.rate).collect();
        assert_eq!(rates, [4.0; 4]);
        model.apply(Sample { elapsed: Duration::from_secs(9999), ..Sample::default() });
        assert_eq!(model.history().len(), HISTORY_COUNT_MAX);
    }

    #[test]
    fn recent_is_what_was_seen_in_ten_seconds() {
        let mut model = Model::new(SourceKind::Lines, "http.jsonl".into());
        let lasting =
            |seconds, count| Sample { elapsed: Duration::from_secs(seconds), ..sample(count) };
        for (seconds, count, expected, time) in [
            (1, 1, 1, 1),
            (6, 6, 7, 7),
            (5, 5, 11, 11),
            (1, 1, 12, 12),
            (3, 3, 15, 15),
            (99, 7, 0, 0),
            (1, 2, 2, 1),
        ] {
            model.apply(lasting(seconds, count));
            let (recent, covered) = model.shown(false);
            assert_eq!((recent.totals.exchanges, covered), (expected, Duration::from_secs(time)));
        }
    }

    #[test]
    fn a_state_is_compared_with_the_one_before_of_the_same_run() {
        let state = |run: &str, seconds: u64, dropped: u64, cpu_s: u64| {
            let mut state = RunState {
                run: run.into(),
                elapsed: Duration::from_secs(seconds),
                shards_cpu: Duration::from_secs(cpu_s),
                ..RunState::default()
            };
            state.losses[0].total = dropped;
            Sample { run: Some(state), ..Sample::default() }
        };
        let mut model = Model::new(SourceKind::Lines, "http.jsonl".into());
        model.apply(state("a", 10, 7, 1));
        assert_eq!(model.run_rates.losses[0], 0.0, "what was before is not now");
        model.apply(state("a", 20, 27, 6));
        assert_eq!((model.run_rates.losses[0], model.run_rates.all_shards), (2.0, 0.5));
        model.apply(Sample::default());
        assert_eq!(model.run_rates.losses[0], 2.0, "nothing new is known");
        model.apply(state("b", 5, 3, 0));
        assert_eq!(model.run_rates.losses[0], 0.0, "another run");
    }
}
