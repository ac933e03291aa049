//! [`HeadText`]: the fields of a header block, written as the head of a message in text, as HTTP/1
//! would send it. So everything that reads heads (records, masks, formats) reads those of HTTP/2.
//!
//! ```text
//! GET /path HTTP/2          the start line; `-` in place of what is not known
//! :scheme: http             pseudo-fields that HTTP/1 does not have
//! host: example.com         :authority
//! user-agent: curl/8.5.0    the other fields, as sent
//! ```
//!
//! If the sink does not want all headers, the lines are left out that no record shows.
//!
//! CR, LF and NUL, which HTTP/2 forbids in names and values (RFC 9113 section 8.2.1), would break
//! that form. They are written as the characters that depict them: U+240D, U+240A, U+2400.

use super::hpack::{Field, Name, has_control};
use crate::record::{Fields, Header, Span};
use memchr::memchr3;

const VERSION: &[u8] = b"HTTP/2";

/// What a header block may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expected {
    /// The head of a request.
    Request,
    /// The head of a response, final or interim.
    Response,
    /// A head, or fields behind the body. The pseudo-fields show which.
    HeadOrTrailers,
    /// Fields behind the body.
    Trailers,
}

/// What a header block turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Request,
    Response,
    Trailers,
    /// A head or trailers: what would show it is not known.
    Unclear,
}

/// A value in `HeadText::pseudo`; `None` if there is no such field.
type Pseudo = Option<(usize, usize)>;

/// The fields of gRPC, ranges of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct GrpcSpans {
    pub status: Span,
    pub message: Span,
    pub encoding: Span,
}

impl GrpcSpans {
    const NONE: GrpcSpans =
        GrpcSpans { status: Span::ABSENT, message: Span::ABSENT, encoding: Span::ABSENT };
}

/// The head that is being written. Its memory is reused.
#[derive(Debug)]
pub(super) struct HeadText {
    pub text: Vec<u8>,
    pub headers: Vec<Header>,
    pub fields: Fields,
    pub start_line_bytes: u32,
    /// The positions of `:scheme` and `:protocol` in the text.
    pub scheme: Span,
    pub connect_protocol: Span,
    /// The values of `grpc-status`, `grpc-message` and `grpc-encoding`.
    pub grpc: GrpcSpans,
    /// 0 if it is not known.
    pub status: u16,
    /// Fields whose name or value is not known.
    pub unknown_count: u32,
    /// The fields contradict each other or the rules of HTTP/2.
    pub is_conflict: bool,
    /// Fields are missing, since the limit was reached.
    pub is_cut: bool,
    expected: Expected,
    wants_headers: bool,
    bytes_max: usize,
    /// Lines that are not in the text, since nobody wants them.
    left_out_bytes: usize,
    pseudo: Vec<u8>,
    method: Pseudo,
    target: Pseudo,
    authority: Pseudo,
    scheme_value: Pseudo,
    protocol_value: Pseudo,
    has_status: bool,
    /// There are several values of `grpc-status`.
    has_status_conflict: bool,
    /// The pseudo-fields are over.
    is_begun: bool,
    /// The first field of the block is not known.
    is_first_unknown: bool,
    has_fields: bool,
}

impl Default for HeadText {
    fn default() -> HeadText {
        HeadText {
            text: Vec::new(),
            headers: Vec::new(),
            fields: Fields::NONE,
            start_line_bytes: 0,
            scheme: Span::ABSENT,
            connect_protocol: Span::ABSENT,
            grpc: GrpcSpans::NONE,
            status: 0,
            unknown_count: 0,
            is_conflict: false,
            is_cut: false,
            expected: Expected::HeadOrTrailers,
            wants_headers: false,
            bytes_max: 0,
            left_out_bytes: 0,
            pseudo: Vec::new(),
            method: None,
            target: None,
            authority: None,
            scheme_value: None,
            protocol_value: None,
            has_status: false,
            has_status_conflict: false,
            is_begun: false,
            is_first_unknown: false,
            has_fields: false,
        }
    }
}

impl HeadText {
    /// Begins a head of at most `bytes_max` bytes.
    pub fn begin(&mut self, expected: Expected, bytes_max: usize, wants_headers: bool) {
        self.text.clear();
        self.headers.clear();
        self.pseudo.clear();
        self.fields = Fields::NONE;
        (self.scheme, self.connect_protocol) = (Span::ABSENT, Span::ABSENT);
        self.grpc = GrpcSpans::NONE;
        (self.start_line_bytes, self.status, self.unknown_count) = (0, 0, 0);
        self.left_out_bytes = 0;
        (self.is_conflict, self.is_cut, self.has_status) = (false, false, false);
        self.has_status_conflict = false;
        (self.is_begun, self.is_first_unknown, self.has_fields) = (false, false, false);
        (self.method, self.target, self.authority) = (None, None, None);
        (self.scheme_value, self.protocol_value) = (None, None);
        (self.expected, self.bytes_max, self.wants_headers) = (expected, bytes_max, wants_headers);
    }

    /// Takes the next field of the block.
    #[inline(always)]
    pub fn field(&mut self, field: Field<'_>) {
        match field.known {
            Name::Other => self.other_field(&field),
            _ => self.named_field(field),
        }
        self.has_fields = true;
    }

    /// A field that is more than a line, or not even known.
    #[inline(never)]
    fn named_field(&mut self, field: Field<'_>) {
        let value = field.value.unwrap_or_default();
        match field.known {
            Name::Host => self.shown_field(b"host: ", &field),
            Name::UserAgent => self.shown_field(b"user-agent: ", &field),
            Name::Referer => self.shown_field(b"referer: ", &field),
            Name::ContentType => self.shown_field(b"content-type: ", &field),
            Name::Server => self.shown_field(b"server: ", &field),
            Name::Location => self.shown_field(b"location: ", &field),
            Name::GrpcStatus => self.shown_field(b"grpc-status: ", &field),
            Name::GrpcMessage => self.shown_field(b"grpc-message: ", &field),
            Name::GrpcEncoding => self.shown_field(b"grpc-encoding: ", &field),
            Name::Status => self.status_field(value),
            Name::Unknown => self.unknown_field(),
            _ => self.pseudo_field(field.known, value, field.has_control),
        }
    }

    #[cold]
    fn unknown_field(&mut self) {
        self.unknown_count = self.unknown_count.saturating_add(1);
        self.is_first_unknown |= !self.has_fields;
    }

    fn pseudo_field(&mut self, name: Name, value: &[u8], has_control: bool) {
        if self.is_begun {
            // They must come first (RFC 9113 section 8.3).
            self.is_conflict = true;
            return;
        }
        let slot = match name {
            Name::Method => &mut self.method,
            Name::Path => &mut self.target,
            Name::Authority => &mut self.authority,
            Name::Scheme => &mut self.scheme_value,
            Name::Protocol => &mut self.protocol_value,
            _ => return self.is_conflict = true,
        };
        if slot.is_some() {
            return self.is_conflict = true;
        }
        let start = self.pseudo.len();
        let room = self.bytes_max.saturating_sub(start);
        let kept = &value[..value.len().min(room)];
        self.is_cut |= kept.len() < value.len();
        if has_control {
            self.is_conflict |= append_line_safe(kept, &mut self.pseudo);
        } else {
            self.pseudo.extend_from_slice(kept);
        }
        *slot = Some((start, self.pseudo.len()));
    }

    fn status_field(&mut self, value: &[u8]) {
        if self.is_begun {
            return self.is_conflict = true;
        }
        let digits = value.iter().map(|digit| u16::from(digit.wrapping_sub(b'0')));
        let is_number = value.len() == 3 && digits.clone().all(|digit| digit < 10);
        if self.has_status || !is_number || value[0] == b'0' {
            self.is_conflict = true;
            return;
        }
        (self.has_status, self.status) = (true, digits.fold(0, |sum, digit| sum * 10 + digit));
    }

    /// Begins the text, if the field is the first that is no pseudo-field. Returns whether there is
    /// room for its line.
    #[inline(always)]
    fn has_room(&mut self, name: &[u8], value: &[u8]) -> bool {
        if !self.is_begun {
            self.begin_text();
        }
        let line_bytes = name.len() + value.len() + 4;
        let head_bytes = self.text.len() + self.left_out_bytes + line_bytes + 2;
        self.is_cut |= head_bytes > self.bytes_max;
        !self.is_cut
    }

    /// A field that records do not show by name.
    #[inline(always)]
    fn other_field(&mut self, field: &Field<'_>) {
        let (name, value) = (field.name.unwrap_or_default(), field.value.unwrap_or_default());
        if !self.has_room(name, value) {
            return;
        }
        if self.wants_headers || field.has_control {
            return self.whole_field(field.has_control, name, value);
        }
        self.left_out_bytes += name.len() + value.len() + 4;
    }

    /// The same if all fields are wanted, or there are controls.
    #[inline(never)]
    fn whole_field(&mut self, has_control: bool, name: &[u8], value: &[u8]) {
        if self.wants_headers {
            self.append_line(name, value, has_control);
        } else {
            self.left_out_bytes += name.len() + value.len() + 4;
            self.is_conflict |= has_break(name) || has_break(value) && !is_binary(name, value);
        }
    }

    /// A field that records show by name. Its line begins with `front`.
    #[inline(always)]
    fn shown_field(&mut self, front: &'static [u8], field: &Field<'_>) {
        let (name, value) = (field.name.unwrap_or_default(), field.value.unwrap_or_default());
        if !self.has_room(name, value) {
            return;
        }
        let header = self.append_shown(front, value, field.has_control);
        let slot = match field.known {
            Name::Host => return self.host(header),
            Name::UserAgent => &mut self.fields.user_agent,
            Name::Referer => &mut self.fields.referer,
            Name::ContentType => &mut self.fields.content_type,
            Name::Server => &mut self.fields.server,
            Name::Location => &mut self.fields.location,
            Name::GrpcStatus => return self.grpc_status(header),
            Name::GrpcMessage => &mut self.grpc.message,
            Name::GrpcEncoding => &mut self.grpc.encoding,
            _ => return,
        };
        if slot.is_absent() {
            *slot = header.value;
        }
    }

    /// A `host` field beside `:authority` must say the same (RFC 9113 section 8.3.1).
    fn host(&mut self, header: Header) {
        if self.fields.host.is_absent() {
            self.fields.host = header.value;
        } else if self.fields.host.of(&self.text) != header.value.of(&self.text) {
            self.is_conflict = true;
        }
    }

    /// There is one status. If there are several that differ, none is told.
    fn grpc_status(&mut self, header: Header) {
        let status = &mut self.grpc.status;
        if status.is_absent() && !self.has_status_conflict {
            *status = header.value;
        } else if status.of(&self.text) != header.value.of(&self.text) {
            (self.is_conflict, self.has_status_conflict) = (true, true);
            *status = Span::ABSENT;
        }
    }

    /// Appends the line of a field that records show by name. `front` is its name, `: ` included.
    #[inline(always)]
    fn append_shown(&mut self, front: &'static [u8], value: &[u8], has_control: bool) -> Header {
        let name_bytes = front.len() - 2;
        if has_control {
            return self.append_doubtful_line(&front[..name_bytes], value);
        }
        let start = self.text.len();
        self.text.extend_from_slice(front);
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(b"\r\n");
        let name = Span::at(start, name_bytes);
        self.keep(Header { name, value: Span::at(start + front.len(), value.len()) })
    }

    fn append_line(&mut self, name: &[u8], value: &[u8], has_control: bool) -> Header {
        if has_control {
            return self.append_doubtful_line(name, value);
        }
        let text = &mut self.text;
        // Once, instead of for each part.
        text.reserve(name.len() + value.len() + 4);
        let start = text.len();
        text.extend_from_slice(name);
        let name_end = text.len();
        text.extend_from_slice(b": ");
        let value_start = text.len();
        text.extend_from_slice(value);
        let value = Span::new(value_start, text.len());
        text.extend_from_slice(b"\r\n");
        self.keep(Header { name: Span::new(start, name_end), value })
    }

    #[inline]
    fn keep(&mut self, header: Header) -> Header {
        if self.wants_headers {
            self.headers.push(header);
        }
        header
    }

    /// The same for a line with controls.
    #[cold]
    fn append_doubtful_line(&mut self, name: &[u8], value: &[u8]) -> Header {
        let start = self.text.len();
        self.is_conflict |= append_line_safe(name, &mut self.text);
        let may_break = is_binary(name, value);
        let name = Span::new(start, self.text.len());
        self.text.extend_from_slice(b": ");
        let start = self.text.len();
        self.is_conflict |= append_line_safe(value, &mut self.text) && !may_break;
        let value = Span::new(start, self.text.len());
        self.text.extend_from_slice(b"\r\n");
        self.keep(Header { name, value })
    }

    /// What the pseudo-fields show.
    fn role_shown(&self) -> Option<Role> {
        let values = [self.method, self.target, self.scheme_value, self.authority];
        match self.has_status {
            true => Some(Role::Response),
            false if values.iter().any(Option::is_some) => Some(Role::Request),
            false => None,
        }
    }

    /// What the block is, as far as its fields show.
    pub fn role(&self) -> Role {
        match (self.expected, self.role_shown()) {
            (Expected::Trailers, _) => Role::Trailers,
            (_, Some(role)) => role,
            // The first field of a head is a pseudo-field (RFC 9113 section 8.3).
            (_, None) if !self.is_first_unknown => Role::Trailers,
            (Expected::Request, None) => Role::Request,
            (Expected::Response, None) => Role::Response,
            (Expected::HeadOrTrailers, None) => Role::Unclear,
        }
    }

    /// Whether a pseudo-field is known.
    pub fn has_pseudo(&self) -> bool {
        self.role_shown().is_some()
    }

    /// Writes the start line, and the lines of the pseudo-fields.
    fn begin_text(&mut self) {
        self.is_begun = true;
        match self.role() {
            Role::Request => self.request_line(),
            Role::Response => self.status_line(),
            Role::Trailers | Role::Unclear => {}
        }
    }

    fn request_line(&mut self) {
        self.fields.method = self.append_word(self.method);
        self.text.push(b' ');
        // That of CONNECT is the authority.
        let start = self.text.len();
        self.fields.target = self.append_word(self.target);
        if let (None, Some((from, to))) = (self.target, self.authority) {
            let is_connect = self.fields.method.of(&self.text) == Some(b"CONNECT");
            if is_connect && self.protocol_value.is_none() {
                self.text.truncate(start);
                self.text.extend_from_slice(&self.pseudo[from..to]);
            }
        }
        if self.is_cut {
            // The line goes on, for all that is known.
            self.start_line_bytes = self.text.len() as u32;
            return;
        }
        self.text.push(b' ');
        self.version();
        self.end_start_line();
        self.scheme = self.pseudo_line(b":scheme: ", self.scheme_value);
        self.connect_protocol = self.pseudo_line(b":protocol: ", self.protocol_value);
        if let Some((start, end)) = self.authority {
            let pseudo = std::mem::take(&mut self.pseudo);
            let value = &pseudo[start..end];
            self.fields.host = self.append_shown(b"host: ", value, has_control(value)).value;
            self.pseudo = pseudo;
        }
    }

    fn status_line(&mut self) {
        self.version();
        self.text.push(b' ');
        match self.status {
            0 => self.text.push(b'-'),
            status => {
                let digits = [status / 100, status / 10 % 10, status % 10];
                self.text.extend(digits.map(|digit| b'0' + digit as u8));
            }
        }
        self.end_start_line();
    }

    fn version(&mut self) {
        let start = self.text.len();
        self.text.extend_from_slice(VERSION);
        self.fields.version = Span::new(start, self.text.len());
    }

    fn end_start_line(&mut self) {
        self.text.extend_from_slice(b"\r\n");
        self.start_line_bytes = self.text.len() as u32;
    }

    /// Appends a pseudo-field's value, or `-` if it is not known. Returns where it is.
    fn append_word(&mut self, value: Pseudo) -> Span {
        let start = self.text.len();
        match value {
            Some((from, to)) => {
                self.text.extend_from_slice(&self.pseudo[from..to]);
                Span::new(start, self.text.len())
            }
            None => {
                self.text.push(b'-');
                Span::ABSENT
            }
        }
    }

    /// Appends the line of a pseudo-field. `front` is its name, `: ` included.
    #[inline(always)]
    fn pseudo_line(&mut self, front: &'static [u8], value: Pseudo) -> Span {
        let Some((from, to)) = value else { return Span::ABSENT };
        self.text.extend_from_slice(front);
        let start = self.text.len();
        self.text.extend_from_slice(&self.pseudo[from..to]);
        let span = Span::new(start, self.text.len());
        self.text.extend_from_slice(b"\r\n");
        span
    }

    /// The block is over. If it `is_cut`, further fields were lost.
    pub fn end(&mut self, is_cut: bool) {
        if !self.is_begun {
            self.begin_text();
        }
        self.is_cut |= is_cut;
        if !self.is_cut {
            self.text.extend_from_slice(b"\r\n");
        }
    }
}

/// The text of a message whose head was lost: its version is known nevertheless.
pub(super) fn headless() -> (&'static [u8], Fields) {
    (VERSION, Fields { version: Span::new(0, VERSION.len()), ..Fields::NONE })
}

/// Appends `value` so that it can break neither a line nor a head. Returns whether anything in it
/// would.
#[inline]
fn append_line_safe(value: &[u8], out: &mut Vec<u8>) -> bool {
    if has_break(value) {
        append_without_breaks(value, out);
        return true;
    }
    out.extend_from_slice(value);
    false
}

#[cold]
fn append_without_breaks(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = memchr3(b'\r', b'\n', 0, rest) {
        out.extend_from_slice(&rest[..at]);
        // The Unicode block of control pictures has their order.
        out.extend_from_slice(&[0xe2, 0x90, 0x80 + rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Whether it is a binary field of gRPC: peers that have agreed on it send the bytes as they are,
/// with a NUL in front.
fn is_binary(name: &[u8], value: &[u8]) -> bool {
    name.ends_with(b"-bin") && value.starts_with(&[0])
}

/// Whether a name or value has a CR, LF or NUL.
#[inline]
fn has_break(text: &[u8]) -> bool {
    has_control(text) && memchr3(b'\r', b'\n', 0, text).is_some()
}

#[cfg(test)]
mod tests {
    use super::has_break;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn breaks_are_found_wherever_they_are(
            mut text in prop::collection::vec(0x20..=0xff_u8, 0..40),
            at: prop::sample::Index,
            byte in 0..0x21_u8,
        ) {
            prop_assert!(!has_break(&text));
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = byte;
                prop_assert_eq!(has_break(&text), [b'\r', b'\n', 0].contains(&byte));
            }
        }
    }
}
