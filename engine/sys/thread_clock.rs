//! The CPU time of a thread, read by itself or by another one: pthread_getcpuclockid(3); and other
//! clocks that the standard library does not tell.

use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The clock of one thread.
#[derive(Debug)]
pub struct ThreadClock {
    /// `None` if the thread had ended when it was asked for.
    clock: Option<libc::clockid_t>,
    /// The last time that was read, in nanoseconds.
    last_ns: AtomicU64,
}

impl ThreadClock {
    /// The clock of `thread`.
    pub fn of<T>(thread: &JoinHandle<T>) -> ThreadClock {
        let mut clock = 0;
        // SAFETY: the handle is borrowed, so the thread was neither joined nor detached, and its
        // pthread_t is valid; only `clock` is written.
        let error = unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &mut clock) };
        ThreadClock { clock: (error == 0).then_some(clock), last_ns: AtomicU64::new(0) }
    }

    /// The CPU time of the thread so far, in user space and in the kernel. Once the thread has
    /// ended, this is the last time that was read. (The clock's name has the number of the thread
    /// in it, which the kernel uses again at some time. It then refuses the clock unless the new
    /// thread is one of this process.)
    pub fn elapsed(&self) -> Duration {
        if let Some(now) = self.clock.and_then(read) {
            self.last_ns.fetch_max(now.as_nanos() as u64, Ordering::Relaxed);
        }
        Duration::from_nanos(self.last_ns.load(Ordering::Relaxed))
    }
}

/// The CPU time of this process so far: that of all its threads.
pub fn of_process() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

/// The time of `CLOCK_MONOTONIC`, which other processes of this machine know, too. (Not by rustix:
/// with its feature `time` it looks into the vDSO, which valgrind hides, and faults there.)
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC).unwrap_or_default()
}

/// The CPU time of the calling thread so far.
pub fn own() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
}

fn read(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: only `time` is written.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    (result == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no such clock")]
    fn it_counts_the_time_of_its_thread_and_stops_with_it() {
        let (send, receive) = channel::<()>();
        let thread = std::thread::spawn(move || {
            while receive.try_recv().is_err() {
                std::hint::spin_loop();
            }
            own()
        });
        let clock = ThreadClock::of(&thread);
        let begun = Instant::now();
        while clock.elapsed() < Duration::from_millis(2) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it runs");
        }
        send.send(()).expect("it waits for this");
        let own = thread.join().expect("it ends");
        let last = clock.elapsed();
        assert!(own >= last && last >= Duration::from_millis(2));
        assert_eq!(clock.elapsed(), last);
    }
}
