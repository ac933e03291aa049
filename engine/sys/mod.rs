//! The only room with unsafe code: what the kernel offers, as safe values.
//!
//! The rule: an unsafe block is as small as the call it is for, and its `SAFETY` comment says who
//! keeps which promise. What leaves this room is safe to use in any order, from any thread that can
//! name it. Nothing here knows of shards, segments or HTTP.
//!
//! - [`mmap`]: a mapping that unmaps itself; heap memory stands in for it in tests.
//! - [`packet_socket`]: an AF_PACKET socket, from its filter to its fanout group.
//! - [`ring`]: the walk over the blocks of a TPACKET_V3 ring, which trusts no offset in them.
//! - [`file_map`]: a file as memory, and what happens where it is cut.
//! - [`filter`]: the kernel filter of `bpf/`, loaded; its gate and counters are mapped memory.
//! - [`fanout`]: the program that chooses the shard of a frame, loaded.
//! - [`counters`]: what those counters are called.
//! - [`notes`]: what user space tells the filter of connections, in mapped memory, too.
//! - [`interface`]: the machine's interfaces, their names, flags and losses.
//! - [`simd`]: sixteen bytes at a time, by the CPU's own instructions.
//! - [`memory`]: how much there is.
//! - [`privileges`]: what we may do.
//! - [`wait`]: waiting for sockets.
//! - [`uring`]: appending buffers to a file by io_uring.
//! - [`signals`]: the one signal that must not end us.
//! - [`affinity`]: which CPUs we may use, and staying on one of them.
//! - [`program`]: what a program says of a frame in memory.
//!
//! What loads programs into the kernel or has memory in common with it is there with the feature
//! `live` only.

use std::io;

#[cfg(feature = "live")]
pub mod affinity;
#[cfg(feature = "live")]
pub mod counters;
#[cfg(feature = "live")]
pub mod fanout;
pub mod file_map;
#[cfg(feature = "live")]
pub mod filter;
pub mod flow_hints;
#[cfg(feature = "live")]
pub mod interface;
#[cfg(feature = "live")]
pub mod memory;
pub mod mmap;
#[cfg(feature = "live")]
pub mod packet_socket;
#[cfg(feature = "live")]
pub mod privileges;
#[cfg(feature = "live")]
pub mod program;
#[cfg(feature = "live")]
mod restrict;
#[cfg(feature = "live")]
pub mod ring;
#[cfg(feature = "live")]
pub mod signals;
pub mod simd;
#[cfg(feature = "live")]
pub mod uring;
pub mod wait;

/// The one door for the C library's convention: a negative result means that `errno` tells why.
fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(feature = "live")]
/// Declares `mod skeleton`: what libbpf-cargo made of a program of `bpf/` (`build.rs`).
macro_rules! skeleton {
    ($name:literal) => {
        #[allow(
            clippy::all,
            clippy::undocumented_unsafe_blocks,
            missing_docs,
            missing_debug_implementations,
            unsafe_op_in_unsafe_fn
        )]
        mod skeleton {
            include!(concat!(env!("OUT_DIR"), "/", $name, ".skel.rs"));
        }
    };
}
#[cfg(feature = "live")]
use skeleton;

#[cfg(feature = "live")]
/// Lets libbpf talk to the log: the verifier's words are for us, not for users.
fn hush_libbpf() {
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Debug, |_, text| {
        tracing::debug!("libbpf: {}", text.trim_end());
    })));
}

/// That `bpf/shared.h` has each of these lines.
#[cfg(all(test, feature = "live"))]
fn assert_shared(lines: &[&str]) {
    let shared = include_str!("../../bpf/shared.h");
    for line in lines {
        assert!(shared.lines().any(|theirs| theirs == *line), "{line}");
    }
}
