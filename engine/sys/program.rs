//! A BPF program in the kernel: why it was rejected, how much work it was for the verifier, and a
//! test run on a frame in memory. bpf(2).

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_rs::libbpf_sys;

use super::cvt;

/// Why the kernel rejected a program, or one of its maps. The message is what failed, and the
/// kernel's error last.
#[derive(Debug)]
pub struct LoadError {
    message: String,
    errno: Option<i32>,
}

impl LoadError {
    /// For `error`, and the step that libbpf named first when it failed.
    pub(super) fn new(error: libbpf_rs::Error) -> LoadError {
        let chain = format!("{error:#}");
        // libbpf_rs shows the number, but does not return it.
        let (words, errno) = match chain.rsplit_once(" (os error ") {
            Some((words, number)) => (words, number.trim_end_matches(')').parse().ok()),
            None => (chain.as_str(), None),
        };
        let message = match super::LIBBPF_WARNING.take() {
            Some(step) => format!("{step}: {words}"),
            None => words.to_string(),
        };
        LoadError { message, errno }
    }

    /// The error for a kernel's errno.
    #[cfg(test)]
    pub(crate) fn of_errno(errno: i32) -> LoadError {
        LoadError::new(libbpf_rs::Error::from_raw_os_error(errno))
    }

    /// The kernel's error, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// Whether the kernel refused for lack of privileges (EPERM), or the verifier or a security
    /// module rejected the program (EACCES).
    pub fn is_permission(&self) -> bool {
        matches!(self.errno, Some(libc::EPERM | libc::EACCES))
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LoadError {}

/// How much work a program was for the verifier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The program's name, cut to 15 bytes.
    pub name: String,
    /// Instructions that the verifier processed, of a million at most; 0 before Linux 5.16.
    pub instruction_count: u32,
}

/// How much work `program` was for the verifier: BPF_OBJ_GET_INFO_BY_FD. For tests and tools.
pub fn verified(program: BorrowedFd<'_>) -> io::Result<Verified> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut bytes = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `bytes` bytes, and the structure has as many. It asks for
    // none of the arrays.
    cvt(unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut bytes)
    })?;
    let name = info.name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
    let name = String::from_utf8(name).unwrap_or_default();
    Ok(Verified { name, instruction_count: info.verified_insns })
}

/// The verdict of a program on a frame, and how long it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TestRun {
    /// Bytes of the frame that pass to user space; 0 rejects it.
    pub passed_bytes: u32,
    /// Mean time of one run, in whole nanoseconds.
    pub mean_ns: u32,
}

/// Runs `program` on an Ethernet frame `repeat` times, without an interface: BPF_PROG_TEST_RUN.
/// Unlike in a packet socket, skb->data points behind the Ethernet header there.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<TestRun> {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        repeat: repeat as i32,
        ..Default::default()
    };
    // SAFETY: the options point to `frame`, which lives through the call, and request no output.
    cvt(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) })?;
    Ok(TestRun { passed_bytes: options.retval, mean_ns: options.duration })
}
