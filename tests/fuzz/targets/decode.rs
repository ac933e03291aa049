//! Frames of any link type through one decoder, so that fragments meet.

#![no_main]

use httplines::config::DecodeConfig;
use httplines::decode::Decoder;
use httplines_fuzz::{frame_of, pieces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = DecodeConfig { fragmented_count_max: 3, ..DecodeConfig::default() };
    let mut decoder = Decoder::new(limits.clone());
    for (number, piece) in (0..).zip(pieces(data, b"NEXT")) {
        let Some(frame) = frame_of(number, piece) else { continue };
        if let Ok(segment) = decoder.decode(&frame) {
            assert!(segment.payload_wire_bytes as usize >= segment.payload.len());
        }
        assert!(decoder.fragment_bytes() <= limits.fragment_bytes_max);
    }
});
