//! Frames of both directions of a connection of HTTP/2, with losses, ends, and bytes of any kind:
//! nothing that is told is wrong, and nothing is held at the end.

#![no_main]

use httplines_fuzz::http2::Script;
use httplines_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, script)) = data.split_first() else { return };
    let mut talk = Script::new(mode);
    pieces(script, &[0xff]).for_each(|piece| talk.step(piece));
    talk.finish();
});
