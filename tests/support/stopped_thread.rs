//! One thread of a program that is stopped while the others run: ptrace(2). A signal cannot do
//! that, since it stops the whole process.

use std::io;
use std::marker::PhantomData;
use std::ptr::null_mut;

/// A stopped thread. It goes on when this is dropped, in the thread of the test that made it.
pub struct StoppedThread {
    thread: libc::pid_t,
    /// Only the thread that stopped it can let it go on.
    _not_send: PhantomData<*const ()>,
}

impl StoppedThread {
    /// Stops the thread `name` of the process `pid`, and waits until it has stopped. An error:
    /// that is not allowed here.
    pub fn named(pid: u32, name: &str) -> io::Result<StoppedThread> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        let is_it = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let task = tasks.filter_map(|task| Some(task.ok()?.path())).find(is_it);
        let number = task.as_ref().and_then(|path| path.file_name()?.to_str()?.parse().ok());
        let thread: libc::pid_t = number.ok_or(io::ErrorKind::NotFound)?;
        request(libc::PTRACE_SEIZE, thread)?;
        request(libc::PTRACE_INTERRUPT, thread)?;
        let mut status = 0;
        // SAFETY: `status` is a place for a status.
        let stopped = unsafe { libc::waitpid(thread, &mut status, libc::__WALL) };
        assert_eq!(stopped, thread, "{}", io::Error::last_os_error());
        assert!(libc::WIFSTOPPED(status), "{status:#x}");
        Ok(StoppedThread { thread, _not_send: PhantomData })
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        // If it has ended, nothing is left to do.
        let _ = request(libc::PTRACE_DETACH, self.thread);
    }
}

fn request(request: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    let nothing = null_mut::<libc::c_void>();
    // SAFETY: these requests take no memory.
    match unsafe { libc::ptrace(request, thread, nothing, nothing) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
