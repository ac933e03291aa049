//! The counters of HTTP/1.

use crate::protocol::{Row, Stats};
use crate::stats::counters;

counters! {
    /// Irregularities of messages and exchanges, in addition to their outcomes.
    Http1Stats {
        /// Messages whose start line began but never ended. They were not reported.
        heads_unfinished,
        /// Heads longer than `head_bytes_max`, reported with the part that fits.
        heads_cut,
        /// Heads of which two different copies passed.
        heads_contradicted,
        /// Times the first message of a connection that was joined late turned out to be none.
        guesses_withdrawn,
        /// Times a direction lost synchronisation and searched for the next head.
        resyncs,
        /// Bytes of HTTP connections that belong to no known message: skipped in the search for a
        /// head.
        bytes_skipped,
        /// Requests that were given up because too many requests of a connection had no response.
        pending_overflow,
        /// Exchanges that were given up in the middle of a message because the shard's memory was
        /// used up.
        exchanges_at_bound,
    }
}

impl Stats for Http1Stats {
    fn add(&mut self, other: &Http1Stats) {
        Http1Stats::add(self, other);
    }

    fn each(&self) -> Vec<(&'static str, u64)> {
        Http1Stats::each(self)
    }

    fn rows(&self) -> Vec<Row> {
        let doubts = vec![
            ("heads unfinished", self.heads_unfinished),
            ("heads cut", self.heads_cut),
            ("heads contradicted by another copy", self.heads_contradicted),
            ("first guesses withdrawn", self.guesses_withdrawn),
            ("losses of synchronisation", self.resyncs),
            ("bytes skipped", self.bytes_skipped),
            ("requests beyond the bound", self.pending_overflow),
            ("exchanges beyond the bound", self.exchanges_at_bound),
        ];
        vec![("doubts", doubts)]
    }

    /// Unreported messages are mentioned to users, because they explain missing lines.
    fn has_unreported(&self) -> bool {
        self.heads_unfinished > 0
    }
}
