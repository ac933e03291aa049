//! HPACK (RFC 7541): header blocks, decoded by a reader that may have missed earlier ones.
//!
//! An index into the dynamic table counts from the newest entry. So whatever is inserted after a
//! late join, or after a header block that was lost, is exact again. What is not known is told as
//! unknown, and never guessed. Joined late and having lost a block are one state.
//!
//! Blocks must be decoded in the order of the wire, also those that nobody wants.

mod fault;
mod field;
mod huffman;
mod integer;
mod static_table;
mod table;
#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use field::{Field, Name, has_control};

use huffman::Decoded;
use table::Table;

/// The maximum size of the table until the encoder changes it (RFC 9113 section 6.5.2).
const SIZE_BYTES_DEFAULT: u32 = 4096;

/// The decoder of one direction of a connection. The default is that of a connection seen from its
/// beginning: the table is empty, and has at most 4,096 bytes.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What a size update may name at most.
    size_bytes_max: u32,
}

/// A string of a literal field.
#[derive(Clone, Copy)]
enum Text<'a> {
    /// It is in the header block, or in the static table.
    Lent(&'a [u8]),
    /// It is in the scratch buffer, from here to there. Whether it has a control character was seen
    /// on the way.
    Decoded(usize, usize, bool),
}

impl<'a> Text<'a> {
    #[inline(always)]
    fn bytes(self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Lent(bytes) => bytes,
            Text::Decoded(start, end, _) => &scratch[start..end],
        }
    }

    #[inline(always)]
    fn has_control(self) -> bool {
        match self {
            Text::Lent(bytes) => has_control(bytes),
            Text::Decoded(_, _, has_control) => has_control,
        }
    }
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { table: Table::new(SIZE_BYTES_DEFAULT), size_bytes_max: SIZE_BYTES_DEFAULT }
    }
}

impl Decoder {
    /// The connection was joined late, or a header block was lost: all entries are unknown, and so
    /// are the maximum size of the table and what the reader allows.
    pub fn lose(&mut self) {
        self.table.lose();
        self.size_bytes_max = u32::MAX;
    }

    /// SETTINGS_HEADER_TABLE_SIZE of the reader of these blocks: what a size update may name. The
    /// greatest one counts, since nobody knows which one the encoder has read. Call it with
    /// [`u32::MAX`] if SETTINGS may have been lost.
    pub fn set_size_max(&mut self, bytes: u32) {
        self.size_bytes_max = self.size_bytes_max.max(bytes);
    }

    /// All SETTINGS of the reader will be seen: so far it has allowed nothing.
    pub fn reset_size_max(&mut self) {
        self.size_bytes_max = SIZE_BYTES_DEFAULT;
    }

    /// Decodes a header block, all its fragments joined. Calls `field` with each field, in order.
    /// `scratch` is a buffer to decode strings in: it grows as needed, to less than twice the
    /// longest block. After a fault the table is unknown.
    pub fn block(
        &mut self,
        block: &[u8],
        scratch: &mut Vec<u8>,
        field: impl FnMut(Field<'_>),
    ) -> Result<(), Fault> {
        let decoded = match block {
            [0x20..=0x3f, ..] => self.size_updates(block),
            _ => Ok(block),
        }
        .and_then(|rest| self.fields(rest, scratch, field));
        if decoded.is_err() {
            self.lose();
        }
        decoded
    }

    /// Decodes the beginning of a header block whose rest was lost: the fields that are whole. Then
    /// the table is unknown.
    pub fn cut_block(
        &mut self,
        beginning: &[u8],
        scratch: &mut Vec<u8>,
        field: impl FnMut(Field<'_>),
    ) {
        match self.size_updates(beginning) {
            // Size updates come first. So if a field was seen, there was no further one.
            Ok(rest @ [_, ..]) => match self.fields(rest, scratch, field) {
                Ok(()) | Err(Fault::Truncated) => self.table.lose_entries(),
                Err(_) => self.lose(),
            },
            _ => self.lose(),
        }
    }

    /// Memory of the table, in bytes. However large the table is said to be, entries of 64 KiB are
    /// kept at most; older ones are unknown.
    pub fn held_bytes(&self) -> usize {
        self.table.held_bytes()
    }

    /// Frees the memory of the table. Its entries are unknown from now on.
    pub fn relieve(&mut self) {
        self.table.relieve();
    }

    /// Whether all entries of the table are here. A field may still have an unknown name, if it had
    /// it from an entry that was not known.
    pub fn is_known(&self) -> bool {
        self.table.is_whole()
    }

    /// Follows the size updates at the beginning of a block, and returns its rest.
    #[inline(never)]
    fn size_updates<'a>(&mut self, mut block: &'a [u8]) -> Result<&'a [u8], Fault> {
        while let [0x20..=0x3f, ..] = block {
            let (bytes, rest) = integer::decode(block, 5)?;
            if bytes > self.size_bytes_max {
                return Err(Fault::SizeUpdate);
            }
            self.table.set_size_max(bytes);
            block = rest;
        }
        Ok(block)
    }

    /// Decodes the fields of a block.
    #[inline(never)]
    fn fields(
        &mut self,
        mut block: &[u8],
        scratch: &mut Vec<u8>,
        mut field: impl FnMut(Field<'_>),
    ) -> Result<(), Fault> {
        while let Some(first) = block.first() {
            match first {
                // Indexed (RFC 7541 section 6.1).
                0x80.. => {
                    let (index, rest) = integer::decode(block, 7)?;
                    block = rest;
                    let place = (index as usize).wrapping_sub(1);
                    if let Some(entry) = static_table::FIELDS.get(place) {
                        field(*entry);
                    } else if let Some(entry) = self.inserted(place) {
                        field(entry);
                    } else {
                        field(self.missing(place)?);
                    }
                }
                0x20..=0x3f => return Err(Fault::SizeUpdate),
                // A literal, which may be inserted into the table (section 6.2).
                _ => block = self.literal(block, scratch, &mut field)?,
            }
        }
        Ok(())
    }

    /// Decodes a literal, and returns what is behind it.
    #[inline(never)]
    fn literal<'a>(
        &mut self,
        block: &'a [u8],
        scratch: &mut Vec<u8>,
        field: &mut impl FnMut(Field<'_>),
    ) -> Result<&'a [u8], Fault> {
        // Sections 6.2.1, and 6.2.2 and 6.2.3.
        let is_inserted = block.first().is_some_and(|first| first & 0x40 != 0);
        let (index, rest) = integer::decode(block, if is_inserted { 6 } else { 4 })?;
        let mut decoded_bytes = 0;
        let (name, known, has_control, rest) = if index == 0 {
            let (name, rest) = string(rest, scratch, &mut decoded_bytes)?;
            (name, Name::of(name.bytes(scratch)), name.has_control(), rest)
        } else {
            let place = (index as usize).wrapping_sub(1);
            let (name, known, has_control) = match static_table::FIELDS.get(place) {
                Some(entry) => (Text::Lent(entry.name), entry.known, false),
                None => self.inserted_name(place, scratch, &mut decoded_bytes)?,
            };
            (name, known, has_control, rest)
        };
        let (value, rest) = string(rest, scratch, &mut decoded_bytes)?;
        let has_control = has_control | value.has_control();
        let (name, value) = (name.bytes(scratch), value.bytes(scratch));
        let found = Field { name, value, known, has_control, has_value: true };
        field(found);
        if is_inserted {
            self.table.insert(found);
        }
        Ok(rest)
    }

    /// The entry of the dynamic table at this place, if it is here. Places are indices less 1.
    #[inline(always)]
    fn inserted(&self, place: usize) -> Option<Field<'_>> {
        self.table.get(place.wrapping_sub(static_table::FIELDS.len()))
    }

    /// An entry that is not here. It is a fault if the encoder has none.
    #[cold]
    fn missing(&self, place: usize) -> Result<Field<'static>, Fault> {
        let is_index = place != usize::MAX;
        (is_index && !self.table.is_whole()).then_some(Field::UNKNOWN).ok_or(Fault::Index)
    }

    /// The name of an entry of the dynamic table, which one it is, and whether it has a control
    /// character. It is copied into `scratch`, since an insertion may evict its entry.
    #[inline(never)]
    fn inserted_name(
        &self,
        place: usize,
        scratch: &mut Vec<u8>,
        decoded_bytes: &mut usize,
    ) -> Result<(Text<'static>, Name, bool), Fault> {
        let entry = match self.inserted(place) {
            Some(entry) => entry,
            None => self.missing(place)?,
        };
        let end = entry.name.len();
        grow(scratch, end)[..end].copy_from_slice(entry.name);
        *decoded_bytes = end;
        let has_control = entry.has_control && has_control(entry.name);
        Ok((Text::Decoded(0, end, has_control), entry.known, has_control))
    }
}

/// Decodes a string (RFC 7541 section 5.2), and returns what is behind it. If it is in Huffman
/// code, it goes to `scratch`, behind the `decoded_bytes` that are there.
#[inline(always)]
fn string<'a>(
    block: &'a [u8],
    scratch: &mut Vec<u8>,
    decoded_bytes: &mut usize,
) -> Result<(Text<'a>, &'a [u8]), Fault> {
    let (len_bytes, rest) = integer::decode(block, 7)?;
    let (text, behind) = rest.split_at_checked(len_bytes as usize).ok_or(Fault::Truncated)?;
    if block[0] & 0x80 == 0 {
        return Ok((Text::Lent(text), behind));
    }
    let start = *decoded_bytes;
    let decoded = coded(rest, text.len(), scratch, start).ok_or(Fault::Huffman)?;
    *decoded_bytes += decoded.bytes;
    Ok((Text::Decoded(start, *decoded_bytes, decoded.has_control), behind))
}

/// Decodes a string of `encoded_bytes` in Huffman code to `scratch`, from `start` on.
#[inline(never)]
fn coded(
    block: &[u8],
    encoded_bytes: usize,
    scratch: &mut Vec<u8>,
    start: usize,
) -> Option<Decoded> {
    let buffer = grow(scratch, start + huffman::buffer_bytes(encoded_bytes));
    huffman::decode(block, encoded_bytes, &mut buffer[start..])
}

/// `scratch`, with a length of `bytes` or more. What it holds stays.
#[inline]
fn grow(scratch: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if scratch.len() < bytes {
        scratch.resize(bytes, 0);
    }
    scratch
}
