//! Operations on sixteen bytes at a time. A mask marks the matching bytes; its lowest bit is for
//! the first byte.
//!
//! On x86-64 they use SSE2, which every such CPU has; elsewhere, and for comparison in tests, they
//! go byte by byte. A call of memchr costs more than most searches here, since the inputs are
//! short.

use std::mem::MaybeUninit;

/// Size of a block in bytes.
pub const LANES: usize = 16;

/// A block that begins with `rest`, which is shorter, and is padded with zeros.
#[cold]
#[inline(never)]
pub fn last_block(rest: &[u8]) -> [u8; LANES] {
    let mut block = [0; LANES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Which bytes equal `byte`.
#[inline(always)]
pub fn equal_to(block: &[u8; LANES], byte: u8) -> u32 {
    chosen::equal_to(block, byte)
}

/// Which bytes equal those of `wanted`, with the bits in `fold` ignored by setting them.
#[inline(always)]
pub fn same_but_for(block: &[u8; LANES], fold: &[u8; LANES], wanted: &[u8; LANES]) -> u32 {
    chosen::same_but_for(block, fold, wanted)
}

/// Which bytes are not plain: controls, DEL, quotes, backslashes, and all beyond ASCII.
#[inline(always)]
pub fn unplain(block: &[u8; LANES]) -> u32 {
    chosen::unplain(block)
}

/// Copies blocks of `from` to `to`, as many as both have. Not 0 if a byte of them is not plain.
#[inline(always)]
pub fn copy_plain(from: &[[u8; LANES]], to: &mut [[MaybeUninit<u8>; LANES]]) -> u32 {
    chosen::copy_plain(from, to)
}

/// Prefetches the 128 bytes from `at` on, if they are in `bytes`. Unmapped memory is never
/// accessed.
#[inline(always)]
pub fn prefetch(bytes: &[u8], at: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in [at, at + 64] {
        if let Some(byte) = bytes.get(line) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: every x86-64 CPU has SSE; a prefetch has no observable effect.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
        }
    }
}

/// Prefetches the `count` bytes from `at` on, if all of them are in `bytes`.
#[inline(always)]
pub fn prefetch_all(bytes: &[u8], at: usize, count: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(part) = bytes.get(at..).and_then(|rest| rest.get(..count)) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in 0..count.div_ceil(64) {
            // SAFETY: as above; each line begins in `part`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().add(line * 64).cast()) };
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (bytes, at, count);
}

/// Prefetches all of `item`.
#[inline(always)]
pub fn prefetch_item<T>(item: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(item).cast::<i8>();
        for line in 0..size_of::<T>().div_ceil(64) {
            // SAFETY: as above; no line begins after the item.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.add(line * 64)) };
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = item;
}

/// Which of 64 bytes equal `byte`.
#[inline(always)]
pub fn equal_to_in_64(block: &[u8; 64], byte: u8) -> u64 {
    // One by one: `array::map` is a call where the optimiser does not see through it.
    let (blocks, _) = block.as_chunks::<LANES>();
    let mask = |at: usize| u64::from(equal_to(&blocks[at], byte));
    (mask(0) | mask(1) << LANES) | (mask(2) | mask(3) << LANES) << (2 * LANES)
}

#[cfg(target_arch = "x86_64")]
mod chosen {
    use super::LANES;
    use std::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8,
        _mm_or_si128, _mm_set1_epi8, _mm_setzero_si128, _mm_storeu_si128,
    };
    use std::mem::MaybeUninit;

    #[inline(always)]
    pub fn equal_to(block: &[u8; LANES], byte: u8) -> u32 {
        // SAFETY: every x86-64 CPU has SSE2; the load is of the 16 bytes of `block`, and may be
        // unaligned.
        unsafe {
            let lanes = _mm_loadu_si128(std::ptr::from_ref(block).cast::<__m128i>());
            _mm_movemask_epi8(_mm_cmpeq_epi8(lanes, _mm_set1_epi8(byte as i8))) as u32
        }
    }

    #[inline(always)]
    pub fn same_but_for(block: &[u8; LANES], fold: &[u8; LANES], wanted: &[u8; LANES]) -> u32 {
        // SAFETY: as above, for each of the three.
        unsafe {
            let load = |bytes| _mm_loadu_si128(std::ptr::from_ref::<[u8; LANES]>(bytes).cast());
            let folded = _mm_or_si128(load(block), load(fold));
            _mm_movemask_epi8(_mm_cmpeq_epi8(folded, load(wanted))) as u32
        }
    }

    #[inline(always)]
    pub fn unplain(block: &[u8; LANES]) -> u32 {
        // SAFETY: as above.
        unsafe {
            let lanes = _mm_loadu_si128(std::ptr::from_ref(block).cast::<__m128i>());
            _mm_movemask_epi8(unplain_lanes(lanes)) as u32
        }
    }

    #[inline(always)]
    fn unplain_lanes(lanes: __m128i) -> __m128i {
        // SAFETY: every x86-64 CPU has SSE2.
        unsafe {
            let is = |byte: u8| _mm_cmpeq_epi8(lanes, _mm_set1_epi8(byte as i8));
            // Bytes beyond ASCII are negative here, and so is the successor of DEL.
            let next = _mm_add_epi8(lanes, _mm_set1_epi8(1));
            let low = _mm_cmplt_epi8(next, _mm_set1_epi8(0x21));
            _mm_or_si128(low, _mm_or_si128(is(b'"'), is(b'\\')))
        }
    }

    #[inline(always)]
    pub fn copy_plain(from: &[[u8; LANES]], to: &mut [[MaybeUninit<u8>; LANES]]) -> u32 {
        // SAFETY: as above; the store is to the 16 bytes of a block, and may be unaligned.
        unsafe {
            let mut odd = _mm_setzero_si128();
            for (from, to) in from.iter().zip(to) {
                let lanes = _mm_loadu_si128(std::ptr::from_ref(from).cast::<__m128i>());
                _mm_storeu_si128(std::ptr::from_mut(to).cast::<__m128i>(), lanes);
                odd = _mm_or_si128(odd, unplain_lanes(lanes));
            }
            _mm_movemask_epi8(odd) as u32
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
use naive as chosen;

#[cfg(any(test, not(target_arch = "x86_64")))]
mod naive {
    use super::LANES;
    use std::mem::MaybeUninit;

    fn mask(block: &[u8; LANES], wanted: impl Fn(u8) -> bool) -> u32 {
        (0..LANES).map(|lane| u32::from(wanted(block[lane])) << lane).sum()
    }

    pub fn equal_to(block: &[u8; LANES], byte: u8) -> u32 {
        mask(block, |it| it == byte)
    }

    pub fn same_but_for(block: &[u8; LANES], fold: &[u8; LANES], wanted: &[u8; LANES]) -> u32 {
        (0..LANES).map(|lane| u32::from(block[lane] | fold[lane] == wanted[lane]) << lane).sum()
    }

    pub fn copy_plain(from: &[[u8; LANES]], to: &mut [[MaybeUninit<u8>; LANES]]) -> u32 {
        let copy = |(from, to): (&[u8; LANES], &mut [MaybeUninit<u8>; LANES])| {
            *to = from.map(MaybeUninit::new);
            unplain(from)
        };
        from.iter().zip(to).map(copy).fold(0, |odd, own| odd | own)
    }

    pub fn unplain(block: &[u8; LANES]) -> u32 {
        mask(block, |it| !(0x20..0x7f).contains(&it) || it == b'"' || it == b'\\')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_at_every_place() {
        for byte in 0..=255 {
            for lane in 0..LANES {
                let mut block = [b'a'; LANES];
                block[lane] = byte;
                assert_eq!(unplain(&block), naive::unplain(&block));
                assert_eq!(equal_to(&block, byte), naive::equal_to(&block, byte));
            }
        }
    }

    proptest! {
        #[test]
        fn masks_agree_with_the_naive(bytes in prop::array::uniform32(any::<u8>()), byte: u8) {
            let mut long = [0; 64];
            long[..32].copy_from_slice(&bytes);
            long[32..].copy_from_slice(&bytes);
            let mask = equal_to_in_64(&long, byte);
            for (lane, found) in long.iter().enumerate() {
                prop_assert_eq!(mask >> lane & 1 == 1, *found == byte);
            }
            for block in long.as_chunks::<LANES>().0 {
                prop_assert_eq!(unplain(block), naive::unplain(block));
            }
            let (blocks, _) = long.as_chunks::<LANES>();
            let mut copies = [[[MaybeUninit::new(0); LANES]; 4]; 2];
            let odd = copy_plain(blocks, &mut copies[0]);
            prop_assert_eq!(odd, naive::copy_plain(blocks, &mut copies[1]));
            // SAFETY: all of it was initialised.
            let copied = |it: [MaybeUninit<u8>; LANES]| it.map(|it| unsafe { it.assume_init() });
            for copy in copies {
                prop_assert_eq!(blocks, copy.map(copied));
            }
            let found = same_but_for(&blocks[0], &blocks[1], &blocks[0]);
            prop_assert_eq!(found, naive::same_but_for(&blocks[0], &blocks[1], &blocks[0]));
        }
    }
}
