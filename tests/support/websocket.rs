//! Frames of WebSocket (RFC 6455), and the exchange that opens a talk.

use super::conversation::Side;

/// In the first byte: the last frame of its message.
pub const FIN: u8 = 0x80;
/// Kinds of frames.
pub const CONTINUATION: u8 = 0;
/// See [`CONTINUATION`].
pub const TEXT: u8 = 1;
/// See [`CONTINUATION`].
pub const BINARY: u8 = 2;
/// See [`CONTINUATION`].
pub const CLOSE: u8 = 8;
/// See [`CONTINUATION`].
pub const PING: u8 = 9;
/// See [`CONTINUATION`].
pub const PONG: u8 = 10;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as `side` sends it: the client masks it.
pub fn frame(side: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = (side == Side::Client).then_some(MASK);
    let len_bits = match payload.len() {
        0..126 => 7,
        126..0x1_0000 => 16,
        _ => 64,
    };
    frame_of(first, mask, len_bits, payload)
}

/// A frame with a mask or none, and its length in so many bits.
pub fn frame_of(first: u8, mask: Option<[u8; 4]>, len_bits: u8, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match len_bits {
        7 => bytes.push(masked | payload.len() as u8),
        16 => {
            bytes.push(masked | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let Some(mask) = mask else { return [&bytes[..], payload].concat() };
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame that closes the talk.
pub fn close(side: Side, code: u16, reason: &str) -> Vec<u8> {
    frame(side, FIN | CLOSE, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

/// A request that asks for WebSocket.
pub fn request() -> &'static str {
    "GET /chat?room=1 HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

/// The same for this target.
pub fn request_for(target: &str) -> String {
    request().replacen("/chat?room=1", target, 1)
}

/// The answer that switches to it, with further header lines.
pub fn answer(headers: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{headers}\r\n"
    )
}
