//! The line of a connection of TLS. Such lines are few, so nothing here is fast.

use super::budget::*;
use super::{JsonFormat, SlowPath, number, text_slow_path};
use crate::record::digits::append_hexadecimal;
use crate::record::line_buffer::{LineBuffer, append_line};
use crate::record::tls::{alert_name, cipher_name, group_name, version_name};
use crate::record::{
    CIPHER_NAME_BYTES_MAX, FlowIdentity, JA4_BYTES, NAME_BYTES_MAX as TLS_NAME_BYTES_MAX,
    TlsCertificate, TlsConnection,
};

const TYPE: &[u8] = b"{\"type\":\"tls\",";
const KEY_ALPN_OFFERED: &[u8] = b",\"alpn_offered\":[";
const KEY_ALPN_OMITTED: &[u8] = b",\"alpn_omitted\":";
const KEY_VERSION: &[u8] = b",\"tls_version\":\"";
const KEY_CIPHER: &[u8] = b",\"cipher\":\"";
const KEY_GROUP: &[u8] = b",\"group\":\"";
const KEY_JA3: &[u8] = b",\"ja3\":\"";
const KEY_JA3S: &[u8] = b",\"ja3s\":\"";
const KEY_JA4: &[u8] = b",\"ja4\":\"";
const ECH: &[u8] = b",\"ech\":true";
const HELLO_RETRY: &[u8] = b",\"hello_retry\":true";
const KEY_RESUMED: &[u8] = b",\"resumed\":";
const EARLY_DATA: &[u8] = b",\"early_data\":true";
const KEY_NOT_BEFORE: &[u8] = b",\"certificate_not_before\":\"";
const KEY_NOT_AFTER: &[u8] = b",\"certificate_not_after\":\"";
const KEY_SHA256: &[u8] = b",\"certificate_sha256\":\"";
const KEY_ALERT: &[u8] = b",\"alert\":\"";
const KEY_HELLO_BYTES: &[u8] = b",\"client_hello_bytes\":";
const KEY_HELLO: &[u8] = b",\"hello_ns\":";
const KEY_HANDSHAKE: &[u8] = b",\"handshake_ns\":";
const KEY_CLIENT_BYTES: &[u8] = b",\"client_bytes\":";
const KEY_SERVER_BYTES: &[u8] = b",\"server_bytes\":";

/// Rendered bytes of the list of protocols at most. A browser offers two.
const ALPN_LIST_BYTES_MAX: usize = 1024;

/// The fields of which a line of TLS is made in addition to what all lines have.
const TEXTS: [&TextField; 5] =
    [&SNI, &ALPN, &CERTIFICATE_CN, &CERTIFICATE_ISSUER, &CLIENT_CERTIFICATE_CN];

// The line takes no more than that of an exchange.
const _: () = {
    let mut bytes = TYPE.len() + KEY_ALPN_OFFERED.len() + 1 + KEY_ALPN_OMITTED.len() + 20;
    bytes += KEY_VERSION.len() + KEY_CIPHER.len() + KEY_GROUP.len();
    bytes += 7 + CIPHER_NAME_BYTES_MAX + 1 + TLS_NAME_BYTES_MAX + 1;
    bytes += KEY_JA3.len() + KEY_JA3S.len() + 2 * 33 + KEY_JA4.len() + JA4_BYTES + 1;
    bytes += ECH.len() + HELLO_RETRY.len() + KEY_RESUMED.len() + 5 + EARLY_DATA.len();
    bytes += KEY_NOT_BEFORE.len() + KEY_NOT_AFTER.len() + 2 * 21 + KEY_SHA256.len() + 65;
    bytes += KEY_ALERT.len() + 7 + TLS_NAME_BYTES_MAX + 1;
    let numbers = [KEY_HELLO_BYTES, KEY_HELLO, KEY_HANDSHAKE, KEY_CLIENT_BYTES, KEY_SERVER_BYTES];
    let mut index = 0;
    while index < numbers.len() {
        bytes += numbers[index].len() + DECIMAL_BYTES_MAX;
        index += 1;
    }
    let mut reserves = IFACE.reserve_bytes + ALPN_LIST_BYTES_MAX;
    index = 0;
    while index < TEXTS.len() {
        bytes += TEXTS[index].fixed_bytes();
        reserves += TEXTS[index].reserve_bytes;
        index += 1;
    }
    // What an exchange has and a connection of TLS has not.
    let others = [&METHOD, &VERSION, &USER_AGENT, &REFERER, &REQUEST_CONTENT_TYPE, &REASON];
    let more = [&RESPONSE_CONTENT_TYPE, &SERVER, &LOCATION, &SCHEME, &CONNECT_PROTOCOL, &TARGET];
    let (mut own_bytes, mut index) = (0, 0);
    while index < others.len() {
        own_bytes += others[index].fixed_bytes() + more[index].fixed_bytes();
        index += 1;
    }
    assert!(bytes + reserves <= own_bytes + HEADERS_FIXED_BYTES + RESERVE_BYTES);
};

impl JsonFormat {
    /// Appends the line of a connection of TLS.
    #[inline(never)]
    pub(super) fn tls(
        &mut self,
        flow: &FlowIdentity<'_>,
        tls: &TlsConnection<'_>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        self.slow.spare = self.spare_bytes;
        append_line(out, |buffer| {
            self.tls_front(flow, tls, buffer);
            self.tls_server(tls, buffer);
            self.tls_certificates(tls, buffer);
            tls_end(tls, buffer);
            buffer.put(b"}\n");
        });
        debug_assert!(out.len() - start <= self.line_bytes_max);
    }

    /// Up to what the client offers.
    fn tls_front(
        &mut self,
        flow: &FlowIdentity<'_>,
        tls: &TlsConnection<'_>,
        buffer: &mut LineBuffer<'_>,
    ) {
        let place = (&tls.tunnel, tls.iface);
        self.other_front(TYPE, tls.began_at, (flow, 0), place, buffer);
        self.tls_text(&SNI, tls.sni, buffer);
        if let Some(list) = tls.alpn_offered {
            buffer.put(self.slow.piece(|out| alpn_offered(list, out)));
        }
    }

    /// What the server chose, and the names of both.
    fn tls_server(&mut self, tls: &TlsConnection<'_>, buffer: &mut LineBuffer<'_>) {
        self.tls_text(&ALPN, tls.alpn, buffer);
        let codes = [
            (KEY_VERSION, tls.version, version_name as fn(u16) -> Option<&'static str>),
            (KEY_CIPHER, tls.cipher, cipher_name),
            (KEY_GROUP, tls.group, group_name),
        ];
        for (key, code, name) in codes {
            if let Some(code) = code {
                buffer.put(key);
                match name(code) {
                    Some(name) => buffer.put(name.as_bytes()),
                    None => buffer.put(self.slow.piece(|out| {
                        out.extend_from_slice(b"0x");
                        append_hexadecimal(&code.to_be_bytes(), out);
                    })),
                }
                buffer.put(b"\"");
            }
        }
        for (key, digest) in [(KEY_JA3, tls.ja3), (KEY_JA3S, tls.ja3s)] {
            if let Some(digest) = digest {
                self.tls_digest(key, &digest, buffer);
            }
        }
        if let Some(ja4) = tls.ja4 {
            buffer.put(KEY_JA4);
            buffer.put(&ja4);
            buffer.put(b"\"");
        }
        let flags = [(ECH, tls.is_ech), (HELLO_RETRY, tls.is_hello_retry)];
        for (rendered, is_set) in flags {
            if is_set {
                buffer.put(rendered);
            }
        }
        if let Some(is_resumed) = tls.is_resumed {
            buffer.put(KEY_RESUMED);
            buffer.put(if is_resumed { b"true" } else { b"false" });
        }
        if tls.is_early_data {
            buffer.put(EARLY_DATA);
        }
    }

    fn tls_certificates(&mut self, tls: &TlsConnection<'_>, buffer: &mut LineBuffer<'_>) {
        if let Some(TlsCertificate { cn, issuer, validity, sha256 }) = tls.certificate {
            self.tls_text(&CERTIFICATE_CN, cn.as_deref(), buffer);
            self.tls_text(&CERTIFICATE_ISSUER, issuer.as_deref(), buffer);
            for (key, time) in [KEY_NOT_BEFORE, KEY_NOT_AFTER].into_iter().zip(validity) {
                if let Some(time) = time {
                    buffer.put(key);
                    buffer.put(time);
                    buffer.put(b"\"");
                }
            }
            self.tls_digest(KEY_SHA256, sha256, buffer);
        }
        let client = tls.client_certificate.and_then(|it| it.cn.as_deref());
        self.tls_text(&CLIENT_CERTIFICATE_CN, client, buffer);
    }

    fn tls_digest(&mut self, key: &[u8], digest: &[u8], buffer: &mut LineBuffer<'_>) {
        buffer.put(key);
        buffer.put(self.slow.piece(|out| append_hexadecimal(digest, out)));
        buffer.put(b"\"");
    }

    fn tls_text(&mut self, field: &TextField, value: Option<&[u8]>, buffer: &mut LineBuffer<'_>) {
        let Some(value) = value else { return };
        buffer.put(field.open);
        let SlowPath { piece, spare } = &mut self.slow;
        piece.clear();
        text_slow_path(field, value, value.len(), spare, piece);
        buffer.put(piece);
    }
}

/// The protocols in their order, and how many did not fit.
fn alpn_offered(list: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(KEY_ALPN_OFFERED);
    let start = out.len();
    let (mut rest, mut omitted_count) = (list, 0);
    while let Some((len, behind)) = rest.split_first() {
        let (protocol, behind) = behind.split_at_checked((*len).into()).unwrap_or((behind, &[]));
        rest = behind;
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        out.push(b'"');
        super::append_json_text(&String::from_utf8_lossy(protocol), out);
        out.push(b'"');
        if omitted_count > 0 || out.len() - start > ALPN_LIST_BYTES_MAX {
            out.truncate(before);
            omitted_count += 1;
        }
    }
    out.push(b']');
    if omitted_count > 0 {
        out.extend_from_slice(KEY_ALPN_OMITTED);
        super::append_decimal(omitted_count, out);
    }
}

/// From the alert on.
fn tls_end(tls: &TlsConnection<'_>, buffer: &mut LineBuffer<'_>) {
    if let Some(alert) = tls.alert {
        buffer.put(KEY_ALERT);
        buffer.put(if alert.is_by_client { b"client:" } else { b"server:" });
        match alert_name(alert.code) {
            Some(name) => buffer.put(name.as_bytes()),
            None => buffer.decimal(alert.code.into()),
        }
        buffer.put(b"\"");
    }
    let numbers = [
        (KEY_HELLO_BYTES, tls.client_hello_bytes.map(u64::from)),
        (KEY_CONNECT, tls.connect_ns),
        (KEY_HELLO, tls.hello_ns),
        (KEY_HANDSHAKE, tls.handshake_ns),
        (KEY_DURATION, tls.duration_ns),
        (KEY_CLIENT_BYTES, tls.client_bytes),
        (KEY_SERVER_BYTES, tls.server_bytes),
    ];
    for (key, value) in numbers {
        if let Some(value) = value {
            number(key, value, buffer);
        }
    }
    let outcome = tls.outcome.map(|outcome| (KEY_OUTCOME, outcome.name()));
    let end = tls.end.map(|end| (KEY_END_REASON, end.name()));
    for (key, name) in outcome.into_iter().chain(end) {
        buffer.put(key);
        buffer.put(name.as_bytes());
        buffer.put(b"\"");
    }
    if tls.gap_bytes > 0 {
        number(KEY_GAP, tls.gap_bytes, buffer);
    }
    if tls.is_midstream {
        buffer.put(MIDSTREAM);
    }
}
