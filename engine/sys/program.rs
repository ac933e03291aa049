//! What a socket filter costs, for instruments and tests: bpf(2).

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

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

/// A socket filter that passes every frame whole and does nothing else: what running any program
/// costs.
pub fn load_empty() -> io::Result<OwnedFd> {
    let move_to_r0 = (libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV) as u8;
    let exit = (libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT) as u8;
    let instructions = [
        libbpf_sys::bpf_insn { code: move_to_r0, imm: i32::MAX, ..Default::default() },
        libbpf_sys::bpf_insn { code: exit, ..Default::default() },
    ];
    // SAFETY: the strings end with a zero, the count is that of the instructions, and all live
    // through the call.
    let fd = cvt(unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SOCKET_FILTER,
            c"empty".as_ptr().cast::<c_char>(),
            c"Dual MIT/GPL".as_ptr().cast::<c_char>(),
            instructions.as_ptr(),
            instructions.len() as _,
            null_mut(),
        )
    })?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the kernel count the runs of all programs and their time, until the descriptor is closed:
/// BPF_ENABLE_STATS, Linux 5.8.
pub fn count_runs() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = cvt(unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) })?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs of a program while they were counted, on all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunCount {
    /// How many.
    pub runs: u64,
    /// How long they took together. The kernel reads its clock twice for each; that is in it.
    pub total_ns: u64,
}

/// What [`count_runs`] has counted of `program`.
pub fn run_count(program: BorrowedFd<'_>) -> io::Result<RunCount> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut bytes = size_of_val(&info) as u32;
    let place = (&raw mut info).cast();
    // SAFETY: the pointer and the length describe `info`, in which no other pointer is set.
    cvt(unsafe { libbpf_sys::bpf_obj_get_info_by_fd(program.as_raw_fd(), place, &mut bytes) })?;
    Ok(RunCount { runs: info.run_cnt, total_ns: info.run_time_ns })
}
