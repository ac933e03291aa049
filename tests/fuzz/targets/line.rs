//! An exchange with any bytes in its fields, as a line of JSON that gives them back.

#![no_main]

use httplines_fuzz::record::check_line_of;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| check_line_of(data));
