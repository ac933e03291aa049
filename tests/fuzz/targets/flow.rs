//! Segments of a few connections, in any order, lost, sent again, cut or wild, through a flow
//! table.

#![no_main]

use httplines_fuzz::segments::Segments;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, script)) = data.split_first() else { return };
    let mut segments = Segments::new(*mode);
    for step in script.as_chunks().0 {
        segments.step(*step);
    }
    segments.finish();
});
