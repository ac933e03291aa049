//! What a soak looks at again and again, and whether it grows.

use super::subject::Held;
use std::collections::BTreeMap;

/// Growth of memory that is still none: allocators keep what was used once.
const MEMORY_SHARE: f64 = 0.05;
const MEMORY_BYTES: u64 = 4 << 20;
/// Without so many samples after the warm-up nothing can be said about growth.
const SAMPLES_MIN: usize = 8;

/// A look at a moment.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub at_s: f64,
    /// Frames that were sent so far.
    pub frames: u64,
    /// Those among them that were sent while the link was down.
    pub frames_unseen: u64,
    /// What the program held.
    pub held: Held,
    /// What it told in its sidecar so far.
    pub told: Told,
}

/// What the program tells about itself.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Told {
    /// Lines in its files.
    pub lines: u64,
    /// Files it has closed.
    pub rotations: u64,
    /// What it has lost, by cause; nothing that was not lost.
    pub losses: BTreeMap<String, u64>,
}

/// Each thing that grew after the warm-up, as a sentence. The first quarter of the samples is the
/// warm-up; the second is compared with the last. Of memory the median is compared; of descriptors
/// and threads the least, because some are there for a moment only.
pub fn growth(samples: &[Sample]) -> Vec<String> {
    let quarter = samples.len() / 4;
    if samples.len() - quarter < SAMPLES_MIN {
        return vec![format!("{} samples are too few to see growth", samples.len())];
    }
    let (second, last) = (&samples[quarter..2 * quarter], &samples[samples.len() - quarter..]);
    let sorted = |samples: &[Sample], of: fn(&Held) -> u64| {
        let mut all: Vec<u64> = samples.iter().map(|sample| of(&sample.held)).collect();
        all.sort_unstable();
        all
    };
    let mut grown = Vec::new();
    let mut compare = |name: &str, from: u64, to: u64, allowed: u64| {
        if to > from + allowed {
            grown.push(format!("it grew after the warm-up: from {from} to {to} {name}"));
        }
    };
    let median = |samples| sorted(samples, |held| held.memory_bytes)[quarter / 2];
    let from = median(second);
    let allowed = (from as f64 * MEMORY_SHARE) as u64 + MEMORY_BYTES;
    compare("bytes of memory", from, median(last), allowed);
    for (name, of) in [
        ("descriptors", (|held| held.descriptors) as fn(&Held) -> u64),
        ("threads", |held| held.threads),
    ] {
        compare(name, sorted(second, of)[0], sorted(last, of)[0], 0);
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory_bytes: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Vec<Sample> {
        let held = |at| Held {
            memory_bytes: memory_bytes(at),
            descriptors: descriptors(at),
            threads: 6,
            cpu_ns: 0,
        };
        (0..40).map(|at| Sample { held: held(at), ..Sample::default() }).collect()
    }

    #[test]
    fn growth_after_the_warm_up_is_found() {
        // A warm-up that ends, with noise.
        let settled =
            samples(|at| (100 << 20) + at.min(9) * (5 << 20) + at % 3 * (1 << 20), |_| 20);
        assert_eq!(growth(&settled), [""; 0]);
        // A leak of one part in a hundred a sample.
        let leak = samples(|at| (100 << 20) + at * (1 << 20), |_| 20);
        assert_eq!(growth(&leak).len(), 1, "{:?}", growth(&leak));
        // One descriptor more now and then; one that is open at a look, and closed at the next.
        assert_eq!(growth(&samples(|_| 1, |at| 20 + at / 10)).len(), 1);
        assert_eq!(growth(&samples(|_| 1, |at| 20 + at * 7 % 10)), [""; 0]);
        assert!(growth(&settled[..6])[0].contains("too few"));
    }
}
