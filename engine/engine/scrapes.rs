//! [`Scrapes`]: the engine's side of the metrics. It asks the shards for their counters when
//! somebody scrapes, and waits for nobody.

use super::counter_poll::{ANSWER_INTERVAL, have_answered};
use super::metrics::MetricsThread;
use super::sandbox::Layers;
use super::snapshot::Snapshot;
use super::status::ShardStatus;
use crate::capture::live::LiveTotals;
use crate::observe::ShardState;
use crate::output::WriterGauges;
use crate::totals::Totals;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Who waits for a snapshot, and what only goes into that.
#[derive(Debug)]
pub(super) struct Scrapes {
    /// Who asked, and when the shards were asked.
    asked: Option<(SyncSender<Snapshot>, Instant)>,
    /// Who serves the port. (It is dropped after `asked`, and so waits for nothing any more.)
    thread: Option<MetricsThread>,
    /// The most blocks of each ring that were seen full since the last scrape.
    fullest: Vec<u64>,
}

impl Scrapes {
    /// For the thread that serves the port, if there is one.
    pub(super) fn new(thread: Option<MetricsThread>) -> Scrapes {
        Scrapes { asked: None, thread, fullest: Vec::new() }
    }

    /// Where the metrics are, if they are anywhere.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.thread.as_ref().map(MetricsThread::address)
    }

    /// Closes the port.
    pub(super) fn end(&mut self) {
        self.asked = None;
        self.thread = None;
    }

    /// Looks at how full the rings are. To be called with each look at them.
    pub(super) fn look_at_rings(&mut self, live: &LiveTotals) {
        let rings = live.interfaces.iter().flat_map(|interface| &interface.rings);
        self.fullest.resize(rings.clone().count(), 0);
        for (most, ring) in self.fullest.iter_mut().zip(rings) {
            *most = ring.full_blocks.max(*most);
        }
    }

    /// Somebody asks: so the shards are asked.
    pub(super) fn ask(&mut self, reply: SyncSender<Snapshot>, shards: &[Arc<ShardStatus>]) {
        shards.iter().for_each(|shard| shard.ask());
        self.asked = Some((reply, Instant::now()));
    }

    /// The time until there is something to do.
    pub(super) fn wait(&self) -> Duration {
        self.asked.as_ref().map_or(Duration::MAX, |_| ANSWER_INTERVAL)
    }

    /// Who gets a snapshot now: the shards have answered, or had time to.
    pub(super) fn due(
        &mut self,
        now: Instant,
        shards: &[Arc<ShardStatus>],
    ) -> Option<SyncSender<Snapshot>> {
        let (_, asked) = self.asked.as_ref()?;
        let is_due = have_answered(*asked, now, shards);
        self.asked.take_if(|_| is_due).map(|(reply, _)| reply)
    }

    /// The snapshot.
    pub(super) fn snapshot(
        &mut self,
        mut totals: Totals,
        shards: Vec<ShardState>,
        writer: WriterGauges,
        stalled: Vec<usize>,
        layers: Layers,
    ) -> Snapshot {
        if let Some(live) = &mut totals.live {
            self.look_at_rings(live);
            let rings = live.interfaces.iter_mut().flat_map(|interface| &mut interface.rings);
            for (most, ring) in self.fullest.iter_mut().zip(rings) {
                ring.full_blocks_most = std::mem::take(most);
            }
        }
        Snapshot { totals, shards, writer, stalled, layers, taken: Instant::now() }
    }
}
