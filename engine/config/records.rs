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
}

impl Default for RecordKinds {
    /// Exchanges only.
    fn default() -> RecordKinds {
        RecordKinds { http: true, websocket: false, tls: false }
    }
}
