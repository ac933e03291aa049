//! CPU time, for instruments: clock_gettime(2).

use std::io;
use std::time::Duration;

use super::cvt;

/// What all threads of this process have used so far, in user space and in the kernel.
pub fn of_process() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to `time`.
    cvt(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
