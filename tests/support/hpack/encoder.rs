//! An encoder: as endpoints encode, or by any choice that RFC 7541 allows.

use super::random::Random;
use super::tables::{CODES, STATIC};
use super::{Pair, entry_bytes};
use std::collections::VecDeque;

/// How an encoder chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Habit {
    /// By any choice there is.
    Wild,
    /// As endpoints do: what is in a table is indexed, what may come again is inserted; a string
    /// has the shorter form.
    Usual,
}

/// What differs from message to message: endpoints do not insert it.
const NOT_INSERTED: [&[u8]; 6] =
    [b":path", b"content-length", b"etag", b"age", b"last-modified", b"if-none-match"];

/// The encoder of one direction.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// The dynamic table, the newest entry first.
    table: VecDeque<Pair>,
    size_bytes: usize,
    size_bytes_max: usize,
    /// Size updates that the next block begins with.
    updates: Vec<usize>,
    habit: Habit,
    random: Random,
}

impl Encoder {
    /// With an empty table of 4,096 bytes at most.
    pub fn new(habit: Habit, seed: u64) -> Encoder {
        Encoder {
            table: VecDeque::new(),
            size_bytes: 0,
            size_bytes_max: 4096,
            updates: Vec::new(),
            habit,
            random: Random(seed),
        }
    }

    /// Changes the maximum size of the table, with the next block.
    pub fn set_size_max(&mut self, bytes: usize) {
        self.updates.push(bytes);
    }

    /// The header block of `fields`.
    pub fn block(&mut self, fields: &[Pair]) -> Vec<u8> {
        let mut block = Vec::new();
        for bytes in std::mem::take(&mut self.updates) {
            self.size_bytes_max = bytes;
            self.evict();
            self.integer(bytes, 5, 0x20, &mut block);
        }
        for field in fields {
            self.field(field, &mut block);
        }
        block
    }

    fn field(&mut self, field: &Pair, block: &mut Vec<u8>) {
        let is_wild = self.habit == Habit::Wild;
        let same = self.indices(|name, value| name == field.0 && value == field.1);
        if let Some(index) = self.choose(&same) {
            return self.integer(index, 7, 0x80, block);
        }
        let alike = self.indices(|name, _| name == field.0);
        let index = self.choose(&alike).unwrap_or(0);
        let kind = if is_wild {
            self.random.one_of(&[0x40, 0x40, 0x40, 0x00, 0x10])
        } else if NOT_INSERTED.contains(&&field.0[..]) {
            0x00
        } else if field.0 == b"authorization" {
            0x10
        } else {
            0x40
        };
        self.integer(index, if kind == 0x40 { 6 } else { 4 }, kind, block);
        if index == 0 {
            self.string(&field.0, block);
        }
        self.string(&field.1, block);
        if kind == 0x40 {
            self.table.push_front(field.clone());
            self.size_bytes += entry_bytes(field);
            self.evict();
        }
    }

    /// The indices of entries for which `is_it` holds, with their names and values.
    fn indices(&self, is_it: impl Fn(&[u8], &[u8]) -> bool) -> Vec<usize> {
        let fixed = STATIC.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let inserted = self.table.iter().map(|(name, value)| (&name[..], &value[..]));
        let all = fixed.chain(inserted).enumerate();
        all.filter(|(_, (name, value))| is_it(name, value)).map(|(place, _)| place + 1).collect()
    }

    /// One of these indices, or none.
    fn choose(&mut self, indices: &[usize]) -> Option<usize> {
        match (indices, self.habit) {
            ([], _) => None,
            (_, Habit::Usual) => Some(indices[0]),
            (_, Habit::Wild) if self.random.is_in(20) => None,
            (_, Habit::Wild) => Some(self.random.one_of(indices)),
        }
    }

    fn evict(&mut self) {
        while self.size_bytes > self.size_bytes_max {
            let oldest = self.table.pop_back().expect("it has a size");
            self.size_bytes -= entry_bytes(&oldest);
        }
    }

    /// Section 5.1. The bits of `kind` are in front of the integer.
    fn integer(&mut self, value: usize, prefix_bits: u32, kind: u8, block: &mut Vec<u8>) {
        let prefix_max = (1 << prefix_bits) - 1;
        if value < prefix_max {
            return block.push(kind | value as u8);
        }
        block.push(kind | prefix_max as u8);
        let mut rest = value - prefix_max;
        while rest >= 0x80 {
            block.push(0x80 | rest as u8);
            rest >>= 7;
        }
        if self.habit == Habit::Wild && value < 1 << 20 && self.random.is_in(5) {
            // A zero that is not needed.
            block.extend([0x80 | rest as u8, 0]);
        } else {
            block.push(rest as u8);
        }
    }

    /// Section 5.2.
    fn string(&mut self, text: &[u8], block: &mut Vec<u8>) {
        let code = huffman(text);
        let is_code = match self.habit {
            Habit::Wild => self.random.is_in(60),
            Habit::Usual => code.len() < text.len(),
        };
        let (kind, bytes) = if is_code { (0x80, &code[..]) } else { (0x00, text) };
        self.integer(bytes.len(), 7, kind, block);
        block.extend_from_slice(bytes);
    }
}

/// A string in Huffman code (section 5.2), padded with ones.
pub fn huffman(text: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    let (mut bits, mut bit_count) = (0_u64, 0);
    for octet in text {
        let (symbol, symbol_bits) = CODES[usize::from(*octet)];
        bits = bits << symbol_bits | u64::from(symbol);
        bit_count += symbol_bits;
        while bit_count >= 8 {
            bit_count -= 8;
            code.push((bits >> bit_count) as u8);
        }
    }
    if bit_count > 0 {
        code.push((bits << (8 - bit_count)) as u8 | 0xff >> bit_count);
    }
    code
}
