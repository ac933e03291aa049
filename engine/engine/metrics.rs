//! The metrics of a live capture, and whether it is well, over HTTP. The port is opened while the
//! run has its rights ([`Listener`]), and served by one thread, sealed like all others
//! ([`MetricsThread`]). For each scrape it asks the engine for a [`Snapshot`]
//! ([`Scrapes`](super::scrapes::Scrapes)).

mod http;
mod server;

use super::directory::DirectoryState;
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
use server::Server;
use std::fs::File;
use std::io::PipeWriter;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
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
            Output::Stdout | Output::Counted(_) => None,
        };
        let batch_count_max = config.emit.batch_count_max;
        let process = ProcessFiles::open();
        Ok(Some(Listener { listener, address, process, directory, batch_count_max }))
    }

    /// The directory of the output.
    pub(super) fn directory(&self) -> Option<&File> {
        self.directory.as_ref()
    }

    /// The descriptor of the port.
    pub(super) fn descriptor(&self) -> u32 {
        self.listener.as_raw_fd() as u32
    }

    /// Starts the thread. It asks through `engine`.
    pub(super) fn start(
        self,
        engine: Sender<Event>,
        directory: Option<Arc<DirectoryState>>,
    ) -> Result<MetricsThread, EngineError> {
        let Listener { listener, address, process, batch_count_max, .. } = self;
        let failed = |source| EngineError::Listen { address, source };
        let (woken, wake) = std::io::pipe().map_err(failed)?;
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
    directory: Option<Arc<DirectoryState>>,
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
        render(&Scraped {
            observed: &observed,
            age,
            process: &process,
            stalled_count: last.stalled.len(),
            sandbox: &last.layers.each(),
            batch_count_max: self.batch_count_max as u64,
            free_bytes: self.directory.as_ref().and_then(|directory| directory.free_bytes()),
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

#[cfg(test)]
mod tests {
    use super::super::sandbox::Layers;
    use super::*;
    use crate::observe::ShardState;
    use crate::output::WriterGauges;
    use crate::totals::Totals;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Instant;

    fn snapshot(stalled: &[usize], taken: Instant) -> Snapshot {
        Snapshot {
            totals: Totals::default(),
            shards: vec![ShardState::default(); 3],
            writer: WriterGauges::default(),
            stalled: stalled.to_vec(),
            layers: Layers::default(),
            taken,
        }
    }

    fn scraper(last: Option<Snapshot>) -> (Scraper, Receiver<Event>) {
        let (engine, asked) = channel();
        let process = ProcessFiles::open();
        (Scraper { engine, process, directory: None, batch_count_max: 64, last }, asked)
    }

    /// The answer on the wire.
    fn answer(scraper: &mut Scraper, page: Page) -> String {
        let request = Request { page, is_head: false };
        String::from_utf8(scraper.answer(request).into_bytes()).expect("it is text")
    }

    #[test]
    fn health_names_the_shards_that_do_not_poll() {
        for (stalled, status, says) in [
            (&[][..], 200, "ok"),
            (&[1], 503, "shard 1 did not poll within 5 s"),
            (&[0, 2], 503, "shards 0, 2 did not poll within 5 s"),
        ] {
            let (mut scraper, _asked) = scraper(Some(snapshot(stalled, Instant::now())));
            let answer = answer(&mut scraper, Page::Health);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{says}\n")), "{answer}");
        }
    }

    /// The engine hangs, or has ended: what is there is given, with its age, as long as that is no
    /// claim that all is well.
    #[test]
    fn an_engine_that_does_not_answer_leaves_the_last_figures() {
        let old = Instant::now() - Duration::from_secs(7);
        let (mut lasting, asked) = scraper(Some(snapshot(&[], old)));
        let text = answer(&mut lasting, Page::Metrics);
        assert!(text.contains("\nhttplines_snapshot_age_seconds 7."), "{text}");
        assert!(answer(&mut lasting, Page::Health).starts_with("HTTP/1.1 503 "));
        assert!(matches!(asked.try_recv(), Ok(Event::Scrape(_))), "it was asked");
        drop(asked);
        assert!(answer(&mut lasting, Page::Metrics).starts_with("HTTP/1.1 200 "));
        let (mut none, _asked) = scraper(None);
        assert!(answer(&mut none, Page::Metrics).starts_with("HTTP/1.1 503 "));
        assert!(answer(&mut none, Page::Index).contains("/metrics"));
    }

    #[test]
    fn those_who_ask_at_once_get_the_same_figures() {
        let (mut scraper, asked) = scraper(None);
        let engine = std::thread::spawn(move || {
            let mut asked_count = 0;
            for event in asked {
                let Event::Scrape(reply) = event else { continue };
                asked_count += 1;
                reply.try_send(snapshot(&[], Instant::now())).expect("it waits");
            }
            asked_count
        });
        let begun = Instant::now();
        let [first, second] = [(); 2].map(|()| answer(&mut scraper, Page::Metrics));
        let is_quick = begun.elapsed() < SNAPSHOT_TIME;
        drop(scraper);
        let asked_count = engine.join().expect("it ends");
        assert!(first.starts_with("HTTP/1.1 200 ") && second.starts_with("HTTP/1.1 200 "));
        // On a machine that is too busy the figures of the first are too old.
        assert!(asked_count == 1 || !is_quick, "{asked_count}");
    }
}
