//! [`Server`]: answers on the port of the metrics. Whoever can reach the port may connect to it, so
//! all that a client can take is bounded: connections, bytes, time, and how often the run is asked
//! and connections are taken. One thread reads all requests as they come and answers one after the
//! other, so that a client that is slow, or silent, keeps nobody else waiting.

use super::http::{self, Answer, REQUEST_BYTES_MAX};
use crate::sys::wait::{Until, ready_of};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use std::io::{ErrorKind, PipeReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Connections at the same time. Another one takes the place of the oldest.
const CONNECTION_COUNT_MAX: usize = 16;

/// A request must have come after this time, and so must whoever asks have taken the answer.
const STEP_TIME_MAX: Duration = Duration::from_secs(3);

/// After the answer the client has this time to close the connection: if we closed it while bytes
/// of it are on their way, the answer could be lost with a reset.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// So much of what it still sends is read.
const CLOSING_BYTES_MAX: usize = 64 << 10;

/// Connections in a second. More wait in the kernel, so that strangers take no CPU time from the
/// capture.
const ACCEPT_RATE_MAX: u32 = 100;

/// If the system refuses a connection, for want of descriptors for example, the next one waits.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// What a connection is at.
#[derive(Debug)]
enum Step {
    Reading(Vec<u8>),
    Writing { answer: Vec<u8>, sent: usize },
    Closing { left_bytes: usize },
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    step: Step,
    until: Instant,
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    /// Its other end is closed to end the thread.
    wake: PipeReader,
    connections: Vec<Connection>,
    /// Until when no connection is taken.
    pause: Option<Instant>,
    /// When the second began in which connections are counted, and their number.
    second: (Instant, u32),
}

impl Server {
    /// `listener` does not wait in accept(2).
    pub(super) fn new(listener: TcpListener, wake: PipeReader) -> Server {
        let second = (Instant::now(), 0);
        Server { listener, wake, connections: Vec::new(), pause: None, second }
    }

    /// Serves until the other end of the pipe is closed. `answer` is called for each request.
    pub(super) fn run(mut self, mut answer: impl FnMut(http::Request) -> Answer) {
        loop {
            let Some(ready) = self.wait() else { return };
            let now = Instant::now();
            let mut ready = ready.into_iter();
            self.connections.retain_mut(|connection| {
                let is_ready = ready.next().unwrap_or(false);
                let is_open = !is_ready || connection.go_on(now, &mut answer);
                is_open && connection.is_in_time(now)
            });
            self.accept(now);
        }
    }

    /// Waits until there is something to do. Returns which connections are ready; `None` at the
    /// end.
    fn wait(&mut self) -> Option<Vec<bool>> {
        let now = Instant::now();
        self.pause = self.pause.filter(|until| *until > now);
        let mut waited: Vec<(BorrowedFd<'_>, Until)> = vec![(self.wake.as_fd(), Until::Readable)];
        waited.extend(self.connections.iter().map(|connection| {
            let is_writing = matches!(connection.step, Step::Writing { .. });
            let until = if is_writing { Until::Writable } else { Until::Readable };
            (connection.stream.as_fd(), until)
        }));
        if self.pause.is_none() {
            waited.push((self.listener.as_fd(), Until::Readable));
        }
        let next = self.connections.iter().map(|connection| connection.until).chain(self.pause);
        let wait = next.min().map(|next| next.saturating_duration_since(now));
        // A part of a millisecond is waited for, too. Without connections there is nothing to do
        // for a minute.
        let wait = wait.map_or(Duration::from_secs(60), |wait| wait + Duration::from_millis(1));
        let Ok(mut ready) = ready_of(&waited, wait.as_millis() as u32) else {
            // Only for want of memory. There is no better way to wait.
            std::thread::sleep(REFUSED_WAIT);
            return Some(Vec::new());
        };
        if ready[0] {
            return None;
        }
        ready.truncate(1 + self.connections.len());
        ready.remove(0);
        Some(ready)
    }

    /// Takes the connections that wait.
    fn accept(&mut self, now: Instant) {
        while self.pause.is_none() {
            if now - self.second.0 >= Duration::from_secs(1) {
                self.second = (now, 0);
            }
            if self.second.1 >= ACCEPT_RATE_MAX {
                self.pause = Some(self.second.0 + Duration::from_secs(1));
                return;
            }
            match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    self.second.1 += 1;
                    if self.connections.len() == CONNECTION_COUNT_MAX {
                        self.connections.remove(0);
                    }
                    let (stream, step) = (TcpStream::from(socket), Step::Reading(Vec::new()));
                    let until = now + STEP_TIME_MAX;
                    self.connections.push(Connection { stream, step, until });
                }
                Err(Errno::AGAIN) => return,
                // The client has gone already.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => {}
                Err(_) => self.pause = Some(now + REFUSED_WAIT),
            }
        }
    }
}

impl Connection {
    /// Reads or writes what is possible now. Returns whether the connection goes on.
    fn go_on(&mut self, now: Instant, answer: &mut impl FnMut(http::Request) -> Answer) -> bool {
        match &mut self.step {
            Step::Reading(request) => {
                let known_bytes = request.len();
                let mut part = [0; 2048];
                match self.stream.read(&mut part) {
                    Ok(0) => return false,
                    Ok(bytes) => request.extend(&part[..bytes]),
                    Err(error) => return is_for_later(&error),
                }
                debug_assert!(request.len() < REQUEST_BYTES_MAX + part.len());
                match http::parse(request, known_bytes) {
                    None => true,
                    Some(Ok(request)) => self.answer(answer(request).to(request)),
                    Some(Err(refusal)) => self.answer(refusal),
                }
            }
            Step::Writing { answer, sent } => {
                match self.stream.write(&answer[*sent..]) {
                    Ok(bytes) => *sent += bytes,
                    Err(error) => return is_for_later(&error),
                }
                if *sent == answer.len() {
                    self.step = Step::Closing { left_bytes: CLOSING_BYTES_MAX };
                    self.until = now + CLOSE_TIME_MAX;
                    return self.stream.shutdown(Shutdown::Write).is_ok();
                }
                true
            }
            // What still comes is of no interest.
            Step::Closing { left_bytes } => match self.stream.read(&mut [0; 2048]) {
                Ok(bytes) => {
                    *left_bytes = left_bytes.saturating_sub(bytes);
                    bytes > 0 && *left_bytes > 0
                }
                Err(error) => is_for_later(&error),
            },
        }
    }

    /// Sends an answer, as much of it as is possible now.
    fn answer(&mut self, answer: Answer) -> bool {
        // The run may have taken a while to answer.
        let now = Instant::now();
        self.step = Step::Writing { answer: answer.into_bytes(), sent: 0 };
        self.until = now + STEP_TIME_MAX;
        self.go_on(now, &mut |_| Answer::late())
    }

    /// Whether it may go on. A client that has not asked in time learns that.
    fn is_in_time(&mut self, now: Instant) -> bool {
        if now < self.until {
            return true;
        }
        matches!(self.step, Step::Reading(_)) && self.answer(Answer::late())
    }
}

fn is_for_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
