//! The messages in a body: each has a prefix of five bytes, of which the last four are its length.
//! They are counted, not kept.

use crate::record::{GrpcBody, GrpcKind};

/// The length of the prefix.
const PREFIX_BYTES: u8 = 5;

/// A flag of the prefix: the message is compressed.
const COMPRESSED: u8 = 0x01;

/// A flag of the prefix, with gRPC-Web: this is no message, but the trailers.
const TRAILERS: u8 = 0x80;

/// The most bytes that are decoded from base64 at once.
const DECODED_BYTES: usize = 768;

impl GrpcKind {
    /// What `content_type` announces. Behind `application/grpc` and `application/grpc-web` there
    /// may be a format (`+proto`) and parameters.
    pub(super) fn of(content_type: &[u8]) -> GrpcKind {
        const NAME: &[u8] = b"application/grpc";
        let (name, rest) = content_type.split_at(NAME.len().min(content_type.len()));
        if !name.eq_ignore_ascii_case(NAME) {
            return GrpcKind::Other;
        }
        let end = rest.iter().position(|byte| b"+; \t".contains(byte)).unwrap_or(rest.len());
        let is = |form: &[u8]| rest[..end].eq_ignore_ascii_case(form);
        match end {
            0 => GrpcKind::Grpc,
            _ if is(b"-web") => GrpcKind::Web,
            _ if is(b"-web-text") => GrpcKind::WebText,
            _ => GrpcKind::Other,
        }
    }

    /// Whether it is known to be one of gRPC.
    pub(in crate::protocol) fn is_grpc(self) -> bool {
        matches!(self, GrpcKind::Grpc | GrpcKind::Web | GrpcKind::WebText)
    }
}

impl GrpcBody {
    /// Takes the next bytes of the body. Bytes of trailers are passed to `trailers`.
    #[inline]
    pub(super) fn take(&mut self, bytes: &[u8], trailers: &mut dyn FnMut(&[u8])) {
        match self.kind {
            GrpcKind::Other => {}
            GrpcKind::WebText => self.take_text(bytes, trailers),
            GrpcKind::Unknown | GrpcKind::Grpc | GrpcKind::Web => self.walk(bytes, trailers),
        }
    }

    #[inline]
    fn walk(&mut self, mut bytes: &[u8], trailers: &mut dyn FnMut(&[u8])) {
        while let (Some(first), false) = (bytes.first(), self.is_lost) {
            if self.prefix_len == 0
                && let Some([flags, length @ ..]) = bytes.first_chunk::<{ PREFIX_BYTES as usize }>()
            {
                self.begin_message(*flags);
                (self.left_bytes, self.prefix_len) = (u32::from_be_bytes(*length), PREFIX_BYTES);
                bytes = &bytes[usize::from(PREFIX_BYTES)..];
            } else if self.prefix_len < PREFIX_BYTES {
                match self.prefix_len {
                    0 => self.begin_message(*first),
                    _ => self.left_bytes = self.left_bytes << 8 | u32::from(*first),
                }
                self.prefix_len += 1;
                bytes = &bytes[1..];
            } else {
                let len = bytes.len().min(self.left_bytes as usize);
                if self.flags & TRAILERS != 0 {
                    trailers(&bytes[..len]);
                }
                self.left_bytes -= len as u32;
                bytes = &bytes[len..];
            }
            if self.prefix_len == PREFIX_BYTES && self.left_bytes == 0 {
                self.end_message();
            }
        }
    }

    /// The first byte of a prefix. Flags that nobody has defined show that it is none; behind
    /// trailers there is nothing.
    #[inline]
    fn begin_message(&mut self, flags: u8) {
        let known = if self.kind == GrpcKind::Web || self.kind == GrpcKind::WebText {
            COMPRESSED | TRAILERS
        } else {
            COMPRESSED
        };
        if self.has_trailers {
            return self.is_lost = true;
        }
        self.is_lost |= flags & !known != 0;
        (self.flags, self.left_bytes) = (flags, 0);
    }

    #[inline]
    fn end_message(&mut self) {
        self.prefix_len = 0;
        if self.is_lost {
            return;
        }
        match self.flags & TRAILERS {
            0 => {
                self.message_count += 1;
                self.is_compressed |= self.flags & COMPRESSED != 0;
            }
            _ => self.has_trailers = true,
        }
    }

    /// Whether trailers have passed that can be read.
    pub(super) fn has_readable_trailers(&self) -> bool {
        self.has_trailers && self.flags & COMPRESSED == 0
    }

    /// The same in base64. A sender encodes what it has at a time, so padding may come anywhere,
    /// and other digits behind it.
    #[cold]
    fn take_text(&mut self, text: &[u8], trailers: &mut dyn FnMut(&[u8])) {
        let (mut decoded, mut len) = ([0; DECODED_BYTES], 0);
        for byte in text {
            self.take_digit(*byte);
            if self.is_lost {
                break;
            }
            if self.digit_count == 4 {
                let [_, bytes @ ..] = self.digits.to_be_bytes();
                let count = 3 - usize::from(self.padding_count).min(2);
                decoded[len..len + count].copy_from_slice(&bytes[..count]);
                len += count;
                (self.digits, self.digit_count, self.padding_count) = (0, 0, 0);
            }
            if len + 3 > DECODED_BYTES {
                self.walk(&decoded[..len], trailers);
                len = 0;
            }
        }
        self.walk(&decoded[..len], trailers);
    }

    /// Adds a digit of base64, or its padding: one or two in place of the last of four digits.
    fn take_digit(&mut self, byte: u8) {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if self.digit_count >= 2 => 0,
            _ => return self.is_lost = true,
        };
        let is_padding = byte == b'=';
        self.is_lost |= self.padding_count > 0 && !is_padding;
        self.padding_count += u8::from(is_padding);
        self.digits = self.digits << 6 | u32::from(digit);
        self.digit_count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A body, written as plainly as possible: the whole messages in it, whether one was
    /// compressed, and the trailers. `None` if it is not of this kind.
    fn naive(body: &[u8], is_web: bool) -> Option<(u64, bool, Option<Vec<u8>>)> {
        let (mut at, mut count, mut is_compressed) = (0, 0, false);
        while at < body.len() {
            let flags = body[at];
            if !(flags <= 1 || is_web && matches!(flags, 0x80 | 0x81)) {
                return None;
            }
            if body.len() < at + 5 {
                break;
            }
            let length = body[at + 1..at + 5].iter().fold(0, |sum, byte| sum << 8 | *byte as usize);
            let end = at + 5 + length;
            if flags & 0x80 != 0 {
                let trailers = body.get(at + 5..end).map(<[u8]>::to_vec);
                return (body.len() <= end).then_some((count, is_compressed, trailers));
            }
            if end <= body.len() {
                (count, is_compressed) = (count + 1, is_compressed || flags == 1);
            }
            at = end;
        }
        Some((count, is_compressed, None))
    }

    fn to_base64(bytes: &[u8]) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = Vec::new();
        for part in bytes.chunks(3) {
            let bits = (0..3).fold(0_usize, |bits, at| {
                bits << 8 | usize::from(part.get(at).copied().unwrap_or_default())
            });
            for at in 0..4 {
                let is_digit = at <= part.len();
                out.push(if is_digit { DIGITS[bits >> (18 - 6 * at) & 63] } else { b'=' });
            }
        }
        out
    }

    /// What is found in the pieces.
    fn found(kind: GrpcKind, pieces: &[&[u8]]) -> Option<(u64, bool, Option<Vec<u8>>)> {
        let mut body = GrpcBody { kind, ..GrpcBody::default() };
        let mut trailers = Vec::new();
        for piece in pieces {
            body.take(piece, &mut |part| trailers.extend_from_slice(part));
        }
        let trailers = body.has_trailers.then_some(trailers);
        (!body.is_lost).then_some((body.message_count, body.is_compressed, trailers))
    }

    /// A message, or trailers.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let flags = prop_oneof![8 => 0..2_u8, 1 => Just(0x80_u8), 1 => any::<u8>()];
        let length = prop_oneof![4 => Just(0_u32), 1 => 0..4_u32, 1 => Just(u32::MAX - 99)];
        (flags, prop::collection::vec(any::<u8>(), 0..40), length).prop_map(
            |(flags, content, more)| {
                let length = (content.len() as u32 + more).to_be_bytes();
                [&[flags][..], &length, &content].concat()
            },
        )
    }

    proptest! {
        /// However a body is cut, its naive twin finds the same.
        #[test]
        fn pieces_give_what_the_whole_gives(
            messages in prop::collection::vec(message(), 0..8),
            cuts in prop::collection::vec(1..60_usize, 0..40),
            text_bytes in 1..50_usize,
            kind in prop::sample::select(vec![GrpcKind::Grpc, GrpcKind::Web, GrpcKind::WebText]),
        ) {
            let body = messages.concat();
            let expected = naive(&body, kind != GrpcKind::Grpc);
            let sent = match kind {
                GrpcKind::WebText => body.chunks(text_bytes).flat_map(to_base64).collect(),
                _ => body,
            };
            let (mut pieces, mut rest) = (Vec::new(), &sent[..]);
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            prop_assert_eq!(found(kind, &pieces), expected);
        }

        /// No bytes make it panic, and what is not base64 is never counted.
        #[test]
        fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for kind in [GrpcKind::Unknown, GrpcKind::Grpc, GrpcKind::Web, GrpcKind::WebText] {
                let told = found(kind, &[&body]);
                let is_text = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
                let is_told = kind == GrpcKind::WebText && told.is_some();
                prop_assert!(!is_told || body.iter().all(is_text));
            }
        }
    }

    #[test]
    fn types_of_content() {
        for (text, kind) in [
            ("application/grpc", GrpcKind::Grpc),
            ("Application/gRPC+proto", GrpcKind::Grpc),
            ("application/grpc;charset=utf-8", GrpcKind::Grpc),
            ("application/grpc-web", GrpcKind::Web),
            ("application/grpc-web+proto", GrpcKind::Web),
            ("application/grpc-web-text", GrpcKind::WebText),
            ("application/grpc-Web-Text+proto; a=b", GrpcKind::WebText),
            ("application/grpc-websocket", GrpcKind::Other),
            ("application/grpcx", GrpcKind::Other),
            ("application/grp", GrpcKind::Other),
            ("text/html", GrpcKind::Other),
            ("", GrpcKind::Other),
        ] {
            assert_eq!(GrpcKind::of(text.as_bytes()), kind, "{text}");
        }
    }

    #[test]
    fn base64_that_is_none() {
        for text in ["A", "AA", "AA=", "AAA", "AAAA=", "AA=A", "A===", "====", "AA==A", "AA-_"] {
            let lost = ["AAAA=", "AA=A", "A===", "====", "AA-_"].contains(&text);
            assert_eq!(found(GrpcKind::WebText, &[text.as_bytes()]).is_none(), lost, "{text}");
        }
    }
}
