//! A decoder by the letter of RFC 7541. It sees all blocks, and notes what a reader who was told of
//! losses can know of each field.

use super::tables::{CODES, STATIC};
use httplines::protocol::http2::hpack::Fault;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A name or a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// What it is.
    pub bytes: Vec<u8>,
    /// Whether a reader can know it.
    pub is_knowable: bool,
}

/// A name and a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// The name.
    pub name: Text,
    /// The value.
    pub value: Text,
}

impl Field {
    fn bytes(&self) -> usize {
        32 + self.name.bytes.len() + self.value.bytes.len()
    }
}

/// The decoder of one direction.
#[derive(Clone, Debug)]
pub struct Naive {
    /// The dynamic table, the newest entry first.
    table: Vec<Field>,
    /// The maximum size of the table.
    pub size_bytes_max: u64,
    /// What a size update may name.
    pub allowed_bytes_max: u64,
}

impl Default for Naive {
    fn default() -> Naive {
        Naive { table: Vec::new(), size_bytes_max: 4096, allowed_bytes_max: 4096 }
    }
}

/// Octets by their codes and the bits of these.
static OCTETS: LazyLock<BTreeMap<(u32, u32), usize>> =
    LazyLock::new(|| CODES.iter().enumerate().map(|(octet, code)| (*code, octet)).collect());

impl Naive {
    /// The reader has missed something: nobody can know what is in the table now.
    pub fn forget(&mut self) {
        for entry in &mut self.table {
            entry.name.is_knowable = false;
            entry.value.is_knowable = false;
        }
    }

    /// The fields of a block, and how it ends. After a fault the decoder is of no use.
    pub fn block(&mut self, block: &[u8]) -> (Vec<Field>, Result<(), Fault>) {
        let mut fields = Vec::new();
        let mut rest = block;
        let mut end = Ok(());
        while !rest.is_empty() && end.is_ok() {
            end = self.representation(&mut rest, &mut fields);
        }
        (fields, end)
    }

    /// Section 6.
    fn representation(&mut self, rest: &mut &[u8], fields: &mut Vec<Field>) -> Result<(), Fault> {
        let first = rest[0];
        if first & 0b1000_0000 != 0 {
            let index = integer(rest, 7)?;
            fields.push(self.entry(index)?);
        } else if first & 0b0100_0000 != 0 {
            let field = self.literal(rest, 6)?;
            fields.push(field.clone());
            self.insert(field);
        } else if first & 0b0010_0000 != 0 {
            if !fields.is_empty() {
                return Err(Fault::SizeUpdate);
            }
            let bytes = integer(rest, 5)?;
            if bytes > self.allowed_bytes_max {
                return Err(Fault::SizeUpdate);
            }
            self.size_bytes_max = bytes;
            self.evict(bytes);
        } else {
            fields.push(self.literal(rest, 4)?);
        }
        Ok(())
    }

    fn literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Result<Field, Fault> {
        let index = integer(rest, prefix_bits)?;
        let name = if index == 0 { string(rest)? } else { self.entry(index)?.name };
        Ok(Field { name, value: string(rest)? })
    }

    /// Section 2.3.3.
    fn entry(&self, index: u64) -> Result<Field, Fault> {
        let place = (index as usize).checked_sub(1).ok_or(Fault::Index)?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok(Field { name: known(name.as_bytes()), value: known(value.as_bytes()) });
        }
        self.table.get(place - STATIC.len()).cloned().ok_or(Fault::Index)
    }

    /// Section 4.4.
    fn insert(&mut self, field: Field) {
        let Some(room) = self.size_bytes_max.checked_sub(field.bytes() as u64) else {
            self.table.clear();
            return;
        };
        self.evict(room);
        self.table.insert(0, field);
    }

    fn evict(&mut self, bytes: u64) {
        let mut size_bytes = self.table.iter().map(Field::bytes).sum::<usize>() as u64;
        while size_bytes > bytes {
            let oldest = self.table.pop().expect("it has a size");
            size_bytes -= oldest.bytes() as u64;
        }
    }
}

fn known(bytes: &[u8]) -> Text {
    Text { bytes: bytes.to_vec(), is_knowable: true }
}

/// Section 5.1, for integers of up to 32 bits in up to six octets.
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<u64, Fault> {
    let mut next = || {
        let (octet, behind) = rest.split_first().ok_or(Fault::Truncated)?;
        *rest = behind;
        Ok(u64::from(*octet))
    };
    let prefix_max = 2_u64.pow(prefix_bits) - 1;
    let mut value = next()? & prefix_max;
    if value < prefix_max {
        return Ok(value);
    }
    for place in 0..5 {
        let octet = next()?;
        value += (octet & 127) * 2_u64.pow(7 * place);
        if octet & 128 == 0 {
            return if value < 1 << 32 { Ok(value) } else { Err(Fault::Integer) };
        }
    }
    Err(Fault::Integer)
}

/// Section 5.2.
fn string(rest: &mut &[u8]) -> Result<Text, Fault> {
    let is_code = rest.first().is_some_and(|first| first & 0b1000_0000 != 0);
    let len_bytes = integer(rest, 7)? as usize;
    if len_bytes > rest.len() {
        return Err(Fault::Truncated);
    }
    let (bytes, behind) = rest.split_at(len_bytes);
    *rest = behind;
    Ok(known(&if is_code { decoded(bytes)? } else { bytes.to_vec() }))
}

/// A string in Huffman code, bit by bit.
fn decoded(code: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::new();
    let (mut bits, mut bit_count) = (0_u32, 0);
    for place in 0..8 * code.len() {
        bits = bits << 1 | u32::from(code[place / 8] >> (7 - place % 8) & 1);
        bit_count += 1;
        match OCTETS.get(&(bits, bit_count)) {
            Some(256) => return Err(Fault::Huffman),
            Some(octet) => {
                text.push(*octet as u8);
                (bits, bit_count) = (0, 0);
            }
            None => {}
        }
    }
    // Padding: fewer than 8 bits of the end's code, which has only ones.
    let is_padding = bit_count < 8 && bits == 2_u32.pow(bit_count) - 1;
    if is_padding { Ok(text) } else { Err(Fault::Huffman) }
}
