//! What a certificate says (RFC 5280 section 4.1): a walk through its DER to the few fields that
//! are told. Nothing is verified.

use crate::record::TlsCertificate;
use sha2::{Digest, Sha256};

/// Tags of DER (X.690).
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// A name is kept up to this length.
const NAME_BYTES_MAX: usize = 1024;

/// The object identifier of the common name, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The first certificate in the `body` of a Certificate message up to TLS 1.2, if it is whole.
pub(super) fn first_of(body: &[u8]) -> Option<&[u8]> {
    let mut list = super::reader::Reader(body);
    list.u24()?;
    let len = list.u24()?;
    list.take(len).filter(|certificate| !certificate.is_empty())
}

/// What is told of a certificate. What cannot be read is left out.
pub(super) fn read(der: &[u8]) -> TlsCertificate {
    let mut told = TlsCertificate { sha256: Sha256::digest(der).into(), ..Default::default() };
    let _ = fields(der, &mut told);
    told
}

/// Reads the fields in their order, up to the first that is wrong.
fn fields(der: &[u8], told: &mut TlsCertificate) -> Option<()> {
    let mut signed = Der(Der(Der(der).expect(SEQUENCE)?).expect(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.next()?;
    }
    signed.expect(INTEGER)?;
    signed.expect(SEQUENCE)?;
    told.issuer = distinguished_name(signed.expect(SEQUENCE)?);
    let mut validity = Der(signed.expect(SEQUENCE)?);
    for time in &mut told.validity {
        let (tag, digits) = validity.next()?;
        *time = rfc3339(tag, digits);
    }
    told.cn = attributes(signed.expect(SEQUENCE)?)
        .filter(|(kind, ..)| *kind == COMMON_NAME)
        .map(|(_, tag, value)| text(tag, value).into_boxed_slice())
        .next();
    Some(())
}

/// DER that is read from the front.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Tag and content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        let len = match *first {
            len @ 0..=0x7f => usize::from(len),
            // The length takes one to three bytes: a message has fewer than 2^24.
            size @ 0x81..=0x83 => {
                let (digits, behind) = rest.split_at_checked(usize::from(size & 0x7f))?;
                rest = behind;
                digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit))
            }
            _ => return None,
        };
        let (content, behind) = rest.split_at_checked(len)?;
        self.0 = behind;
        Some((*tag, content))
    }

    /// The content of the next value, if it has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let (found, content) = ahead.next()?;
        (found == tag).then(|| {
            *self = ahead;
            content
        })
    }
}

/// Type, tag and value of each attribute of a name.
fn attributes(name: &[u8]) -> impl Iterator<Item = (&[u8], u8, &[u8])> {
    let mut sets = Der(name);
    let sets = std::iter::from_fn(move || sets.next());
    sets.filter(|(tag, _)| *tag == SET).flat_map(|(_, set)| {
        let mut members = Der(set);
        std::iter::from_fn(move || {
            let mut member = Der(members.expect(SEQUENCE)?);
            let kind = member.expect(OBJECT_IDENTIFIER)?;
            let (tag, value) = member.next()?;
            Some((kind, tag, value))
        })
    })
}

/// A text in UTF-8, as far as it is kept. Other kinds of strings than BMP have ASCII in common.
fn text(tag: u8, value: &[u8]) -> Vec<u8> {
    let value = &value[..value.len().min(NAME_BYTES_MAX)];
    if tag != BMP_STRING {
        return value.to_vec();
    }
    let units = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let text: String =
        char::decode_utf16(units).map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.into_bytes()
}

/// A name as RFC 4514 writes names, but in the order of the certificate.
fn distinguished_name(name: &[u8]) -> Option<Box<[u8]>> {
    let mut out = Vec::new();
    for (kind, tag, value) in attributes(name) {
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        match short_name(kind) {
            Some(short) => out.extend_from_slice(short.as_bytes()),
            None => append_identifier(kind, &mut out),
        }
        out.push(b'=');
        append_escaped(&text(tag, value), &mut out);
        if out.len() > NAME_BYTES_MAX {
            out.truncate(NAME_BYTES_MAX);
            break;
        }
    }
    (!out.is_empty()).then(|| out.into_boxed_slice())
}

/// The usual short name of an attribute.
fn short_name(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        // 1.2.840.113549.1.9.1
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        // 0.9.2342.19200300.100.1.25
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        _ => return None,
    })
}

/// An object identifier with dots.
fn append_identifier(kind: &[u8], out: &mut Vec<u8>) {
    let mut number: u64 = 0;
    let mut is_first = true;
    for byte in kind {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        let text = match (is_first, number) {
            (true, 0..80) => format!("{}.{}", number / 40, number % 40),
            (true, _) => format!("2.{}", number - 80),
            (false, _) => format!(".{number}"),
        };
        out.extend_from_slice(text.as_bytes());
        (number, is_first) = (0, false);
    }
}

/// A value with a backslash before what has a meaning in names (RFC 4514 section 2.4).
fn append_escaped(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        if b",+\"\\<>;".contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
}

/// A time (RFC 5280 section 4.1.2.5) as RFC 3339 writes it, if it is in UTC and to the second.
fn rfc3339(tag: u8, digits: &[u8]) -> Option<[u8; 20]> {
    let (century, rest): (&[u8], &[u8]) = match tag {
        UTC_TIME if *digits.first()? >= b'5' => (b"19", digits),
        UTC_TIME => (b"20", digits),
        GENERALIZED_TIME => digits.split_at_checked(2)?,
        _ => return None,
    };
    let (rest, zone) = rest.split_at_checked(12)?;
    if zone != b"Z" || !century.iter().chain(rest).all(u8::is_ascii_digit) {
        return None;
    }
    let mut time = *b"2000-00-00T00:00:00Z";
    time[..2].copy_from_slice(century);
    for (pair, at) in rest.chunks_exact(2).zip([2, 5, 8, 11, 14, 17]) {
        time[at..at + 2].copy_from_slice(pair);
    }
    let part = |at: usize| u32::from(time[at] - b'0') * 10 + u32::from(time[at + 1] - b'0');
    let is_time = (1..=12).contains(&part(5))
        && (1..=31).contains(&part(8))
        && part(11) < 24
        && part(14) < 60
        && part(17) < 61;
    is_time.then_some(time)
}
