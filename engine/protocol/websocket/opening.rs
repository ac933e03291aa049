//! [`Opening`]: what is kept of the exchange that opened a talk, until the talk is over.

use crate::decode::TunnelPath;
use crate::ids::IfaceId;
use crate::record::{Exchange, Message, Span};
use crate::time::TimestampNs;
use memchr::memchr;

/// The bit of a frame that permessage-deflate defines: its message is compressed (RFC 7692 section
/// 6).
const COMPRESSED: u8 = 0x40;

/// Of an extension that we do not know, any of the bits for extensions may be.
const ANY: u8 = super::frame::RESERVED;

/// A host or subprotocol is kept up to this length.
const VALUE_BYTES_MAX: usize = 4096;

/// The exchange.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The requested host, the target and the subprotocol.
    text: Box<[u8]>,
    host: Span,
    target: Span,
    subprotocol: Span,
    pub n: u32,
    pub status: u16,
    pub is_http2: bool,
    /// permessage-deflate was agreed upon.
    pub is_deflate: bool,
    /// The bits of frames that the agreed extensions have defined.
    pub extension_bits: u8,
    /// When the head of the response had passed.
    pub began_at: TimestampNs,
    pub iface: IfaceId,
    pub tunnel: TunnelPath,
}

impl Opening {
    /// Of `exchange`, whose response has the head `response`, which was complete at `began_at`.
    pub fn new(exchange: &Exchange, response: &[u8], began_at: TimestampNs) -> Opening {
        let request = &exchange.request;
        let mut text = Vec::new();
        let host = keep(request.host(), VALUE_BYTES_MAX, &mut text);
        let target = keep(request.target(), usize::MAX, &mut text);
        let subprotocol = values(response, b"sec-websocket-protocol").next();
        let subprotocol = keep(subprotocol, VALUE_BYTES_MAX, &mut text);
        let (mut is_deflate, mut extension_bits) = (false, 0);
        for offer in values(response, b"sec-websocket-extensions").flat_map(of_list) {
            let name = offer.split(|byte| *byte == b';').next().unwrap_or_default();
            match name.trim_ascii().eq_ignore_ascii_case(b"permessage-deflate") {
                true => (is_deflate, extension_bits) = (true, extension_bits | COMPRESSED),
                false => extension_bits |= if name.trim_ascii().is_empty() { 0 } else { ANY },
            }
        }
        Opening {
            text: text.into_boxed_slice(),
            host,
            target,
            subprotocol,
            n: exchange.n,
            status: exchange.response.status,
            is_http2: exchange.http2.is_some(),
            is_deflate,
            extension_bits,
            began_at,
            iface: exchange.iface,
            tunnel: exchange.tunnel,
        }
    }

    /// A part of the response's head is not known, so that any extension may have been agreed upon.
    pub fn allow_any_extension(&mut self) {
        self.extension_bits = ANY;
    }

    pub fn host(&self) -> Option<&[u8]> {
        self.host.of(&self.text)
    }

    pub fn target(&self) -> Option<&[u8]> {
        self.target.of(&self.text)
    }

    pub fn subprotocol(&self) -> Option<&[u8]> {
        self.subprotocol.of(&self.text)
    }

    /// The memory of the texts.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }
}

/// Whether the exchange of HTTP/1 opens a talk: a GET that asks for WebSocket, and a response, with
/// the head `response`, that switches to it.
pub(crate) fn switches(request: &Message, response: &[u8]) -> bool {
    let names_it = |head: &[u8]| {
        let mut protocols = values(head, b"upgrade").flat_map(of_list);
        protocols.any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
    };
    request.method() == Some(b"GET") && names_it(&request.text) && names_it(response)
}

/// Copies a text to the end of `texts`, at most `bytes_max` of it.
fn keep(value: Option<&[u8]>, bytes_max: usize, texts: &mut Vec<u8>) -> Span {
    let Some(value) = value else { return Span::ABSENT };
    let start = texts.len();
    texts.extend_from_slice(&value[..value.len().min(bytes_max)]);
    Span::new(start, texts.len())
}

/// The members of a list.
fn of_list(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The values of all headers with this `name`, in lower case, of a head.
fn values<'a>(head: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = head;
    let mut lines = std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)? + 1;
        let (line, behind) = rest.split_at(end);
        rest = behind;
        Some(line)
    });
    let _start_line = lines.next();
    lines.filter_map(move |line| {
        let (front, value) = line.split_at_checked(name.len())?;
        let value = value.trim_ascii_start().strip_prefix(b":")?;
        front.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &str) -> Opening {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n");
        Opening::new(&Exchange::default(), head.as_bytes(), TimestampNs(0))
    }

    #[test]
    fn what_was_agreed_upon() {
        for (headers, subprotocol, is_deflate, bits) in [
            ("", None, false, 0),
            ("Sec-WebSocket-Protocol: chat\r\n", Some("chat"), false, 0),
            ("sec-websocket-protocol :\tchat \r\n", Some("chat"), false, 0),
            ("X-Sec-WebSocket-Protocol: chat\r\n", None, false, 0),
            (" Sec-WebSocket-Protocol: chat\r\n", None, false, 0),
            ("Sec-WebSocket-Extensions: permessage-deflate\r\n", None, true, COMPRESSED),
            (
                "Sec-WebSocket-Extensions: Permessage-Deflate; client_max_window_bits=15\r\n",
                None,
                true,
                COMPRESSED,
            ),
            (
                "Sec-WebSocket-Extensions: x; a=b\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate\r\n",
                None,
                true,
                ANY,
            ),
            ("Sec-WebSocket-Extensions:\r\n", None, false, 0),
        ] {
            let opening = response(headers);
            assert_eq!(opening.subprotocol(), subprotocol.map(str::as_bytes), "{headers}");
            assert_eq!((opening.is_deflate, opening.extension_bits), (is_deflate, bits));
        }
        assert_eq!(response("").host(), None);
    }

    #[test]
    fn both_sides_name_websocket() {
        let request = |text: &str| {
            let end = text.find(' ').unwrap_or(0);
            let mut request = Message { text: text.as_bytes().to_vec(), ..Message::default() };
            request.fields.method = Span::new(0, end);
            request
        };
        let get = request("GET / HTTP/1.1\r\nUpgrade: h2c, WebSocket\r\n\r\n");
        let yes = b"HTTP/1.1 101 S\r\nupgrade: websocket\r\n\r\n";
        assert!(switches(&get, yes));
        assert!(!switches(&get, b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\n\r\n"));
        assert!(!switches(&get, b"HTTP/1.1 101 S\r\n\r\n"));
        assert!(!switches(&request("GET / HTTP/1.1\r\nHost: websocket\r\n\r\n"), yes));
        assert!(!switches(&request("POST / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), yes));
    }
}
