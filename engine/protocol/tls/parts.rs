//! [`Parts`]: what a ClientHello or a ServerHello is made of (RFC 8446 section 4.1, RFC 5246
//! section 7.4.1).

use super::reader::{Reader, numbers};

/// Extensions that are looked at.
pub(super) const SERVER_NAME: u16 = 0;
pub(super) const SUPPORTED_GROUPS: u16 = 10;
pub(super) const EC_POINT_FORMATS: u16 = 11;
pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
pub(super) const ALPN: u16 = 16;
pub(super) const PRE_SHARED_KEY: u16 = 41;
pub(super) const EARLY_DATA: u16 = 42;
pub(super) const SUPPORTED_VERSIONS: u16 = 43;
pub(super) const KEY_SHARE: u16 = 51;
pub(super) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Whether a version is TLS 1.3, or a draft of it.
pub(super) fn is_tls13(version: u16) -> bool {
    version == 0x0304 || version >> 8 == 0x7f
}

/// The random value of a HelloRetryRequest.
pub(super) const HELLO_RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Whether a code is one of those that mean nothing, which clients send so that servers learn to
/// ignore what they do not know (GREASE, RFC 8701).
pub(super) fn is_grease(code: u16) -> bool {
    code & 0x0f0f == 0x0a0a && code >> 8 == code & 0xff
}

/// The parts of a hello, in the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub legacy_version: u16,
    pub random: &'a [u8],
    /// Two bytes each. Of a server, one.
    pub ciphers: &'a [u8],
    /// The extensions, as far as they are whole.
    pub extensions: &'a [u8],
    /// Nothing is cut, and nothing is left over.
    pub is_whole: bool,
}

impl<'a> Parts<'a> {
    /// Of the `body` of a message, which may be cut.
    pub fn of(body: &'a [u8], is_client: bool) -> Option<Parts<'a>> {
        let mut reader = Reader(body);
        let legacy_version = reader.u16()?;
        let random = reader.take(32)?;
        reader.short_vector()?;
        let ciphers = if is_client { reader.vector()? } else { reader.take(2)? };
        let mut parts = Parts { legacy_version, random, ciphers, extensions: &[], is_whole: false };
        let compression = if is_client { reader.short_vector() } else { reader.take(1) };
        if compression.is_none() {
            return Some(parts);
        }
        if reader.0.is_empty() {
            return Some(Parts { is_whole: true, ..parts });
        }
        let Some(len) = reader.u16() else { return Some(parts) };
        let block = reader.0.get(..len.into()).unwrap_or(reader.0);
        let mut rest = Reader(block);
        let mut whole_bytes = 0;
        while extension(&mut rest).is_some() {
            whole_bytes = block.len() - rest.0.len();
        }
        parts.extensions = &block[..whole_bytes];
        parts.is_whole = whole_bytes == usize::from(len) && reader.0.len() == usize::from(len);
        Some(parts)
    }

    /// Type and content of each extension.
    pub fn each(&self) -> impl Iterator<Item = (u16, &'a [u8])> + Clone + use<'a> {
        let mut rest = Reader(self.extensions);
        std::iter::from_fn(move || extension(&mut rest))
    }

    /// The content of the first extension of a type.
    pub fn extension(&self, wanted: u16) -> Option<&'a [u8]> {
        self.each().find(|(kind, _)| *kind == wanted).map(|(_, content)| content)
    }

    /// The numbers in a list in an extension, whose length takes two bytes.
    pub fn list(&self, wanted: u16) -> impl Iterator<Item = u16> + Clone + use<'a> {
        let list = self.extension(wanted).and_then(|content| Reader(content).vector());
        numbers(list.unwrap_or_default())
    }

    /// The versions that a client offers in the extension for that.
    pub fn versions(&self) -> impl Iterator<Item = u16> + Clone + use<'a> {
        let list =
            self.extension(SUPPORTED_VERSIONS).and_then(|content| Reader(content).short_vector());
        numbers(list.unwrap_or_default())
    }

    /// The protocols of ALPN, each behind a byte with its length, if all are whole.
    pub fn alpn(&self) -> Option<&'a [u8]> {
        let list = Reader(self.extension(ALPN)?).vector()?;
        let mut rest = Reader(list);
        while !rest.0.is_empty() {
            rest.short_vector()?;
        }
        (!list.is_empty()).then_some(list)
    }

    /// The name of the server (RFC 6066 section 3).
    pub fn server_name(&self) -> Option<&'a [u8]> {
        let mut names = Reader(Reader(self.extension(SERVER_NAME)?).vector()?);
        loop {
            let (kind, name) = (names.u8()?, names.vector()?);
            if kind == 0 && !name.is_empty() {
                return Some(name);
            }
        }
    }
}

fn extension<'a>(rest: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    Some((rest.u16()?, rest.vector()?))
}
