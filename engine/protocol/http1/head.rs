//! The head of a message: start line and header fields (RFC 9112 sections 2 to 5), parsed in one
//! pass.
//!
//! Lenient where real senders need it: bare LF, several spaces, raw bytes in targets, obsolete
//! folds, white space around names. Strict about what makes a message a message: the shape of the
//! start line, and its version.

use crate::record::{Fields, Span};
use memchr::{memchr, memrchr};

mod fast_path;
mod fields;
mod lines;

pub(super) use fields::{Expected, FramingFields, Head, Kind};
pub(super) use lines::HeaderLines;

/// A longer method is not accepted.
const METHOD_BYTES_MAX: usize = 64;
/// A longer version is not accepted.
const VERSION_BYTES_MAX: usize = 16;

/// The longest line of a PROXY header of version 1.
const PROXY_LINE_BYTES_MAX: usize = 107;
/// The signature of version 2, without the empty lines in front of it.
const PROXY_SIGNATURE: &[u8] = b"\0\r\nQUIT\n";
/// A longer PROXY header is not waited for.
const PROXY_BYTES_MAX: usize = 4096;

/// What was found at the start of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parsed {
    /// A complete head, which is in the caller's [`Head`].
    Complete,
    /// May become a head.
    Partial,
    Invalid,
    /// A PROXY header of this length, as load balancers send it before the data they pass on.
    Proxy(usize),
    /// The HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2,
}

/// Parses a head at the start of `bytes` into `head`, which is blank. `head` is valid only if it is
/// complete.
#[inline]
pub(super) fn parse(bytes: &[u8], expected: Expected, head: &mut Head) -> Parsed {
    if fast_path::parse(bytes, expected, head).is_some() {
        return Parsed::Complete;
    }
    *head = Head::BLANK;
    parse_slow_path(bytes, expected, head)
}

/// The same for everything that senders write.
fn parse_slow_path(bytes: &[u8], expected: Expected, head: &mut Head) -> Parsed {
    let Some(line_end) = memchr(b'\n', bytes) else {
        return if may_begin(bytes, expected) { Parsed::Partial } else { proxy(bytes, expected) };
    };
    let end = match lines(bytes, line_end, expected, head) {
        Ok(Some(end)) => end,
        Ok(None) => return Parsed::Partial,
        Err(Parsed::Invalid) => return proxy(bytes, expected),
        Err(other) => return other,
    };
    (head.len_bytes, head.is_whole) = (end, true);
    Parsed::Complete
}

/// Parses the available part of a head whose rest was lost or is too long. An unfinished last line
/// is left out. `None` if not even the start line is complete.
pub(super) fn parse_cut(bytes: &[u8], expected: Expected) -> Option<Head> {
    let mut head = Head { len_bytes: bytes.len(), ..Head::BLANK };
    lines(bytes, memchr(b'\n', bytes)?, expected, &mut head).ok()?;
    Some(head)
}

/// Parses the start line, which ends at `line_end`, and the header lines that follow. Returns where
/// the head ends, if it does.
fn lines(
    bytes: &[u8],
    line_end: usize,
    expected: Expected,
    head: &mut Head,
) -> Result<Option<usize>, Parsed> {
    head.kind = start_line(trim_cr(&bytes[..line_end]), expected, &mut head.fields)?;
    head.start_line_bytes = (line_end + 1) as u32;
    Ok(header_lines(bytes, line_end + 1, head))
}

/// Parses the beginning of a request line that is longer than the part that is kept: the method and
/// the beginning of the target.
pub(super) fn parse_cut_request_line(bytes: &[u8]) -> Option<Head> {
    let method_end = memchr(b' ', bytes).filter(|_| may_begin_request(bytes))?;
    let mut head = Head { kind: Kind::Request, len_bytes: bytes.len(), ..Head::BLANK };
    head.fields.method = Span::new(0, method_end);
    head.fields.target = Span::new(method_end + 1, bytes.len());
    head.start_line_bytes = bytes.len() as u32;
    Some(head)
}

/// Updates the framing with one complete field.
pub(super) fn note_framing(field: &[u8], is_request: bool, fields: &mut FramingFields) {
    let kind = if is_request { Kind::Request } else { Kind::Response { status: 0 } };
    let mut head = Head { kind, framing: *fields, ..Head::BLANK };
    header_field(field, 0, field.len(), &mut head);
    *fields = head.framing;
}

/// Bytes that are no start line may be a PROXY header (haproxy's doc/proxy-protocol.txt): a line,
/// or in version 2 a signature, four bytes, and as many bytes as the last two of these announce.
/// The empty lines at the beginning of the signature have already been skipped.
#[cold]
fn proxy(bytes: &[u8], expected: Expected) -> Parsed {
    if expected == Expected::Response {
        return Parsed::Invalid;
    }
    if bytes.starts_with(b"PROXY ") {
        let line_end = memchr(b'\n', &bytes[..bytes.len().min(PROXY_LINE_BYTES_MAX)]);
        return line_end.map_or(Parsed::Invalid, |at| Parsed::Proxy(at + 1));
    }
    let known = bytes.len().min(PROXY_SIGNATURE.len());
    if bytes[..known] != PROXY_SIGNATURE[..known] {
        return Parsed::Invalid;
    }
    let Some([version_command, _, high, low]) = bytes[known..].first_chunk() else {
        return Parsed::Partial;
    };
    let header_bytes = known + 4 + usize::from(u16::from_be_bytes([*high, *low]));
    match bytes.len() {
        _ if version_command >> 4 != 2 || header_bytes > PROXY_BYTES_MAX => Parsed::Invalid,
        len if len < header_bytes => Parsed::Partial,
        _ => Parsed::Proxy(header_bytes),
    }
}

/// The length of the empty lines before a start line (RFC 9112 section 2.2).
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(**byte, b'\r' | b'\n')).count()
}

/// Whether `bytes` may begin a response, with or without empty lines before it.
pub(super) fn may_begin_response(bytes: &[u8]) -> bool {
    let text = &bytes[empty_lines(bytes)..];
    let begin = &text[..text.len().min(5)];
    begin.eq_ignore_ascii_case(&b"HTTP/"[..begin.len()])
}

/// Where the head at the start of `bytes` ends: behind the first empty line. Looks only from `from`
/// on.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(3);
    while let Some(found) = memchr(b'\n', bytes.get(at..)?) {
        let behind = at + found + 1;
        match bytes.get(behind..)? {
            [b'\n', ..] => return Some(behind + 1),
            [b'\r', b'\n', ..] => return Some(behind + 2),
            [b'\r', b'\r', b'\n', ..] => return Some(behind + 3),
            _ => at = behind,
        }
    }
    None
}

/// Whether an unfinished line may become a start line.
pub(super) fn may_begin(bytes: &[u8], expected: Expected) -> bool {
    let as_response = expected != Expected::Request && {
        // The part of the version that `status_of` checks.
        let pattern: &[u8] = if expected == Expected::Response { b"HTTP/" } else { b"HTTP/1" };
        let len = bytes.len().min(pattern.len());
        bytes[..len].eq_ignore_ascii_case(&pattern[..len])
    };
    as_response || expected != Expected::Response && may_begin_request(bytes)
}

fn may_begin_request(bytes: &[u8]) -> bool {
    let scanned = &bytes[..bytes.len().min(METHOD_BYTES_MAX + 1)];
    match scanned.iter().position(|byte| !is_token_byte(*byte)) {
        Some(0) => false,
        Some(end) => bytes[end] == b' ',
        None => bytes.len() <= METHOD_BYTES_MAX,
    }
}

/// Whether the start of a frame is the start of a head, in a stream that lost synchronisation.
/// Nothing else confirms it, so it must be what senders do write: a complete start line of the
/// right shape, or the beginning of one. Any token is a method, but the less usual it is, the more
/// the rest of the line must say.
pub(super) fn is_certain(bytes: &[u8], expected: Expected) -> bool {
    if let Some(line_end) = memchr(b'\n', bytes) {
        let mut fields = Fields::NONE;
        let line = trim_cr(&bytes[..line_end]);
        return match start_line(line, expected, &mut fields) {
            Ok(Kind::Request) => {
                let method = fields.method.of(line).unwrap_or_default();
                let target = fields.target.of(line).unwrap_or_default();
                let is_single = line.iter().filter(|byte| is_blank(**byte)).count() == 2;
                is_likely_method(method)
                    && (is_usual_method(method) || is_regular(method, target) && is_single)
            }
            Ok(Kind::Response { .. }) => status_of(line, Expected::Either).is_some(),
            Err(_) => false,
        };
    }
    if expected != Expected::Request && status_of(bytes, Expected::Either).is_some() {
        return true;
    }
    let Some(space) = memchr(b' ', &bytes[..bytes.len().min(METHOD_BYTES_MAX)]) else {
        return false;
    };
    let (method, target) = (&bytes[..space], &bytes[space + 1..]);
    expected != Expected::Response
        && is_likely_method(method)
        && (is_usual_method(method)
            || method.iter().all(|byte| is_token_byte(*byte)) && is_target_only(target))
        && is_regular(method, target)
}

/// Whether `rest`, what there is of a request line behind its method, is a target, or one with the
/// beginning of a version.
fn is_target_only(rest: &[u8]) -> bool {
    let mut words = rest.split(|byte| is_blank(*byte));
    words.next();
    let version = words.next().unwrap_or_default();
    words.next().is_none() && (may_become(version, b"HTTP/1") || is_version(trim_cr(version)))
}

/// Whether an unfinished start line is certain, or too short to tell.
pub(super) fn may_become_certain(bytes: &[u8]) -> bool {
    let Some(space) = memchr(b' ', bytes) else { return true };
    let rest = bytes[space + 1..].trim_ascii_start();
    let is_short = match is_version(&bytes[..space]) {
        true => rest.len() < 3 && rest.iter().all(u8::is_ascii_digit),
        false => may_become(rest, b"http"),
    };
    is_short || is_certain(bytes, Expected::Either)
}

/// Whether `bytes` are the beginning of `text`, in whatever case.
fn may_become(bytes: &[u8], text: &[u8]) -> bool {
    text.get(..bytes.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(bytes))
}

/// A method as senders usually write it: in capitals, or without any. If the tail of a body runs
/// into a start line, the result usually looks different.
fn is_usual_method(method: &[u8]) -> bool {
    let is_all = |of_case: fn(&u8) -> bool| {
        method.iter().all(|byte| of_case(byte) || matches!(byte, b'-' | b'_'))
    };
    (3..=20).contains(&method.len())
        && (is_all(u8::is_ascii_uppercase) || is_all(u8::is_ascii_lowercase))
}

/// Whether a token may be a method, rather than the end of a common one whose beginning was not
/// seen, or such a one behind the tail of a body. Methods in capitals that end with a common one
/// exist (BPROPPATCH).
fn is_likely_method(method: &[u8]) -> bool {
    const COMMON: [&[u8]; 9] =
        [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];
    let is_end = |common: &&[u8]| common.len() > method.len() && common.ends_with(method);
    if method.is_empty() || COMMON.iter().any(is_end) {
        return false;
    }
    let tail = COMMON.iter().find_map(|common| method.strip_suffix(*common));
    is_usual_method(method)
        || tail.is_none_or(|tail| !tail.last().is_some_and(u8::is_ascii_alphanumeric))
}

/// Whether the beginning of `target` has one of the forms of RFC 9112 section 3.2.
fn is_regular(method: &[u8], target: &[u8]) -> bool {
    matches!(target.first(), Some(b'/' | b'*'))
        || target.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http"))
        || method == b"CONNECT"
}

/// Whether `bytes` begin with a start line of a protocol that has the form of HTTP and may carry
/// messages of HTTP: RFC 3507 (ICAP), 7826 (RTSP), 3261 (SIP), 6787 (MRCP).
pub(super) fn is_of_other_protocol(bytes: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"ICAP/", b"RTSP/", b"SIP/", b"MRCP/"];
    let is_version = |word: &[u8]| {
        let version = NAMES.iter().find_map(|name| word.strip_prefix(*name));
        matches!(version, Some([b'0'..=b'9', b'.', b'0'..=b'9']))
    };
    let Some(line_end) = memchr(b'\n', bytes) else { return false };
    let mut words = trim_cr(&bytes[..line_end]).split(|byte| *byte == b' ');
    let first = words.next().unwrap_or_default();
    let is_method = !first.is_empty() && first.iter().all(|byte| is_token_byte(*byte));
    is_version(first) || is_method && words.next_back().is_some_and(is_version)
}

fn start_line(line: &[u8], expected: Expected, fields: &mut Fields) -> Result<Kind, Parsed> {
    let is_status_line =
        line.starts_with(b"HTTP/") || line.len() >= 5 && line[..5].eq_ignore_ascii_case(b"HTTP/");
    if expected != Expected::Request && is_status_line {
        return status_line(line, expected, fields).ok_or(Parsed::Invalid);
    }
    if expected == Expected::Response {
        return Err(Parsed::Invalid);
    }
    if line == b"PRI * HTTP/2.0" {
        return Err(Parsed::Http2);
    }
    request_line(line, fields).ok_or(Parsed::Invalid)
}

/// `method SP target SP HTTP/1.x` (RFC 9112 section 3). The target is everything between the first
/// space and the last, whatever bytes it holds.
fn request_line(line: &[u8], fields: &mut Fields) -> Option<Kind> {
    let len = line.len() - line.iter().rev().take_while(|byte| is_blank(**byte)).count();
    let line = &line[..len];
    let version_start = memrchr(b' ', line)? + 1;
    if !is_version(&line[version_start..]) {
        return None;
    }
    let scanned = &line[..len.min(METHOD_BYTES_MAX + 1)];
    let method_end = scanned.iter().position(|byte| !is_token_byte(*byte))?;
    if method_end == 0 || line[method_end] != b' ' {
        return None;
    }
    let between = line.get(method_end + 1..version_start - 1)?;
    let skipped = between.iter().take_while(|byte| **byte == b' ').count();
    let target_start = method_end + 1 + skipped;
    let trailing = between.iter().rev().take_while(|byte| **byte == b' ').count();
    let target_end = (version_start - 1).checked_sub(trailing)?;
    if target_start >= target_end {
        return None;
    }
    fields.method = Span::new(0, method_end);
    fields.target = Span::new(target_start, target_end);
    fields.version = Span::new(version_start, len);
    Some(Kind::Request)
}

/// `HTTP/1.x SP status [SP reason]` (RFC 9112 section 4).
fn status_line(line: &[u8], expected: Expected, fields: &mut Fields) -> Option<Kind> {
    let (status, start) = status_of(line, expected)?;
    fields.version = Span::new(0, version_bytes(line));
    let rest = &line[start + 3..];
    if let Some((b' ', reason)) = rest.split_first()
        && !reason.is_empty()
    {
        fields.reason = Span::new(start + 4, line.len());
    }
    Some(Kind::Response { status })
}

/// The status and its position in a possible status line. Where only a response is possible, any
/// version is accepted: clients look at the status.
fn status_of(line: &[u8], expected: Expected) -> Option<(u16, usize)> {
    let version = line.get(..version_bytes(line))?;
    let is_known = is_version(version)
        || expected == Expected::Response
            && version.len() <= VERSION_BYTES_MAX
            && version.len() > 5
            && version[..5].eq_ignore_ascii_case(b"HTTP/")
            && !version.contains(&b'\r');
    let blanks = line[version.len()..].iter().take_while(|byte| is_blank(**byte)).count();
    let start = version.len() + blanks;
    let digits = line.get(start..start + 3)?;
    let is_ended = line.get(start + 3).is_none_or(|byte| is_blank(*byte) || *byte == b'\r');
    if !is_known || blanks == 0 || !is_ended || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    (status >= 100).then_some((status, start))
}

/// The length of the version at the start of a status line: everything before the first blank.
fn version_bytes(line: &[u8]) -> usize {
    line.iter().take_while(|byte| !is_blank(**byte)).count()
}

/// `HTTP/1` and what senders append to it. A point and one digit are correct, but `HTTP/1.0.8` and
/// `HTTP/1.` also occur.
fn is_version(word: &[u8]) -> bool {
    (6..=VERSION_BYTES_MAX).contains(&word.len())
        && word[..6].eq_ignore_ascii_case(b"HTTP/1")
        && word[6..].iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Reads header lines from `at` on. Returns where the head ends, or `None` if it does not. This is
/// the slow path. It accepts everything that senders write, and also a head that was cut.
fn header_lines(bytes: &[u8], at: usize, head: &mut Head) -> Option<usize> {
    let (mut field_start, mut line_start) = (at, at);
    while let Some(len) = memchr(b'\n', &bytes[line_start..]) {
        let line_end = line_start + len;
        // Two CR end each line of text whose line ends were converted twice.
        if matches!(bytes[line_start..line_end], [] | [b'\r'] | [b'\r', b'\r']) {
            return Some(line_end + 1);
        }
        line_start = line_end + 1;
        // A fold extends the field.
        if !matches!(bytes.get(line_start), Some(b' ' | b'\t')) {
            header_field(bytes, field_start, line_end, head);
            field_start = line_start;
        }
    }
    if field_start < line_start {
        // The last complete field of a head that was cut also counts.
        header_field(bytes, field_start, line_start - 1, head);
    }
    None
}

/// Stores the field in `bytes[start..end]` if records or framing need it. White space before the
/// colon is accepted: senders that write it mean the same field (RFC 9112 section 5.1 requires
/// servers to reject it).
fn header_field(bytes: &[u8], start: usize, end: usize, head: &mut Head) {
    let line = &bytes[start..end];
    let Some(colon) = memchr(b':', line) else { return };
    let blanks = line[..colon].iter().rev().take_while(|byte| is_blank(**byte)).count();
    let (value_start, value_end) = trimmed(line, colon + 1);
    let span = Span::new(start + value_start, start + value_end);
    let value = &line[value_start..value_end];
    let name = &line[..colon - blanks];
    let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
    let is_request = head.kind == Kind::Request;
    let fields = &mut head.fields;
    let slot = match is_request {
        true if is(b"host") => &mut fields.host,
        true if is(b"user-agent") => &mut fields.user_agent,
        true if is(b"referer") => &mut fields.referer,
        false if is(b"server") => &mut fields.server,
        false if is(b"location") => &mut fields.location,
        _ if is(b"content-type") => &mut fields.content_type,
        _ if is(b"content-length") => return head.framing.note_length(value),
        _ if is(b"transfer-encoding") => return head.framing.note_transfer_coding(value),
        true if is(b"expect") => return head.framing.note_expectation(value),
        _ => return,
    };
    if *slot == Span::ABSENT {
        *slot = span;
    }
}

/// The bounds of the value that starts at `at` in `line`, without the white space around it.
fn trimmed(line: &[u8], at: usize) -> (usize, usize) {
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let leading = line[at..].iter().take_while(is_space).count();
    let trailing = line[at + leading..].iter().rev().take_while(is_space).count();
    (at + leading, line.len() - trailing)
}

/// A line without the CR at its end, or the two CR of text whose line ends were converted twice.
fn trim_cr(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[usize::from(byte)]
}
const TOKEN_BYTES: [bool; 256] = {
    let punctuation = b"!#$%&'*+-.^_`|~";
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < punctuation.len() {
        table[punctuation[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests;
