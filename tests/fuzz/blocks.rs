//! Header blocks of one direction through an HPACK decoder, of which some are lost or cut; and
//! through a naive one that sees them all.

use httplines::protocol::http2::hpack::Decoder;
use naive::Naive;
use told::{HELD_BYTES_MAX, block, cut_block, is_true, knowable};

#[path = "../support/hpack/mod.rs"]
#[allow(dead_code)]
mod hpack;
use hpack::{naive, told};

/// Both decoders.
#[derive(Debug)]
pub struct Blocks {
    decoder: Decoder,
    /// Sees all blocks, up to the first fault: what they mean behind it, nobody knows.
    naive: Option<Naive>,
    /// Whether the table may be larger than what is kept of it.
    may_be_large: bool,
}

impl Blocks {
    /// The beginning of a connection, if its bit 0 is not set with tables that are kept whole.
    pub fn new(mode: u8) -> Blocks {
        let may_be_large = mode & 1 != 0;
        let allowed = if may_be_large { u32::MAX } else { 64 << 10 };
        let mut decoder = Decoder::default();
        decoder.set_size_max(allowed);
        let mut naive = Naive::default();
        naive.allowed_bytes_max = allowed.into();
        Blocks { decoder, naive: Some(naive), may_be_large }
    }

    /// Takes a block, which follows an octet that says what becomes of it.
    pub fn step(&mut self, piece: &[u8]) {
        let Some((&fate, bytes)) = piece.split_first() else { return };
        let is_whole = matches!(fate, b'w' | b'r');
        let seen = match fate {
            b'l' => &[],
            _ if is_whole => bytes,
            cut => &bytes[..bytes.len().min(cut.into())],
        };
        if fate == b'r' {
            self.decoder.relieve();
            assert_eq!(self.decoder.held_bytes(), 0);
            self.naive.iter_mut().for_each(Naive::forget);
        }
        let seen_count = self.naive.clone().map(|mut naive| naive.block(seen).0.len());
        let (told, end) = match fate {
            b'l' => {
                self.decoder.lose();
                (vec![], Ok(()))
            }
            _ if is_whole => block(&mut self.decoder, bytes),
            _ => (cut_block(&mut self.decoder, seen), Ok(())),
        };
        assert!(self.decoder.held_bytes() <= HELD_BYTES_MAX);
        let Some(naive) = &mut self.naive else { return };
        let (fields, naive_end) = naive.block(bytes);
        if naive_end.is_ok() {
            assert_eq!(end, Ok(()));
            assert_eq!(Some(told.len()), seen_count);
        } else {
            self.naive = None;
        }
        assert!(is_true(&told, &fields), "{told:?} of {fields:?}");
        if !self.may_be_large {
            let count = told.len().min(fields.len());
            assert_eq!(told[..count], knowable(&fields[..count]));
        }
        if !is_whole {
            self.naive.iter_mut().for_each(Naive::forget);
        }
    }
}
