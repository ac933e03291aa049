//! Both directions of a connection of TLS, with losses and bytes of any kind: what is told
//! is possible, and nothing is held at the end.

#![no_main]

use httplines_fuzz::pieces;
use httplines_fuzz::tls::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut script = Script::new();
    pieces(data, b"\xfe\xff").for_each(|piece| script.step(piece));
    script.finish();
});
