//! JA3 and JA3S, and JA4 of clients: short names for hellos that look alike. What they are made of
//! is defined by <https://github.com/salesforce/ja3> and <https://github.com/FoxIO-LLC/ja4>. (The
//! others of the JA4 family are not free.)

use super::parts::{
    ALPN, EC_POINT_FORMATS, Parts, SERVER_NAME, SIGNATURE_ALGORITHMS, SUPPORTED_GROUPS, is_grease,
};
use super::reader::{Reader, numbers};
use crate::record::JA4_BYTES;
use md5::{Digest, Md5};
use sha2::Sha256;
use std::fmt::Write;

/// An MD5.
pub(super) type Md5Digest = [u8; 16];

/// JA3: version, ciphers, extensions, groups and point formats, in their order.
pub(super) fn ja3(parts: &Parts<'_>) -> Md5Digest {
    let mut text = String::with_capacity(512);
    append(parts.legacy_version, &mut text);
    list(numbers(parts.ciphers), &mut text);
    list(parts.each().map(|(kind, _)| kind), &mut text);
    list(parts.list(SUPPORTED_GROUPS), &mut text);
    let formats = parts.extension(EC_POINT_FORMATS).and_then(|it| Reader(it).short_vector());
    text.push(',');
    dashed(formats.unwrap_or_default().iter().map(|format| u16::from(*format)), &mut text);
    Md5::digest(text.as_bytes()).into()
}

/// JA3S: version, cipher and extensions.
pub(super) fn ja3s(parts: &Parts<'_>) -> Md5Digest {
    let mut text = String::with_capacity(64);
    append(parts.legacy_version, &mut text);
    text.push(',');
    dashed(numbers(parts.ciphers), &mut text);
    text.push(',');
    dashed(parts.each().map(|(kind, _)| kind), &mut text);
    Md5::digest(text.as_bytes()).into()
}

fn append(number: u16, text: &mut String) {
    // Writing to memory does not fail.
    let _ = write!(text, "{number}");
}

/// A comma, and the numbers that mean something.
fn list(codes: impl Iterator<Item = u16>, text: &mut String) {
    text.push(',');
    dashed(codes.filter(|code| !is_grease(*code)), text);
}

fn dashed(codes: impl Iterator<Item = u16>, text: &mut String) {
    for (index, code) in codes.enumerate() {
        if index > 0 {
            text.push('-');
        }
        append(code, text);
    }
}

/// JA4: what is offered, and the hashes of the sorted ciphers, and of the sorted extensions and the
/// signature algorithms.
pub(super) fn ja4(parts: &Parts<'_>) -> [u8; JA4_BYTES] {
    let is_real = |code: &u16| !is_grease(*code);
    let mut ciphers: Vec<u16> = numbers(parts.ciphers).filter(is_real).collect();
    let mut extensions: Vec<u16> = parts.each().map(|(kind, _)| kind).filter(is_real).collect();
    let version = parts.versions().filter(is_real).max().unwrap_or(parts.legacy_version);
    let sni = if parts.extension(SERVER_NAME).is_some() { 'd' } else { 'i' };
    let mut text = String::with_capacity(JA4_BYTES);
    let [first, last] = alpn_letters(parts);
    // Writing to memory does not fail.
    let _ = write!(
        text,
        "t{}{sni}{:02}{:02}{first}{last}_",
        version_letters(version),
        ciphers.len().min(99),
        extensions.len().min(99)
    );
    ciphers.sort_unstable();
    short_hash(&hexadecimal(ciphers.into_iter()), &mut text);
    text.push('_');
    extensions.retain(|kind| !matches!(*kind, SERVER_NAME | ALPN));
    extensions.sort_unstable();
    let mut rest = hexadecimal(extensions.into_iter());
    let algorithms = hexadecimal(parts.list(SIGNATURE_ALGORITHMS).filter(is_real));
    if !rest.is_empty() && !algorithms.is_empty() {
        rest.push('_');
        rest.push_str(&algorithms);
    }
    short_hash(&rest, &mut text);
    let mut ja4 = [b'0'; JA4_BYTES];
    ja4.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    ja4
}

fn version_letters(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// The first and last letter of the first protocol of ALPN, or of its hexadecimal form.
fn alpn_letters(parts: &Parts<'_>) -> [char; 2] {
    let protocol = parts.alpn().and_then(|list| Reader(list).short_vector()).unwrap_or_default();
    let (Some(first), Some(last)) = (protocol.first(), protocol.last()) else { return ['0'; 2] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)];
    }
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    [digit(first >> 4), digit(last & 15)]
}

fn hexadecimal(codes: impl Iterator<Item = u16>) -> String {
    let mut text = String::with_capacity(256);
    for code in codes {
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to memory does not fail.
        let _ = write!(text, "{code:04x}");
    }
    text
}

/// The first 12 digits of the SHA-256, or zeros for an empty text.
fn short_hash(text: &str, out: &mut String) {
    if text.is_empty() {
        return out.push_str("000000000000");
    }
    for byte in &Sha256::digest(text.as_bytes())[..6] {
        // Writing to memory does not fail.
        let _ = write!(out, "{byte:02x}");
    }
}
