//! Signals whose default action would end the process: signal(7).

/// Ignores SIGXFSZ. A write past the file size limit (setrlimit(2), `RLIMIT_FSIZE`) then returns an
/// error, which the writer handles, and does not end the process.
pub fn ignore_file_size_signal() {
    // SAFETY: with SIG_IGN no code of ours runs in a signal handler; the call changes one
    // disposition of this process and cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
