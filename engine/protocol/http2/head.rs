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

use super::breaks::{append_line_safe, has_break, is_binary};
use super::buffer::Buffer;
use super::hpack::{Field, Name};
use crate::record::{Fields, Header, Span};

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
    pub text: Buffer,
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
    /// Lines about WebSocket are wanted, too.
    wants_websockets: bool,
    bytes_max: usize,
    /// What further lines may take, also those that are not in the text since nobody wants them. 0
    /// before the text begins.
    room_bytes: usize,
    /// The values of pseudo-fields, of which the next ones are ranges.
    pseudo: Buffer,
    method: Span,
    target: Span,
    authority: Span,
    scheme_value: Span,
    protocol_value: Span,
    /// The digits of `status`.
    status_digits: [u8; 3],
    has_status: bool,
    /// There are several values of `grpc-status`.
    has_status_conflict: bool,
    /// The pseudo-fields are over.
    is_begun: bool,
    /// The first field of the block is not known.
    is_first_unknown: bool,
}

impl Default for HeadText {
    fn default() -> HeadText {
        HeadText {
            text: Buffer::default(),
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
            wants_websockets: false,
            bytes_max: 0,
            room_bytes: 0,
            pseudo: Buffer::default(),
            method: Span::ABSENT,
            target: Span::ABSENT,
            authority: Span::ABSENT,
            scheme_value: Span::ABSENT,
            protocol_value: Span::ABSENT,
            status_digits: [0; 3],
            has_status: false,
            has_status_conflict: false,
            is_begun: false,
            is_first_unknown: false,
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
        self.room_bytes = 0;
        (self.is_conflict, self.is_cut, self.has_status) = (false, false, false);
        self.has_status_conflict = false;
        (self.is_begun, self.is_first_unknown) = (false, false);
        let none = Span::ABSENT;
        (self.method, self.target, self.authority) = (none, none, none);
        (self.scheme_value, self.protocol_value) = (none, none);
        (self.expected, self.bytes_max, self.wants_headers) = (expected, bytes_max, wants_headers);
    }

    /// Keeps the lines that tell what a talk of WebSocket is, whatever is wanted besides.
    pub fn keep_websocket(&mut self, wants_websockets: bool) {
        self.wants_websockets = wants_websockets;
    }

    /// Takes the next field of the block.
    #[inline(always)]
    pub fn field(&mut self, field: Field<'_>) {
        match field.known {
            Name::Other => self.other_field(&field),
            _ => {
                // Of its own, so that it is in memory only here.
                let named = field;
                self.named_field(&named);
            }
        }
    }

    /// A field that is more than a line, or not even known.
    #[inline(never)]
    fn named_field(&mut self, field: &Field<'_>) {
        match field.known {
            Name::Status => self.status_field(field),
            Name::Unknown => self.unknown_field(),
            Name::Host
            | Name::UserAgent
            | Name::Referer
            | Name::ContentType
            | Name::Server
            | Name::Location
            | Name::GrpcStatus
            | Name::GrpcMessage
            | Name::GrpcEncoding => {
                if !self.is_begun {
                    self.begin_text();
                }
                self.shown_field(field);
            }
            _ => self.pseudo_field(field),
        }
    }

    #[cold]
    fn unknown_field(&mut self) {
        // All others leave a trace.
        let is_first = !self.is_begun
            && !self.is_conflict
            && self.unknown_count == 0
            && self.role_shown().is_none()
            && self.protocol_value.is_absent();
        self.is_first_unknown |= is_first;
        self.unknown_count = self.unknown_count.saturating_add(1);
    }

    #[inline(never)]
    fn pseudo_field(&mut self, field: &Field<'_>) {
        if self.is_begun {
            // They must come first (RFC 9113 section 8.3).
            self.is_conflict = true;
            return;
        }
        let slot = match field.known {
            Name::Method => &mut self.method,
            Name::Path => &mut self.target,
            Name::Authority => &mut self.authority,
            Name::Scheme => &mut self.scheme_value,
            Name::Protocol => &mut self.protocol_value,
            _ => return self.is_conflict = true,
        };
        if !slot.is_absent() {
            return self.is_conflict = true;
        }
        let (_, value) = field.texts();
        let start = self.pseudo.len();
        let room = self.bytes_max.saturating_sub(start);
        let kept = &value[..value.len().min(room)];
        self.is_cut |= kept.len() < value.len();
        if field.has_control {
            self.is_conflict |= append_pseudo_safe(kept, &mut self.pseudo, slot);
            return;
        }
        *slot = Span::at(start, kept.len());
        self.pseudo.put(kept);
    }

    #[inline(never)]
    fn status_field(&mut self, field: &Field<'_>) {
        match field.texts().1 {
            &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']
                if !self.is_begun && !self.has_status =>
            {
                let [hundreds, tens, ones] = [a, b, c].map(|digit| u16::from(digit - b'0'));
                self.status = hundreds * 100 + tens * 10 + ones;
                (self.has_status, self.status_digits) = (true, [a, b, c]);
            }
            _ => self.is_conflict = true,
        }
    }

    /// Whether there is room for a line. It is taken.
    #[inline(always)]
    fn take_room(&mut self, line_bytes: usize) -> bool {
        match self.room_bytes.checked_sub(line_bytes) {
            Some(rest_bytes) => {
                self.room_bytes = rest_bytes;
                true
            }
            None => self.take_first_room(line_bytes),
        }
    }

    /// The same if the text has not begun, since the field is the first that is no pseudo-field; or
    /// if there is too little room, also for all that follows.
    #[inline(never)]
    fn take_first_room(&mut self, line_bytes: usize) -> bool {
        if !self.is_begun {
            self.begin_text();
        }
        let rest_bytes = self.room_bytes.checked_sub(line_bytes);
        self.room_bytes = rest_bytes.unwrap_or(0);
        self.is_cut |= rest_bytes.is_none();
        rest_bytes.is_some()
    }

    /// A field that records do not show by name.
    #[inline(always)]
    fn other_field(&mut self, field: &Field<'_>) {
        let (name, value) = field.texts();
        let is_shown = self.wants_headers || self.wants_websockets || field.has_control;
        if self.take_room(name.len() + value.len() + 4) && is_shown {
            self.whole_field(field.has_control, name, value);
        }
    }

    /// The same if all fields are wanted, or there are controls.
    #[inline(never)]
    fn whole_field(&mut self, has_control: bool, name: &[u8], value: &[u8]) {
        let is_wanted =
            self.wants_headers || self.wants_websockets && name.starts_with(b"sec-websocket-");
        if is_wanted {
            self.append_line(name, value, has_control);
        } else {
            self.is_conflict |= has_break(name) || has_break(value) && !is_binary(name, value);
        }
    }

    /// A field that records show by name.
    #[inline(never)]
    fn shown_field(&mut self, field: &Field<'_>) {
        match field.known {
            Name::UserAgent => self.shown(b"user-agent: ", field, |it| &mut it.fields.user_agent),
            Name::Referer => self.shown(b"referer: ", field, |it| &mut it.fields.referer),
            Name::ContentType => {
                self.shown(b"content-type: ", field, |it| &mut it.fields.content_type);
            }
            Name::Server => self.shown(b"server: ", field, |it| &mut it.fields.server),
            Name::Location => self.shown(b"location: ", field, |it| &mut it.fields.location),
            Name::GrpcMessage => self.shown(b"grpc-message: ", field, |it| &mut it.grpc.message),
            Name::GrpcEncoding => self.shown(b"grpc-encoding: ", field, |it| &mut it.grpc.encoding),
            Name::GrpcStatus => self.grpc_status(field),
            _ => self.host(field),
        }
    }

    /// One of them, whose line begins with `front`. The first one counts.
    #[inline(always)]
    fn shown<const N: usize>(
        &mut self,
        front: &'static [u8; N],
        field: &Field<'_>,
        slot: impl Fn(&mut HeadText) -> &mut Span,
    ) {
        let (_, value) = field.texts();
        let rest_bytes = self.room_bytes.checked_sub(N + value.len() + 2);
        match rest_bytes.filter(|_| !field.has_control && !self.wants_headers) {
            Some(rest_bytes) => {
                self.room_bytes = rest_bytes;
                let found = Span::at(self.text.len() + N, value.len());
                let slot = slot(self);
                *slot = if slot.is_absent() { found } else { *slot };
                self.text.put_line(front, value);
            }
            None => {
                if let Some(found) = self.take_line(field) {
                    let slot = slot(self);
                    *slot = if slot.is_absent() { found } else { *slot };
                }
            }
        }
    }

    /// Appends the line of a field, if there is room. Returns its value.
    #[inline(never)]
    fn take_line(&mut self, field: &Field<'_>) -> Option<Span> {
        let (name, value) = field.texts();
        let has_room = self.take_room(name.len() + value.len() + 4);
        has_room.then(|| self.append_line(name, value, field.has_control).value)
    }

    /// A `host` field beside `:authority` must say the same (RFC 9113 section 8.3.1).
    #[inline(never)]
    fn host(&mut self, field: &Field<'_>) {
        let Some(value) = self.take_line(field) else { return };
        if self.fields.host.is_absent() {
            self.fields.host = value;
        } else if self.fields.host.of(&self.text) != value.of(&self.text) {
            self.is_conflict = true;
        }
    }

    /// There is one status. If there are several that differ, none is told.
    #[inline(never)]
    fn grpc_status(&mut self, field: &Field<'_>) {
        let Some(value) = self.take_line(field) else { return };
        let status = &mut self.grpc.status;
        if status.is_absent() && !self.has_status_conflict {
            *status = value;
        } else if status.of(&self.text) != value.of(&self.text) {
            (self.is_conflict, self.has_status_conflict) = (true, true);
            *status = Span::ABSENT;
        }
    }

    #[inline(never)]
    fn append_line(&mut self, name: &[u8], value: &[u8], has_control: bool) -> Header {
        if has_control {
            return self.append_doubtful_line(name, value);
        }
        let start = self.text.len();
        self.text.put(name);
        self.text.put_line(b": ", value);
        let value = Span::at(start + name.len() + 2, value.len());
        self.keep(Header { name: Span::at(start, name.len()), value })
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
        let sent_bytes = name.len() + value.len() + 4;
        let line_start = self.text.len();
        self.is_conflict |= append_line_safe(name, &mut self.text);
        let may_break = is_binary(name, value);
        let name = Span::new(line_start, self.text.len());
        self.text.put(b": ");
        let start = self.text.len();
        self.is_conflict |= append_line_safe(value, &mut self.text) && !may_break;
        let value = Span::new(start, self.text.len());
        self.text.put(b"\r\n");
        // What depicts a character is longer than it.
        let more_bytes = self.text.len() - line_start - sent_bytes;
        self.room_bytes = self.room_bytes.saturating_sub(more_bytes);
        self.keep(Header { name, value })
    }

    /// What the pseudo-fields show.
    fn role_shown(&self) -> Option<Role> {
        let values = [self.method, self.target, self.scheme_value, self.authority];
        match self.has_status {
            true => Some(Role::Response),
            false if values.iter().any(|value| !value.is_absent()) => Some(Role::Request),
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
    #[inline(never)]
    fn begin_text(&mut self) {
        self.is_begun = true;
        match self.role() {
            Role::Request => self.request_line(),
            Role::Response => self.status_line(),
            Role::Trailers | Role::Unclear => {}
        }
        // The line that ends the head takes two.
        let taken_bytes = if self.is_cut { self.bytes_max } else { self.text.len() + 2 };
        self.room_bytes = self.bytes_max.saturating_sub(taken_bytes);
    }

    fn request_line(&mut self) {
        self.fields.method = self.append_word(self.method);
        self.text.put(b" ");
        // That of CONNECT is the authority.
        let start = self.text.len();
        self.fields.target = self.append_word(self.target);
        if let (true, Some(authority)) = (self.target.is_absent(), self.authority.of(&self.pseudo))
        {
            let is_connect = self.fields.method.of(&self.text) == Some(b"CONNECT");
            if is_connect && self.protocol_value.is_absent() {
                self.text.truncate(start);
                self.text.put(authority);
            }
        }
        if self.is_cut {
            // The line goes on, for all that is known.
            self.start_line_bytes = self.text.len() as u32;
            return;
        }
        self.fields.version = Span::at(self.text.len() + 1, VERSION.len());
        self.text.put(b" HTTP/2\r\n");
        self.start_line_bytes = self.text.len() as u32;
        self.scheme = self.pseudo_line(b":scheme: ", self.scheme_value);
        self.connect_protocol = self.pseudo_line(b":protocol: ", self.protocol_value);
        let start = self.text.len();
        self.fields.host = self.pseudo_line(b"host: ", self.authority);
        if self.wants_headers && !self.authority.is_absent() {
            self.headers.push(Header { name: Span::at(start, 4), value: self.fields.host });
        }
    }

    fn status_line(&mut self) {
        self.fields.version = Span::at(0, VERSION.len());
        match (self.has_status, self.status_digits) {
            (true, [a, b, c]) => {
                let line = [b'H', b'T', b'T', b'P', b'/', b'2', b' ', a, b, c, b'\r', b'\n'];
                self.text.put(&line);
            }
            (false, _) => self.text.put(b"HTTP/2 -\r\n"),
        }
        self.start_line_bytes = self.text.len() as u32;
    }

    /// Appends a pseudo-field's value, or `-` if it is not known. Returns where it is.
    #[inline(always)]
    fn append_word(&mut self, value: Span) -> Span {
        let start = self.text.len();
        match value.of(&self.pseudo) {
            Some(value) => {
                self.text.put(value);
                Span::at(start, value.len())
            }
            None => {
                self.text.put(b"-");
                Span::ABSENT
            }
        }
    }

    /// Appends the line of a pseudo-field. `front` is its name, `: ` included. The value was made
    /// safe before.
    #[inline(always)]
    fn pseudo_line<const N: usize>(&mut self, front: &'static [u8; N], value: Span) -> Span {
        let Some(value) = value.of(&self.pseudo) else { return Span::ABSENT };
        let start = self.text.len() + N;
        self.text.put_line(front, value);
        Span::at(start, value.len())
    }

    /// The block is over. If it `is_cut`, further fields were lost.
    pub fn end(&mut self, is_cut: bool) {
        if !self.is_begun {
            self.begin_text();
        }
        self.is_cut |= is_cut;
        if !self.is_cut {
            self.text.put(b"\r\n");
        }
    }
}

/// The text of a message whose head was lost: its version is known nevertheless.
pub(super) fn headless() -> (&'static [u8], Fields) {
    (VERSION, Fields { version: Span::new(0, VERSION.len()), ..Fields::NONE })
}

/// Appends the value of a pseudo-field with controls, and keeps its place.
#[cold]
#[inline(never)]
fn append_pseudo_safe(value: &[u8], out: &mut Buffer, place: &mut Span) -> bool {
    let start = out.len();
    let is_broken = append_line_safe(value, out);
    *place = Span::new(start, out.len());
    is_broken
}
