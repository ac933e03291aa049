//! The Huffman code of strings (RFC 7541 section 5.2 and appendix B), decoded by a table of
//! [`PEEK_BITS`] bits: a look-up gives up to two symbols, and what they take.
//!
//! The code is canonical: the codes of one length are consecutive numbers, in the order of their
//! symbols. So the lengths are all that has to be written down.

/// How many bits a look-up sees. The codes of letters and digits have 5 to 8.
const PEEK_BITS: u32 = 12;

/// How many bits a window of the string has at least.
const WINDOW_BITS: usize = 57;

/// Look-ups in a window.
const ROUND_LOOKUPS: usize = WINDOW_BITS / PEEK_BITS as usize;

/// What the look-ups in a window write. They find two symbols each at most.
const ROUND_BYTES: usize = 8;
const _: () = assert!(2 * ROUND_LOOKUPS <= ROUND_BYTES);

/// The end of the string. It pads the last octet, and occurs nowhere else.
const END: usize = 256;

/// The bits of the longest code.
const LENGTH_MAX: usize = 30;

/// The bits of the code of each octet, and of [`END`].
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
    6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23,
    23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26,
    27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
    25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// What the next bits begin with.
#[derive(Clone, Copy)]
struct Peeked {
    /// The symbols.
    symbols: [u8; 2],
    /// How many of them there are: 1 or 2.
    symbol_count: u8,
    /// The bits that they take. [`u8::MAX`] if the first code is longer than [`PEEK_BITS`].
    bits: u8,
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Codes {
    /// The first of them, followed by zeros up to 32 bits.
    first: u32,
    /// What is behind the last of them. 0 if there are none.
    end: u64,
    /// The place of the first one's symbol in [`SYMBOLS`].
    at: usize,
}

/// All symbols, by the lengths of their codes.
static SYMBOLS: [u16; 257] = symbols();
/// The codes by their lengths.
static CODES: [Codes; LENGTH_MAX + 1] = codes();
/// By the next [`PEEK_BITS`] bits.
static PEEKED: [Peeked; 1 << PEEK_BITS] = peeked();

const fn symbols() -> [u16; 257] {
    let mut sorted = [0; 257];
    let (mut at, mut length) = (0, 0);
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                sorted[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    sorted
}

const fn codes() -> [Codes; LENGTH_MAX + 1] {
    let mut codes = [Codes { first: 0, end: 0, at: 0 }; LENGTH_MAX + 1];
    let (mut next, mut at, mut length) = (0_u64, 0, 1);
    while length <= LENGTH_MAX {
        let mut count = 0;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            count += (LENGTHS[symbol] as usize == length) as usize;
            symbol += 1;
        }
        if count > 0 {
            let first = next as u32;
            next += (count as u64) << (32 - length);
            codes[length] = Codes { first, end: next, at };
            at += count;
        }
        length += 1;
    }
    codes
}

/// The code of a symbol, in its lowest bits.
const fn code(symbol: usize) -> u32 {
    let length = LENGTHS[symbol] as usize;
    let Codes { first, at, .. } = CODES[length];
    let mut place = at;
    while SYMBOLS[place] as usize != symbol {
        place += 1;
    }
    (first >> (32 - length)) + (place - at) as u32
}

const fn peeked() -> [Peeked; 1 << PEEK_BITS] {
    let none = Peeked { symbols: [0; 2], symbol_count: 0, bits: u8::MAX };
    let mut table = [none; 1 << PEEK_BITS];
    let mut first = 0;
    while first < END {
        let length = LENGTHS[first] as u32;
        if length <= PEEK_BITS {
            let rest = PEEK_BITS - length;
            let start = (code(first) as usize) << rest;
            let one = Peeked { symbols: [first as u8, 0], symbol_count: 1, bits: length as u8 };
            fill(&mut table, start, rest, one);
            let mut second = 0;
            while second < END {
                let both = length + LENGTHS[second] as u32;
                if both <= PEEK_BITS {
                    let free = PEEK_BITS - both;
                    let start = start + ((code(second) as usize) << free);
                    let symbols = [first as u8, second as u8];
                    let two = Peeked { symbols, symbol_count: 2, bits: both as u8 };
                    fill(&mut table, start, free, two);
                }
                second += 1;
            }
        }
        first += 1;
    }
    table
}

/// Writes `value` for all bits that begin with those of `start`; `free` more follow.
const fn fill(table: &mut [Peeked; 1 << PEEK_BITS], start: usize, free: u32, value: Peeked) {
    let mut at = start;
    while at < start + (1 << free) {
        table[at] = value;
        at += 1;
    }
}

/// How long a buffer [`decode`] needs for a string of `encoded_bytes`. The shortest codes have 5
/// bits; and it writes [`ROUND_BYTES`] at a time.
pub(super) fn buffer_bytes(encoded_bytes: usize) -> usize {
    encoded_bytes * 8 / 5 + ROUND_BYTES
}

/// Decodes the first `encoded_bytes` of `block` into the beginning of `decoded`, which has
/// [`buffer_bytes`] or more. Returns the length of the string; `None` if the padding is not what
/// section 5.2 demands: less than 8 bits, all of them 1, and no [`END`].
#[inline]
pub(super) fn decode(block: &[u8], encoded_bytes: usize, decoded: &mut [u8]) -> Option<usize> {
    let (mut bit, mut at) = (0, 0);
    loop {
        let bits_left = encoded_bytes * 8 - bit;
        let mut rest = window(block, bit, bits_left);
        // A code that is longer than a look-up counts as longer than this, too.
        let round_bits = bits_left.min(WINDOW_BITS) as u32;
        let (mut round_left, mut symbols, mut symbol_count) = (round_bits, 0, 0);
        let mut is_whole = true;
        for _ in 0..ROUND_LOOKUPS {
            let found = peek(rest);
            if u32::from(found.bits) > round_left {
                is_whole = false;
                break;
            }
            symbols |= u64::from(u16::from_le_bytes(found.symbols)) << (8 * symbol_count);
            symbol_count += u32::from(found.symbol_count);
            rest <<= found.bits;
            round_left -= u32::from(found.bits);
        }
        decoded[at..at + ROUND_BYTES].copy_from_slice(&symbols.to_le_bytes());
        at += symbol_count as usize;
        bit += (round_bits - round_left) as usize;
        if !is_whole {
            let bits_left = encoded_bytes * 8 - bit;
            let rest = window(block, bit, bits_left);
            // Padding: ones to the end, and ones behind it.
            if rest == u64::MAX {
                return (bits_left < 8).then_some(at);
            }
            let (symbol, bits) = single(rest).filter(|(_, bits)| *bits <= bits_left)?;
            decoded[at] = symbol;
            at += 1;
            bit += bits;
        }
    }
}

/// The next 57 bits of `block` or more, from the position `bit` on, at the top. Behind the
/// `bits_left` of the string there are ones.
#[inline(always)]
fn window(block: &[u8], bit: usize, bits_left: usize) -> u64 {
    let rest = &block[bit / 8..];
    let octets = match rest.first_chunk() {
        Some(octets) => u64::from_be_bytes(*octets),
        None => last_octets(rest),
    };
    let beyond = if bits_left < WINDOW_BITS { u64::MAX >> bits_left } else { 0 };
    octets << (bit % 8) | beyond
}

/// Fewer than 8 octets, followed by zeros.
#[inline(never)]
fn last_octets(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |sum, octet| sum >> 8 | u64::from(*octet) << 56)
}

/// What a window begins with.
#[inline(always)]
fn peek(window: u64) -> Peeked {
    PEEKED[(window >> (64 - PEEK_BITS)) as usize]
}

/// The first symbol of a window, and the bits of its code. `None` for [`END`].
#[inline]
fn single(window: u64) -> Option<(u8, usize)> {
    let found = peek(window);
    if found.bits == u8::MAX {
        return long(window);
    }
    Some((found.symbols[0], LENGTHS[usize::from(found.symbols[0])].into()))
}

/// The first symbol of a window, whatever its length.
fn long(window: u64) -> Option<(u8, usize)> {
    let bits = (window >> 32) as u32;
    let length = (1..=LENGTH_MAX).find(|length| u64::from(bits) < CODES[*length].end)?;
    let Codes { first, at, .. } = CODES[length];
    let symbol = SYMBOLS[at + ((bits - first) >> (32 - length)) as usize];
    u8::try_from(symbol).ok().map(|symbol| (symbol, length))
}
