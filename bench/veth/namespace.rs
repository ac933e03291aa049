//! Network namespaces without names. Each belongs to a thread, and disappears when the thread, its
//! sockets and its processes are gone. So no two runs can meet, and none leaves anything behind.

use super::sys::unshare_network;
use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, represented by the thread in it.
#[derive(Debug)]
pub struct Namespace {
    jobs: mpsc::Sender<Job>,
    /// The thread's id, by which `ip link` knows the namespace.
    thread: String,
}

impl Namespace {
    /// A new namespace with loopback up. Needs root.
    pub fn new() -> io::Result<Namespace> {
        let namespace = Namespace::entered(unshare_network)?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The namespace that this program was started in.
    pub fn current() -> io::Result<Namespace> {
        Namespace::entered(|| Ok(()))
    }

    fn entered(enter: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Namespace> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (answer, ready) = mpsc::channel();
        thread::Builder::new().name("namespace".into()).spawn(move || {
            let entered = enter().and_then(|()| std::fs::read_link("/proc/thread-self"));
            let id = entered.map(|link| link.to_string_lossy().into_owned());
            let is_entered = id.is_ok();
            if answer.send(id).is_ok() && is_entered {
                queue.into_iter().for_each(|job| job());
            }
        })?;
        let link = ready.recv().map_err(io::Error::other)??;
        let thread = link.rsplit('/').next().unwrap_or_default().to_string();
        Ok(Namespace { jobs, thread })
    }

    /// Runs `job` in the namespace and waits for it. Threads and processes that it starts are in
    /// the namespace, too.
    ///
    /// # Panics
    /// If the job panics.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel();
        self.jobs
            .send(Box::new(move || drop(answer.send(job()))))
            .expect("the thread lives as long as its namespace");
        result.recv().expect("the job did not panic")
    }

    /// Runs ip(8) with `arguments`.
    pub fn ip(&self, arguments: &str) -> io::Result<()> {
        self.call("ip", arguments)
    }

    /// Runs `program` with `arguments`, to its end; an error contains its output.
    pub fn call(&self, program: &'static str, arguments: &str) -> io::Result<()> {
        let words: Vec<String> = arguments.split(' ').map(String::from).collect();
        let output = self.run(move || Command::new(program).args(words).output());
        let output = output.map_err(|error| io::Error::other(format!("{program}: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{program} {arguments}: {}", said.trim_end())))
    }

    /// Two namespaces with a veth pair between them: `veth0` in the first, `veth1` in the second,
    /// both up and silent.
    pub fn pair() -> io::Result<(Namespace, Namespace)> {
        let (client, server) = (Namespace::new()?, Namespace::new()?);
        let peer = &server.thread;
        client.ip(&format!("link add veth0 type veth peer name veth1 netns {peer}"))?;
        for (namespace, device) in [(&client, "veth0"), (&server, "veth1")] {
            // IPv6 would send packets of its own.
            namespace.ip(&format!("link set {device} addrgenmode none"))?;
            namespace.ip(&format!("link set {device} up"))?;
        }
        Ok((client, server))
    }
}
