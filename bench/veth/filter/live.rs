//! Frames that really arrive: a veth pair in a namespace of its own, with a packet socket at one
//! end.

use crate::namespace::Namespace;
use crate::sys::{self, RunCount};
use anyhow::{Context, ensure};
use httplines::sys::interface::index_of;
use httplines::sys::packet_socket::PacketSocket;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Frames that may be in flight: fewer than the kernel queues for a CPU (net.core.
/// netdev_max_backlog is 1000), so that none is lost.
const BATCH_COUNT: usize = 256;

/// Time to wait for frames that do not arrive. A machine that takes longer has other problems.
const ARRIVE_WAIT: Duration = Duration::from_secs(20);

/// A veth pair.
#[derive(Debug)]
pub struct Wire {
    namespace: Namespace,
    near: File,
}

impl Wire {
    /// Needs root.
    pub fn new() -> anyhow::Result<Wire> {
        let namespace = Namespace::new()?;
        namespace.ip("link add near type veth peer name far")?;
        for device in ["near", "far"] {
            // IPv6 would send packets of its own.
            namespace.ip(&format!("link set {device} addrgenmode none"))?;
            namespace.ip(&format!("link set {device} up"))?;
        }
        let (socket, ifindex) = open(&namespace, "near")?;
        socket.bind(ifindex)?;
        // Writing to a bound packet socket sends a frame.
        let near = File::from(socket.as_fd().try_clone_to_owned()?);
        Ok(Wire { namespace, near })
    }

    /// The time of `program` for `count` frames, which are `frames` in turn, repeatedly.
    pub fn measure(
        &mut self,
        program: BorrowedFd<'_>,
        frames: &[Vec<u8>],
        count: usize,
    ) -> anyhow::Result<RunCount> {
        let (far, ifindex) = open(&self.namespace, "far")?;
        far.attach(program)?;
        far.bind(ifindex)?;
        // Enabled only here: it would slow down all other runs, those in memory too.
        let _counting = sys::count_runs().context("the kernel does not count runs")?;
        let start = sys::run_count(program)?;
        self.send(program, frames.iter().cycle().take(count))?;
        let end = sys::run_count(program)?;
        let runs = end.runs - start.runs;
        ensure!(
            runs == count as u64,
            "{count} frames were sent and {runs} ran through the program"
        );
        Ok(RunCount { runs, total_ns: end.total_ns - start.total_ns })
    }

    /// Sends `frames` and waits until `program` has run on all of them.
    fn send<'a>(
        &mut self,
        program: BorrowedFd<'_>,
        frames: impl Iterator<Item = &'a Vec<u8>>,
    ) -> anyhow::Result<()> {
        let mut due = sys::run_count(program)?.runs;
        let mut frames = frames.peekable();
        while frames.peek().is_some() {
            for frame in frames.by_ref().take(BATCH_COUNT) {
                self.near.write_all(frame).context("cannot send a frame")?;
                due += 1;
            }
            let until = Instant::now() + ARRIVE_WAIT;
            while sys::run_count(program)?.runs < due {
                ensure!(Instant::now() < until, "frames were sent and did not arrive");
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

/// A packet socket of the namespace, to be bound to `device`.
fn open(namespace: &Namespace, device: &'static str) -> anyhow::Result<(PacketSocket, u32)> {
    let (socket, ifindex) = namespace
        .run(move || -> io::Result<_> { Ok((PacketSocket::open()?, index_of(device))) })?;
    Ok((socket, ifindex.context("the veth pair has gone")?))
}
