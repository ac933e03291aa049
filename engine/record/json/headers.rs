//! The headers of the messages, beside those that records show by name: as a list or as an object
//! ([`HeaderShape`]). Names are cut at 256 bytes.

use super::budget::*;
use crate::config::{EmitConfig, HeaderShape};
use crate::record::digits::append_decimal;
use crate::record::escape::{Fold, append_base64, append_escaped, plain_len};
use crate::record::exchange::{is_cut_behind, pairs};
use crate::record::mask::{Kind, MASK, Masks};
use crate::record::{Exchange, Header, Message};
use std::ops::Range;

/// The headers that are shown.
#[derive(Clone, Debug)]
enum Choice {
    None,
    Named(Vec<String>),
    All,
}

/// Which headers are shown, and how.
#[derive(Debug)]
pub(super) struct Headers {
    choice: Choice,
    object: Option<Object>,
    /// A value whose secret part was masked.
    masked: Vec<u8>,
}

/// The members of an object, until all of them are known. Its memory is kept, and at most as large
/// as a line.
#[derive(Debug, Default)]
struct Object {
    /// Rendered names and values.
    text: Vec<u8>,
    members: Vec<Member>,
    /// A name in lower case.
    name: Vec<u8>,
}

/// A header: where its rendered name and value are.
#[derive(Clone, Debug)]
struct Member {
    name: Range<usize>,
    value: Range<usize>,
    /// Its place among the headers, or that of the first one with its name.
    place: usize,
}

impl Headers {
    /// Those that `config` demands.
    pub(super) fn new(config: &EmitConfig) -> Headers {
        let choice = if config.is_all_headers {
            Choice::All
        } else if config.extra_headers.is_empty() {
            Choice::None
        } else {
            Choice::Named(config.extra_headers.clone())
        };
        let is_object = config.header_shape == HeaderShape::Object;
        let object = is_object.then(Object::default);
        Headers { choice, object, masked: Vec::new() }
    }

    /// Whether no headers are shown.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.choice, Choice::None)
    }

    /// Appends the headers and trailers of both messages, in `free_bytes` without
    /// [`HEADERS_FIXED_BYTES`]. Each list leaves half of this to those behind it, or less if twice
    /// the size of their texts is enough.
    #[cold]
    pub(super) fn append<'a>(
        &mut self,
        exchange: &'a Exchange,
        masks: &Masks,
        mut free_bytes: usize,
        out: &mut Vec<u8>,
    ) {
        let (request, response) = (&exchange.request, &exchange.response);
        let mut omitted = 0;
        let of_head = |message: &'a Message| {
            message.is_seen.then_some((&message.text[..], &message.headers[..]))
        };
        let behind_body = |message: &'a Message| {
            message.trailers.as_ref().map(|them| (&them.text[..], &them.headers[..]))
        };
        let lists = [
            (KEY_REQUEST_HEADERS, of_head(request)),
            (KEY_RESPONSE_HEADERS, of_head(response)),
            (KEY_REQUEST_TRAILERS, behind_body(request)),
            (KEY_RESPONSE_TRAILERS, behind_body(response)),
        ];
        for (at, (key, list)) in lists.iter().enumerate() {
            let Some(list) = list else { continue };
            let behind = lists[at + 1..].iter().filter_map(|(_, list)| *list);
            let kept: usize = behind.map(|(text, _)| 2 * text.len()).sum();
            let limit = free_bytes - kept.min(free_bytes / 2);
            free_bytes -= self.of_list(key, *list, masks, limit, &mut omitted, out);
        }
        if omitted > 0 {
            out.extend_from_slice(KEY_OMITTED);
            append_decimal(omitted, out);
        }
    }

    /// Appends headers, which are ranges of `text`, in at most `limit_bytes` without the key and
    /// the outer brackets. Returns the bytes that they take.
    fn of_list(
        &mut self,
        key: &[u8],
        (text, headers): (&[u8], &[Header]),
        masks: &Masks,
        limit_bytes: usize,
        omitted: &mut u64,
        out: &mut Vec<u8>,
    ) -> usize {
        let Headers { choice, object, masked } = self;
        let key_start = out.len();
        out.extend_from_slice(key);
        out.push(if object.is_some() { b'{' } else { b'[' });
        let list_start = out.len();
        let (mut used, mut is_full) = (0, false);
        for (name, value) in pairs(text, headers).filter(|(name, _)| choice.has(name)) {
            if !is_full {
                let before = out.len();
                let header = Shown::new(name, value, is_cut_behind(text, value), masks, masked);
                let taken = match object {
                    Some(object) => object.push(&header),
                    None => {
                        header.pair(out);
                        out.push(b',');
                        out.len() - before
                    }
                };
                // After the first header that does not fit all others are omitted, so that those
                // that are shown are the first ones. (The last one needs no comma.)
                is_full = used + taken > limit_bytes + 1;
                if is_full {
                    out.truncate(before);
                    object.as_mut().map(Object::pop);
                } else {
                    used += taken;
                }
            }
            *omitted += u64::from(is_full);
        }
        if let Some(object) = object {
            object.append(out);
        }
        if out.len() == list_start {
            out.truncate(key_start);
            return 0;
        }
        let shown_bytes = out.len() - list_start - 1;
        out.pop();
        out.push(if object.is_some() { b'}' } else { b']' });
        shown_bytes
    }
}

impl Choice {
    fn has(&self, name: &[u8]) -> bool {
        match self {
            Choice::None => false,
            Choice::All => true,
            Choice::Named(names) => {
                names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name))
            }
        }
    }
}

impl Object {
    /// Adds a header. Returns the bytes that it takes at most, with a comma: a list around its
    /// value is included, because others with its name may follow.
    fn push(&mut self, header: &Shown<'_>) -> usize {
        let start = self.text.len();
        if header.is_plain {
            self.text.push(b'"');
            self.text.extend_from_slice(header.name);
            self.text[start..].make_ascii_lowercase();
            self.text.push(b'"');
        } else {
            self.name.clear();
            self.name.extend_from_slice(header.name);
            self.name.make_ascii_lowercase();
            append_text(&self.name, HEADER_NAME_BYTES_MAX, &mut self.text);
        }
        let middle = self.text.len();
        header.value(&mut self.text);
        let end = self.text.len();
        let place = self.members.len();
        self.members.push(Member { name: start..middle, value: middle..end, place });
        end - start + b":[],".len()
    }

    /// Removes the last header again.
    fn pop(&mut self) {
        if let Some(member) = self.members.pop() {
            self.text.truncate(member.name.start);
        }
    }

    /// Appends the members, each with a comma, and forgets them. Names are compared as they are
    /// shown, so no key comes twice, even if only what is shown of them is equal.
    fn append(&mut self, out: &mut Vec<u8>) {
        let Object { text, members, .. } = self;
        // Those of one name together, in their order; then the names in the order of their first.
        // Sorted, because there may be thousands of names.
        members.sort_by(|a, b| text[a.name.clone()].cmp(&text[b.name.clone()]));
        for at in 1..members.len() {
            if text[members[at].name.clone()] == text[members[at - 1].name.clone()] {
                members[at].place = members[at - 1].place;
            }
        }
        members.sort_by_key(|member| member.place);
        for same in members.chunk_by(|a, b| a.place == b.place) {
            out.extend_from_slice(&text[same[0].name.clone()]);
            out.extend_from_slice(if same.len() > 1 { b":[" } else { b":" });
            for member in same {
                out.extend_from_slice(&text[member.value.clone()]);
                out.push(b',');
            }
            if same.len() > 1 {
                out.pop();
                out.extend_from_slice(b"],");
            }
        }
        text.clear();
        members.clear();
    }
}

/// A header as it is shown: what is masked in it is masked.
struct Shown<'a> {
    name: &'a [u8],
    value: &'a [u8],
    /// The length of the value on the wire.
    wire_bytes: usize,
    /// Name and value are shown whole and as they are, as nearly always.
    is_plain: bool,
}

impl<'a> Shown<'a> {
    fn new(
        name: &'a [u8],
        value: &'a [u8],
        is_cut: bool,
        masks: &Masks,
        masked: &'a mut Vec<u8>,
    ) -> Shown<'a> {
        let is_secret = masks.is_secret(name, value);
        let shown = if is_secret {
            MASK
        } else if !masks.are_for_uris() && plain_len(value) == value.len() {
            value
        } else {
            masks.shown_in_part(Kind::Header(name), value, is_cut, masked)
        };
        let name = masks.shown_name(name, is_secret);
        let is_short = name.len() <= HEADER_NAME_BYTES_MAX && shown.len() <= HEADER_VALUE_BYTES_MAX;
        let is_plain = |text: &[u8]| plain_len(text) == text.len();
        let is_plain = is_short && is_plain(name) && is_plain(shown);
        Shown { name, value: shown, wire_bytes: value.len(), is_plain }
    }

    /// `[name,value]` or `[name,value,{…}]`.
    fn pair(&self, out: &mut Vec<u8>) {
        if self.is_plain {
            out.extend_from_slice(b"[\"");
            out.extend_from_slice(self.name);
            out.extend_from_slice(b"\",\"");
            out.extend_from_slice(self.value);
            return out.extend_from_slice(b"\"]");
        }
        out.push(b'[');
        append_text(self.name, HEADER_NAME_BYTES_MAX, out);
        out.push(b',');
        self.append_value(b",{", out);
        out.push(b']');
    }

    /// `value`, or `{"value":value,…}`.
    fn value(&self, out: &mut Vec<u8>) {
        if self.is_plain {
            out.push(b'"');
            out.extend_from_slice(self.value);
            return out.push(b'"');
        }
        let start = out.len();
        if !self.append_value(b",", out) {
            out.splice(start..start, *b"{\"value\":");
        }
    }

    /// Appends the value. If that does not show it exactly, appends `opening`, what is said about
    /// it, and a brace. Returns whether it is exact.
    fn append_value(&self, opening: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let is_utf8 = std::str::from_utf8(self.value).is_ok();
        let limit = text_limit(HEADER_VALUE_BYTES_MAX, is_utf8);
        let mut whole = append_text(self.value, limit, out);
        if !is_utf8 {
            let left = HEADER_VALUE_BYTES_MAX - (out.len() - start - b"\"\"".len());
            out.extend_from_slice(opening);
            out.extend_from_slice(b"\"b64\":\"");
            whole = whole.min(append_base64(self.value, left, out));
            out.push(b'"');
        }
        let is_cut = whole < self.value.len();
        if is_cut {
            out.extend_from_slice(if is_utf8 { opening } else { b"," });
            out.extend_from_slice(b"\"len\":");
            append_decimal(self.wire_bytes as u64, out);
        }
        if !is_utf8 || is_cut {
            out.push(b'}');
        }
        is_utf8 && !is_cut
    }
}

/// Appends a JSON string with at most `limit_bytes` between its quotes. Returns how many bytes of
/// `text` are shown.
fn append_text(text: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> usize {
    out.push(b'"');
    let shown = append_escaped(text, Fold::Space, limit_bytes, out);
    out.push(b'"');
    shown
}
