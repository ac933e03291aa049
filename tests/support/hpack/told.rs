//! What a decoder told of blocks, and what it could know.

use super::naive::{Field, Text};
use httplines::protocol::http2::hpack::{self, Decoder, Fault, Name};

/// A table keeps entries of 64 KiB. Their text has room for a third more, and each entry takes 12
/// bytes beside it.
pub const HELD_BYTES_MAX: usize = (64 << 10) * 4 / 3 + (64 << 10) / 32 * 12;

/// What was told of a field: name and value.
pub type Told = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Name and value of a field. What is kept beside them must be what they show.
fn one(field: hpack::Field<'_>) -> Told {
    let (name, value) = (field.name(), field.value());
    let known = match (name, value) {
        (Some(name), Some(_)) => Name::of(name),
        _ => Name::Unknown,
    };
    assert_eq!(field.known, known, "{field:?}");
    let has_control = [name, value].into_iter().flatten().flatten().any(|octet| *octet < b' ');
    assert_eq!(field.has_control, has_control, "{field:?}");
    (name.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec))
}

/// What a decoder tells of a block, and how it ends.
pub fn block(decoder: &mut Decoder, block: &[u8]) -> (Vec<Told>, Result<(), Fault>) {
    let mut told = Vec::new();
    let end = decoder.block(block, &mut Vec::new(), |field| {
        told.push(one(field));
    });
    (told, end)
}

/// What it tells of the beginning of a block.
pub fn cut_block(decoder: &mut Decoder, beginning: &[u8]) -> Vec<Told> {
    let mut told = Vec::new();
    decoder.cut_block(beginning, &mut Vec::new(), |field| {
        told.push(one(field));
    });
    told
}

/// What a reader can know of these fields.
pub fn knowable(fields: &[Field]) -> Vec<Told> {
    let text = |text: &Text| text.is_knowable.then(|| text.bytes.clone());
    fields.iter().map(|field| (text(&field.name), text(&field.value))).collect()
}

/// Whether all that was told of these fields is so, though some of it may be unknown.
pub fn is_true(told: &[Told], fields: &[Field]) -> bool {
    let is_so =
        |told: &Option<Vec<u8>>, text: &Text| told.as_ref().is_none_or(|told| *told == text.bytes);
    let both = |(told, field): (&Told, &Field)| {
        is_so(&told.0, &field.name) && is_so(&told.1, &field.value)
    };
    told.iter().zip(fields).all(both)
}
