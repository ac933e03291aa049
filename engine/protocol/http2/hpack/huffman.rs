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

/// What the next bits begin with: in one word, since the parts of several look-ups are added.
/// All of it is 0 if the first code is longer than [`PEEK_BITS`]: further look-ups find the same.
#[derive(Clone, Copy)]
struct Peeked(u32);

impl Peeked {
    /// The first code is too long.
    const NONE: Peeked = Peeked(0);

    /// `count` symbols (1 or 2), whose codes have `bits`.
    const fn new(symbols: [u8; 2], count: u32, bits: u32) -> Peeked {
        Peeked((u16::from_le_bytes(symbols) as u32) << 16 | (8 * count) << 8 | bits)
    }

    /// The symbols.
    #[inline(always)]
    fn symbols(self) -> u64 {
        u64::from(self.0 >> 16)
    }

    /// What the symbols take: the bits of their codes in the lowest octet, and behind it their own.
    #[inline(always)]
    fn taken(self) -> u32 {
        self.0 & 0xffff
    }
}

/// What [`decode`] found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded {
    /// The length of the string.
    pub bytes: usize,
    /// Whether it has a control character.
    pub has_control: bool,
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
    let mut control = 0;
    while control < b' ' {
        assert!(LENGTHS[control as usize] as u32 > PEEK_BITS, "only `long` finds them");
        control += 1;
    }
    let mut table = [Peeked::NONE; 1 << PEEK_BITS];
    let mut first = 0;
    while first < END {
        let length = LENGTHS[first] as u32;
        if length <= PEEK_BITS {
            let rest = PEEK_BITS - length;
            let start = (code(first) as usize) << rest;
            fill(&mut table, start, rest, Peeked::new([first as u8, 0], 1, length));
            let mut second = 0;
            while second < END {
                let both = length + LENGTHS[second] as u32;
                if both <= PEEK_BITS {
                    let free = PEEK_BITS - both;
                    let start = start + ((code(second) as usize) << free);
                    let symbols = [first as u8, second as u8];
                    fill(&mut table, start, free, Peeked::new(symbols, 2, both));
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
/// [`buffer_bytes`] or more. `None` if the padding is not what section 5.2 demands: less than 8
/// bits, all of them 1, and no [`END`].
#[inline]
pub(super) fn decode(block: &[u8], encoded_bytes: usize, decoded: &mut [u8]) -> Option<Decoded> {
    let (mut bit, mut at, mut has_control) = whole_windows(&block[..encoded_bytes], decoded)?;
    loop {
        // A code that takes more bits than there are begins with padding that is not all ones.
        let bits_left = (encoded_bytes * 8).checked_sub(bit)?;
        let window = window(block, bit, bits_left);
        let round = Round::of(window);
        decoded[at..at + ROUND_BYTES].copy_from_slice(&round.symbols.to_le_bytes());
        at += round.symbol_count();
        bit += round.bits() as usize;
        if round.is_whole {
            continue;
        }
        let bits_left = (encoded_bytes * 8).checked_sub(bit)?;
        if bits_left < 8 {
            let is_padding = round.rest.leading_ones() as usize >= bits_left;
            return is_padding.then_some(Decoded { bytes: at, has_control });
        }
        let (symbol, bits) = long(self::window(block, bit, bits_left))?;
        has_control |= symbol < b' ';
        decoded[at] = symbol;
        at += 1;
        bit += bits;
    }
}

/// Decodes `string` as far as 8 octets are left of it. Returns the position of the next bit, the
/// symbols so far, and whether there is a control character: their codes are [`long`].
#[inline(always)]
fn whole_windows(string: &[u8], decoded: &mut [u8]) -> Option<(usize, usize, bool)> {
    let (mut next, mut at, mut has_control) = (0, 0, false);
    // The bits in front of the octet `next`, at the top. Behind them there may be some of it.
    let (mut rest, mut rest_bits) = (0, 0);
    while let Some(octets) = string[next..].first_chunk() {
        rest |= u64::from_be_bytes(*octets) >> rest_bits;
        next += (63 - rest_bits as usize) / 8;
        // As many whole octets as there is room for.
        rest_bits |= 56;
        let round = Round::of(rest);
        decoded[at..at + ROUND_BYTES].copy_from_slice(&round.symbols.to_le_bytes());
        at += round.symbol_count();
        (rest, rest_bits) = (round.rest, rest_bits - round.bits());
        if round.taken == 0 {
            let (symbol, bits) = long(rest)?;
            has_control |= symbol < b' ';
            decoded[at] = symbol;
            at += 1;
            (rest, rest_bits) = (rest << bits, rest_bits - bits as u32);
        }
    }
    Some((8 * next - rest_bits as usize, at, has_control))
}

/// What the look-ups in a window find.
struct Round {
    /// The symbols.
    symbols: u64,
    /// What they take; see [`Peeked::taken`].
    taken: u32,
    /// The rest of the window, followed by zeros.
    rest: u64,
    /// The last look-up found something.
    is_whole: bool,
}

impl Round {
    #[inline(always)]
    fn of(mut rest: u64) -> Round {
        let (mut symbols, mut taken, mut last) = (0, 0, Peeked::NONE);
        for _ in 0..ROUND_LOOKUPS {
            last = PEEKED[(rest >> (64 - PEEK_BITS)) as usize];
            symbols |= last.symbols() << (taken >> 8);
            taken += last.taken();
            rest = rest.wrapping_shl(last.0);
        }
        Round { symbols, taken, rest, is_whole: last.0 != Peeked::NONE.0 }
    }

    #[inline(always)]
    fn bits(&self) -> u32 {
        self.taken & 0xff
    }

    #[inline(always)]
    fn symbol_count(&self) -> usize {
        (self.taken >> 11) as usize
    }
}

/// The next 57 bits of `block` or more, from the position `bit` on, at the top. Behind the
/// `bits_left` of the string there are ones.
#[inline(always)]
fn window(block: &[u8], bit: usize, bits_left: usize) -> u64 {
    let rest = &block[bit / 8..];
    let octets = match (rest.first_chunk(), block.last_chunk()) {
        (Some(octets), _) => u64::from_be_bytes(*octets),
        (None, Some(last)) => {
            let known_bits = 8 * rest.len() as u32;
            u64::from_be_bytes(*last).checked_shl(64 - known_bits).unwrap_or(0)
        }
        (None, None) => few_octets(rest),
    };
    let beyond = if bits_left < WINDOW_BITS { u64::MAX >> bits_left } else { 0 };
    octets << (bit % 8) | beyond
}

/// Fewer than 8 octets, followed by zeros.
#[inline(never)]
fn few_octets(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |sum, octet| sum >> 8 | u64::from(*octet) << 56)
}

/// The first symbol of a window, and the bits of its code. `None` for [`END`].
#[inline(never)]
fn long(window: u64) -> Option<(u8, usize)> {
    let bits = (window >> 32) as u32;
    let length = (1..=LENGTH_MAX).find(|length| u64::from(bits) < CODES[*length].end)?;
    let Codes { first, at, .. } = CODES[length];
    let symbol = SYMBOLS[at + ((bits - first) >> (32 - length)) as usize];
    u8::try_from(symbol).ok().map(|symbol| (symbol, length))
}
