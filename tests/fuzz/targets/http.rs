//! Pieces of both directions of a connection, with gaps and ends, through a conversation.

#![no_main]

use httplines_fuzz::pieces;
use httplines_fuzz::talk::Talk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, script)) = data.split_first() else { return };
    let mut talk = Talk::new(*mode);
    for piece in pieces(script, &[0xff]) {
        if !talk.step(piece) {
            break;
        }
    }
    talk.finish();
});
