//! Segments of a few connections through a flow table: in any order, lost, retransmitted, cut or
//! wild.

#![no_main]

use httplines_fuzz::segments::Segments;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, script)) = data.split_first() else { return };
    let heard = |is_tidied| {
        let mut segments = Segments::new(mode, is_tidied);
        script.as_chunks().0.iter().for_each(|step| segments.step(*step));
        segments.finish()
    };
    let told = heard(true);
    if Segments::is_independent(mode) {
        assert_eq!(heard(false), told, "it hangs on who looks, and when");
    }
});
