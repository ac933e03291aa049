//! Clocks that the standard library does not show as numbers: clock_gettime(2).

/// Nanoseconds of the monotonic clock, the one that programs in the kernel read.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread so far, in nanoseconds; the interrupts it was charged with
/// included.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of all threads of this process so far, in user space and in the kernel, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to `time`. These clocks exist on every Linux we know, so that the call
    // cannot fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_forward() {
        let (wall, thread, process) = (monotonic_ns(), thread_cpu_ns(), process_cpu_ns());
        while thread_cpu_ns() == thread {}
        assert!(monotonic_ns() > wall && process_cpu_ns() > process);
    }
}
