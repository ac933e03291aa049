//! Exchanges built from fields, as the parser would build them from packets.

use httplines::ids::{Direction, FlowKey};
use httplines::record::{
    Event, Exchange, ExchangeRecord, FlowIdentity, Format, Header, JsonFormat, Message, Outcome,
    Span,
};
use httplines::time::TimestampNs;

/// The time of the first byte of every request built here: 2026-11-23T14:00:00Z.
pub const START_NS: u64 = 1_795_442_400_000_000_000;

/// 10.0.0.1:4242 and 10.0.0.2:80.
pub fn key_v4() -> FlowKey {
    let address = |last: u8| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[10, 0, 0, last]);
        bytes
    };
    let (client, server) =
        ((address(1), 4242_u16.to_be_bytes()), (address(2), 80_u16.to_be_bytes()));
    FlowKey::new(client, server, [0; 4], 0).0
}

/// The flow of `key`, whose client is endpoint 0.
pub fn flow(key: &FlowKey) -> FlowIdentity<'_> {
    FlowIdentity { key, client: Direction::Forward, id: 0x0123_4567_89ab_cdef }
}

/// Appends the line of an exchange.
pub fn line(
    format: &mut JsonFormat,
    flow: &FlowIdentity<'_>,
    exchange: &Exchange,
    out: &mut Vec<u8>,
) {
    format.line(&Event::Exchange(ExchangeRecord { flow: *flow, exchange }), out);
}

/// Appends `bytes` to the text and returns where they are.
pub fn put(message: &mut Message, bytes: &[u8]) -> Span {
    let start = message.text.len();
    message.text.extend_from_slice(bytes);
    Span::new(start, message.text.len())
}

/// Sets the request line.
pub fn request_line(message: &mut Message, method: &[u8], target: &[u8], version: &[u8]) {
    message.fields.method = put(message, method);
    put(message, b" ");
    message.fields.target = put(message, target);
    put(message, b" ");
    message.fields.version = put(message, version);
    end_start_line(message);
}

/// Sets the status line.
pub fn status_line(message: &mut Message, version: &[u8], status: u16, reason: &[u8]) {
    message.status = status;
    message.fields.version = put(message, version);
    put(message, format!(" {status} ").as_bytes());
    message.fields.reason = put(message, reason);
    end_start_line(message);
}

fn end_start_line(message: &mut Message) {
    message.is_seen = true;
    put(message, b"\r\n");
    message.start_line_bytes = message.text.len() as u32;
}

/// Adds a header. Fields that records name are recorded as the parser would.
pub fn header(message: &mut Message, name: &str, value: &[u8]) {
    let name_span = put(message, name.as_bytes());
    put(message, b": ");
    let span = put(message, value);
    put(message, b"\r\n");
    message.headers.push(Header { name: name_span, value: span });
    let fields = &mut message.fields;
    match name.to_ascii_lowercase().as_str() {
        "host" => fields.host = span,
        "user-agent" => fields.user_agent = span,
        "referer" => fields.referer = span,
        "content-type" => fields.content_type = span,
        "server" => fields.server = span,
        "location" => fields.location = span,
        _ => {}
    }
}

/// A complete exchange, as browsers and servers have them.
pub fn typical() -> Exchange {
    let mut exchange = Exchange { outcome: Some(Outcome::Complete), ..Exchange::default() };
    let request = &mut exchange.request;
    request_line(request, b"GET", b"/assets/app.4f1c9a7e.js?v=20261123", b"HTTP/1.1");
    header(request, "Host", b"www.example.com");
    header(
        request,
        "User-Agent",
        b"Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
    );
    header(request, "Accept", b"*/*");
    header(request, "Referer", b"https://www.example.com/index.html");
    header(request, "Cookie", b"session=0123456789abcdef");
    put(request, b"\r\n");
    request.body_bytes = Some(0);
    request.first = Some(TimestampNs(START_NS + 123_456_789));
    request.last = request.first;
    request.is_ended = true;
    let response = &mut exchange.response;
    status_line(response, b"HTTP/1.1", 200, b"OK");
    header(response, "Server", b"nginx/1.29.3");
    header(response, "Content-Type", b"application/javascript; charset=utf-8");
    header(response, "Content-Length", b"18234");
    header(response, "Set-Cookie", b"seen=1; HttpOnly");
    put(response, b"\r\n");
    response.body_bytes = Some(18_234);
    response.first = Some(TimestampNs(START_NS + 124_000_000));
    response.last = Some(TimestampNs(START_NS + 124_350_000));
    response.is_ended = true;
    exchange
}
