//! The counters of WebSocket.

use crate::protocol::{Row, Stats};
use crate::stats::counters;

counters! {
    /// Talks of WebSocket: connections, and streams of HTTP/2. They are counted only if they are
    /// reported (`--records`).
    WebSocketStats {
        /// Talks that began.
        talks,
        /// Those of them that both sides have closed.
        talks_complete,
        /// Those that ended before.
        talks_truncated,
        /// Those of which it is not known whether both sides have closed them.
        talks_unclear,
        /// Talks with a gap inside, whatever their outcome.
        talks_with_gap,
        /// Talks that turned out to be none: another copy of the answer that began them differs.
        talks_withdrawn,
        /// Talks in progress on a connection that is no longer captured, since rings overflow. They
        /// are not reported and have no outcome.
        talks_shed,
        /// Messages of all talks that have ended, as far as they are known.
        messages,
        /// Frames, likewise.
        frames,
        /// Talks with frames that RFC 6455 forbids.
        talks_with_conflict,
        /// Directions of talks that have lost their place among the frames.
        places_lost,
        /// Bytes that were not read, behind such a loss or behind the end of a talk.
        bytes_skipped,
    }
}

impl Stats for WebSocketStats {
    fn add(&mut self, other: &WebSocketStats) {
        WebSocketStats::add(self, other);
    }

    fn each(&self) -> Vec<(&'static str, u64)> {
        WebSocketStats::each(self)
    }

    fn rows(&self) -> Vec<Row> {
        let parts = vec![
            ("talks", self.talks),
            ("complete", self.talks_complete),
            ("truncated", self.talks_truncated),
            ("unclear", self.talks_unclear),
            ("with a gap", self.talks_with_gap),
            ("withdrawn", self.talks_withdrawn),
            ("in progress, shed", self.talks_shed),
            ("messages", self.messages),
            ("frames", self.frames),
            ("with forbidden frames", self.talks_with_conflict),
            ("places lost", self.places_lost),
            ("bytes skipped", self.bytes_skipped),
        ];
        vec![("websocket", parts)]
    }
}
