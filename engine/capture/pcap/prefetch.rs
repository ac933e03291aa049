//! Which bytes of a capture are prefetched.

use crate::simd;

/// How many records ahead headers are prefetched; most records are as long as the one before. This
/// halves the time for mapped frames of full length, of which only the headers are read.
const PREFETCH_RECORDS: usize = 2;
/// Records of at most this size are mostly read as a whole, so all of their bytes are prefetched,
const SHORT_RECORD_BYTES: usize = 1024;
/// so far ahead.
const PREFETCH_BYTES: usize = 1024;

/// Prefetches what will be needed after the record of `record_bytes` at `at`, `factor` times as far
/// ahead as usual.
#[inline(always)]
pub(super) fn prefetch_behind(bytes: &[u8], at: usize, record_bytes: usize, factor: usize) {
    match record_bytes > SHORT_RECORD_BYTES {
        true => simd::prefetch(bytes, at + factor * PREFETCH_RECORDS * record_bytes),
        false => simd::prefetch_all(bytes, at + factor * PREFETCH_BYTES, record_bytes),
    }
}

/// Prefetches what will be needed of the record of `record_bytes` at `at`.
#[inline(always)]
pub(super) fn prefetch_record(bytes: &[u8], at: usize, record_bytes: usize) {
    match record_bytes > SHORT_RECORD_BYTES {
        true => simd::prefetch(bytes, at),
        false => simd::prefetch_all(bytes, at, record_bytes),
    }
}
