//! Clocks that the standard library does not offer as numbers: clock_gettime(2).

// Each program uses a part of this.
#![allow(dead_code)]

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock, which BPF programs read, too.
pub fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// CPU time of the calling thread so far, in nanoseconds, including interrupts charged to it.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process so far, in user space and in the kernel, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn clocks_go_forward() {
        use super::*;
        let (wall, thread, process) = (monotonic_ns(), thread_cpu_ns(), process_cpu_ns());
        while thread_cpu_ns() == thread {}
        assert!(monotonic_ns() > wall && process_cpu_ns() > process);
    }
}
