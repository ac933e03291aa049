//! The fast path for heads as nearly all are written: a start line with single spaces, and header
//! lines of a name, a colon, a space, a value, CR LF. The first four letters of a name tell which
//! known field it can be. Anything unusual is left to the slow path ([`super::parse_slow_path`]).
//! Tests compare the two: whenever the fast path returns a result, the slow path returns the same.

use super::fields::{Expected, Head, Kind};
use crate::record::{Fields, Span};
use crate::simd::{LANES, equal_to, equal_to_in_64, last_block, same_but_for};

/// The length of `HTTP/1.1`, and the position of the reason phrase, behind the version and the
/// status.
const VERSION_BYTES: usize = 8;
const REASON_AT: usize = VERSION_BYTES + 5;

/// Fields that records or framing need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(super) enum Slot {
    Host,
    UserAgent,
    Referer,
    ContentType,
    Server,
    Location,
    ContentLength,
    TransferEncoding,
    Expect,
}

impl Slot {
    const COUNT: usize = Slot::Expect as usize + 1;
}

/// The positions of the values that were found, without the white space around them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    spans: [Span; Slot::COUNT],
}

impl Values {
    /// The value of a field, or an absent span if there is none.
    #[inline(always)]
    pub fn of(&self, slot: Slot) -> Span {
        self.spans[slot as usize]
    }

    /// Stores a field whose value begins at `start` and whose line ends at `end`. `None` if it has
    /// no value, occurred before, or is padded with more than the usual space.
    #[inline(always)]
    fn note(&mut self, slot: Slot, bytes: &[u8], start: usize, end: usize) -> Option<()> {
        let [value @ .., b'\r'] = bytes.get(start..end)? else { return None };
        let ([first, ..], [.., last]) = (value, value) else { return None };
        let span = &mut self.spans[slot as usize];
        if *first <= b' ' || *last <= b' ' || !span.is_absent() {
            return None;
        }
        *span = Span::at(start, value.len());
        Some(())
    }
}

/// A field name, with what is compared at once: the name, a colon and a space.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Name {
    /// In lower case.
    letters: [u8; LANES],
    /// The bits that may differ: the case of letters.
    fold: [u8; LANES],
    /// The bytes to compare. More than there are if the name does not fit into a block.
    mask: u32,
    slot: Slot,
    text: &'static str,
}

impl Name {
    const fn new(text: &'static str, slot: Slot) -> Name {
        let (name, mut letters, mut fold) = (text.as_bytes(), [0; LANES], [0; LANES]);
        let mut at = 0;
        while at < LANES && at < name.len() + 2 {
            letters[at] = if at < name.len() { name[at] } else { b": "[at - name.len()] };
            fold[at] = if letters[at].is_ascii_lowercase() { 0x20 } else { 0 };
            at += 1;
        }
        Name { letters, fold, mask: ((1_u64 << (name.len() + 2)) - 1) as u32, slot, text }
    }
}

const CONTENT_TYPE: Name = Name::new("content-type", Slot::ContentType);
/// Begins like [`CONTENT_TYPE`], so it has no place of its own.
static CONTENT_LENGTH: Name = Name::new("content-length", Slot::ContentLength);
const TRANSFER_ENCODING: Name = Name::new("transfer-encoding", Slot::TransferEncoding);
/// Where the two names differ first.
const CONTENT_BYTES: usize = "content-".len();

/// Field names, each at the place that follows from its first four letters.
struct Names {
    /// The first four letters of the name, in lower case; 0 if there is none.
    first: [u32; Names::PLACES],
    names: [Name; Names::PLACES],
}

static OF_REQUEST: Names = Names::new(&[
    CONTENT_TYPE,
    TRANSFER_ENCODING,
    Name::new("host", Slot::Host),
    Name::new("expect", Slot::Expect),
    Name::new("referer", Slot::Referer),
    Name::new("user-agent", Slot::UserAgent),
]);

static OF_RESPONSE: Names = Names::new(&[
    CONTENT_TYPE,
    TRANSFER_ENCODING,
    Name::new("server", Slot::Server),
    Name::new("location", Slot::Location),
]);

impl Names {
    const PLACES: usize = 64;

    const fn new(list: &[Name]) -> Names {
        let mut it = Names { first: [0; Names::PLACES], names: [CONTENT_TYPE; Names::PLACES] };
        let mut at = 0;
        while at < list.len() {
            let first = Names::first_letters(&list[at].letters);
            let place = Names::place(first);
            assert!(it.first[place] == 0, "two names have the same place");
            (it.first[place], it.names[place]) = (first, list[at]);
            at += 1;
        }
        it
    }

    /// The first four letters, in lower case. (Other bytes may become the same.)
    #[inline(always)]
    const fn first_letters(block: &[u8; LANES]) -> u32 {
        u32::from_le_bytes([block[0], block[1], block[2], block[3]]) | 0x2020_2020
    }

    /// A multiplicative hash.
    #[inline(always)]
    const fn place(first: u32) -> usize {
        (first.wrapping_mul(0x9e37_79b1) >> 26) as usize
    }

    /// The only name that may be at the start of `block`.
    #[inline(always)]
    fn find(&self, block: &[u8; LANES]) -> Option<&Name> {
        let first = Names::first_letters(block);
        let place = Names::place(first);
        if self.first[place] != first {
            return None;
        }
        let name = &self.names[place];
        let is_length = name.slot == Slot::ContentType && block[CONTENT_BYTES] | 0x20 == b'l';
        Some(if is_length { &CONTENT_LENGTH } else { name })
    }
}

impl Head {
    /// Copies the values of the fast path into the head.
    #[inline(always)]
    fn note_values(&mut self, bytes: &[u8], values: &Values) {
        let fields = &mut self.fields;
        fields.host = values.of(Slot::Host);
        fields.user_agent = values.of(Slot::UserAgent);
        fields.referer = values.of(Slot::Referer);
        fields.content_type = values.of(Slot::ContentType);
        fields.server = values.of(Slot::Server);
        fields.location = values.of(Slot::Location);
        if let Some(value) = values.of(Slot::ContentLength).of(bytes) {
            self.framing.note_length(value);
        }
        if let Some(value) = values.of(Slot::TransferEncoding).of(bytes) {
            self.framing.note_transfer_coding(value);
        }
        if let Some(value) = values.of(Slot::Expect).of(bytes) {
            self.framing.note_expectation(value);
        }
    }
}

/// Parses a head at the start of `bytes` into `head`, which is blank. Returns `None` if the head
/// does not end, or if something is unusual; `head` is then invalid.
#[inline]
pub(super) fn parse(bytes: &[u8], expected: Expected, head: &mut Head) -> Option<()> {
    let mut ends = LineEnds::new(bytes);
    let line_end = ends.next()?;
    let line = bytes[..line_end].strip_suffix(b"\r")?;
    head.kind = match line.split_first_chunk() {
        Some((version, [b' ', hundreds, tens, ones, b' ', reason @ ..]))
            if expected != Expected::Request && is_version(version) =>
        {
            status_line([*hundreds, *tens, *ones], reason, &mut head.fields)?
        }
        _ if expected != Expected::Response => request_line(bytes, line, &mut head.fields)?,
        _ => return None,
    };
    head.start_line_bytes = (line_end + 1) as u32;
    let (end, values) = header_lines(bytes, line_end + 1, ends, head.kind)?;
    head.note_values(bytes, &values);
    (head.len_bytes, head.is_whole) = (end, true);
    Some(())
}

/// `HTTP/1.x`.
#[inline(always)]
fn is_version(word: &[u8; VERSION_BYTES]) -> bool {
    let minor = word[VERSION_BYTES - 1];
    let is_one = (u64::from_le_bytes(*word) ^ u64::from_le_bytes(*b"HTTP/1.\0")) << 8 == 0;
    is_one && minor.is_ascii_digit()
}

/// `HTTP/1.x SP status SP reason`, given the digits and the reason.
#[inline(always)]
fn status_line(digits: [u8; 3], reason: &[u8], fields: &mut Fields) -> Option<Kind> {
    let [hundreds, tens, ones] = digits.map(|digit| digit.wrapping_sub(b'0'));
    let is_number = (1..=9).contains(&hundreds) & (tens <= 9) & (ones <= 9);
    if !is_number || reason.is_empty() || reason.ends_with(b"\r") {
        return None;
    }
    fields.version = Span::at(0, VERSION_BYTES);
    fields.reason = Span::at(REASON_AT, reason.len());
    let status = u16::from(hundreds) * 100 + u16::from(tens) * 10 + u16::from(ones);
    Some(Kind::Response { status })
}

/// `METHOD SP target SP HTTP/1.x` at the start of `bytes`. The method must be in capitals.
#[inline(always)]
fn request_line(bytes: &[u8], line: &[u8], fields: &mut Fields) -> Option<Kind> {
    let (start, version) = line.split_last_chunk()?;
    let (target_end, b' ') = (start.len().checked_sub(1)?, *start.last()?) else { return None };
    let method_bytes = equal_to(bytes.first_chunk()?, b' ').trailing_zeros() as usize;
    let target = start.get(method_bytes + 1..target_end)?;
    let method = start.get(..method_bytes)?;
    let ([first, ..], [.., last]) = (target, target) else { return None };
    // A method that fills the whole block has no space within it.
    let is_method = (1..LANES).contains(&method_bytes) && method.iter().all(u8::is_ascii_uppercase);
    if !is_method || !is_version(version) || *first == b' ' || *last == b' ' {
        return None;
    }
    fields.method = Span::at(0, method_bytes);
    fields.target = Span::at(method_bytes + 1, target.len());
    fields.version = Span::at(target_end + 1, VERSION_BYTES);
    Some(Kind::Request)
}

/// Reads the header lines from `start` on; `ends` yields the ends of these lines. Returns where the
/// head ends, and the values.
#[inline(always)]
fn header_lines(
    bytes: &[u8],
    mut start: usize,
    mut ends: LineEnds<'_>,
    kind: Kind,
) -> Option<(usize, Values)> {
    let names = if kind == Kind::Request { &OF_REQUEST } else { &OF_RESPONSE };
    let mut values = Values { spans: [Span::ABSENT; Slot::COUNT] };
    loop {
        let end = ends.next()?;
        let rest = bytes.get(start..)?;
        if *rest.first()? <= b' ' {
            // The end of the head, or a line whose end was converted twice, or a fold, which
            // extends the previous field.
            let is_end = matches!(bytes.get(start..end)?, [] | [b'\r']);
            return is_end.then_some((end + 1, values));
        }
        let padded;
        let block = match rest.first_chunk() {
            Some(block) => block,
            None => {
                padded = last_block(rest);
                &padded
            }
        };
        if let Some(name) = names.find(block) {
            let same = same_but_for(block, &name.fold, &name.letters);
            if same & name.mask == name.mask {
                values.note(name.slot, bytes, start + name.text.len() + 2, end)?;
            } else {
                note_unlike(name, bytes, (start, end), &mut values)?;
            }
        }
        start = end + 1;
    }
}

/// Reads a line that begins like `name`, which was not found at its start together with a colon and
/// a space. It may be too long for that; mostly it is another one. `None` if the line is unusual.
#[inline(never)]
fn note_unlike(
    name: &Name,
    bytes: &[u8],
    (start, end): (usize, usize),
    values: &mut Values,
) -> Option<()> {
    let line = bytes.get(start..end)?;
    let len_bytes = name.text.len();
    let text = line.get(..len_bytes).unwrap_or_default();
    if !text.eq_ignore_ascii_case(name.text.as_bytes()) {
        return Some(());
    }
    match &line[len_bytes..] {
        [b':', b' ', ..] => values.note(name.slot, bytes, start + len_bytes + 2, end),
        // A known field with unusual white space, or a line without a colon.
        [..=b' ' | b':', ..] | [] => None,
        // The name goes on.
        _ => Some(()),
    }
}

/// An iterator over the positions of line ends.
pub(super) struct LineEnds<'a> {
    bytes: &'a [u8],
    /// The start of the block that `mask` describes.
    block_start: usize,
    mask: u64,
}

impl<'a> LineEnds<'a> {
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> LineEnds<'a> {
        LineEnds { bytes, block_start: 0, mask: line_feeds(bytes, 0) }
    }

    /// The position of the next line feed.
    #[inline(always)]
    pub fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            self.block_start += 64;
            if self.block_start >= self.bytes.len() {
                return None;
            }
            self.mask = line_feeds(self.bytes, self.block_start);
        }
        let end = self.block_start + self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(end)
    }
}

/// The line feeds in the 64 bytes from `at` on, or in as many as there are.
#[inline(always)]
fn line_feeds(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match (rest.first_chunk::<64>(), bytes.last_chunk::<64>()) {
        (Some(block), _) => equal_to_in_64(block, b'\n'),
        // The last bytes are read together with those before them.
        (None, Some(block)) => equal_to_in_64(block, b'\n').unbounded_shr((64 - rest.len()) as u32),
        (None, None) => {
            let mut block = [0; 64];
            block[..rest.len()].copy_from_slice(rest);
            equal_to_in_64(&block, b'\n')
        }
    }
}
