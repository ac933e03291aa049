//! Exchanges of HTTP/2 (RFC 9113), each message in one segment.
//!
//! Header blocks (RFC 7541) name fields by the static table, and have their values as literals
//! without indexing and without Huffman. So digits can be written in place, and each block can be
//! read whatever came before it: a lost frame costs its own exchange only.

use super::{Expected, Script};
use crate::frame::{self, HEADER_BYTES, Heading, flag, text};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// Flags of frames.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A limit of 100 concurrent streams.
const SETTING: &[u8] = &[0, 3, 0, 0, 0, 100];

/// Indexes of the static table: RFC 7541, appendix A.
pub mod index {
    /// `:authority`.
    pub const AUTHORITY: u8 = 1;
    /// `accept-encoding`.
    pub const ACCEPT_ENCODING: u8 = 16;
    /// `accept-language`.
    pub const ACCEPT_LANGUAGE: u8 = 17;
    /// `accept`.
    pub const ACCEPT: u8 = 19;
    /// `cache-control`.
    pub const CACHE_CONTROL: u8 = 24;
    /// `content-length`.
    pub const CONTENT_LENGTH: u8 = 28;
    /// `content-type`.
    pub const CONTENT_TYPE: u8 = 31;
    /// `user-agent`.
    pub const USER_AGENT: u8 = 58;
    pub(super) const GET: u8 = 2;
    pub(super) const POST: u8 = 3;
    pub(super) const PATH: u8 = 4;
    pub(super) const HTTP: u8 = 6;
    pub(super) const STATUS_200: u8 = 8;
    pub(super) const STATUS_404: u8 = 13;
    pub(super) const SERVER: u8 = 54;
}

impl Script<'_> {
    /// The TCP handshake, the client's preface, and the SETTINGS of both sides. A request must
    /// follow.
    pub fn open_http2(&mut self) {
        self.open();
        let settings = frame_of(SETTINGS, 0, 0, SETTING);
        let acknowledgement = frame_of(SETTINGS, ACK, 0, &[]);
        self.data(Heading::ToServer, flag::PSH, &[PREFACE, &settings].concat());
        self.data(Heading::ToClient, flag::PSH, &[settings, acknowledgement.clone()].concat());
        // What a server sends belongs to an exchange: this to the first one, which follows.
        if let Some(step) = self.thread.steps.last_mut() {
            step.number = self.weaver.round.expected.len() as u32;
        }
        self.data(Heading::ToServer, flag::PSH, &acknowledgement);
    }

    /// A request on `stream`, with these fields: index of the name, and value.
    pub fn request_http2(&mut self, stream: u32, fields: &[(u8, &str)], body_bytes: usize) {
        self.request_with_http2(stream, fields, &vec![b'x'; body_bytes]);
    }

    /// A call of gRPC with a message of this size.
    pub fn call_http2(&mut self, stream: u32, fields: &[(u8, &str)], message_bytes: usize) {
        self.request_with_http2(stream, fields, &grpc_message(message_bytes));
    }

    fn request_with_http2(&mut self, stream: u32, fields: &[(u8, &str)], body: &[u8]) {
        let is_get = body.is_empty();
        let path = format!("/qq/{}", "\0".repeat(frame::REQUEST_DIGITS));
        let mut block = vec![indexed(if is_get { index::GET } else { index::POST })];
        block.extend(literal(index::PATH, &path));
        block.push(indexed(index::HTTP));
        fields.iter().for_each(|(name, value)| block.extend(literal(*name, value)));
        let payload = message(stream, &block, body);
        debug_assert_eq!(digits_at(&payload), Some(frame::HEADERS_AT));
        self.thread.is_http = true;
        self.weaver.round.expected.push(Expected {
            method: if is_get { "GET" } else { "POST" },
            status: 0,
            request_body_bytes: body.len() as u64,
            response_body_bytes: 0,
            talk: None,
            tls: None,
            last_step: 0,
        });
        self.frame(Heading::ToServer, flag::ACK | flag::PSH, &payload, text::HEADERS);
    }

    /// The response to the last request: 200 or 404.
    pub fn response_http2(&mut self, stream: u32, is_found: bool, body_bytes: usize) {
        self.expect(if is_found { "200" } else { "404" }, body_bytes);
        let status = if is_found { index::STATUS_200 } else { index::STATUS_404 };
        let server = format!("n{}", "\0".repeat(frame::RESPONSE_DIGITS));
        let mut block = vec![indexed(status)];
        block.extend(literal(index::CONTENT_TYPE, "text/html"));
        block.extend(literal(index::SERVER, &server));
        block.extend(literal(index::CONTENT_LENGTH, &body_bytes.to_string()));
        let payload = message(stream, &block, &vec![b'x'; body_bytes]);
        debug_assert_eq!(digits_at(&payload), Some(frame::RESPONSE_AT));
        self.frame(Heading::ToClient, flag::ACK | flag::PSH, &payload, text::RESPONSE);
    }

    /// The answer to the last call: a message of this size, or only an error, and the status in
    /// trailers.
    pub fn answer_http2(&mut self, stream: u32, message_bytes: Option<usize>) {
        let body = message_bytes.map(grpc_message).unwrap_or_default();
        self.expect("200", body.len());
        let server = format!("n{}", "\0".repeat(frame::RESPONSE_DIGITS));
        let mut block = vec![indexed(index::STATUS_200)];
        // As long as the field that other responses have here: the digits are at one place.
        block.extend(literal(index::CACHE_CONTROL, "max-age=0"));
        block.extend(literal(index::SERVER, &server));
        block.extend(literal(index::CONTENT_TYPE, "application/grpc"));
        let payload = match body.is_empty() {
            false => [
                frame_of(HEADERS, END_HEADERS, stream, &block),
                frame_of(DATA, 0, stream, &body),
                frame_of(HEADERS, END_HEADERS | END_STREAM, stream, &named("grpc-status", "0")),
            ]
            .concat(),
            true => {
                block.extend(named("grpc-status", "5"));
                block.extend(named("grpc-message", "there is no%20such thing"));
                frame_of(HEADERS, END_HEADERS | END_STREAM, stream, &block)
            }
        };
        debug_assert_eq!(digits_at(&payload), Some(frame::RESPONSE_AT));
        self.frame(Heading::ToClient, flag::ACK | flag::PSH, &payload, text::RESPONSE);
    }
}

/// A message of gRPC with its prefix.
fn grpc_message(message_bytes: usize) -> Vec<u8> {
    let length = (message_bytes as u32).to_be_bytes();
    [&[0][..], &length, &vec![b'x'; message_bytes]].concat()
}

/// HEADERS, and DATA if there is a body.
fn message(stream: u32, block: &[u8], body: &[u8]) -> Vec<u8> {
    if body.is_empty() {
        return frame_of(HEADERS, END_HEADERS | END_STREAM, stream, block);
    }
    let mut payload = frame_of(HEADERS, END_HEADERS, stream, block);
    payload.extend(frame_of(DATA, END_STREAM, stream, body));
    payload
}

/// A frame: RFC 9113, section 4.1.
fn frame_of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// A field that is in the static table: RFC 7541, section 6.1.
fn indexed(index: u8) -> u8 {
    0x80 | index
}

/// A field without indexing: RFC 7541, section 6.2.2.
fn literal(name: u8, value: &str) -> Vec<u8> {
    debug_assert!(value.len() < 0x7f, "longer lengths take more bytes");
    let name = if name < 15 { vec![name] } else { vec![15, name - 15] };
    [&name[..], &[value.len() as u8], value.as_bytes()].concat()
}

/// The same with a name that is not in the static table.
fn named(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// Where the digits of a message's frame will be: the first two zeros behind the frame's head.
fn digits_at(payload: &[u8]) -> Option<usize> {
    let behind = payload[9..].windows(2).position(|pair| pair == [0, 0]);
    behind.map(|at| HEADER_BYTES + 9 + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::kind;
    use crate::traffic::Step;
    use crate::workload::Workload;
    use std::collections::HashMap;

    /// Type and stream of each frame in a segment, which ends with a frame.
    fn frames(mut payload: &[u8]) -> Vec<(u8, u32)> {
        let mut found = Vec::new();
        payload = payload.strip_prefix(PREFACE).unwrap_or(payload);
        while !payload.is_empty() {
            let length = u32::from_be_bytes([0, payload[0], payload[1], payload[2]]) as usize;
            let stream = u32::from_be_bytes(payload[5..9].try_into().expect("four bytes"));
            found.push((payload[3], stream));
            payload = &payload[9 + length..];
        }
        found
    }

    /// A connection's streams are 1, 3, 5 and so on, each asked and answered once.
    #[test]
    fn streams_follow_each_other() {
        for (workload, is_grpc) in [(Workload::H2, false), (Workload::Grpc, true)] {
            check_streams(workload, is_grpc);
        }
    }

    fn check_streams(workload: Workload, is_grpc: bool) {
        let round = workload.round(3, 3000);
        let mut next: HashMap<(u32, u8), u32> = HashMap::new();
        let (mut count, mut trailers_count) = (0, 0);
        let is_tcp = |step: &&Step| [kind::CLIENT, kind::SERVER].contains(&step.kind);
        for step in round.steps.iter().filter(is_tcp) {
            let template = &round.templates[step.template as usize];
            let end = HEADER_BYTES + frame::payload_bytes(template) as usize;
            for (kind, stream) in frames(&template[HEADER_BYTES..end]) {
                let wanted = next.entry((step.connection, step.kind)).or_insert(1);
                match kind {
                    SETTINGS => assert_eq!(stream, 0),
                    HEADERS if is_grpc && stream + 2 == *wanted => trailers_count += 1,
                    HEADERS => {
                        assert_eq!(stream, *wanted);
                        *wanted += 2;
                        count += 1;
                    }
                    _ => assert_eq!((kind, stream), (DATA, *wanted - 2)),
                }
            }
        }
        assert!(count > 1000 && count == 2 * round.expected.len(), "{count}");
        assert_eq!(trailers_count > 0, is_grpc);
    }
}
