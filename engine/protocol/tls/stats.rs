//! The counters of TLS.

use crate::protocol::{Row, Stats};
use crate::record::{TlsConnection, TlsOutcome};
use crate::stats::counters;

counters! {
    /// Connections of TLS. They are counted only if they are reported (`--records`), when they are.
    TlsStats {
        /// Connections that were reported.
        connections,
        /// Those of them whose handshake ended well.
        connections_complete,
        /// Those whose handshake did not.
        connections_failed,
        /// Those on which the server sent no TLS.
        connections_no_server,
        /// Those of which the outcome is not known. With `--tls-early`, those that are reported
        /// when the handshake has ended are complete.
        connections_unclear,
        /// Connections with a gap in the handshake.
        connections_with_gap,
        /// Connections that took up a session.
        connections_resumed,
        /// By the version that the server chose: TLS 1.3.
        version_13,
        /// TLS 1.2.
        version_12,
        /// TLS 1.1.
        version_11,
        /// TLS 1.0.
        version_10,
        /// Others, such as SSL 3.0.
        version_other,
        /// None was seen.
        version_none,
        /// Connections that turned out to be none: another copy of what showed them differs.
        connections_withdrawn,
        /// Connections without an answer, which `--answered-only` leaves out.
        connections_left_out,
        /// Connections that are no longer captured, since rings overflow. They are not reported.
        connections_shed,
    }
}

impl TlsStats {
    /// Counts a connection that is reported.
    pub(super) fn count(&mut self, told: &TlsConnection<'_>) {
        self.connections += 1;
        // Without an end, the handshake has ended well.
        let outcome = told.outcome.or(told.end.is_none().then_some(TlsOutcome::Complete));
        *match outcome {
            Some(TlsOutcome::Complete) => &mut self.connections_complete,
            Some(TlsOutcome::Failed) => &mut self.connections_failed,
            Some(TlsOutcome::NoServer) => &mut self.connections_no_server,
            None => &mut self.connections_unclear,
        } += 1;
        *match told.version {
            Some(0x0304) => &mut self.version_13,
            Some(0x0303) => &mut self.version_12,
            Some(0x0302) => &mut self.version_11,
            Some(0x0301) => &mut self.version_10,
            Some(_) => &mut self.version_other,
            None => &mut self.version_none,
        } += 1;
        self.connections_with_gap += u64::from(told.gap_bytes > 0);
        self.connections_resumed += u64::from(told.is_resumed == Some(true));
    }
}

impl Stats for TlsStats {
    fn add(&mut self, other: &TlsStats) {
        TlsStats::add(self, other);
    }

    fn each(&self) -> Vec<(&'static str, u64)> {
        TlsStats::each(self)
    }

    fn rows(&self) -> Vec<Row> {
        let parts = vec![
            ("reported", self.connections),
            ("complete", self.connections_complete),
            ("failed", self.connections_failed),
            ("without a server", self.connections_no_server),
            ("unclear", self.connections_unclear),
            ("with a gap", self.connections_with_gap),
            ("resumed", self.connections_resumed),
            ("TLS 1.3", self.version_13),
            ("TLS 1.2", self.version_12),
            ("TLS 1.1", self.version_11),
            ("TLS 1.0", self.version_10),
            ("of another version", self.version_other),
            ("of none that was seen", self.version_none),
            ("withdrawn", self.connections_withdrawn),
            ("without an answer", self.connections_left_out),
            ("shed", self.connections_shed),
        ];
        vec![("tls", parts)]
    }
}
