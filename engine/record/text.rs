//! The text format: the start line of each message, as it was sent. The ancestor, bcc's
//! http-parse-complete, prints the same.

use memchr::memchr;

use crate::config::EmitConfig;
use crate::ids::REALM_IPV6;
use crate::printable::is_unsafe;
use crate::record::digits::{Rfc3339, append_decimal, append_ip};
use crate::record::escape::plain_len;
use crate::record::mask::{Kind, MASK, Masks};
use crate::record::{Event, FlowIdentity, Format, MessageRecord, Wants};
use crate::time::TimestampNs;

/// Makes one text line for each message: its start line, with `-v` preceded by time, client and
/// server:
///
/// ```text
/// 2026-11-23T14:00:00.123456789Z 10.0.0.1:4242 > 10.0.0.2:80  GET / HTTP/1.1
/// 2026-11-23T14:00:00.124000000Z 10.0.0.1:4242 < 10.0.0.2:80  HTTP/1.1 200 OK
/// ```
///
/// The client is always on the left, and the arrow shows the direction of the message. IPv6
/// addresses are in brackets. On a terminal, unsafe characters (controls, line separators, those
/// that change the direction of text) and bytes that are not UTF-8 are written as `\x1b`. A
/// backslash that was sent is left alone: the line is for people, and the JSON format is the exact
/// one. Elsewhere the bytes are written as they came, except for what is masked. A line is as long
/// as the start line, at most `head_bytes_max` (four times that if every byte is escaped).
#[derive(Debug)]
pub struct TextFormat {
    is_verbose: bool,
    is_terminal: bool,
    masks: Masks,
    times: Rfc3339,
}

impl TextFormat {
    /// Creates the format. `is_verbose` is `-v`; `is_terminal` is whether the output is a terminal.
    pub fn new(config: &EmitConfig, is_verbose: bool, is_terminal: bool) -> TextFormat {
        TextFormat { is_verbose, is_terminal, masks: Masks::new(config), times: Rfc3339::default() }
    }

    /// Time, client and server.
    fn front(
        &mut self,
        flow: &FlowIdentity<'_>,
        is_response: bool,
        when: TimestampNs,
        out: &mut Vec<u8>,
    ) {
        self.times.append(when, out);
        out.push(b' ');
        endpoint(flow, flow.client.index(), out);
        out.extend_from_slice(if is_response { b" < " } else { b" > " });
        endpoint(flow, flow.client.opposite().index(), out);
        out.extend_from_slice(b"  ");
    }
}

impl Format for TextFormat {
    fn wants(&self) -> Wants {
        Wants { messages: true, headers: false, websockets: false, tls: false, tls_early: false }
    }

    fn line(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        if let Event::Message(message) = event {
            self.message(message, out);
        }
    }
}

impl TextFormat {
    fn message(&mut self, message: &MessageRecord<'_>, out: &mut Vec<u8>) {
        let is_response = message.is_response();
        if self.is_verbose {
            self.front(&message.flow, is_response, message.when, out);
        }
        let line = message.start_line();
        if plain_len(line) == line.len() && !self.masks.are_for_uris() {
            out.extend_from_slice(line);
        } else {
            let masked = self.masked(message);
            if self.is_terminal {
                append_visible(&masked, out);
            } else {
                out.extend_from_slice(&masked);
            }
        }
        out.push(b'\n');
    }

    /// The start line as it is shown if something in it may have to be masked.
    #[cold]
    fn masked(&self, message: &MessageRecord<'_>) -> Vec<u8> {
        let line = message.start_line();
        // Ensures a single line.
        let line = &line[..memchr(b'\n', line).unwrap_or(line.len())];
        let hidden = self.masks.hidden_line(line);
        let line = &line[..hidden.unwrap_or(line.len())];
        let mut out = Vec::with_capacity(line.len() + MASK.len());
        let mut memory = Vec::new();
        let (kind, part) = match message.is_response() {
            true => (Kind::Other, message.reason()),
            false => (Kind::Target, message.target()),
        };
        // If the part is not known, it may be anywhere in the line.
        let (start, end) = place_in(line, part).unwrap_or((0, line.len()));
        let whole = message.text.get(..message.start_line_bytes as usize);
        let is_cut = !whole.is_some_and(|line| line.ends_with(b"\n"));
        out.extend_from_slice(&line[..start]);
        out.extend_from_slice(self.masks.shown(kind, &line[start..end], is_cut, &mut memory));
        out.extend_from_slice(&line[end..]);
        if hidden.is_some() && !out.ends_with(MASK) {
            out.extend_from_slice(MASK);
        }
        out
    }
}

/// The address and port of endpoint `index`.
fn endpoint(flow: &FlowIdentity<'_>, index: usize, out: &mut Vec<u8>) {
    let is_ipv6 = flow.key.realm & REALM_IPV6 != 0;
    if is_ipv6 {
        out.push(b'[');
    }
    append_ip(flow.key.ip(index), out);
    if is_ipv6 {
        out.push(b']');
    }
    out.push(b':');
    append_decimal(u64::from(flow.key.port(index)), out);
}

/// Where `part` is in `line`, of which it is a part, so its position follows from the addresses.
fn place_in(line: &[u8], part: Option<&[u8]>) -> Option<(usize, usize)> {
    let part = part?;
    let start = (part.as_ptr() as usize).checked_sub(line.as_ptr() as usize)?;
    let end = (start + part.len()).min(line.len());
    (start <= end).then_some((start, end))
}

/// Appends `line` in a form that is safe for terminals.
fn append_visible(line: &[u8], out: &mut Vec<u8>) {
    for chunk in line.utf8_chunks() {
        let mut clean_start = 0;
        for (at, character) in chunk.valid().char_indices().filter(|(_, c)| is_unsafe(*c)) {
            let end = at + character.len_utf8();
            out.extend_from_slice(&chunk.valid().as_bytes()[clean_start..at]);
            append_bytes_escaped(&chunk.valid().as_bytes()[at..end], out);
            clean_start = end;
        }
        out.extend_from_slice(&chunk.valid().as_bytes()[clean_start..]);
        append_bytes_escaped(chunk.invalid(), out);
    }
}

/// Each byte as `\xHH`.
fn append_bytes_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        let (high, low) = (DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]);
        out.extend_from_slice(&[b'\\', b'x', high, low]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Direction, FlowKey};
    use crate::record::{Message, Span};

    fn message(head: &[u8], status: u16) -> Message {
        let mut message =
            Message { is_seen: true, text: head.to_vec(), status, ..Message::default() };
        message.start_line_bytes = memchr(b'\n', head).map_or(head.len(), |at| at + 1) as u32;
        message
    }

    fn line(format: &mut TextFormat, message: &Message, client: Direction) -> String {
        let port = 4242_u16.to_be_bytes();
        let (key, _) = FlowKey::new(
            ([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], port),
            ([10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 80_u16.to_be_bytes()),
            [0; 4],
            0,
        );
        let mut out = Vec::new();
        let when = TimestampNs(1_795_442_400_123_456_789);
        let flow = FlowIdentity { key: &key, client, id: 1 };
        format.line(&Event::Message(MessageRecord { flow, message, when }), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn format(is_verbose: bool, is_terminal: bool, is_query_redacted: bool) -> TextFormat {
        let config = EmitConfig { is_query_redacted, ..EmitConfig::default() };
        TextFormat::new(&config, is_verbose, is_terminal)
    }

    #[test]
    fn start_lines_as_sent() {
        let mut plain = format(false, false, false);
        let request = message(b"GET /a\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n", 0);
        assert_eq!(line(&mut plain, &request, Direction::Forward), "GET /a\x1b[31m HTTP/1.1\n");
        let bare = message(b"HTTP/1.0 200\nX: y\n\n", 200);
        assert_eq!(line(&mut plain, &bare, Direction::Forward), "HTTP/1.0 200\n");
    }

    #[test]
    fn a_terminal_is_safe() {
        let mut format = format(false, true, false);
        let head = b"GET /\x1b\x7f\\\xff\xc2\x9b\xc3\xa9\xe6\xbc HTTP/1.1\r\n\r\n";
        assert_eq!(
            line(&mut format, &message(head, 0), Direction::Forward),
            "GET /\\x1b\\x7f\\\\xff\\xc2\\x9b\u{e9}\\xe6\\xbc HTTP/1.1\n"
        );
    }

    #[test]
    fn a_terminal_shows_lines_in_their_order() {
        let mut format = format(false, true, false);
        let head = "GET /\u{2028}\u{202e}\u{2066}\u{61c}\u{200f}\u{85} HTTP/1.1\r\n\r\n";
        let shown = line(&mut format, &message(head.as_bytes(), 0), Direction::Forward);
        let escaped = r"\xe2\x80\xa8\xe2\x80\xae\xe2\x81\xa6\xd8\x9c\xe2\x80\x8f\xc2\x85";
        assert_eq!(shown, format!("GET /{escaped} HTTP/1.1\n"));
    }

    #[test]
    fn a_line_behind_a_bare_cr_is_masked() {
        for is_query_redacted in [false, true] {
            let mut format = format(false, false, is_query_redacted);
            let head = b"GET /a\rCookie: SEKRET HTTP/1.1\r\n\r\n";
            let mut request = message(head, 0);
            for target in [Span::ABSENT, Span::new(4, 21)] {
                request.fields.target = target;
                assert_eq!(line(&mut format, &request, Direction::Forward), "GET /a\r***\n");
            }
            let response = message(b"HTTP/1.1 200 a\rCookie: b\r\n\r\n", 200);
            assert_eq!(line(&mut format, &response, Direction::Forward), "HTTP/1.1 200 a\r***\n");
            let harmless = message(b"HTTP/1.1 200 a\rb\r\n\r\n", 200);
            assert_eq!(line(&mut format, &harmless, Direction::Forward), "HTTP/1.1 200 a\rb\n");
        }
    }

    #[test]
    fn verbose_shows_who_speaks() {
        let mut format = format(true, false, false);
        let request = message(b"GET / HTTP/1.1\r\n\r\n", 0);
        assert_eq!(
            line(&mut format, &request, Direction::Forward),
            "2026-11-23T14:00:00.123456789Z 10.0.0.1:4242 > 10.0.0.2:80  GET / HTTP/1.1\n"
        );
        let response = message(b"HTTP/1.1 200 OK\r\n\r\n", 200);
        assert_eq!(
            line(&mut format, &response, Direction::Reverse),
            "2026-11-23T14:00:00.123456789Z 10.0.0.2:80 < 10.0.0.1:4242  HTTP/1.1 200 OK\n"
        );
        let key = FlowKey { realm: REALM_IPV6, ..FlowKey::default() };
        let flow = FlowIdentity { key: &key, client: Direction::Forward, id: 0 };
        let mut out = Vec::new();
        let record = MessageRecord { flow, message: &request, when: TimestampNs(0) };
        format.line(&Event::Message(record), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "1970-01-01T00:00:00.000000000Z [::]:0 > [::]:0  GET / HTTP/1.1\n");
    }

    #[test]
    fn a_query_is_masked() {
        let mut format = format(false, false, true);
        let mut request = message(b"GET /a?b=c HTTP/1.1\r\n\r\n", 0);
        assert_eq!(line(&mut format, &request, Direction::Forward), "GET /a?***\n");
        request.fields.target = Span::new(4, 10);
        assert_eq!(line(&mut format, &request, Direction::Forward), "GET /a?*** HTTP/1.1\n");
        let mut request = message(b"CONNECT user:pw@h:443 HTTP/1.1\r\n\r\n", 0);
        request.fields.target = Span::new(8, 21);
        let shown = line(&mut format, &request, Direction::Forward);
        assert_eq!(shown, "CONNECT ***@h:443 HTTP/1.1\n");
        let mut whole = message(b"CONNECT h:443 HTTP/1.0\r\n", 0);
        whole.fields.target = Span::new(8, 13);
        let shown = line(&mut format, &whole, Direction::Forward);
        assert_eq!(shown, "CONNECT h:443 HTTP/1.0\n");
        let mut cut = message(b"GET http://us", 0);
        cut.fields.target = Span::new(4, 13);
        assert_eq!(line(&mut format, &cut, Direction::Forward), "GET http://***\n");
        let mut cut = message(b"GET http://us\r", 0);
        cut.fields.target = Span::new(4, 14);
        assert_eq!(line(&mut format, &cut, Direction::Forward), "GET http://***\n");
        let response = message(b"HTTP/1.1 200 what?\r\n\r\n", 200);
        assert_eq!(line(&mut format, &response, Direction::Forward), "HTTP/1.1 200 what?\n");
        let mut response = message(b"HTTP/1.1 302 /a?b\r\n\r\n", 302);
        response.fields.reason = Span::new(13, 17);
        assert_eq!(line(&mut format, &response, Direction::Forward), "HTTP/1.1 302 /a?***\n");
    }
}
