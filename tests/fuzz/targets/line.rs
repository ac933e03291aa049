//! An exchange with arbitrary bytes in its fields, as a line of JSON that must reproduce them.

#![no_main]

use httplines_fuzz::record::check_line_of;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| check_line_of(data));
