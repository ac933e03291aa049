//! What a ClientHello and a ServerHello say. Of a hello that is cut, what comes before the cut is
//! told.

use super::fingerprint::{self, Md5Digest};
use super::parts::{
    EARLY_DATA, ENCRYPTED_CLIENT_HELLO, HELLO_RETRY, KEY_SHARE, PRE_SHARED_KEY, Parts,
    SUPPORTED_VERSIONS,
};
use super::reader::{Reader, numbers};
use crate::record::JA4_BYTES;

/// What is kept of a ClientHello.
#[derive(Debug, Default)]
pub(super) struct ClientHello {
    pub sni: Option<Box<[u8]>>,
    pub alpn: Option<Box<[u8]>>,
    pub ja3: Option<Md5Digest>,
    pub ja4: Option<[u8; JA4_BYTES]>,
    pub is_ech: bool,
    pub is_early_data: bool,
}

impl ClientHello {
    /// Of the `body` of a message. `is_whole` is whether nothing of it is missing.
    pub fn of(body: &[u8], is_whole: bool) -> Option<ClientHello> {
        let parts = Parts::of(body, true)?;
        let is_whole = is_whole && parts.is_whole;
        Some(ClientHello {
            sni: parts.server_name().map(Box::from),
            alpn: parts.alpn().map(Box::from),
            ja3: is_whole.then(|| fingerprint::ja3(&parts)),
            ja4: is_whole.then(|| fingerprint::ja4(&parts)),
            is_ech: parts.extension(ENCRYPTED_CLIENT_HELLO).is_some(),
            is_early_data: parts.extension(EARLY_DATA).is_some(),
        })
    }

    /// The memory of its texts.
    pub fn text_bytes(&self) -> usize {
        let len = |text: &Option<Box<[u8]>>| text.as_ref().map_or(0, |text| text.len());
        len(&self.sni) + len(&self.alpn)
    }
}

/// What is kept of a ServerHello.
#[derive(Debug, Default)]
pub(super) struct ServerHello {
    pub version: u16,
    pub cipher: u16,
    pub group: Option<u16>,
    pub alpn: Option<Box<[u8]>>,
    pub ja3s: Option<Md5Digest>,
    pub is_retry: bool,
    /// It takes up a session by a key that both know (TLS 1.3).
    pub has_shared_key: bool,
}

impl ServerHello {
    /// Of the `body` of a message. `is_whole` is whether nothing of it is missing.
    pub fn of(body: &[u8], is_whole: bool) -> Option<ServerHello> {
        let parts = Parts::of(body, false)?;
        let is_whole = is_whole && parts.is_whole;
        let version = parts.extension(SUPPORTED_VERSIONS).and_then(|it| Reader(it).u16());
        let alpn = parts.alpn().and_then(|list| Reader(list).short_vector());
        Some(ServerHello {
            // Without the extension, where it may be cut off, nothing is known of the version.
            version: version.or(is_whole.then_some(parts.legacy_version))?,
            cipher: numbers(parts.ciphers).next()?,
            group: parts.extension(KEY_SHARE).and_then(|it| Reader(it).u16()),
            alpn: alpn.map(Box::from),
            ja3s: is_whole.then(|| fingerprint::ja3s(&parts)),
            is_retry: parts.random == HELLO_RETRY,
            has_shared_key: parts.extension(PRE_SHARED_KEY).is_some(),
        })
    }
}

/// The group of a ServerKeyExchange with a named curve (RFC 8422 section 5.4).
pub(super) fn group_of_key_exchange(body: &[u8], cipher: u16) -> Option<u16> {
    const NAMED_CURVE: u8 = 3;
    let name = crate::record::cipher_name(cipher)?;
    let mut reader = Reader(body);
    (name.contains("_ECDHE_") || name.contains("_ECDH_anon_")).then_some(())?;
    if name.contains("_PSK_") {
        reader.vector()?;
    }
    (reader.u8()? == NAMED_CURVE).then_some(())?;
    reader.u16()
}
