//! Runs a program as if the kernel lacked something or were older: seccomp(2), personality(2).

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The system calls numbered `calls` fail in `command` with `errno`; all others work as usual.
/// Needs root.
pub fn forbid(command: &mut Command, calls: &[libc::c_long], errno: i32) {
    let step = |code: u32, skip_if_so: usize, k: u32| libc::sock_filter {
        code: code as u16,
        jt: skip_if_so as u8,
        jf: 0,
        k,
    };
    // The number of the call is the first word of the filter's input.
    let mut steps = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (index, call) in calls.iter().enumerate() {
        let to_refusal = calls.len() - index;
        let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        steps.push(step(equals, to_refusal, *call as u32));
    }
    let verdict = libc::BPF_RET | libc::BPF_K;
    steps.push(step(verdict, 0, libc::SECCOMP_RET_ALLOW));
    steps.push(step(verdict, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
    let enter = move || {
        let filter =
            libc::sock_fprog { len: steps.len() as u16, filter: steps.as_ptr().cast_mut() };
        // SAFETY: the kernel reads the program that `filter` describes, and keeps nothing of it.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec this makes one system call and allocates nothing.
    unsafe { command.pre_exec(enter) };
}

/// Tells `command` that the kernel is of version 2.6. It works as before.
pub fn pretend_old_kernel(command: &mut Command) {
    /// Of linux/personality.h; libc does not define it.
    const UNAME26: libc::c_ulong = 0x0002_0000;
    let enter = || {
        // SAFETY: no memory is passed.
        match unsafe { libc::personality(UNAME26) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec this makes one system call and allocates nothing.
    unsafe { command.pre_exec(enter) };
}
