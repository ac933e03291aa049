//! Integers (RFC 7541 section 5.1).

use super::fault::Fault;

/// Continuation octets of an integer. Those of 32 bits need five.
const CONTINUATION_MAX: usize = 5;

/// Decodes an integer whose first octet, the first of `bytes`, has `prefix_bits` of it (1 to 8), in
/// its lowest bits. Returns it, and what follows. Integers of more than 32 bits are faults, and
/// those that take more octets than these need.
#[inline(always)]
pub(super) fn decode(bytes: &[u8], prefix_bits: u32) -> Result<(u32, &[u8]), Fault> {
    let Some((&first, rest)) = bytes.split_first() else { return Err(Fault::Truncated) };
    let prefix_max = u8::MAX >> (8 - prefix_bits);
    match first & prefix_max {
        prefix if prefix < prefix_max => Ok((prefix.into(), rest)),
        _ => continued(prefix_max, rest),
    }
}

/// The rest of an integer: it is `prefix` and what the octets of `bytes` add.
fn continued(prefix: u8, bytes: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let mut sum = u64::from(prefix);
    for (at, octet) in bytes.iter().enumerate().take(CONTINUATION_MAX) {
        sum += u64::from(octet & 0x7f) << (7 * at);
        if octet & 0x80 == 0 {
            let value = u32::try_from(sum).map_err(|_| Fault::Integer)?;
            return Ok((value, &bytes[at + 1..]));
        }
    }
    Err(if bytes.len() < CONTINUATION_MAX { Fault::Truncated } else { Fault::Integer })
}
