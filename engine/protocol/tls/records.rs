//! [`Records`]: where one direction is among the records of TLS (RFC 8446 section 5.1).

/// The length of a record's head.
pub(super) const HEAD_BYTES: usize = 5;

/// The longest content of a record: 2^14 bytes, and 2,048 for what encryption adds.
const CONTENT_BYTES_MAX: u16 = (1 << 14) + 2048;

/// Kinds of records.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// The place in the stream of records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Records {
    head: [u8; HEAD_BYTES],
    head_bytes: u8,
    kind: u8,
    /// Bytes of the content to come.
    left_bytes: u16,
    /// What came is no record, or a head may have been lost.
    is_lost: bool,
}

/// The next part of a stream of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece<'a> {
    /// A part of a head.
    Partial,
    /// A record of this kind begins, with this many bytes of content.
    Head(u8, u16),
    /// Content of a record of this kind; the last of it or not.
    Content(u8, &'a [u8], bool),
    /// What follows is no record.
    Lost,
}

impl Records {
    /// Whether the place among the records is not known.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// The next part of `bytes`, which are not empty, and its length.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> (usize, Piece<'a>) {
        if self.is_lost {
            return (bytes.len(), Piece::Lost);
        }
        if self.left_bytes > 0 {
            let used = bytes.len().min(self.left_bytes.into());
            self.left_bytes -= used as u16;
            return (used, Piece::Content(self.kind, &bytes[..used], self.left_bytes == 0));
        }
        let known = usize::from(self.head_bytes);
        let used = bytes.len().min(HEAD_BYTES - known);
        self.head[known..known + used].copy_from_slice(&bytes[..used]);
        self.head_bytes += used as u8;
        if known + used < HEAD_BYTES {
            return (used, Piece::Partial);
        }
        self.head_bytes = 0;
        match head(&self.head) {
            Some((kind, len)) => {
                (self.kind, self.left_bytes) = (kind, len);
                (used, Piece::Head(kind, len))
            }
            None => {
                self.is_lost = true;
                (used, Piece::Lost)
            }
        }
    }

    /// Bytes were lost. Inside the content of one record, the place is still known. Returns whether
    /// content of a handshake may be among them.
    pub fn skip(&mut self, len_bytes: u64) -> bool {
        if self.is_lost {
            return true;
        }
        if self.head_bytes == 0 && len_bytes <= u64::from(self.left_bytes) {
            self.left_bytes -= len_bytes as u16;
            return self.kind == HANDSHAKE;
        }
        self.is_lost = true;
        true
    }

    /// The place was lost, and a segment begins with `bytes`: if that is the head of a record with
    /// data, it goes on there.
    pub fn find(&mut self, bytes: &[u8]) {
        let is_data = |head_: &[u8; HEAD_BYTES]| {
            matches!(head(head_), Some((APPLICATION_DATA, len)) if len > 0) && head_[2] == 3
        };
        if self.is_lost && bytes.first_chunk().is_some_and(is_data) {
            *self = Records::default();
        }
    }
}

/// Kind and length of the record with this head. Empty records of a handshake are not allowed.
fn head(head: &[u8; HEAD_BYTES]) -> Option<(u8, u16)> {
    let [kind, major, minor, high, low] = *head;
    let len = u16::from_be_bytes([high, low]);
    let is_head = matches!(kind, CHANGE_CIPHER_SPEC..=24)
        && (major, minor) <= (3, 4)
        && major == 3
        && len <= CONTENT_BYTES_MAX
        && (len > 0 || kind == APPLICATION_DATA);
    is_head.then_some((kind, len))
}
