//! Waiting for sockets and pipes: poll(2), and whether reads and writes wait by themselves.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Waits until `descriptor` can be written, or has failed, at most `timeout_ms` milliseconds, and
/// returns whether it can. A signal ends the wait early, like the timeout.
pub fn is_writable(descriptor: impl AsFd, timeout_ms: u32) -> io::Result<bool> {
    let mut polled = [PollFd::new(&descriptor, PollFlags::OUT)];
    poll_once(&mut polled, timeout_ms)
}

/// What a descriptor is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// It can be read, or accept a connection.
    Readable,
    /// It can be written.
    Writable,
}

/// Waits at most `timeout_ms` milliseconds for the first of `descriptors`, and returns which of
/// them are ready, or have failed. A signal ends the wait early, like the timeout.
pub fn ready_of(descriptors: &[(BorrowedFd<'_>, Until)], timeout_ms: u32) -> io::Result<Vec<bool>> {
    let flags = |until| match until {
        Until::Readable => PollFlags::IN,
        Until::Writable => PollFlags::OUT,
    };
    let polled = descriptors.iter().map(|(fd, until)| PollFd::from_borrowed_fd(*fd, flags(*until)));
    let mut polled: Vec<PollFd<'_>> = polled.collect();
    poll_once(&mut polled, timeout_ms)?;
    Ok(polled.iter().map(|one| !one.revents().is_empty()).collect())
}

/// Whether a write to `descriptor` returns instead of waiting (O_NONBLOCK). Its copies in other
/// processes have the same setting.
pub fn is_nonblocking(descriptor: impl AsFd) -> bool {
    fcntl_getfl(descriptor).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

/// Makes writes to `descriptor`, which no other process may share, wait.
pub fn make_blocking(descriptor: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&descriptor)?;
    Ok(fcntl_setfl(&descriptor, flags - OFlags::NONBLOCK)?)
}

fn poll_once(polled: &mut [PollFd<'_>], timeout_ms: u32) -> io::Result<bool> {
    let timeout = Timespec {
        tv_sec: (timeout_ms / 1000).into(),
        tv_nsec: (timeout_ms % 1000 * 1_000_000).into(),
    };
    match poll(polled, Some(&timeout)) {
        Err(Errno::INTR) => Ok(false),
        result => Ok(result? > 0),
    }
}

/// The state of sockets, or other pollable descriptors, that are waited for together, always in the
/// same order.
#[derive(Debug, Default)]
pub struct WaitSet {
    /// By index; sockets beyond its end are waited for, too.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    has_failed: bool,
    is_left_out: bool,
}

impl WaitSet {
    /// Waits until one of `sockets` is readable or has failed, at most `timeout_ms` milliseconds,
    /// and returns whether one is. A signal ends the wait early, like the timeout.
    pub fn wait<'a>(
        &mut self,
        sockets: impl IntoIterator<Item = BorrowedFd<'a>>,
        timeout_ms: u32,
    ) -> io::Result<bool> {
        let mut polled = Vec::with_capacity(self.entries.len().max(1));
        let mut count = 0;
        for (index, socket) in sockets.into_iter().enumerate() {
            count = index + 1;
            if !self.entries.get(index).is_some_and(|entry| entry.is_left_out) {
                polled.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
            }
        }
        self.entries.resize(count, Entry::default());
        let result = poll_once(&mut polled, timeout_ms);
        let mut polled = polled.iter();
        for entry in &mut self.entries {
            let failures = PollFlags::ERR | PollFlags::NVAL;
            let next = if entry.is_left_out { None } else { polled.next() };
            entry.has_failed = next.is_some_and(|polled| polled.revents().intersects(failures));
        }
        result
    }

    /// Whether the last wait found an error on socket `index`.
    pub fn has_failed(&self, index: usize) -> bool {
        self.entries.get(index).is_some_and(|entry| entry.has_failed)
    }

    /// Stops waiting for socket `index`: its error would end every wait immediately.
    pub fn leave_out(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Entry { has_failed: false, is_left_out: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    #[cfg_attr(miri, ignore = "Miri polls nothing")]
    fn those_that_are_ready_are_told() {
        let (quiet, mut send) = io::pipe().unwrap();
        let (closed, gone) = io::pipe().unwrap();
        let wanted = [
            (quiet.as_fd(), Until::Readable),
            (send.as_fd(), Until::Writable),
            (closed.as_fd(), Until::Readable),
        ];
        assert_eq!(ready_of(&wanted, 10_000).unwrap(), [false, true, false]);
        drop(gone);
        assert_eq!(ready_of(&wanted, 10_000).unwrap(), [false, true, true]);
        assert_eq!(ready_of(&wanted[..1], 1).unwrap(), [false]);
        send.write_all(b"x").unwrap();
        assert_eq!(ready_of(&[(quiet.as_fd(), Until::Readable)], 10_000).unwrap(), [true]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri polls nothing")]
    fn what_is_left_out_ends_no_wait() {
        let (quiet, _open) = io::pipe().unwrap();
        let (closed, mut send) = io::pipe().unwrap();
        let mut set = WaitSet::default();
        let both = || [closed.as_fd(), quiet.as_fd()];
        assert!(!set.wait(both(), 1).unwrap());
        send.write_all(b"x").unwrap();
        assert!(set.wait(both(), 10_000).unwrap());
        assert!(!set.has_failed(0) && !set.has_failed(1));
        set.leave_out(0);
        assert!(!set.wait(both(), 1).unwrap());
        // The write end of a pipe without a reader has failed.
        let (receive, send) = io::pipe().unwrap();
        drop(receive);
        assert!(set.wait([quiet.as_fd(), send.as_fd()], 10_000).unwrap());
        assert!(!set.has_failed(0) && set.has_failed(1));
    }
}
