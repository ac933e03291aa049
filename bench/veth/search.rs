//! Finds the highest rate at which a receiver loses nothing, or no more than a given part: short
//! trials at rates that close in on it, and a long one that confirms it (RFC 2544 section 26.1,
//! with fewer steps).

use crate::report::Place;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Accepted loss of the rate without loss: NDR.
pub const LOSS_NONE: f64 = 0.0;
/// Accepted loss of the rate with partial loss, one in 200: PDR.
pub const LOSS_PARTIAL: f64 = 0.005;

/// Trials in which the generator missed a rate before that rate counts as impossible: another
/// process may have had the CPU.
const ATTEMPTS: u32 = 3;
/// The maximum rate we ask for, as a share of what the generator reaches at full speed: closer to
/// its limit, every pause makes it miss its rate.
const GENERATOR_SHARE: f64 = 0.9;
/// If more than this part of a receiver's work is left when the last frame has arrived, it does not
/// keep up: it would lose the backlog in the end.
const LEFT_MAX: f64 = 0.1;
/// Seconds of work that are always left: ring blocks that are not full, a CPU that another process
/// has.
const LEFT_MAX_S: f64 = 0.03;
/// The search does not look below this part of the generator's rate.
const LEAST_SHARE: f64 = 0.001;
/// Maximum number of steps of a search: by then the bracket is far below the resolution.
const STEPS_MAX: usize = 30;

/// The result of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Frames per second that were sent.
    pub rate: f64,
    /// Requested frames per second; `None`: as many as possible.
    pub asked: Option<u64>,
    /// The greater of the lost parts, of frames or of exchanges: 0 to 1.
    pub loss: f64,
    /// Whether the generator missed its pace, so that the trial shows nothing about this rate.
    pub is_late: bool,
    /// Where something was lost.
    pub blamed: Vec<Place>,
    /// The part of the receiver's work that was left when the last frame had arrived: 0 to 1.
    #[serde(default)]
    pub left: f64,
    /// How long frames were sent.
    pub seconds: f64,
}

impl Point {
    /// Whether the rate is one at which no more than `loss_max` is lost.
    fn holds(&self, loss_max: f64) -> bool {
        !self.is_late && self.loss <= loss_max && !self.is_behind()
    }

    /// Whether the receiver did not keep up although it lost no frames, because its buffers are
    /// large.
    fn is_behind(&self) -> bool {
        self.left > LEFT_MAX && self.left * self.seconds > LEFT_MAX_S
    }
}

/// Whether the generator, rather than the receiver, is the limit.
pub fn is_generators(limit: &[Place]) -> bool {
    limit == [Place::Generator]
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Frames per second, confirmed by a long trial; 0: loss at every rate.
    pub rate: f64,
    /// Where more would be lost; the generator, if it cannot send more.
    pub limit: Vec<Place>,
}

/// The rules of a search.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Duration of a trial that closes in.
    pub short: Duration,
    /// Duration of the trial that confirms.
    pub long: Duration,
    /// The search ends when the ends of the bracket differ by this part.
    pub resolution: f64,
}

/// Runs trials: at a rate, or at full speed, for a duration.
pub trait Runner {
    /// An error is a trial that could not run, or that does not add up.
    fn run(&mut self, rate: Option<u64>, time: Duration) -> anyhow::Result<Point>;
}

/// All trials of a workload and a receiver, and the search over them.
#[derive(Debug)]
pub struct Search<R> {
    /// Runs the trials.
    pub runner: R,
    rules: Rules,
    /// In the order in which they ran.
    pub points: Vec<Point>,
    /// The maximum rate to ask for, in frames per second.
    top: f64,
}

impl<R: Runner> Search<R> {
    /// A search without results yet.
    pub fn new(runner: R, rules: Rules) -> Search<R> {
        Search { runner, rules, points: Vec::new(), top: 0.0 }
    }

    /// Finds the highest rate at which no more than `loss_max` is lost; or the generator's limit,
    /// if the loss there is small enough. If there is an earlier result `before` of the same
    /// measurement, the search starts from it. If the generator was the limit there, its limit is
    /// measured again.
    pub fn find(&mut self, loss_max: f64, before: Option<&Found>) -> anyhow::Result<Found> {
        // If the receiver's own limit is known, the generator's need not be measured again.
        let is_own = |found: &&Found| found.rate > 0.0 && !is_generators(&found.limit);
        if let Some(found) = before.filter(is_own) {
            return self.close_in_again(loss_max, found);
        }
        let mut flat = self.send_flat_out()?;
        if flat.loss <= loss_max && flat.is_behind() {
            // Another process may have had its CPU at the end.
            flat = self.send_flat_out()?;
        }
        if flat.holds(loss_max) {
            return Ok(Found { rate: flat.rate, limit: vec![Place::Generator] });
        }
        self.close_in(loss_max, guess(&flat).min(self.top), flat.blamed)
    }

    /// A trial at full speed.
    fn send_flat_out(&mut self) -> anyhow::Result<Point> {
        let point = self.runner.run(None, self.rules.long)?;
        self.top = GENERATOR_SHARE * point.rate;
        self.points.push(point.clone());
        Ok(point)
    }

    /// Whether the rate of some trial held, in which the generator was not late.
    pub fn is_held(&self, loss_max: f64) -> bool {
        self.points.iter().any(|point| point.holds(loss_max))
    }

    /// Whether it is known already that slightly above `found` more than `loss_max` is lost.
    pub fn is_last(&self, loss_max: f64, found: &Found) -> bool {
        let near = found.rate * (1.0 + 2.0 * self.rules.resolution);
        let is_near = |point: &Point| {
            point.asked.is_some_and(|asked| (found.rate..near).contains(&(asked as f64)))
        };
        let is_too_much = |point: &Point| !point.is_late && !point.holds(loss_max);
        self.points.iter().any(|point| is_near(point) && is_too_much(point))
    }

    /// Short trials, starting with `first`, and a long one that confirms. A short trial does not
    /// notice frames that rings hold for a moment; if the long one does, the search continues with
    /// long ones.
    fn close_in(&mut self, loss_max: f64, first: f64, limit: Vec<Place>) -> anyhow::Result<Found> {
        let mut bracket = Bracket { low: None, high: self.top, limit, growth: f64::INFINITY };
        if first < self.top {
            self.halve(loss_max, &mut bracket, first, self.rules.short)?;
        } else {
            bracket.low = Some(first);
        }
        let Some(low) = bracket.low.take() else { return Ok(bracket.found()) };
        let point = self.reach(low, self.rules.long)?;
        let next = bracket.narrow(low, &point, loss_max);
        if bracket.low.is_none() {
            self.halve(loss_max, &mut bracket, next, self.rules.long)?;
        }
        Ok(bracket.found())
    }

    /// Long trials around the earlier result: the rate is close to it, so few are needed.
    fn close_in_again(&mut self, loss_max: f64, before: &Found) -> anyhow::Result<Found> {
        let limit = vec![Place::Generator];
        let growth = 1.0 + self.rules.resolution;
        let mut bracket = Bracket { low: None, high: self.top, limit, growth };
        let first = before.rate.min(self.top);
        self.halve(loss_max, &mut bracket, first, self.rules.long)?;
        Ok(bracket.found())
    }

    /// Trials at `ask` and then at the midpoint, until the bracket is narrow.
    fn halve(
        &mut self,
        loss_max: f64,
        bracket: &mut Bracket,
        mut ask: f64,
        time: Duration,
    ) -> anyhow::Result<()> {
        for _ in 0..STEPS_MAX {
            if ask < LEAST_SHARE * self.top || bracket.is_narrow(self.rules.resolution) {
                break;
            }
            let point = self.reach(ask, time)?;
            ask = bracket.narrow(ask, &point, loss_max);
        }
        Ok(())
    }

    /// A trial at `rate`, repeated if the generator missed it.
    fn reach(&mut self, rate: f64, time: Duration) -> anyhow::Result<Point> {
        let mut attempt = 1;
        loop {
            let point = self.runner.run(Some(rate as u64), time)?;
            self.points.push(point.clone());
            if !point.is_late || attempt == ATTEMPTS {
                return Ok(point);
            }
            attempt += 1;
        }
    }
}

/// A rate that holds, and one that does not.
struct Bracket {
    low: Option<f64>,
    high: f64,
    /// Why `high` does not hold.
    limit: Vec<Place>,
    /// The factor for the next trial, as long as no rate has failed.
    growth: f64,
}

impl Bracket {
    /// Adds a trial at `rate`; returns the rate to try next.
    fn narrow(&mut self, rate: f64, point: &Point, loss_max: f64) -> f64 {
        if point.holds(loss_max) {
            self.low = Some(rate);
            let next = (rate * self.growth).min((rate * self.high).sqrt());
            self.growth *= self.growth;
            return next;
        }
        self.limit = if point.is_late { vec![Place::Generator] } else { point.blamed.clone() };
        self.high = rate;
        self.growth = f64::INFINITY;
        match self.low {
            Some(low) => (low * self.high).sqrt(),
            None => guess(point).min(0.93 * rate),
        }
    }

    fn is_narrow(&self, resolution: f64) -> bool {
        self.low.is_some_and(|low| self.high <= low * (1.0 + resolution))
    }

    fn found(self) -> Found {
        Found { rate: self.low.unwrap_or(0.0), limit: self.limit }
    }
}

/// An estimate of the rate that a receiver handles, from a rate at which it lost some.
fn guess(point: &Point) -> f64 {
    0.98 * point.rate * (1.0 - point.loss.max(point.left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A model of a receiver that handles `capacity` frames per second in the long run and buffers
    /// some; and of a generator with a limit.
    struct Model {
        capacity: f64,
        held: f64,
        top: f64,
        /// One trial out of this many is disturbed.
        disturbed_each: usize,
        trials: usize,
    }

    impl Runner for Model {
        fn run(&mut self, rate: Option<u64>, time: Duration) -> anyhow::Result<Point> {
            self.trials += 1;
            let asked = rate.map_or(self.top, |rate| rate as f64);
            let is_late = asked > self.top || self.trials.is_multiple_of(self.disturbed_each);
            let rate_made = asked.min(self.top);
            let sent = rate_made * time.as_secs_f64();
            let lost = (sent - self.capacity * time.as_secs_f64() - self.held).max(0.0);
            Ok(Point {
                rate: rate_made,
                asked: rate,
                loss: lost / sent,
                is_late,
                blamed: if lost > 0.0 { vec![Place::Ring] } else { Vec::new() },
                left: ((sent - lost - self.capacity * time.as_secs_f64()) / sent).max(0.0),
                seconds: time.as_secs_f64(),
            })
        }
    }

    const RULES: Rules =
        Rules { short: Duration::from_millis(200), long: Duration::from_secs(1), resolution: 0.02 };

    fn model(capacity: f64, held: f64) -> Model {
        Model { capacity, held, top: 1_000_000.0, disturbed_each: usize::MAX, trials: 0 }
    }

    #[test]
    fn what_is_faster_than_the_generator_is_limited_by_it() {
        let mut search = Search::new(model(5e6, 0.0), RULES);
        let found = search.find(LOSS_NONE, None).unwrap();
        assert_eq!(found, Found { rate: 1e6, limit: vec![Place::Generator] });
        search.runner.top = 0.8e6;
        let again = search.find(LOSS_NONE, Some(&found)).unwrap();
        assert_eq!((again.rate, search.points.len()), (0.8e6, 2));
    }

    /// Frames that a ring holds for a moment do not count: the long trial shows that.
    #[test]
    fn a_long_trial_confirms() {
        let mut search = Search::new(model(300_000.0, 50_000.0), RULES);
        let found = search.find(LOSS_NONE, None).unwrap();
        assert!(found.rate <= 350_000.0 && found.rate > 300_000.0, "{found:?}");
        assert!(!is_generators(&found.limit), "{found:?}");
    }

    /// An unlimited buffer loses nothing, and does not make its owner faster.
    #[test]
    fn who_puts_work_off_does_not_keep_up() {
        let mut search = Search::new(model(300_000.0, f64::INFINITY), RULES);
        let found = search.find(LOSS_NONE, None).unwrap();
        assert!(found.rate > 290_000.0 && found.rate < 340_000.0, "{found:?}");
        assert!(!is_generators(&found.limit), "{found:?}");
    }

    /// An earlier result makes the next search short, even if it is no longer true.
    #[test]
    fn a_search_goes_on_from_what_was_found() {
        let mut search = Search::new(model(300_000.0, 0.0), RULES);
        let found = search.find(LOSS_NONE, None).unwrap();
        // A step above it, more than nothing is lost, but not much more.
        assert!(search.is_last(LOSS_NONE, &found) && !search.is_last(0.1, &found));
        for (capacity, trials) in [(300_000.0, 3), (306_000.0, 4), (150_000.0, 9), (600_000.0, 11)]
        {
            search.runner.capacity = capacity;
            let before = search.points.len();
            let again = search.find(LOSS_NONE, Some(&found)).unwrap();
            let share = again.rate / capacity;
            assert!((0.975..=1.001).contains(&share), "{share} {again:?}");
            assert!(search.points.len() - before <= trials, "{:?}", &search.points[before..]);
        }
    }

    #[test]
    fn who_cannot_take_a_frame_has_no_rate() {
        let mut search = Search::new(model(0.0, 0.0), RULES);
        let found = search.find(LOSS_PARTIAL, None).unwrap();
        assert_eq!((found.rate, found.limit), (0.0, vec![Place::Ring]));
    }

    proptest! {
        /// Whatever the receiver's capacity, the search finds it to the resolution, even if one
        /// trial in five is disturbed, and a second search agrees.
        #[test]
        fn the_capacity_is_found(
            capacity in 10_000.0..1_100_000.0f64,
            disturbed_each in 5usize..20,
        ) {
            for loss_max in [LOSS_NONE, LOSS_PARTIAL] {
                let model = Model { disturbed_each, ..model(capacity, 0.0) };
                let mut search = Search::new(model, RULES);
                let found = search.find(loss_max, None).unwrap();
                let again = search.find(loss_max, Some(&found)).unwrap();
                for found in [&found, &again] {
                    // There is nothing between the maximum rate to ask for and the generator's
                    // limit.
                    let most = capacity / (1.0 - loss_max);
                    let most = if most < 1e6 { most.min(0.9e6) } else { 1e6 };
                    let share = found.rate / most;
                    prop_assert!((0.95..=1.001).contains(&share), "{share} {found:?}");
                }
                prop_assert!(search.points.len() < 60, "{}", search.points.len());
            }
        }
    }
}
