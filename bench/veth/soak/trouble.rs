//! What happens to a capture that nobody watches: signals, links that go down, interfaces that come
//! and go, files that are moved away, and a full disk. All of it again and again, each at its time.

use super::folder::{ACTIVE, BALLAST, MOVED};
use super::load::{Load, Outage};
use super::subject::Subject;
use crate::namespace::Namespace;
use crate::receiver::IFACE;
use rustix::process::Signal;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// SIGHUP.
    HangUp,
    /// The active file is renamed, and then comes SIGHUP: logrotate(8).
    MoveAway,
    LinkDown,
    LinkUp,
    /// Another interface appears in the namespace.
    AddInterface,
    RemoveInterface,
    /// The disk is full, and is kept full.
    FillDisk,
    FreeDisk,
}

/// How often all of it is repeated.
pub const PERIOD: Duration = Duration::from_secs(30);
/// What is begun is ended within this time.
pub const LONGEST: Duration = Duration::from_secs(4);
/// When each happens, in seconds of a period.
const EVENTS: [(f64, Event); 8] = [
    (4.0, Event::HangUp),
    (8.0, Event::LinkDown),
    (9.0, Event::LinkUp),
    (12.0, Event::MoveAway),
    (15.0, Event::AddInterface),
    (17.0, Event::RemoveInterface),
    (20.0, Event::FillDisk),
    (24.0, Event::FreeDisk),
];

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Counts {
    /// SIGHUP, without anything else.
    pub hang_ups: u64,
    /// The active file was renamed, and SIGHUP followed.
    pub moves: u64,
    /// The link went down and came up.
    pub link_downs: u64,
    /// Another interface came and went.
    pub interfaces: u64,
    /// The disk was full for a while.
    pub full_disks: u64,
}

/// Who makes all the trouble.
#[derive(Debug)]
pub struct Trouble {
    folder: PathBuf,
    /// Events so far, of all periods.
    done: usize,
    ballast: Option<File>,
    /// Whether there is another interface.
    has_other: bool,
    /// The frames that were sent before the link went down, while it is down.
    down_since: Option<u64>,
    /// Frames that nobody could capture.
    pub outages: Vec<Outage>,
    /// What happened so far.
    pub counts: Counts,
}

impl Trouble {
    /// With the output in `folder`.
    pub fn new(folder: &Path) -> Trouble {
        Trouble {
            folder: folder.into(),
            done: 0,
            ballast: None,
            has_other: false,
            down_since: None,
            outages: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Does what is due at this time since the start.
    pub fn make(
        &mut self,
        elapsed: Duration,
        server: &Namespace,
        load: &Load,
        subject: &Subject,
    ) -> anyhow::Result<()> {
        while let Some(event) = self.next_due(elapsed) {
            self.done += 1;
            self.make_one(event, server, load, subject)?;
        }
        self.keep_full()
    }

    /// Ends all that goes on.
    pub fn end(
        &mut self,
        server: &Namespace,
        load: &Load,
        subject: &Subject,
    ) -> anyhow::Result<()> {
        if self.down_since.is_some() {
            self.make_one(Event::LinkUp, server, load, subject)?;
        }
        if self.has_other {
            self.make_one(Event::RemoveInterface, server, load, subject)?;
        }
        self.make_one(Event::FreeDisk, server, load, subject)
    }

    /// How many of the first `frame_count` frames nobody could capture.
    pub fn frames_unseen(&self, frame_count: u64) -> u64 {
        let ended: u64 = self.outages.iter().map(|outage| outage.end - outage.start).sum();
        ended + self.down_since.map_or(0, |since| frame_count.saturating_sub(since))
    }

    fn next_due(&self, elapsed: Duration) -> Option<Event> {
        let (at_s, event) = EVENTS[self.done % EVENTS.len()];
        let period = (self.done / EVENTS.len()) as u32;
        (PERIOD * period + Duration::from_secs_f64(at_s) <= elapsed).then_some(event)
    }

    fn make_one(
        &mut self,
        event: Event,
        server: &Namespace,
        load: &Load,
        subject: &Subject,
    ) -> anyhow::Result<()> {
        match event {
            Event::HangUp => {
                subject.signal(Signal::HUP)?;
                self.counts.hang_ups += 1;
            }
            Event::MoveAway => {
                let name = format!("{MOVED}{:06}.jsonl", self.counts.moves);
                let from = self.folder.join(ACTIVE);
                match std::fs::rename(from, self.folder.join(name)) {
                    // It is just being rotated.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    moved => moved?,
                }
                subject.signal(Signal::HUP)?;
                self.counts.moves += 1;
            }
            // Frames are sent on: nobody can see them.
            Event::LinkDown => {
                let down = || server.ip(&format!("link set {IFACE} down"));
                let (sent, made) = load.between(down);
                made?;
                self.down_since = Some(sent);
                self.counts.link_downs += 1;
            }
            Event::LinkUp => {
                let up = || server.ip(&format!("link set {IFACE} up"));
                let (sent, made) = load.between(up);
                made?;
                self.outages.extend(self.down_since.take().map(|since| since..sent));
            }
            Event::AddInterface => {
                server.ip("link add other0 type veth peer name other1")?;
                server.ip("link set other0 up")?;
                self.has_other = true;
            }
            Event::RemoveInterface => {
                server.ip("link del other0")?;
                self.has_other = false;
                self.counts.interfaces += 1;
            }
            Event::FillDisk => {
                let new = OpenOptions::new().append(true).create(true).clone();
                self.ballast = Some(new.open(self.folder.join(BALLAST))?);
            }
            Event::FreeDisk => {
                if self.ballast.take().is_some() {
                    std::fs::remove_file(self.folder.join(BALLAST))?;
                    self.counts.full_disks += 1;
                }
            }
        }
        Ok(())
    }

    /// Takes what space has become free again, as the janitor deletes files.
    fn keep_full(&mut self) -> anyhow::Result<()> {
        static CHUNK: [u8; 1 << 20] = [0; 1 << 20];
        let Some(ballast) = &mut self.ballast else { return Ok(()) };
        let mut chunk_bytes = CHUNK.len();
        while chunk_bytes >= 4096 {
            match ballast.write_all(&CHUNK[..chunk_bytes]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => chunk_bytes /= 16,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
