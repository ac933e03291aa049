//! JA3 and JA3S, and JA4 of clients: short names for hellos that look alike. What they are made of
//! is defined by <https://github.com/salesforce/ja3> and <https://github.com/FoxIO-LLC/ja4>. (The
//! others of the JA4 family are not free.)

use super::parts::{
    ALPN, EC_POINT_FORMATS, Parts, SERVER_NAME, SIGNATURE_ALGORITHMS, SUPPORTED_GROUPS, is_grease,
};
use super::reader::{Reader, numbers};
use crate::record::JA4_BYTES;
use crate::record::digits::{append_decimal, append_hexadecimal};
use md5::{Digest, Md5};
use sha2::Sha256;

/// An MD5.
pub(super) type Md5Digest = [u8; 16];

/// JA3: version, ciphers, extensions, groups and point formats, in their order.
pub(super) fn ja3(parts: &Parts<'_>) -> Md5Digest {
    let mut text = Vec::with_capacity(512);
    append_decimal(parts.legacy_version.into(), &mut text);
    list(numbers(parts.ciphers), &mut text);
    list(parts.each().map(|(kind, _)| kind), &mut text);
    list(parts.list(SUPPORTED_GROUPS), &mut text);
    let formats = parts.extension(EC_POINT_FORMATS).and_then(|it| Reader(it).short_vector());
    text.push(b',');
    dashed(formats.unwrap_or_default().iter().map(|format| u16::from(*format)), &mut text);
    Md5::digest(&text).into()
}

/// JA3S: version, cipher and extensions.
pub(super) fn ja3s(parts: &Parts<'_>) -> Md5Digest {
    let mut text = Vec::with_capacity(64);
    append_decimal(parts.legacy_version.into(), &mut text);
    text.push(b',');
    dashed(numbers(parts.ciphers), &mut text);
    text.push(b',');
    dashed(parts.each().map(|(kind, _)| kind), &mut text);
    Md5::digest(&text).into()
}

/// A comma, and the numbers that mean something.
fn list(codes: impl Iterator<Item = u16>, text: &mut Vec<u8>) {
    text.push(b',');
    dashed(codes.filter(|code| !is_grease(*code)), text);
}

fn dashed(codes: impl Iterator<Item = u16>, text: &mut Vec<u8>) {
    for (index, code) in codes.enumerate() {
        if index > 0 {
            text.push(b'-');
        }
        append_decimal(code.into(), text);
    }
}

/// JA4: what is offered, and the hashes of the sorted ciphers, and of the sorted extensions and the
/// signature algorithms.
pub(super) fn ja4(parts: &Parts<'_>) -> [u8; JA4_BYTES] {
    let is_real = |code: &u16| !is_grease(*code);
    let mut ciphers: Vec<u16> = numbers(parts.ciphers).filter(is_real).collect();
    let mut extensions: Vec<u16> = parts.each().map(|(kind, _)| kind).filter(is_real).collect();
    let version = parts.versions().filter(is_real).max().unwrap_or(parts.legacy_version);
    let mut ja4 = Vec::with_capacity(JA4_BYTES);
    ja4.push(b't');
    ja4.extend_from_slice(version_letters(version));
    ja4.push(if parts.extension(SERVER_NAME).is_some() { b'd' } else { b'i' });
    for count in [ciphers.len(), extensions.len()] {
        let count = count.min(99) as u8;
        ja4.extend_from_slice(&[b'0' + count / 10, b'0' + count % 10]);
    }
    ja4.extend_from_slice(&alpn_letters(parts));
    ja4.push(b'_');
    let mut text = Vec::with_capacity(512);
    ciphers.sort_unstable();
    codes(ciphers.into_iter(), &mut text);
    short_hash(&text, &mut ja4);
    ja4.push(b'_');
    extensions.retain(|kind| !matches!(*kind, SERVER_NAME | ALPN));
    extensions.sort_unstable();
    text.clear();
    codes(extensions.into_iter(), &mut text);
    let end = text.len();
    text.push(b'_');
    codes(parts.list(SIGNATURE_ALGORITHMS).filter(is_real), &mut text);
    if end == 0 || text.len() == end + 1 {
        text.truncate(end);
    }
    short_hash(&text, &mut ja4);
    // All parts have fixed lengths.
    ja4.try_into().unwrap_or([b'0'; JA4_BYTES])
}

fn version_letters(version: u16) -> &'static [u8; 2] {
    match version {
        0x0304 => b"13",
        0x0303 => b"12",
        0x0302 => b"11",
        0x0301 => b"10",
        0x0300 => b"s3",
        0x0002 => b"s2",
        _ => b"00",
    }
}

/// The first and last letter of the first protocol of ALPN, or of its hexadecimal form.
fn alpn_letters(parts: &Parts<'_>) -> [u8; 2] {
    let protocol = parts.alpn().and_then(|list| Reader(list).short_vector()).unwrap_or_default();
    let (Some(first), Some(last)) = (protocol.first(), protocol.last()) else { return [b'0'; 2] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [*first, *last];
    }
    let mut digits = Vec::with_capacity(4);
    append_hexadecimal(&[*first, *last], &mut digits);
    [digits[0], digits[3]]
}

/// Codes in hexadecimal digits, with commas between.
fn codes(codes: impl Iterator<Item = u16>, text: &mut Vec<u8>) {
    for (index, code) in codes.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        append_hexadecimal(&code.to_be_bytes(), text);
    }
}

/// The first 12 digits of the SHA-256, or zeros for an empty text.
fn short_hash(text: &[u8], out: &mut Vec<u8>) {
    match text {
        [] => out.extend_from_slice(b"000000000000"),
        text => append_hexadecimal(&Sha256::digest(text)[..6], out),
    }
}
