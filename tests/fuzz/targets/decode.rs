//! Frames of any link type through one decoder, so that fragments meet.

#![no_main]

use httplines_fuzz::frames::Frames;
use httplines_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut frames = Frames::default();
    for piece in pieces(data, b"NEXT") {
        frames.step(piece);
    }
    frames.finish();
});
