//! Talks of WebSocket (RFC 6455): an Upgrade, small frames both ways, each in one segment, and a
//! close by either side.

use super::{Expected, Script};
use crate::frame::{self, Heading, flag, text};

/// Types of frames.
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The frame ends its message.
const FIN: u8 = 0x80;
/// The payload is masked, as a client's must be.
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The code of a normal close.
pub const CLOSE_CODE: u16 = 1000;

/// Steps with this number belong to no exchange.
const NO_EXCHANGE: u32 = u32::MAX;

/// What the record of a talk should say. Index 0 is the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Talk {
    /// Frames of any kind.
    pub frames: [u64; 2],
    /// Messages of text and of binary data.
    pub messages: [u64; 2],
    /// Payload of those.
    pub message_bytes: [u64; 2],
    /// Pings of both sides.
    pub pings: u64,
    /// Pongs of both sides.
    pub pongs: u64,
}

impl Script<'_> {
    /// The TCP handshake, a request for WebSocket and the server's consent.
    pub fn open_websocket(&mut self) {
        self.open();
        let fields = "Host: www.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        self.request("GET", fields, 0);
        self.expect("101 Up", 0);
        self.expected().talk = Some(Talk::default());
        let digits = "\0".repeat(frame::RESPONSE_DIGITS);
        let answer = format!(
            "HTTP/1.1 101 Up\r\nServer: n{digits}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
        self.frame(Heading::ToClient, flag::ACK | flag::PSH, answer.as_bytes(), text::RESPONSE);
    }

    /// A message and its answer, of a small kind.
    pub fn talk_websocket(&mut self, which: u64) {
        use Heading::{ToClient, ToServer};
        match which % 8 {
            0..4 => {
                self.message(ToServer, &[24]);
                self.message(ToClient, &[40 + 20 * which as usize % 80]);
            }
            4 => self.message(ToClient, &[90]),
            5 => {
                self.message(ToServer, &[8, 60]);
                self.message(ToClient, &[12]);
            }
            6 => {
                self.message(ToServer, &[120]);
                self.message(ToClient, &[300]);
            }
            _ => {
                self.websocket(ToServer, FIN | PING, 4);
                self.websocket(ToClient, FIN | PONG, 4);
                let talk = self.talk();
                (talk.pings, talk.pongs) = (talk.pings + 1, talk.pongs + 1);
            }
        }
    }

    /// `first` closes the talk, and the other side agrees.
    pub fn close_websocket(&mut self, first: Heading) {
        let second = if first == Heading::ToServer { Heading::ToClient } else { Heading::ToServer };
        for way in [first, second] {
            self.websocket(way, FIN | CLOSE, 2);
        }
    }

    /// A message in frames of these lengths.
    fn message(&mut self, way: Heading, lengths: &[usize]) {
        for (index, bytes) in lengths.iter().enumerate() {
            let kind = match index {
                0 if bytes % 8 == 0 => TEXT,
                0 => BINARY,
                _ => CONTINUATION,
            };
            let end = if index + 1 == lengths.len() { FIN } else { 0 };
            self.websocket(way, end | kind, *bytes);
        }
        let talk = self.talk();
        talk.messages[side(way)] += 1;
        talk.message_bytes[side(way)] += lengths.iter().sum::<usize>() as u64;
    }

    /// A frame: RFC 6455, section 5.2.
    fn websocket(&mut self, way: Heading, first: u8, payload_bytes: usize) {
        let mask = if way == Heading::ToServer { MASKED } else { 0 };
        let mut frame = match payload_bytes {
            0..126 => vec![first, mask | payload_bytes as u8],
            _ => [&[first, mask | 126][..], &(payload_bytes as u16).to_be_bytes()].concat(),
        };
        let start = frame.len() + if mask > 0 { MASK.len() } else { 0 };
        frame.extend(&MASK[..if mask > 0 { MASK.len() } else { 0 }]);
        match first & 0x0f {
            CLOSE => frame.extend(CLOSE_CODE.to_be_bytes()),
            _ => frame.resize(start + payload_bytes, b'x'),
        }
        if mask > 0 {
            frame[start..].iter_mut().zip(MASK.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        self.data(way, flag::PSH, &frame);
        if let Some(step) = self.thread.steps.last_mut() {
            step.number = NO_EXCHANGE;
        }
        self.talk().frames[side(way)] += 1;
    }

    fn talk(&mut self) -> &mut Talk {
        self.expected().talk.as_mut().expect("the connection has gone over to WebSocket")
    }

    fn expected(&mut self) -> &mut Expected {
        self.weaver.round.expected.last_mut().expect("a request came before")
    }
}

fn side(way: Heading) -> usize {
    usize::from(way == Heading::ToClient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{HEADER_BYTES, kind};
    use crate::workload::Workload;
    use std::collections::HashMap;

    /// Every frame is whole in its segment, and there are as many as a record should say.
    #[test]
    fn a_segment_is_a_frame() {
        let round = Workload::Websocket.round(3, 3000);
        let mut counts: HashMap<u32, [u64; 2]> = HashMap::new();
        let talks = round.steps.iter().filter(|step| step.number == NO_EXCHANGE);
        for step in talks {
            let template = &round.templates[step.template as usize];
            let end = HEADER_BYTES + frame::payload_bytes(template) as usize;
            let bytes = &template[HEADER_BYTES..end];
            let is_client = step.kind == kind::CLIENT;
            assert_eq!(bytes[1] & MASKED != 0, is_client);
            let (length, head) = match bytes[1] & !MASKED {
                126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
                length => (length.into(), 2),
            };
            assert_eq!(bytes.len(), head + if is_client { 4 } else { 0 } + length);
            counts.entry(step.connection).or_default()[usize::from(!is_client)] += 1;
        }
        let told: Vec<_> = round.expected.iter().filter_map(|it| it.talk).collect();
        assert!(told.len() > 10 && told.len() == round.expected.len());
        let sum = |counts: &mut dyn Iterator<Item = [u64; 2]>| {
            counts.fold([0, 0], |sum, it| [sum[0] + it[0], sum[1] + it[1]])
        };
        let wanted = sum(&mut told.iter().map(|talk| talk.frames));
        assert_eq!(sum(&mut counts.into_values()), wanted);
    }
}
