//! Signals that the C library's defaults would let kill us: signal(7).

/// Ignores SIGXFSZ, so that a write past the file size limit (setrlimit(2), `RLIMIT_FSIZE`) is an
/// error of that write, which the writer knows how to take, and not the end of the process.
pub fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN is no function of ours, so nothing runs in a signal handler; the call changes
    // one disposition of this process and cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
