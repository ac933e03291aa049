//! A service manager's end of `NOTIFY_SOCKET`.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

/// No message takes longer, unless it does not come.
const WAIT: Duration = Duration::from_secs(20);

/// A socket that receives notifications, as systemd has one.
pub struct ServiceManager {
    socket: UnixDatagram,
    address: String,
}

impl ServiceManager {
    /// Listens at `address`: a path, or `@` and a name in the abstract namespace of this thread's
    /// network.
    pub fn at(address: &str) -> ServiceManager {
        let bound = match address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).expect("a short name"),
            None => SocketAddr::from_pathname(address).expect("a short path"),
        };
        let socket = UnixDatagram::bind_addr(&bound).expect("nobody listens there");
        socket.set_read_timeout(Some(WAIT)).expect("it can wait");
        ServiceManager { socket, address: address.into() }
    }

    /// Has `command` notify it. With `watchdog_ms` it wants a sign of life within that time.
    pub fn watch(&self, command: &mut Command, watchdog_ms: Option<u64>) {
        command.env("NOTIFY_SOCKET", &self.address);
        if let Some(ms) = watchdog_ms {
            command.env("WATCHDOG_USEC", (ms * 1000).to_string());
        }
    }

    /// The next message.
    pub fn next(&self) -> String {
        self.receive().expect("a message comes")
    }

    fn receive(&self) -> std::io::Result<String> {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.recv(&mut bytes) {
                // A call with a timeout is not restarted after a signal (signal(7)), and the C
                // library sends one to every thread when a test changes its ids (nptl(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => {
                    let bytes = &bytes[..received?];
                    return Ok(String::from_utf8(bytes.to_vec()).expect("text"));
                }
            }
        }
    }

    /// Waits for a sign of life. Before it there is a status at most.
    pub fn await_sign(&self) {
        let mut message = self.next();
        while message.starts_with("STATUS=") {
            message = self.next();
        }
        assert_eq!(message, "WATCHDOG=1");
    }

    /// The next message that is neither a sign of life nor a status alone.
    pub fn next_state(&self) -> String {
        loop {
            let message = self.next();
            if message != "WATCHDOG=1" && !message.starts_with("STATUS=") {
                return message;
            }
        }
    }

    /// The messages of the next `time`.
    pub fn during(&self, time: Duration) -> Vec<String> {
        let until = std::time::Instant::now() + time;
        let mut messages = Vec::new();
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                break;
            }
            self.socket.set_read_timeout(Some(left)).expect("it can wait");
            messages.extend(self.receive());
        }
        self.socket.set_read_timeout(Some(WAIT)).expect("it can wait");
        messages
    }
}
