//! Network namespaces without names: each is a thread's own and goes when the thread and its
//! sockets have gone, so that no two tests can meet and none leaves anything behind.

use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, by the thread that lives in it.
pub struct Namespace {
    jobs: mpsc::Sender<Job>,
    /// The thread's id, by which `ip link` knows the namespace.
    thread: String,
}

impl Namespace {
    /// A new namespace with loopback up; `None`, said once, where we may not make one.
    pub fn new() -> Option<Namespace> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (answer, ready) = mpsc::channel();
        thread::spawn(move || {
            // SAFETY: no memory is passed; only this thread changes its namespace.
            let entered = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
            let link = std::fs::read_link("/proc/thread-self").expect("/proc is there");
            let id = link.file_name().expect("ends with the id").to_string_lossy().into_owned();
            answer.send(entered.then_some(id)).expect("new() waits");
            queue.into_iter().for_each(|job| job());
        });
        let Some(thread) = ready.recv().expect("the thread answers") else {
            eprintln!("skipped: a network namespace needs root");
            return None;
        };
        let namespace = Namespace { jobs, thread };
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Runs `job` in the namespace and waits for it. A thread that it starts is in there too.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel();
        self.jobs
            .send(Box::new(move || drop(answer.send(job()))))
            .expect("the thread lives as long as its namespace");
        result.recv().expect("the job did not panic")
    }

    /// Runs ip(8) with `arguments`.
    pub fn ip(&self, arguments: &str) {
        let words: Vec<String> = arguments.split(' ').map(String::from).collect();
        let output =
            self.run(move || Command::new("ip").args(words).output().expect("ip(8) is there"));
        assert!(output.status.success(), "ip {arguments}: {:?}", output);
    }

    /// Takes all capabilities but those in `kept` (numbers of linux/capability.h) from the
    /// namespace's thread, and from nobody else.
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
        let (client, server) = (Namespace::new()?, Namespace::new()?);
        let peer = &server.thread;
        client.ip(&format!("link add veth0 type veth peer name veth1 netns {peer}"));
        for (namespace, device, address) in
            [(&client, "veth0", "10.0.0.9/24"), (&server, "veth1", "10.0.0.1/24")]
        {
            // IPv6 would speak at its own times.
            namespace.ip(&format!("link set {device} addrgenmode none"));
            namespace.ip(&format!("address add {address} dev {device}"));
            namespace.ip(&format!("link set {device} up"));
        }
        Some((client, server))
    }
}

/// Sends raw frames out of an interface.
pub struct Injector {
    socket: httplines::sys::packet_socket::PacketSocket,
}

impl Injector {
    /// Of `device` in the calling thread's namespace.
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
