//! Waiting for sockets and pipes: poll(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sockets, or what else can be polled, that are waited for together, in a fixed order.
#[derive(Debug)]
pub struct WaitSet {
    entries: Vec<libc::pollfd>,
}

impl WaitSet {
    /// Waits for `sockets`. They stay open as long as the set is used: a closed one reads as
    /// failed.
    pub fn new<'a>(sockets: impl IntoIterator<Item = BorrowedFd<'a>>) -> WaitSet {
        let entry = |socket: BorrowedFd<'a>| libc::pollfd {
            fd: socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        WaitSet { entries: sockets.into_iter().map(entry).collect() }
    }

    /// Waits until a socket is readable or has failed, and says whether one is; at most
    /// `timeout_ms` milliseconds. A signal ends the wait early, like the timeout.
    pub fn wait(&mut self, timeout_ms: u32) -> io::Result<bool> {
        let timeout = timeout_ms.min(i32::MAX as u32) as libc::c_int;
        let count = self.entries.len() as libc::nfds_t;
        // SAFETY: the pointer and the count describe the vector.
        match super::cvt(unsafe { libc::poll(self.entries.as_mut_ptr(), count, timeout) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.entries.iter_mut().for_each(|entry| entry.revents = 0);
                Ok(false)
            }
            result => result.map(|ready_count| ready_count > 0),
        }
    }

    /// Whether the last wait found socket `index` with an error.
    pub fn has_failed(&self, index: usize) -> bool {
        self.entries[index].revents & (libc::POLLERR | libc::POLLNVAL) != 0
    }

    /// Waits no more for socket `index`: its error would end every wait at once.
    pub fn leave_out(&mut self, index: usize) {
        self.entries[index].fd = -1;
    }
}
