//! HPACK (RFC 7541) for tests: an encoder, a naive decoder that knows what a reader may have
//! missed, and fields of requests and responses.

pub mod encoder;
pub mod naive;
pub mod random;
pub mod tables;
pub mod talk;
pub mod told;

/// A field: its name and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// What an entry counts in addition to its name and value (section 4.1).
const ENTRY_BYTES: usize = 32;

/// The size of an entry.
pub fn entry_bytes((name, value): &Pair) -> usize {
    ENTRY_BYTES + name.len() + value.len()
}
