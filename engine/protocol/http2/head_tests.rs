//! The text of a head against a naive one, which is put together line by line.

use super::head::{Expected, HeadText};
use super::hpack::Decoder;
use proptest::prelude::*;

/// A name and a value.
type Pair = (&'static [u8], Vec<u8>);

/// What a head comes to.
#[derive(PartialEq, Eq, Debug, Default)]
struct Head {
    text: String,
    start_line_bytes: usize,
    method: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    /// The values that records show by name: `host` to `location`.
    shown: [Option<Vec<u8>>; 6],
    scheme: Option<Vec<u8>>,
    status: u16,
    headers: Vec<(String, String)>,
    is_conflict: bool,
    is_cut: bool,
}

const SHOWN: [&[u8]; 6] =
    [b"host", b"user-agent", b"referer", b"content-type", b"server", b"location"];

/// A value that breaks neither a line nor a head.
fn safe(value: &[u8], is_conflict: &mut bool) -> Vec<u8> {
    let mut safe = Vec::new();
    for byte in value {
        let picture = match byte {
            b'\r' => "\u{240d}",
            b'\n' => "\u{240a}",
            0 => "\u{2400}",
            _ => {
                safe.push(*byte);
                continue;
            }
        };
        *is_conflict = true;
        safe.extend_from_slice(picture.as_bytes());
    }
    safe
}

/// The lines of a head, and what they take.
struct Lines {
    head: Head,
    text: Vec<u8>,
    left_out_bytes: usize,
    bytes_max: usize,
    wants_headers: bool,
}

impl Lines {
    fn header(&mut self, name: &[u8], value: &[u8]) {
        if self.wants_headers {
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            self.head.headers.push((text(name), text(value)));
        }
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.text.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
    }

    /// A field that is no pseudo-field.
    fn field(&mut self, name: &[u8], value: &[u8]) {
        let line_bytes = name.len() + value.len() + 4;
        let head_bytes = self.text.len() + self.left_out_bytes + line_bytes + 2;
        self.head.is_cut |= head_bytes > self.bytes_max;
        if self.head.is_cut {
            return;
        }
        let value = safe(value, &mut self.head.is_conflict);
        let shown = SHOWN.iter().position(|shown| *shown == name);
        if shown.is_none() && !self.wants_headers {
            self.left_out_bytes += line_bytes;
            return;
        }
        self.line(name, &value);
        self.header(name, &value);
        if let Some(shown) = shown {
            let known = self.head.shown[shown].get_or_insert(value.clone());
            // Only of `host` there is one.
            self.head.is_conflict |= shown == 0 && *known != value;
        }
    }

    /// The start line and the lines of the pseudo-fields.
    fn begin(&mut self, [method, path, scheme, authority]: &[Option<Vec<u8>>; 4]) {
        if self.head.status > 0 {
            self.text = format!("HTTP/2 {}\r\n", self.head.status).into_bytes();
            self.head.start_line_bytes = self.text.len();
        } else if [method, path, scheme, authority].iter().any(|value| value.is_some()) {
            (self.head.method, self.head.target) = (method.clone(), path.clone());
            let is_connect = method.as_deref() == Some(b"CONNECT");
            let instead = authority.as_ref().filter(|_| is_connect);
            let target = path.as_ref().or(instead);
            let word = |value: Option<&Vec<u8>>| value.cloned().unwrap_or_else(|| b"-".to_vec());
            self.text = [word(method.as_ref()), word(target)].join(&b' ');
            self.head.start_line_bytes = self.text.len();
            if self.head.is_cut {
                return;
            }
            self.text.extend_from_slice(b" HTTP/2\r\n");
            self.head.start_line_bytes = self.text.len();
            if let Some(scheme) = scheme {
                self.line(b":scheme", scheme);
                self.head.scheme = Some(scheme.clone());
            }
            if let Some(authority) = authority {
                self.line(b"host", authority);
                self.header(b"host", authority);
                self.head.shown[0] = Some(authority.clone());
            }
        }
    }
}

fn naive(fields: &[Pair], bytes_max: usize, wants_headers: bool) -> Head {
    let head = Head::default();
    let mut lines = Lines { head, text: Vec::new(), left_out_bytes: 0, bytes_max, wants_headers };
    let mut pseudo: [Option<Vec<u8>>; 4] = Default::default();
    let mut pseudo_bytes = 0;
    let begin = fields.iter().take_while(|(name, _)| name[0] == b':').count();
    for (name, value) in &fields[..begin] {
        let names: [&[u8]; 4] = [b":method", b":path", b":scheme", b":authority"];
        let Some(slot) = names.iter().position(|known| known == name) else {
            let is_status = *name == b":status" && lines.head.status == 0 && value.len() == 3;
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u16>().ok());
            match number {
                Some(number @ 100..) if is_status => lines.head.status = number,
                _ => lines.head.is_conflict = true,
            }
            continue;
        };
        if pseudo[slot].is_some() {
            lines.head.is_conflict = true;
            continue;
        }
        let kept = &value[..value.len().min(bytes_max.saturating_sub(pseudo_bytes))];
        lines.head.is_cut |= kept.len() < value.len();
        let value = safe(kept, &mut lines.head.is_conflict);
        pseudo_bytes += value.len();
        pseudo[slot] = Some(value);
    }
    lines.begin(&pseudo);
    for (name, value) in &fields[begin..] {
        match name[0] {
            b':' => lines.head.is_conflict = true,
            _ => lines.field(name, value),
        }
    }
    if !lines.head.is_cut {
        lines.text.extend_from_slice(b"\r\n");
    }
    Head { text: lines.text.escape_ascii().to_string(), ..lines.head }
}

fn written(fields: &[Pair], bytes_max: usize, wants_headers: bool) -> Head {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend_from_slice(&[&[0, name.len() as u8], *name, &[value.len() as u8]].concat());
        block.extend_from_slice(value);
    }
    let mut head = HeadText::default();
    head.begin(Expected::HeadOrTrailers, bytes_max, wants_headers);
    let decoded = Decoder::default().block(&block, &mut Vec::new(), |field| head.field(field));
    decoded.expect("a valid block");
    head.end(false);
    assert!(matches!(head.fields.version.of(&head.text), None | Some(b"HTTP/2")));
    let it = head.fields;
    let shown = [it.host, it.user_agent, it.referer, it.content_type, it.server, it.location];
    let text = |bytes: Option<&[u8]>| bytes.expect("in the text").escape_ascii().to_string();
    let header = |header: &crate::record::Header| {
        (text(header.name.of(&head.text)), text(header.value.of(&head.text)))
    };
    Head {
        text: head.text.escape_ascii().to_string(),
        start_line_bytes: head.start_line_bytes as usize,
        method: it.method.of(&head.text).map(<[u8]>::to_vec),
        target: it.target.of(&head.text).map(<[u8]>::to_vec),
        shown: shown.map(|span| span.of(&head.text).map(<[u8]>::to_vec)),
        scheme: head.scheme.of(&head.text).map(<[u8]>::to_vec),
        status: head.status,
        headers: head.headers.iter().map(header).collect(),
        is_conflict: head.is_conflict,
        is_cut: head.is_cut,
    }
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![9 => 0x21..0x7f_u8, 1 => prop::sample::select(&b"\r\n\0\t\x80"[..])];
    prop_oneof![
        2 => prop::collection::vec(0x21..0x7f_u8, 0..12),
        1 => prop::collection::vec(byte, 0..40),
        1 => prop::sample::select(vec![b"200".to_vec(), b"CONNECT".to_vec(), b"099".to_vec()]),
    ]
}

fn fields() -> impl Strategy<Value = Vec<Pair>> {
    const PSEUDO: [&[u8]; 6] =
        [b":method", b":path", b":scheme", b":authority", b":status", b":strange"];
    const OTHER: [&[u8]; 3] = [b"accept", b"x", b":path"];
    let pseudo = (prop::sample::select(&PSEUDO[..]), value());
    let other = (prop::sample::select([&SHOWN[..], &OTHER[..]].concat()), value());
    (prop::collection::vec(pseudo, 0..5), prop::collection::vec(other, 0..6))
        .prop_map(|(pseudo, other)| [pseudo, other].concat())
}

proptest! {
    #[test]
    fn a_head_is_that_of_the_naive_one(
        fields in fields(),
        bytes_max in prop_oneof![0..200_usize, Just(65_536)],
        wants_headers: bool,
    ) {
        let naive = naive(&fields, bytes_max, wants_headers);
        prop_assert_eq!(written(&fields, bytes_max, wants_headers), naive);
    }
}
