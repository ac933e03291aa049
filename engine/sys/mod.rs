//! The only module with unsafe code: services of the kernel, as safe values.
//!
//! The rule: an unsafe block is as small as the call it is for, and its `SAFETY` comment states who
//! keeps which promise. Everything this module exports is safe to use in any order, from any thread
//! that can name it. Nothing here knows of shards, segments or HTTP.
//!
//! - [`mmap`]: a mapping that unmaps itself; tests use heap memory in its place.
//! - [`packet_socket`]: an AF_PACKET socket, from its filter to its fanout group.
//! - [`ring`]: the walk over the blocks of a TPACKET_V3 ring, which trusts no offset in them.
//! - [`file_map`]: a file as memory, and what happens if it is cut meanwhile.
//! - [`filter`]: loads the kernel filter of `bpf/`; its gate and counters are mapped memory.
//! - [`fanout`]: loads the program that chooses the shard of a frame.
//! - [`counters`]: the names of the filter's counters.
//! - [`flow_hints`]: what user space reports to the filter about connections; mapped memory, too.
//! - [`interface`]: the machine's interfaces, their names, flags and losses.
//! - [`ethtool`]: what a driver says of its NIC.
//! - [`clock`]: whether the machine's clock is right.
//! - [`line_memory`]: the memory of a line, written without checks.
//! - [`simd`]: operations on sixteen bytes at a time, by the CPU's own instructions.
//! - [`landlock`]: which files this process may still open.
//! - [`memory`]: how much memory is available.
//! - [`priority`]: the lowest priority for a thread.
//! - [`privileges`]: the user and the capabilities of this thread, and what restricts them.
//! - [`seccomp`]: which system calls this process may still make.
//! - [`limits`]: the limits of this process.
//! - `intruder` (test builds): what code that took over this process would try.
//! - [`kernel`]: the kernel's release.
//! - [`user`]: users and groups, and becoming one.
//! - [`wait`]: waiting for sockets and pipes.
//! - [`uring`]: appending buffers to a file by io_uring.
//! - [`signals`]: the one signal that must not end the process.
//! - [`affinity`]: the CPUs that we may use, and pinning to one of them.
//! - [`threads`]: starting a thread, and waiting until it is ready.
//! - [`thread_clock`]: the CPU time of a thread.
//! - [`process`]: what this process uses.
//! - [`program`]: the verdict of a program on a frame in memory.
//!
//! Modules that load programs into the kernel or share memory with it exist with the feature `live`
//! only.

use std::io;

#[cfg(feature = "live")]
pub mod affinity;
#[cfg(feature = "live")]
pub mod clock;
#[cfg(feature = "live")]
pub mod counters;
#[cfg(feature = "live")]
pub mod ethtool;
#[cfg(feature = "live")]
pub mod fanout;
pub mod file_map;
#[cfg(feature = "live")]
pub mod filter;
pub mod flow_hints;
#[cfg(feature = "live")]
pub mod interface;
#[cfg(all(feature = "live", debug_assertions))]
pub mod intruder;
#[cfg(feature = "live")]
pub mod kernel;
#[cfg(feature = "live")]
pub mod landlock;
pub mod limits;
pub mod line_memory;
#[cfg(feature = "live")]
pub mod memory;
pub mod mmap;
#[cfg(feature = "live")]
pub mod packet_socket;
pub mod priority;
pub mod privileges;
#[cfg(feature = "live")]
pub mod process;
#[cfg(feature = "live")]
pub mod program;
#[cfg(feature = "live")]
mod restrict;
#[cfg(feature = "live")]
pub mod ring;
#[cfg(feature = "live")]
pub mod seccomp;
#[cfg(feature = "live")]
pub mod signals;
pub mod simd;
pub mod thread_clock;
pub mod threads;
#[cfg(feature = "live")]
pub mod uring;
#[cfg(feature = "live")]
pub mod user;
pub mod wait;

/// Converts results by the C library's convention: if negative, `errno` has the reason.
fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(feature = "live")]
/// Declares `mod skeleton`, which libbpf-cargo generated from a program of `bpf/` (`build.rs`).
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
thread_local! {
    /// The first warning of libbpf in this thread since [`hush_libbpf`]: the step that failed.
    static LIBBPF_WARNING: std::cell::RefCell<Option<String>> = const {
        std::cell::RefCell::new(None)
    };
}

#[cfg(feature = "live")]
/// Sends libbpf's messages to the debug log: the verifier's output is for us, not for users.
fn hush_libbpf() {
    LIBBPF_WARNING.take();
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Debug, |level, text| {
        let text = text.trim_end();
        tracing::debug!("libbpf: {text}");
        if level == libbpf_rs::PrintLevel::Warn {
            // The rest is advice for programmers.
            let step = text.split([';', '\n']).next().unwrap_or_default();
            let step = step.split(". ").next().unwrap_or_default();
            let step = step.trim_start_matches("libbpf: ").to_string();
            LIBBPF_WARNING.with_borrow_mut(|first| _ = first.get_or_insert(step));
        }
    })));
}

/// An error of the system in its own words, without the number that Rust adds.
pub(crate) fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}

/// Asserts that `bpf/shared.h` contains each of these lines.
#[cfg(all(test, feature = "live"))]
fn assert_shared(lines: &[&str]) {
    let shared = include_str!("../../bpf/shared.h");
    for line in lines {
        assert!(shared.lines().any(|theirs| theirs == *line), "{line}");
    }
}
