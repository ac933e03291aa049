//! Header blocks of one direction of a connection, of which some are lost or cut: nothing that is
//! told is wrong, and what was inserted after a loss is known.

#![no_main]

use httplines_fuzz::blocks::Blocks;
use httplines_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, script)) = data.split_first() else { return };
    let mut blocks = Blocks::new(mode);
    pieces(script, b"NEXT").for_each(|piece| blocks.step(piece));
});
