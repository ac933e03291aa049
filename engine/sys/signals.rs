//! Signals whose default action would end the process: signal(7).

use std::mem::MaybeUninit;

/// Ignores SIGXFSZ. A write past the file size limit (setrlimit(2), `RLIMIT_FSIZE`) then returns an
/// error, which the writer handles, and does not end the process.
pub fn ignore_file_size_signal() {
    // SAFETY: with SIG_IGN no code of ours runs in a signal handler; the call changes one
    // disposition of this process and cannot fail for a signal that exists.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Whether SIGHUP is ignored, as nohup(1) leaves it to the program that it starts.
pub fn is_hangup_ignored() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action nothing is changed, and the old one is written to `action`,
    // which has its type. It is read only after the call has succeeded.
    unsafe {
        libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}
