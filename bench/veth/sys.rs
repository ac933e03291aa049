//! The only file of the harness with unsafe code: what the kernel offers to those who measure, as
//! safe values. bpf(2), sendmmsg(2), sched(7), unshare(2), prctl(2).

use httplines::sys::packet_socket::PacketSocket;
use libbpf_rs::libbpf_sys;
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use std::ffi::c_char;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// What libbpf-cargo made of `bpf/traffic.bpf.c` (`build.rs`).
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    missing_docs,
    missing_debug_implementations,
    unsafe_op_in_unsafe_fn
)]
pub mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/traffic.skel.rs"));
}

/// PACKET_VNET_HDR of linux/if_packet.h.
const PACKET_VNET_HDR: libc::c_int = 15;

/// The one door for the C library's convention: a negative result means that `errno` tells why.
fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The memory of a mmapable BPF array, which the kernel may write at any time: word by word,
/// atomically.
#[derive(Debug)]
pub struct ArrayMap {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to the mapping alone, and is no thread's in particular.
unsafe impl Send for ArrayMap {}
// SAFETY: all access is atomic.
unsafe impl Sync for ArrayMap {}

impl ArrayMap {
    /// Maps the first `bytes` bytes of `map`, shared.
    pub fn of_file(map: BorrowedFd<'_>, bytes: usize) -> io::Result<ArrayMap> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses an address that nothing else uses.
        let start =
            unsafe { libc::mmap(null_mut(), bytes, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(ArrayMap { start, bytes })
    }

    /// The 32-bit word at `offset` bytes.
    ///
    /// # Panics
    /// Where the word is not inside, or `offset` is not a multiple of 4.
    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `place` checks bounds and alignment; the memory lives as long as `self`.
        unsafe { AtomicU32::from_ptr(self.place::<u32>(offset)) }
    }

    /// The 64-bit word at `offset` bytes.
    ///
    /// # Panics
    /// Where the word is not inside, or `offset` is not a multiple of 8.
    pub fn word64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `place` checks bounds and alignment; the memory lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.place::<u64>(offset)) }
    }

    fn place<T>(&self, offset: usize) -> *mut T {
        let room = self.bytes.checked_sub(size_of::<T>());
        assert!(room.is_some_and(|last| offset <= last), "inside the array");
        assert!(offset.is_multiple_of(align_of::<T>()), "words are aligned");
        // SAFETY: inside, and a mapping begins at a page.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }
}

impl Drop for ArrayMap {
    fn drop(&mut self) {
        // SAFETY: what was mapped; nobody borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Runs XDP program `program` `attempts` times on frames in `page`, and puts what it passes into
/// the receive path of interface `ifindex`, taken in after each `batch` of them:
/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
pub fn run_live(
    program: BorrowedFd<'_>,
    page: &[u8],
    ifindex: u32,
    attempts: u32,
    batch: u32,
) -> io::Result<()> {
    let context = libbpf_sys::xdp_md {
        data_end: page.len() as u32,
        ingress_ifindex: ifindex,
        ..Default::default()
    };
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: page.as_ptr().cast(),
        data_size_in: page.len() as u32,
        ctx_in: (&raw const context).cast(),
        ctx_size_in: size_of_val(&context) as u32,
        repeat: attempts as i32,
        flags: libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES,
        batch_size: batch,
        ..Default::default()
    };
    // SAFETY: the options point to `page` and `context`, which live through the call, and ask for
    // no output.
    cvt(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) })?;
    Ok(())
}

/// Runs XDP program `program` once on `frame`; how many bytes it left in `made`.
#[cfg(test)]
pub fn run_once(program: BorrowedFd<'_>, frame: &[u8], made: &mut [u8]) -> io::Result<usize> {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        data_out: made.as_mut_ptr().cast(),
        data_size_out: made.len() as u32,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: the options point to `frame` and `made`, with their lengths, which live through the
    // call.
    cvt(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) })?;
    Ok(options.data_size_out as usize)
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

/// Lets the calling thread, and what it starts from now on, go before all that is not real-time:
/// SCHED_FIFO, sched(7). Priority alone would not do: sessions share CPUs, and then each shares its
/// part. `false` where that is not allowed.
pub fn outrank() -> bool {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to `parameters`. To Linux thread 0 is the caller.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) == 0 }
}

/// Lets every frame that is sent begin with a `virtio_net_hdr`, which says how a superpacket is
/// to be cut (PACKET_VNET_HDR, Linux 2.6.27), and go to the driver at once, without a queue
/// (PACKET_QDISC_BYPASS, Linux 3.14).
pub fn prepare_to_send(socket: &PacketSocket) -> io::Result<()> {
    for option in [libc::PACKET_QDISC_BYPASS, PACKET_VNET_HDR] {
        let (level, yes) = (libc::SOL_PACKET, 1 as libc::c_int);
        let (place, bytes) = ((&raw const yes).cast(), size_of_val(&yes) as libc::socklen_t);
        // SAFETY: the pointer and the length describe `yes`.
        cvt(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, place, bytes) })?;
    }
    Ok(())
}

/// Sends `frames` out of the interface the socket is bound to, in order, each with its header
/// in front: sendmmsg(2). Returns how many went; an error is that of the one behind those that
/// went before. ENOBUFS: the interface dropped it.
pub fn send(socket: &PacketSocket, frames: &[Vec<u8>]) -> io::Result<usize> {
    let part = |frame: &Vec<u8>| libc::iovec {
        iov_base: frame.as_ptr().cast_mut().cast(),
        iov_len: frame.len(),
    };
    let mut parts: Vec<libc::iovec> = frames.iter().map(part).collect();
    let message = |part: &mut libc::iovec| {
        // SAFETY: zeros are a message without name, parts and control data.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        message
    };
    let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
    let (start, count) = (messages.as_mut_ptr(), messages.len() as libc::c_uint);
    // SAFETY: the messages point to `parts`, those to `frames`, and all live through the call,
    // which only reads the frames.
    let sent = cvt(unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), start, count, 0) })?;
    Ok(sent as usize)
}

/// Gives the calling thread a new network namespace, which goes when the thread, its sockets and
/// the processes it started have gone. Needs CAP_SYS_ADMIN: EPERM.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: no memory is passed; only this thread changes its namespace.
    cvt(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(|_| ())
}

/// Lets the process of `command` be killed when the thread that spawns it ends, however that comes:
/// PR_SET_PDEATHSIG.
pub fn die_with_thread(command: &mut Command) -> &mut Command {
    let bind = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec this makes one system call and allocates nothing.
    unsafe { command.pre_exec(bind) }
}

/// Sends `signal` to the processes of group `id`, that of a child: kill(2).
///
/// # Panics
/// Where `id` is that of no child: 0 is our own group, and 1 would be everybody.
pub fn send_signal_to_group(id: u32, signal: Signal) -> io::Result<()> {
    assert!(id > 1 && id <= i32::MAX as u32, "a child has another number");
    let group = Pid::from_raw(id as i32).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process_group(group, signal)?)
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
        send_signal_to_group(child.id(), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}
