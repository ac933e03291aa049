//! The Huffman code of strings (RFC 7541 section 5.2 and appendix B), decoded by a table of
//! [`PEEK_BITS`] bits: a look-up gives up to two symbols, and what they take.
//!
//! The code is canonical: the codes of one length are consecutive numbers, in the order of their
//! symbols. So the lengths are all that has to be written down.

/// How many bits a look-up sees. The codes of letters and digits have 5 to 8.
const PEEK_BITS: u32 = 12;

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
    /// How many of them there are: 1 or 2. 0 if the code is longer than [`PEEK_BITS`].
    symbol_count: u8,
    /// The bits that they take.
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
    let none = Peeked { symbols: [0; 2], symbol_count: 0, bits: 0 };
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
/// bits; and it writes two symbols at a time.
pub(super) fn buffer_bytes(encoded_bytes: usize) -> usize {
    encoded_bytes * 8 / 5 + 2
}

/// Decodes a string into the beginning of `decoded`, which has [`buffer_bytes`] or more. Returns
/// its length; `None` if the padding is not what section 5.2 demands: less than 8 bits, all of them
/// 1, and no [`END`].
pub(super) fn decode(encoded: &[u8], decoded: &mut [u8]) -> Option<usize> {
    // The position in bits in `encoded`, and that in `decoded`.
    let (mut bit, mut at) = (0, 0);
    // While 8 octets are there, 57 bits or more can be peeked at, which is enough for 4 look-ups.
    while let Some(octets) = encoded.get(bit / 8..).and_then(|rest| rest.first_chunk()) {
        let mut window = u64::from_be_bytes(*octets) << (bit % 8);
        for _ in 0..57 / PEEK_BITS {
            let found = PEEKED[(window >> (64 - PEEK_BITS)) as usize];
            if found.symbol_count == 0 {
                break;
            }
            decoded[at..at + 2].copy_from_slice(&found.symbols);
            at += usize::from(found.symbol_count);
            bit += usize::from(found.bits);
            window <<= found.bits;
        }
        if PEEKED[(window >> (64 - PEEK_BITS)) as usize].symbol_count == 0 {
            let octets = encoded.get(bit / 8..).and_then(|rest| rest.first_chunk());
            let Some(octets) = octets else { break };
            let window = u64::from_be_bytes(*octets) << (bit % 8);
            let (symbol, bits) = long_code((window >> 32) as u32)?;
            decoded[at] = symbol;
            at += 1;
            bit += bits;
        }
    }
    decode_tail(encoded, bit, decoded, at)
}

/// Decodes the last symbols, one at a time. They begin at `bit` and go to `decoded[at..]`.
fn decode_tail(encoded: &[u8], mut bit: usize, decoded: &mut [u8], mut at: usize) -> Option<usize> {
    loop {
        let rest = encoded.get(bit / 8..).unwrap_or(&[]);
        let bits_left = (rest.len() * 8).saturating_sub(bit % 8);
        // Ones behind the end: as if it went on with padding.
        let mut octets = [0xff; 8];
        octets.iter_mut().zip(rest).for_each(|(octet, next)| *octet = *next);
        let ones = (1 << (bit % 8)) - 1;
        let window = u64::from_be_bytes(octets) << (bit % 8) | ones;
        if bits_left < 8 && window == u64::MAX {
            return Some(at);
        }
        let found = PEEKED[(window >> (64 - PEEK_BITS)) as usize];
        let (symbol, bits) = if found.symbol_count == 0 {
            long_code((window >> 32) as u32)?
        } else {
            (found.symbols[0], usize::from(LENGTHS[usize::from(found.symbols[0])]))
        };
        if bits > bits_left {
            return None;
        }
        decoded[at] = symbol;
        at += 1;
        bit += bits;
    }
}

/// The symbol of a code of more than [`PEEK_BITS`], and its length in bits. `None` for [`END`].
#[cold]
fn long_code(bits: u32) -> Option<(u8, usize)> {
    let length = (1..=LENGTH_MAX).find(|length| u64::from(bits) < CODES[*length].end)?;
    let Codes { first, at, .. } = CODES[length];
    let symbol = SYMBOLS[at + ((bits - first) >> (32 - length)) as usize];
    u8::try_from(symbol).ok().map(|symbol| (symbol, length))
}
