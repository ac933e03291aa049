//! [`Field`], and which one it is. That is found once for each entry of a table, and kept with it:
//! so fields that come again are not compared again.

/// A field of a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name; empty if it is unknown.
    pub(super) name: &'a [u8],
    /// Its value; empty if it is unknown.
    pub(super) value: &'a [u8],
    /// Which field it is.
    pub known: Name,
    /// Whether its name or value has a control character.
    pub has_control: bool,
    /// Whether its value is known. If its name is, its value is, too.
    pub(super) has_value: bool,
}

impl<'a> Field<'a> {
    /// A field of which nothing is known.
    pub(super) const UNKNOWN: Field<'static> =
        Field { name: &[], value: &[], known: Name::Unknown, has_control: false, has_value: false };

    /// Its name; `None` if that is unknown.
    #[inline]
    pub fn name(&self) -> Option<&'a [u8]> {
        (self.known != Name::Unknown).then_some(self.name)
    }

    /// Its value; `None` if that is unknown. If the name is known, so is the value.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.has_value.then_some(self.value)
    }

    /// Its name and value. What is unknown is empty.
    #[inline(always)]
    pub fn texts(&self) -> (&'a [u8], &'a [u8]) {
        (self.name, self.value)
    }
}

/// The name of a field, as far as it means something here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Name {
    /// `:method`.
    Method,
    /// `:path`.
    Path,
    /// `:authority`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// `:protocol`.
    Protocol,
    /// `:status`.
    Status,
    /// Another one with a colon in front.
    OtherPseudo,
    /// `host`.
    Host,
    /// `user-agent`.
    UserAgent,
    /// `referer`.
    Referer,
    /// `content-type`.
    ContentType,
    /// `server`.
    Server,
    /// `location`.
    Location,
    /// `grpc-status`.
    GrpcStatus,
    /// `grpc-message`.
    GrpcMessage,
    /// `grpc-encoding`.
    GrpcEncoding,
    /// Any other.
    Other,
    /// The name is unknown, and so may be the value.
    Unknown,
}

impl Name {
    /// Which one `name` is.
    pub const fn of(name: &[u8]) -> Name {
        match name {
            b":method" => Name::Method,
            b":path" => Name::Path,
            b":authority" => Name::Authority,
            b":scheme" => Name::Scheme,
            b":protocol" => Name::Protocol,
            b":status" => Name::Status,
            [b':', ..] => Name::OtherPseudo,
            b"host" => Name::Host,
            b"user-agent" => Name::UserAgent,
            b"referer" => Name::Referer,
            b"content-type" => Name::ContentType,
            b"server" => Name::Server,
            b"location" => Name::Location,
            b"grpc-status" => Name::GrpcStatus,
            b"grpc-message" => Name::GrpcMessage,
            b"grpc-encoding" => Name::GrpcEncoding,
            _ => Name::Other,
        }
    }
}

/// Whether there is any control character (below 0x20) in `text`. They are rare.
#[inline]
pub fn has_control(text: &[u8]) -> bool {
    // Eight bytes at once: a byte below 0x20 borrows its highest bit, which it did not have.
    let in_word = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        word.wrapping_sub(0x2020_2020_2020_2020) & !word & 0x8080_8080_8080_8080
    };
    match text.last_chunk() {
        Some(last) => {
            let (words, _) = text.as_chunks();
            words.iter().fold(in_word(last), |found, word| found | in_word(word)) != 0
        }
        None => text.iter().any(|byte| *byte < b' '),
    }
}

#[cfg(test)]
mod tests {
    use super::has_control;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn controls_are_found_wherever_they_are(
            mut text in prop::collection::vec(0x20..=0xff_u8, 0..40),
            at: prop::sample::Index,
            byte in 0..0x21_u8,
        ) {
            prop_assert!(!has_control(&text));
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = byte;
                prop_assert_eq!(has_control(&text), byte < b' ');
            }
        }
    }
}
