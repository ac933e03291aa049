//! Where TLS begins behind something else: a ClientHello behind a PROXY header, a proxy's
//! handshake, or the words by which a protocol agrees on TLS.

/// The head of a version 2 PROXY header.
const PROXY2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A ClientHello is no shorter: version, random, session, one cipher, one compression.
const HELLO_BYTES_MIN: usize = 41;

/// Where in `payload` of a client a ClientHello begins: at its front, or behind a header of the
/// PROXY protocol.
pub(crate) fn hello_in(payload: &[u8]) -> Option<usize> {
    let at = proxy_bytes(payload).unwrap_or(0);
    begins_hello(payload.get(at..)?).then_some(at)
}

/// Whether `bytes` begin with a record of the handshake that begins with a ClientHello. Some fifty
/// bits of them must be right, and what is behind the random value, if it is there: so nothing else
/// is likely to begin like this.
fn begins_hello(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<11>() else { return false };
    let [kind, 3, 0..=4, _, _, 1, 0, high, low, 3, 0..=3] = *head else { return false };
    let record_bytes = usize::from(u16::from_be_bytes([head[3], head[4]]));
    let hello_bytes = usize::from(u16::from_be_bytes([high, low]));
    kind == 0x16
        && (1..=1 << 14).contains(&record_bytes)
        && hello_bytes >= HELLO_BYTES_MIN
        // One record holds nothing behind the hello.
        && record_bytes <= hello_bytes + 4
        && bytes.get(43).is_none_or(|session_bytes| *session_bytes <= 32)
}

/// The length of a header of the PROXY protocol, version 1 or 2, if it is whole.
fn proxy_bytes(payload: &[u8]) -> Option<usize> {
    if payload.starts_with(b"PROXY ") {
        let line = &payload[..payload.len().min(107)];
        return Some(memchr::memchr(b'\n', line)? + 1);
    }
    let rest = payload.strip_prefix(PROXY2)?;
    let [_, _, high, low] = *rest.first_chunk()?;
    Some(PROXY2.len() + 4 + usize::from(u16::from_be_bytes([high, low])))
}
