//! Loss behind the place of capture: a socket that discards some of the packets it receives, before
//! TCP sees them.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// `stream` discards one in `share` of all packets from now on, at random (socket(7),
/// `SO_ATTACH_FILTER`).
pub fn discard_one_in(stream: &TcpStream, share: u32) {
    // bpf_common.h and filter.h in include/uapi/linux.
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    const RANDOM: u32 = (-0x1000_i32 + 56) as u32;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD_WORD, 0, 0, RANDOM),
        step(JUMP_IF_GREATER, 0, 1, u32::MAX / share),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program and its steps live through the call, which copies them.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
