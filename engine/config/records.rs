//! Which kinds of records are told (`--records`).

/// The kinds of records that get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordKinds {
    /// Exchanges of HTTP/1 and HTTP/2.
    pub http: bool,
    /// Talks of WebSocket.
    pub websocket: bool,
    /// Connections of TLS.
    pub tls: bool,
    /// A connection of TLS gets its line when its handshake has ended, instead of at its end.
    pub is_tls_early: bool,
}

impl Default for RecordKinds {
    /// Exchanges only.
    fn default() -> RecordKinds {
        RecordKinds { http: true, websocket: false, tls: false, is_tls_early: false }
    }
}
