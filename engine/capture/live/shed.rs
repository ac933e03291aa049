//! [`Shedding`]: which share of the connections is captured while rings overflow. It is halved at
//! once, and grows slowly: additive increase, multiplicative decrease, as in TCP.

use super::totals::ShedTotals;
use crate::ids::Share;
use std::time::Duration;

/// Time without drops before the share grows again.
const CALM_TIME: Duration = Duration::from_secs(10);
/// Then it grows by one in so many of all, each time.
const GROWTH_PARTS: u32 = 32;
const GROWTH_INTERVAL: Duration = Duration::from_secs(1);
/// The share becomes no smaller than one in so many of all.
const PARTS_MAX: u32 = 1024;
/// Rings that were full take a moment to drain. At the look after a halving, drops count only if
/// there were more than one in so many of those before it.
const AFTERMATH_PARTS: u64 = 4;
/// Messages in a run; the totals say the rest.
const MESSAGE_COUNT_MAX: u32 = 32;

/// The control of the share.
#[derive(Debug)]
pub(super) struct Shedding {
    share: Share,
    /// The greatest hash of the user's sample, which is the whole share.
    whole_max: u32,
    share_max: u32,
    /// Drops at the last look, and how many of them were new.
    drops: u64,
    new_drops: u64,
    was_halved: bool,
    looked_at: Duration,
    /// When the share may grow.
    grows_at: Duration,
    message_count: u32,
    totals: ShedTotals,
}

impl Shedding {
    /// `share` has all connections of the sample.
    pub(super) fn new(share: Share) -> Shedding {
        Shedding {
            whole_max: share.get(),
            share_max: share.get(),
            share,
            drops: 0,
            new_drops: 0,
            was_halved: false,
            looked_at: Duration::ZERO,
            grows_at: CALM_TIME,
            message_count: 0,
            totals: ShedTotals { share_permille: 1000, ..ShedTotals::default() },
        }
    }

    pub(super) fn totals(&self) -> &ShedTotals {
        &self.totals
    }

    /// Looks at the number of `drops` so far, at the time `now`. Returns the greatest hash that the
    /// filter passes. When the share grows, the shards take connections before the filter passes
    /// them, at the next look.
    pub(super) fn look(&mut self, drops: u64, now: Duration) -> u32 {
        let before = self.share_max;
        let passed = now.saturating_sub(std::mem::replace(&mut self.looked_at, now));
        if before < self.whole_max {
            self.totals.below_all_ms += passed.as_millis() as u64;
        }
        let old_drops = std::mem::replace(&mut self.drops, drops);
        let new_drops = drops.saturating_sub(old_drops);
        let is_aftermath = self.was_halved && new_drops <= self.new_drops / AFTERMATH_PARTS;
        (self.new_drops, self.was_halved) = (new_drops, false);
        if new_drops > 0 {
            self.grows_at = now + CALM_TIME;
            if !is_aftermath {
                self.halve();
            }
        } else if before < self.whole_max && now >= self.grows_at {
            self.grows_at = now + GROWTH_INTERVAL;
            self.grow();
        }
        self.totals.share_permille = self.permille();
        self.share.set(self.share_max);
        before.min(self.share_max)
    }

    fn halve(&mut self) {
        let before = self.share_max;
        self.share_max = (before / 2).max(self.whole_max / PARTS_MAX);
        if self.share_max == before {
            return;
        }
        self.was_halved = true;
        self.totals.halvings += 1;
        let permille = self.permille();
        let least = &mut self.totals.least_permille;
        *least = if *least == 0 { permille } else { permille.min(*least) };
        self.say(&format!(
            "frames were dropped because a ring was full: {}.{}% of the connections are captured \
             from now on",
            permille / 10,
            permille % 10
        ));
    }

    fn grow(&mut self) {
        let step = (self.whole_max / GROWTH_PARTS).max(1);
        self.share_max = self.share_max.saturating_add(step).min(self.whole_max);
        if self.share_max == self.whole_max {
            self.say("all connections are captured again");
        }
    }

    /// The share, of 1000, rounded: at least 1, since it is never none.
    fn permille(&self) -> u64 {
        let whole = u64::from(self.whole_max.max(1));
        ((u64::from(self.share_max) * 1000 + whole / 2) / whole).max(1)
    }

    fn say(&mut self, text: &str) {
        self.message_count += 1;
        match self.message_count {
            ..MESSAGE_COUNT_MAX => tracing::warn!("{text}"),
            MESSAGE_COUNT_MAX => tracing::warn!("{text}; no more is said about this"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = u32::MAX;

    /// A control, its share, and the time and the drops so far.
    struct Run {
        shedding: Shedding,
        share: Share,
        now: Duration,
        drops: u64,
    }

    impl Run {
        fn new(whole_max: u32) -> Run {
            let share = Share::new(whole_max);
            let shedding = Shedding::new(share.clone());
            Run { shedding, share, now: Duration::ZERO, drops: 0 }
        }

        /// A look after a time, in which frames were dropped.
        fn look(&mut self, ms: u64, drops: u64) -> u32 {
            self.now += Duration::from_millis(ms);
            self.drops += drops;
            self.shedding.look(self.drops, self.now)
        }

        fn looks(&mut self, count: usize, ms: u64, drops: u64) {
            for _ in 0..count {
                self.look(ms, drops);
            }
        }
    }

    #[test]
    fn the_share_is_halved_at_once_until_drops_end() {
        let mut run = Run::new(ALL);
        assert_eq!(run.look(200, 0), ALL);
        assert_eq!([run.look(200, 100), run.share.get()], [ALL / 2, ALL / 2]);
        assert_eq!(run.look(200, 25), ALL / 2, "the rings were full");
        assert_eq!(run.look(200, 25), ALL / 4);
        assert_eq!(run.look(200, 20), ALL / 8, "as many as before");
        run.looks(100, 200, 100);
        assert_eq!(run.share.get(), ALL / 1024, "never none");
        let totals = run.shedding.totals();
        assert_eq!([totals.halvings, totals.least_permille], [10, 1]);
    }

    #[test]
    fn it_comes_back_slowly_and_the_shards_come_first() {
        let whole_max = ALL / 16;
        let mut run = Run::new(whole_max);
        run.look(200, 1000);
        for _ in 0..9 {
            assert_eq!(run.look(1000, 0), whole_max / 2);
        }
        assert_eq!(run.look(1000, 0), whole_max / 2, "the filter passes them a look later");
        assert_eq!(run.share.get(), whole_max / 2 + whole_max / 32);
        for step in 1..16 {
            assert!(run.share.get() < whole_max);
            assert_eq!(run.look(1000, 0), whole_max / 2 + step * (whole_max / 32));
        }
        run.looks(3, 1000, 0);
        assert_eq!([run.look(1000, 0), run.share.get()], [whole_max; 2]);
        let totals = run.shedding.totals();
        assert_eq!((totals.halvings, totals.least_permille), (1, 500));
        assert!((25_000..29_000).contains(&totals.below_all_ms), "{totals:?}");
    }

    #[test]
    fn it_says_no_more_than_that() {
        let mut run = Run::new(ALL);
        for _ in 0..1000 {
            run.look(200, 1000);
            run.looks(60, 1000, 0);
        }
        assert!(run.shedding.message_count > MESSAGE_COUNT_MAX);
        assert_eq!(run.share.get(), ALL);
    }
}
