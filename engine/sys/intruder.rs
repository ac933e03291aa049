//! What code that took over a sealed process would try. In test builds only, and only if it is
//! asked for; see `tests/sealed.rs`.

use std::ffi::{CStr, c_long};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

use super::uring::Uring;

/// The environment variable that asks for it.
const ASKED: &str = "HTTPLINES_TEST_INTRUDER";

/// A frame with this type of Ethernet is one of ours.
const FRAME: [u8; 64] = {
    let mut frame = [0xff; 64];
    (frame[12], frame[13]) = (0x88, 0xb5);
    frame
};

/// An intruder with a ring as outputs have one.
#[derive(Debug)]
pub struct Intruder {
    ring: Option<Uring>,
    parent: c_long,
}

/// An attempt, and its result: at least 0, or an error.
type Attempt = (&'static str, io::Result<c_long>);

impl Intruder {
    /// Gets ready, before the seal. `None`: nobody asked.
    pub fn prepare() -> Option<Intruder> {
        std::env::var_os(ASKED)?;
        // SAFETY: nothing is passed.
        let parent = unsafe { libc::getppid() }.into();
        Some(Intruder { ring: Uring::new().ok(), parent })
    }

    /// Tries everything. `packet_socket` is the descriptor of a packet socket.
    pub fn try_all(&mut self, packet_socket: u32) -> Vec<Attempt> {
        let packet_socket = c_long::from(packet_socket);
        let mut attempts = processes(self.parent);
        attempts.extend(files());
        attempts.extend(sockets(packet_socket));
        if let Some(ring) = &mut self.ring {
            // SAFETY: the descriptor stays open meanwhile.
            let socket = unsafe { BorrowedFd::borrow_raw(packet_socket as i32) };
            attempts.push(("a file slot of the ring", ring.set_file(socket).map(|()| 0)));
            let appended = ring.append(vec![FRAME.to_vec()]);
            let result = appended.error.map_or(Ok(appended.written_bytes as c_long), Err);
            attempts.push(("a frame by the ring", result));
            attempts.extend(ring.intrude());
        }
        attempts
    }
}

fn call(number: c_long, arguments: [c_long; 6]) -> io::Result<c_long> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the callers pass pointers to memory that lives through the call, or null; a call that
    // changed this process would be a failure of the test.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn pointer<T: ?Sized>(value: &T) -> c_long {
    ptr::from_ref(value).cast::<u8>() as c_long
}

fn processes(parent: c_long) -> Vec<Attempt> {
    let shell: &CStr = c"/bin/sh";
    let arguments = [pointer(shell), 0];
    let exec = [pointer(shell), pointer(&arguments), 0, 0, 0, 0];
    let namespace = c_long::from(libc::CLONE_NEWUSER);
    let attach = [libc::PTRACE_SEIZE as c_long, parent, 0, 0, 0, 0];
    let thread = c_long::from(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND);
    let attributes = [0u64; 16];
    vec![
        ("execve", call(libc::SYS_execve, exec)),
        ("clone of a process", call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0])),
        ("clone of a thread", call(libc::SYS_clone, [thread, 0, 0, 0, 0, 0])),
        ("clone3", call(libc::SYS_clone3, [pointer(&attributes), 88, 0, 0, 0, 0])),
        ("unshare", call(libc::SYS_unshare, [namespace, 0, 0, 0, 0, 0])),
        ("ptrace", call(libc::SYS_ptrace, attach)),
        ("kill", call(libc::SYS_kill, [parent, 0, 0, 0, 0, 0])),
        ("tgkill", call(libc::SYS_tgkill, [parent, parent, 0, 0, 0, 0])),
        ("bpf", call(libc::SYS_bpf, [0, pointer(&attributes), 48, 0, 0, 0])),
        ("io_uring_setup", call(libc::SYS_io_uring_setup, [4, pointer(&[0u8; 256]), 0, 0, 0, 0])),
        ("executable memory", call(libc::SYS_mmap, [0, 4096, 7, 0x22, -1, 0])),
        ("setuid", call(libc::SYS_setuid, [0; 6])),
    ]
}

fn files() -> Vec<Attempt> {
    let open = |path: &CStr, flags: i32| {
        let at = c_long::from(libc::AT_FDCWD);
        call(libc::SYS_openat, [at, pointer(path), flags.into(), 0o600, 0, 0])
    };
    vec![
        ("open outside to read", open(c"/etc/passwd", libc::O_RDONLY)),
        ("open outside to write", open(c"/tmp/httplines-intruder", libc::O_CREAT | libc::O_RDWR)),
        ("open of /proc", open(c"/proc/self/mem", libc::O_RDWR)),
        ("mount", call(libc::SYS_mount, [0; 6])),
    ]
}

fn sockets(packet_socket: c_long) -> Vec<Attempt> {
    let (family, raw) = (libc::AF_PACKET.into(), libc::SOCK_RAW.into());
    let (inet, stream) = (libc::AF_INET.into(), libc::SOCK_STREAM.into());
    let (frame, length) = (pointer(&FRAME), FRAME.len() as c_long);
    let part = libc::iovec { iov_base: FRAME.as_ptr().cast_mut().cast(), iov_len: FRAME.len() };
    // SAFETY: zeros are a message without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (ptr::from_ref(&part).cast_mut(), 1);
    let nothing = [0u32; 8];
    let to_packets = |number, b, c, d| call(number, [packet_socket, b, c, d, 0, 0]);
    let (level, ring) = (libc::SOL_PACKET.into(), libc::PACKET_TX_RING.into());
    let ring_gone = [packet_socket, level, ring, pointer(&nothing), 28, 0];
    let duplicate = libc::F_DUPFD_CLOEXEC.into();
    let map = [0, 4096, 3, libc::MAP_SHARED.into(), packet_socket, 0];
    vec![
        ("packet socket", call(libc::SYS_socket, [family, raw, 0, 0, 0, 0])),
        ("TCP socket", call(libc::SYS_socket, [inet, stream, 0, 0, 0, 0])),
        ("a frame by write", to_packets(libc::SYS_write, frame, length, 0)),
        ("a frame by writev", to_packets(libc::SYS_writev, pointer(&part), 1, 0)),
        ("a frame by sendto", to_packets(libc::SYS_sendto, frame, length, 0)),
        ("a frame by sendmsg", to_packets(libc::SYS_sendmsg, pointer(&message), 0, 0)),
        ("setsockopt", call(libc::SYS_setsockopt, ring_gone)),
        ("bind", to_packets(libc::SYS_bind, pointer(&nothing), 20, 0)),
        ("fcntl to duplicate", to_packets(libc::SYS_fcntl, duplicate, 3, 0)),
        ("dup", to_packets(libc::SYS_dup, 0, 0, 0)),
        ("dup3", to_packets(libc::SYS_dup3, 300, 0, 0)),
        ("mmap of a packet socket", call(libc::SYS_mmap, map)),
    ]
}

impl Uring {
    /// What a ring could do, if it were not restricted.
    fn intrude(&mut self) -> Vec<Attempt> {
        let entries = [
            ("fsync by the ring", io_uring::opcode::Fsync::new(io_uring::types::Fixed(0)).build()),
            (
                "open by the ring",
                io_uring::opcode::OpenAt::new(
                    io_uring::types::Fd(libc::AT_FDCWD),
                    c"/etc/passwd".as_ptr(),
                )
                .build(),
            ),
            (
                "write by the ring to a descriptor",
                io_uring::opcode::Write::new(io_uring::types::Fd(1), FRAME.as_ptr(), 0).build(),
            ),
        ];
        entries.into_iter().map(|(what, entry)| (what, self.submit_one(&entry))).collect()
    }
}

/// Reports every attempt.
pub fn tell(attempts: &[Attempt]) {
    for (what, result) in attempts {
        match result {
            Ok(value) => tracing::info!("intruder: {what}: {value}"),
            Err(error) => tracing::info!("intruder: {what}: {error}"),
        }
    }
}
