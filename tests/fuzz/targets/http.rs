//! Pieces of both directions of a connection, with gaps and ends, through an HTTP/1 connection
//! state; and the same bytes in smaller parts.

#![no_main]

use httplines_fuzz::pieces;
use httplines_fuzz::talk::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, script)) = data.split_first() else { return };
    let exchanges = |is_split| {
        let mut talk = Script::new(mode, is_split);
        let _ = pieces(script, &[0xff]).all(|piece| talk.step(piece));
        talk.finish()
    };
    if let Some(whole) = exchanges(false) {
        assert_eq!(exchanges(true), Some(whole));
    }
});
