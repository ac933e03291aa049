//! Network namespaces without names, and processes that do not outlive who started them: for
//! `httplines-bench` and tests. unshare(2), prctl(2).

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives the calling thread a new network namespace, which goes when the thread, its sockets and
/// the processes it started have gone. Needs CAP_SYS_ADMIN: EPERM.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: no memory is passed; only this thread changes its namespace.
    super::cvt(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(|_| ())
}

/// Lets the process of `command` be killed when the thread that spawns it ends, however that comes:
/// PR_SET_PDEATHSIG.
pub fn die_with_thread(command: &mut Command) -> &mut Command {
    let bind = || {
        // SAFETY: no memory is passed.
        super::cvt(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }).map(|_| ())
    };
    // SAFETY: between fork and exec this makes one system call and allocates nothing.
    unsafe { command.pre_exec(bind) }
}

/// Sends `signal` (of libc) to the processes of group `id`, that of a child: kill(2).
///
/// # Panics
/// Where `id` is that of no child: 0 is our own group, and 1 would be everybody.
pub fn send_signal_to_group(id: u32, signal: i32) -> io::Result<()> {
    assert!(id > 1 && id <= i32::MAX as u32, "a child has another number");
    // SAFETY: no memory is passed.
    super::cvt(unsafe { libc::kill(-(id as libc::pid_t), signal) }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    use std::sync::mpsc::channel;

    #[test]
    fn a_process_ends_with_the_thread_that_started_it() {
        let (send, receive) = channel();
        let thread = std::thread::spawn(move || {
            let mut cat = Command::new("cat");
            let child = die_with_thread(&mut cat).stdin(Stdio::piped()).spawn().unwrap();
            send.send(child).unwrap();
        });
        let mut child = receive.recv().unwrap();
        thread.join().unwrap();
        // Its input stays open, so that nothing else can end it.
        let input = child.stdin.take();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        drop(input);
    }

    #[test]
    fn a_signal_reaches_the_group_of_a_child() {
        let mut child = Command::new("cat").process_group(0).stdin(Stdio::piped()).spawn().unwrap();
        send_signal_to_group(child.id(), libc::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}
