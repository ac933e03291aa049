//! Any bytes as a capture file, to its end: however few bytes a read gives, the frames are the
//! same.

#![no_main]

use httplines_fuzz::capture_of;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = capture_of(data, 1 << 20);
    for read_bytes in [1, 3, 77] {
        assert_eq!(capture_of(data, read_bytes), whole);
    }
});
