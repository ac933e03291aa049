//! A benchmark of CPU time, which reports allocations as well.

use crate::allocations::Allocations;
use crate::clock::process_cpu_ns;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, Criterion};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Calls whose allocations are counted, if that does not take too long.
const COUNTED_CALLS: u32 = 1000;
const COUNTED_TIME: Duration = Duration::from_millis(200);

/// CPU time of the process. On a machine that is busy with other work, a call takes as long as that
/// work lets it: several times its CPU time.
#[derive(Debug)]
pub struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        process_cpu_ns()
    }

    fn end(&self, start_ns: u64) -> u64 {
        process_cpu_ns() - start_ns
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, cpu_ns: &u64) -> f64 {
        *cpu_ns as f64
    }

    /// It is in nanoseconds, as wall time is.
    fn formatter(&self) -> &dyn ValueFormatter {
        const WALL_TIME: &WallTime = &WallTime;
        WALL_TIME.formatter()
    }
}

/// Measures CPU time.
pub fn by_cpu_time() -> Criterion<CpuTime> {
    Criterion::default().with_measurement(CpuTime)
}

/// Benches `routine`, then prints the allocations of a call in steady state: the counted calls come
/// after as many uncounted ones.
pub fn measure<T>(
    group: &mut BenchmarkGroup<'_, CpuTime>,
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
