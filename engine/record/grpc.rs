//! What gRPC calls have beside other exchanges.

use super::span::Span;

/// What only calls of gRPC and gRPC-Web have. What is not known is `None`.
#[derive(Clone, Debug, Default)]
pub struct GrpcFields {
    /// `grpc-status`: 0 is success. Of the response's trailers, or of a response without a body.
    pub status: Option<u32>,
    /// `grpc-message` from the same place, with its percent-encoding undone.
    pub message: Option<Vec<u8>>,
    /// The length of `grpc-message` on the wire.
    pub message_wire_bytes: usize,
    /// The whole messages in the request's body.
    pub request_messages: Option<u64>,
    /// The whole messages in the response's body.
    pub response_messages: Option<u64>,
    /// The `grpc-encoding` of a direction in which a message was compressed; if both did, that of
    /// the response.
    pub encoding: Option<Vec<u8>>,
    /// A status was seen, whether it is a number or not.
    pub(crate) has_status: bool,
    /// There were several statuses, and they differ.
    pub(crate) is_status_unclear: bool,
    /// How far the bodies were followed: those of the response and of the request.
    pub(crate) bodies: [GrpcBody; 2],
    /// The trailers in the body of a response of gRPC-Web, so far.
    pub(crate) web_trailers: Vec<u8>,
}

impl GrpcFields {
    /// Its memory, with the overhead of the allocator.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        let of = |text: &Option<Vec<u8>>| text.as_ref().map_or(0, Vec::capacity);
        let texts = of(&self.message) + of(&self.encoding) + self.web_trailers.capacity();
        size_of::<GrpcFields>() + 16 + texts
    }
}

/// What the messages in a body are framed by, as its `content-type` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum GrpcKind {
    /// The type is not known: the head, or the field, was lost.
    #[default]
    Unknown,
    /// It is no body of gRPC.
    Other,
    /// gRPC.
    Grpc,
    /// gRPC-Web: trailers come as a last message.
    Web,
    /// The same in base64.
    WebText,
}

/// One body, as far as it was followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrpcBody {
    pub kind: GrpcKind,
    /// Whole messages so far.
    pub message_count: u64,
    /// `grpc-encoding`, a range of the text of the message with this body.
    pub encoding: Span,
    /// Bytes of the current message to come; in its prefix, its length so far.
    pub left_bytes: u32,
    /// Bytes of the current message's prefix that have passed.
    pub prefix_len: u8,
    /// The first of them.
    pub flags: u8,
    /// A message was compressed.
    pub is_compressed: bool,
    /// The trailers of gRPC-Web have passed.
    pub has_trailers: bool,
    /// Bytes were lost, or it is not what its type says: nothing is counted any more.
    pub is_lost: bool,
    /// With base64: how many digits of the current four have passed, and these.
    pub digit_count: u8,
    pub digits: u32,
    /// How many of the current four are padding.
    pub padding_count: u8,
}

impl Default for GrpcBody {
    fn default() -> GrpcBody {
        GrpcBody {
            kind: GrpcKind::Unknown,
            message_count: 0,
            encoding: Span::ABSENT,
            left_bytes: 0,
            prefix_len: 0,
            flags: 0,
            is_compressed: false,
            has_trailers: false,
            is_lost: false,
            digit_count: 0,
            digits: 0,
            padding_count: 0,
        }
    }
}
