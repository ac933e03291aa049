//! A benchmark that reports allocations as well as time.

use crate::allocations::Allocations;
use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Calls whose allocations are counted, if that does not take too long.
const COUNTED_CALLS: u32 = 1000;
const COUNTED_TIME: Duration = Duration::from_millis(200);

/// Benches `routine`, then prints the allocations of a call in steady state: the counted calls come
/// after as many uncounted ones.
pub fn measure<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut routine: impl FnMut() -> T,
) {
    let mut counted = None;
    group.bench_function(name, |bencher| {
        if counted.is_none() {
            calls(&mut routine);
            counted = Some(calls(&mut routine));
        }
        bencher.iter(&mut routine);
    });
    if let Some((calls, allocations)) = counted {
        let per_call = |number: usize| number as f64 / f64::from(calls);
        let (count, bytes) = (per_call(allocations.count), per_call(allocations.bytes));
        println!("{:24}alloc:  {count:.3} allocations, {bytes:.1} bytes a call", "");
    }
}

fn calls<T>(routine: &mut impl FnMut() -> T) -> (u32, Allocations) {
    let (before, begun, mut calls) = (Allocations::so_far(), Instant::now(), 0);
    while calls == 0 || calls < COUNTED_CALLS && begun.elapsed() < COUNTED_TIME {
        black_box(routine());
        calls += 1;
    }
    (calls, Allocations::so_far() - before)
}
