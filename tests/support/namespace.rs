//! Network namespaces for tests: those of the benchmark harness, with addresses, and skipped where
//! we may not create one.

use std::io;
use std::os::fd::AsRawFd;

#[path = "../../bench/veth/namespace.rs"]
#[allow(dead_code, reason = "the harness uses the rest")]
mod nameless;

/// The system call that `nameless` needs.
mod sys {
    /// Gives the calling thread a new network namespace: unshare(2).
    pub fn unshare_network() -> std::io::Result<()> {
        // SAFETY: no memory is passed; only this thread changes its namespace.
        match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// Numbers of linux/capability.h.
pub const CAP_NET_RAW: u32 = 13;
pub const CAP_BPF: u32 = 39;

/// A network namespace, kept by the thread that lives in it.
pub struct Namespace(nameless::Namespace);

impl Namespace {
    /// A new namespace with loopback up; `None` where we may not create one: a test
    /// then ends with `skip!`.
    pub fn new() -> Option<Namespace> {
        made(nameless::Namespace::new()).map(Namespace)
    }

    /// Runs `job` in the namespace and waits for it. A thread that it starts is in the namespace,
    /// too.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.0.run(job)
    }

    /// Runs ip(8) with `arguments`.
    pub fn ip(&self, arguments: &str) {
        self.try_ip(arguments).expect("ip(8) is there and does it");
    }

    /// Runs ip(8) with `arguments`, which this kernel may not support.
    pub fn try_ip(&self, arguments: &str) -> io::Result<()> {
        self.0.ip(arguments)
    }

    /// Drops all capabilities except those in `kept` (numbers of linux/capability.h) from the
    /// namespace's thread only.
    pub fn keep_capabilities(&self, kept: &[u32]) {
        let mask = kept.iter().fold(0u64, |mask, number| mask | 1 << number);
        self.run(move || {
            // Version 3, this thread; then effective, permitted and inheritable, low words first.
            let header = [0x2008_0522u32, 0];
            let (low, high) = (mask as u32, (mask >> 32) as u32);
            let sets = [low, low, 0, high, high, 0];
            // SAFETY: both arrays have the layout that capset(2) reads, and live through the call.
            let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
        });
    }

    /// Two namespaces with a veth pair between them: `veth0` with 10.0.0.9 in the first, `veth1`
    /// with 10.0.0.1 in the second, both up.
    pub fn pair() -> Option<(Namespace, Namespace)> {
        let (client, server) = made(nameless::Namespace::pair())?;
        let (client, server) = (Namespace(client), Namespace(server));
        client.ip("address add 10.0.0.9/24 dev veth0");
        server.ip("address add 10.0.0.1/24 dev veth1");
        Some((client, server))
    }
}

fn made<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        result => Some(result.expect("a network namespace can be made")),
    }
}

/// Sends raw frames out of an interface.
pub struct Injector {
    socket: httplines::sys::packet_socket::PacketSocket,
}

impl Injector {
    /// An injector for `device` in the calling thread's namespace.
    pub fn new(device: &str) -> Injector {
        let socket = httplines::sys::packet_socket::PacketSocket::open().expect("we are root");
        let ifindex = httplines::sys::interface::index_of(device).expect("the device is there");
        socket.bind(ifindex).expect("the device can be bound");
        Injector { socket }
    }

    /// Sends `frame`, all of it.
    pub fn send(&self, frame: &[u8]) {
        use std::os::fd::AsFd;
        let descriptor = self.socket.as_fd().as_raw_fd();
        // SAFETY: the pointer and the length describe `frame`.
        let sent = unsafe { libc::send(descriptor, frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }
}
