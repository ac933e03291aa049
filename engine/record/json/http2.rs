//! What only the lines of HTTP/2 and gRPC have.

use super::budget::*;
use super::{JsonFormat, SlowPath, number};
use crate::record::line_buffer::LineBuffer;
use crate::record::{GrpcFields, Http2Fields, Message};

impl JsonFormat {
    /// From `stream` to `connect_protocol`.
    #[inline(always)]
    pub(super) fn http2_front<const IS_MASKED: bool>(
        &mut self,
        http2: &Http2Fields,
        request: &Message,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        number(KEY_STREAM, http2.stream.into(), buffer);
        for (rendered, is_set) in [(UPGRADED, http2.is_upgraded), (PUSHED, http2.is_pushed)] {
            if is_set {
                buffer.put(rendered);
            }
        }
        if request.is_seen {
            let (scheme, protocol) = (http2.scheme, http2.connect_protocol);
            self.text::<IS_MASKED>(&SCHEME, request, scheme, slow, buffer);
            self.text::<IS_MASKED>(&CONNECT_PROTOCOL, request, protocol, slow, buffer);
        }
    }

    /// From `grpc_status` to `grpc_encoding`.
    #[inline(never)]
    pub(super) fn grpc(
        &mut self,
        grpc: &GrpcFields,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        if let Some(status) = grpc.status {
            number(KEY_GRPC_STATUS, status.into(), buffer);
        }
        if let Some(message) = &grpc.message {
            self.own_text(&GRPC_MESSAGE, message, grpc.message_wire_bytes, slow, buffer);
        }
        for (key, count) in [
            (KEY_GRPC_REQUEST_MESSAGES, grpc.request_messages),
            (KEY_GRPC_RESPONSE_MESSAGES, grpc.response_messages),
        ] {
            if let Some(count) = count {
                number(key, count, buffer);
            }
        }
        if let Some(encoding) = &grpc.encoding {
            self.own_text(&GRPC_ENCODING, encoding, encoding.len(), slow, buffer);
        }
    }

    /// A text that is not a part of a message's text.
    fn own_text(
        &mut self,
        field: &TextField,
        value: &[u8],
        wire_bytes: usize,
        slow: &mut SlowPath,
        buffer: &mut LineBuffer<'_>,
    ) {
        let shown = self.masks.shown(field.kind, value, false, &mut self.masked);
        buffer.put(field.open);
        if shown.len() <= field.reserve_bytes && buffer.put_plain(shown, shown.len()) {
            buffer.put(b"\"");
        } else {
            buffer.put(slow.text(field, shown, wire_bytes));
        }
    }

    /// From `reset_by` to `headers_unknown`.
    #[inline(always)]
    pub(super) fn http2_end(http2: &Http2Fields, buffer: &mut LineBuffer<'_>) {
        if let Some(by) = http2.reset_by {
            buffer.put(KEY_RESET_BY);
            buffer.put(by.name().as_bytes());
            buffer.put(b"\"");
        }
        if let Some(code) = http2.reset_code {
            buffer.put(KEY_RESET_CODE);
            match http2.reset_name() {
                Some(name) => buffer.put(name.as_bytes()),
                None => buffer.decimal(code.into()),
            }
            buffer.put(b"\"");
        }
        if http2.headers_unknown > 0 {
            number(KEY_UNKNOWN, http2.headers_unknown.into(), buffer);
        }
    }
}
