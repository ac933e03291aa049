//! Frames of both directions of a talk of WebSocket, with losses, bytes that stay in the kernel,
//! and bytes of any kind: the talk is told once, its counts are possible, and nothing is held at
//! the end.

#![no_main]

use httplines_fuzz::pieces;
use httplines_fuzz::websocket::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut pieces = pieces(data, b"\xfe\xff");
    let mut talk = Script::new(pieces.next().unwrap_or_default());
    pieces.for_each(|piece| talk.step(piece));
    talk.finish();
});
