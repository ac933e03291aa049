//! What is counted of HTTP/1.

use crate::protocol::{Row, Stats};
use crate::stats::counters;

counters! {
    /// What was noticed of messages and exchanges, beside their outcome.
    Http1Stats {
        /// Beginnings of messages whose head never ended, so that they were not reported.
        heads_unfinished,
        /// Heads longer than `head_bytes_max`, reported with what fits.
        heads_cut,
        /// Times a direction lost synchronisation and searched for the next head.
        resyncs,
        /// Bytes of HTTP connections that belong to no message we know: skipped while searching for
        /// a head.
        bytes_skipped,
        /// Requests that were given up because too many of a connection had no answer.
        pending_overflow,
        /// Exchanges that were given up in the midst of a message because the shard's memory was
        /// used up.
        exchanges_at_bound,
    }
}

impl Stats for Http1Stats {
    fn add(&mut self, other: &Http1Stats) {
        Http1Stats::add(self, other);
    }

    fn rows(&self) -> Vec<Row> {
        let doubts = vec![
            ("heads unfinished", self.heads_unfinished),
            ("heads cut", self.heads_cut),
            ("times out of step", self.resyncs),
            ("bytes skipped", self.bytes_skipped),
            ("requests beyond the bound", self.pending_overflow),
            ("exchanges beyond the bound", self.exchanges_at_bound),
        ];
        vec![("doubts", doubts)]
    }

    /// A message that was not reported is told of: "why there is no line" needs it.
    fn has_unreported(&self) -> bool {
        self.heads_unfinished > 0
    }
}
