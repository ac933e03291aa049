//! Counts what is allocated while something runs, by all threads. Only the root module of a program
//! may include this: it replaces the global allocator.

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::ops::Sub;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls of the allocator, and bytes they asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Allocations {
    /// Allocations and reallocations.
    pub count: usize,
    /// Bytes; for a reallocation, the growth.
    pub bytes: usize,
}

impl Allocations {
    /// Counts since the program began.
    pub fn so_far() -> Allocations {
        let stats = ALLOCATOR.stats();
        Allocations { count: stats.allocations + stats.reallocations, bytes: stats.bytes_allocated }
    }
}

impl Sub for Allocations {
    type Output = Allocations;

    fn sub(self, earlier: Allocations) -> Allocations {
        Allocations { count: self.count - earlier.count, bytes: self.bytes - earlier.bytes }
    }
}
