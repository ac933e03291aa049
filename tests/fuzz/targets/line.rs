//! An exchange with any bytes in its fields, as a line of JSON that gives them back.

#![no_main]

#[path = "../../support/exchange.rs"]
#[allow(dead_code)]
mod exchange;
#[path = "../../support/fields.rs"]
mod fields;

use httplines_fuzz::{Values, line_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut values = Values(data);
    let fields: Vec<_> = (0..fields::FIELDS.len()).map(|_| values.bytes()).collect();
    let mut exchange = fields::exchange_of(&fields);
    let line = line_of(&mut exchange, &mut values);
    let record = serde_json::from_slice(&line).expect("a line is JSON");
    for (name, value) in fields::FIELDS.iter().zip(&fields) {
        fields::check_field(&record, name, value);
    }
});
