//! [`TlsConnection`]: everything that a record reports about a connection of TLS (RFC 8446, RFC
//! 5246), as far as it is not encrypted.

mod ciphers;
mod names;

pub use ciphers::{CIPHER_NAME_BYTES_MAX, cipher_name};
pub use names::{NAME_BYTES_MAX, alert_name, group_name, version_name};

use crate::decode::TunnelPath;
use crate::flow::End;
use crate::ids::IfaceId;
use crate::time::TimestampNs;

/// A connection of TLS that is over, or whose handshake is. What is not known is `None`.
#[derive(Clone, Copy, Debug)]
pub struct TlsConnection<'a> {
    /// The server that the client asked for (server_name, RFC 6066).
    pub sni: Option<&'a [u8]>,
    /// The protocols that the client offers (ALPN, RFC 7301), each behind a byte with its length.
    pub alpn_offered: Option<&'a [u8]>,
    /// The protocol that the server chose. Up to TLS 1.2: later it is encrypted.
    pub alpn: Option<&'a [u8]>,
    /// The version that the server chose.
    pub version: Option<u16>,
    /// The cipher suite that the server chose.
    pub cipher: Option<u16>,
    /// The group of the key exchange.
    pub group: Option<u16>,
    /// JA3 of the client: an MD5.
    pub ja3: Option<[u8; 16]>,
    /// JA3S of the server: an MD5.
    pub ja3s: Option<[u8; 16]>,
    /// JA4 of the client.
    pub ja4: Option<[u8; JA4_BYTES]>,
    /// The client offers Encrypted Client Hello, or pretends to.
    pub is_ech: bool,
    /// The server asked for another ClientHello.
    pub is_hello_retry: bool,
    /// Whether the session was resumed.
    pub is_resumed: Option<bool>,
    /// The client offers early data.
    pub is_early_data: bool,
    /// The server's certificate. Up to TLS 1.2: later it is encrypted.
    pub certificate: Option<&'a TlsCertificate>,
    /// The client's certificate, likewise.
    pub client_certificate: Option<&'a TlsCertificate>,
    /// The alert that ended the handshake, or else the first one in clear.
    pub alert: Option<TlsAlert>,
    /// The length of the ClientHello, with the 4 bytes of its head.
    pub client_hello_bytes: Option<u32>,
    /// When the first byte of TLS passed.
    pub began_at: TimestampNs,
    /// From SYN to SYN-ACK.
    pub connect_ns: Option<u64>,
    /// From the last byte of the ClientHello to the first of the answer.
    pub hello_ns: Option<u64>,
    /// From the first byte of TLS to the client's Finished: in TLS 1.3, to its first encrypted
    /// record.
    pub handshake_ns: Option<u64>,
    /// From the first byte of TLS to the last segment that closed or reset the connection.
    pub duration_ns: Option<u64>,
    /// Bytes of TLS that the client sent, with heads and all.
    pub client_bytes: Option<u64>,
    /// The same of the server.
    pub server_bytes: Option<u64>,
    /// What became of the handshake.
    pub outcome: Option<TlsOutcome>,
    /// What ended the connection; `None` if it goes on.
    pub end: Option<End>,
    /// Bytes of the handshake that were not captured.
    pub gap_bytes: u64,
    /// The beginning of the connection was not captured.
    pub is_midstream: bool,
    /// Where the first segment of TLS was captured.
    pub iface: IfaceId,
    /// The encapsulations around it.
    pub tunnel: TunnelPath,
}

/// The length of a JA4.
pub const JA4_BYTES: usize = 36;

/// What became of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsOutcome {
    /// It ended, and encrypted data may follow.
    Complete,
    /// It did not, although the server answered.
    Failed,
    /// The server accepted the connection and sent no TLS.
    NoServer,
}

impl TlsOutcome {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            TlsOutcome::Complete => "complete",
            TlsOutcome::Failed => "failed",
            TlsOutcome::NoServer => "no_server",
        }
    }
}

/// An alert in clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlsAlert {
    /// Whether the client sent it.
    pub is_by_client: bool,
    /// Its description.
    pub code: u8,
}

/// What is told of a certificate (RFC 5280).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsCertificate {
    /// The common name of its subject, in UTF-8 unless it is wrong.
    pub cn: Option<Box<[u8]>>,
    /// The distinguished name of its issuer, as RFC 4514 writes names, in the order of the
    /// certificate.
    pub issuer: Option<Box<[u8]>>,
    /// When it begins and ends to be valid, as RFC 3339 writes times, to the second.
    pub validity: [Option<[u8; 20]>; 2],
    /// The SHA-256 of the whole certificate.
    pub sha256: [u8; 32],
}
