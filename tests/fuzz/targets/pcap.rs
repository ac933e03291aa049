//! Arbitrary bytes as a capture file, read to its end. However few bytes a read returns, the frames
//! are the same, and those of a classic capture match a naive reader.

#![no_main]

use httplines_fuzz::capture::{capture_of, plain_frames};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = capture_of(data, 1 << 20);
    for read_bytes in [1, 3, 77] {
        assert_eq!(capture_of(data, read_bytes), whole);
    }
    if let (Some((frames, _)), Some(plain)) = (whole, plain_frames(data)) {
        assert_eq!(frames, plain);
    }
});
