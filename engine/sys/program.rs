//! What a program of the kernel says of a frame in memory: bpf(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_rs::libbpf_sys;

use super::cvt;

/// What a program said of a frame, and how long it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TestRun {
    /// Bytes of the frame that go up; 0 rejects it.
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
    // SAFETY: the options point to `frame`, which lives through the call, and ask for no output.
    cvt(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) })?;
    Ok(TestRun { passed_bytes: options.retval, mean_ns: options.duration })
}
