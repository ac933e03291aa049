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
    /// It is in the scratch buffer, from here to there.
    Decoded(usize, usize),
}

impl<'a> Text<'a> {
    #[inline(always)]
    fn bytes(self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Lent(bytes) => bytes,
            Text::Decoded(start, end) => &scratch[start..end],
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
        let decoded = self.size_updates(block).and_then(|rest| self.fields(rest, scratch, field));
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
    #[inline]
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
                    field(self.entry(index).ok_or(Fault::Index)?);
                    block = rest;
                }
                0x20..=0x3f => return Err(Fault::SizeUpdate),
                // A literal, which may be inserted into the table (section 6.2).
                _ => block = self.literal(block, scratch, &mut field)?,
            }
        }
        Ok(())
    }

    /// Decodes a literal, and returns what is behind it.
    #[inline]
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
        let (name, known, rest) = if index == 0 {
            let (name, rest) = string(rest, scratch, &mut decoded_bytes)?;
            (Some(name), Name::of(name.bytes(scratch)), rest)
        } else {
            let (name, known) = self.name(index, scratch, &mut decoded_bytes)?;
            (name, known, rest)
        };
        let (value, rest) = string(rest, scratch, &mut decoded_bytes)?;
        let (name, value) = (name.map(|name| name.bytes(scratch)), value.bytes(scratch));
        let found = Field::literal(name, known, value);
        field(found);
        if is_inserted {
            self.table.insert(found);
        }
        Ok(rest)
    }

    /// The entry of an index. `None` if the encoder has none.
    #[inline(always)]
    fn entry(&self, index: u32) -> Option<Field<'_>> {
        let place = (index as usize).checked_sub(1)?;
        if let Some(entry) = static_table::FIELDS.get(place) {
            return Some(*entry);
        }
        let entry = self.table.get(place - static_table::FIELDS.len());
        if entry.is_none() { self.unknown_entry() } else { entry }
    }

    /// An entry that is not here.
    #[cold]
    fn unknown_entry(&self) -> Option<Field<'_>> {
        (!self.table.is_whole()).then_some(Field::UNKNOWN)
    }

    /// The name of an index. One of the dynamic table is copied into `scratch`, since an insertion
    /// may evict its entry.
    #[inline]
    fn name(
        &self,
        index: u32,
        scratch: &mut Vec<u8>,
        decoded_bytes: &mut usize,
    ) -> Result<(Option<Text<'static>>, Name), Fault> {
        if let Some(entry) = static_table::FIELDS.get((index as usize).wrapping_sub(1)) {
            return Ok((entry.name.map(Text::Lent), entry.known));
        }
        let entry = self.entry(index).ok_or(Fault::Index)?;
        let Some(name) = entry.name else { return Ok((None, Name::Unknown)) };
        let end = name.len();
        grow(scratch, end)[..end].copy_from_slice(name);
        *decoded_bytes = end;
        Ok((Some(Text::Decoded(0, end)), entry.known))
    }
}

/// Decodes a string (RFC 7541 section 5.2), and returns what is behind it. If it is in Huffman
/// code, it goes to `scratch`, behind the `decoded_bytes` that are there.
#[inline]
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
    let buffer = grow(scratch, start + huffman::buffer_bytes(text.len()));
    let decoded = huffman::decode(rest, text.len(), &mut buffer[start..]);
    *decoded_bytes += decoded.ok_or(Fault::Huffman)?;
    Ok((Text::Decoded(start, *decoded_bytes), behind))
}

/// `scratch`, with a length of `bytes` or more. What it holds stays.
#[inline]
fn grow(scratch: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if scratch.len() < bytes {
        scratch.resize(bytes, 0);
    }
    scratch
}
