//! The metrics of a live capture, and whether it is well, over HTTP. The port is opened while the
//! run has its rights ([`Listener`]), and served by one thread, sealed like all others
//! ([`MetricsThread`]). For each scrape it asks the engine for a [`Snapshot`]
//! ([`Scrapes`](super::scrapes::Scrapes)).

mod http;
mod server;

use super::error::EngineError;
use super::events::Event;
use super::liveness::STALLED_AFTER;
use super::snapshot::Snapshot;
use crate::config::{Config, Output};
use crate::observe::Observed;
use crate::observe::metrics::{Scraped, render};
use crate::sys::process::ProcessFiles;
use crate::sys::threads;
use http::{Answer, Page, Request};
use rustix::fs::fstatvfs;
use server::Server;
use std::fs::File;
use std::io::PipeWriter;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Sender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A snapshot serves all who ask within this time: strangers can make the run take no more.
const SNAPSHOT_TIME: Duration = Duration::from_millis(200);

/// How long the thread waits for the engine, which waits a part of this time for the shards.
const ENGINE_WAIT: Duration = Duration::from_millis(600);

/// The port, open and not served yet.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    process: ProcessFiles,
    /// The directory of the output.
    directory: Option<File>,
    batch_count_max: usize,
}

impl Listener {
    /// Opens the port of a run that has one, and the files that tell what the process uses.
    pub(super) fn open(config: &Config) -> Result<Option<Listener>, EngineError> {
        let Some(address) = config.watch.metrics else { return Ok(None) };
        let failed = |source| EngineError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let directory = match &config.emit.output {
            Output::File(path) => directory_of(path),
            Output::Stdout => None,
        };
        let batch_count_max = config.emit.batch_count_max;
        let process = ProcessFiles::open();
        Ok(Some(Listener { listener, address, process, directory, batch_count_max }))
    }

    /// Starts the thread. It asks through `engine`.
    pub(super) fn start(self, engine: Sender<Event>) -> Result<MetricsThread, EngineError> {
        let (woken, wake) = std::io::pipe().map_err(EngineError::Thread)?;
        let Listener { listener, address, process, directory, batch_count_max } = self;
        let mut scraper = Scraper { engine, process, directory, batch_count_max, last: None };
        let server = Server::new(listener, woken);
        let thread = threads::start("metrics", move |ready| {
            drop(ready);
            server.run(|request| scraper.answer(request));
        });
        let thread = Some(thread.map_err(EngineError::Thread)?);
        Ok(MetricsThread { thread, wake: Some(wake), address })
    }
}

/// The directory in which a regular file is, or will be.
fn directory_of(path: &Path) -> Option<File> {
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return None;
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new("."))).ok()
}

/// The thread that serves the port. Dropping it closes the port and ends the thread.
#[derive(Debug)]
pub(super) struct MetricsThread {
    thread: Option<JoinHandle<()>>,
    wake: Option<PipeWriter>,
    address: SocketAddr,
}

impl MetricsThread {
    /// The address, with the port that the system chose if none was named.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsThread {
    fn drop(&mut self) {
        drop(self.wake.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread of the metrics failed, which is a bug in httplines");
        }
    }
}

/// Answers requests, in the thread of the metrics.
struct Scraper {
    engine: Sender<Event>,
    process: ProcessFiles,
    directory: Option<File>,
    batch_count_max: usize,
    last: Option<Snapshot>,
}

impl Scraper {
    fn answer(&mut self, request: Request) -> Answer {
        if request.page == Page::Index {
            return Answer::ok("httplines: /metrics for Prometheus, /healthz");
        }
        self.look();
        let age = self.last.as_ref().map(|last| last.taken.elapsed());
        match (&self.last, age, request.page) {
            (Some(last), Some(age), Page::Metrics) => Answer::metrics(self.render(last, age)),
            (Some(last), Some(age), _) if age < STALLED_AFTER => health(last),
            _ => Answer::unavailable("the run does not respond"),
        }
    }

    /// Gets the state of the run, unless there is one that is hardly older. A run that does not
    /// respond leaves the one that there is.
    fn look(&mut self) {
        if self.last.as_ref().is_some_and(|last| last.taken.elapsed() < SNAPSHOT_TIME) {
            return;
        }
        let (reply, answer) = sync_channel(1);
        if self.engine.send(Event::Scrape(reply)).is_ok()
            && let Ok(snapshot) = answer.recv_timeout(ENGINE_WAIT)
        {
            self.last = Some(snapshot);
        }
    }

    fn render(&self, last: &Snapshot, age: Duration) -> String {
        let process = self.process.state();
        let observed = Observed {
            totals: &last.totals,
            shards: &last.shards,
            writer: last.writer,
            resident_bytes: process.resident_bytes,
            errors: Vec::new(),
        };
        let space = self.directory.as_ref().and_then(|directory| fstatvfs(directory).ok());
        render(&Scraped {
            observed: &observed,
            age,
            process: &process,
            stalled_count: last.stalled.len(),
            sandbox: &last.layers.each(),
            batch_count_max: self.batch_count_max as u64,
            free_bytes: space.map(|space| space.f_bavail.saturating_mul(space.f_frsize)),
        })
    }
}

/// Whether every shard polls.
fn health(snapshot: &Snapshot) -> Answer {
    let (stalled, seconds) = (&snapshot.stalled, STALLED_AFTER.as_secs());
    if stalled.is_empty() {
        return Answer::ok("ok");
    }
    let names: Vec<String> = stalled.iter().map(usize::to_string).collect();
    let plural = if stalled.len() == 1 { "" } else { "s" };
    let names = names.join(", ");
    Answer::unavailable(format!("shard{plural} {names} did not poll within {seconds} s"))
}
