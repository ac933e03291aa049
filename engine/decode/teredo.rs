//! Teredo: IPv6 in UDP, through NATs (RFC 4380 section 5.1.1).

use super::Reject;
use super::link::Network;
use super::tunnel::Encapsulation;
use super::walk::Walk;

/// What the indications in front of the IPv6 header begin with.
const AUTHENTICATION: [u8; 2] = [0, 1];
const ORIGIN: [u8; 2] = [0, 0];

/// Steps over the authentication and the origin indication, which come in this order, if at all.
pub(super) fn network_of(walk: &mut Walk<'_>) -> Result<Network, Reject> {
    if walk.begins_with(&AUTHENTICATION)? {
        let [_, _, id_bytes, value_bytes] = *walk.take::<4>()?;
        // Client identifier, authentication value, nonce, confirmation byte.
        walk.skip(usize::from(id_bytes) + usize::from(value_bytes) + 8 + 1)?;
    }
    if walk.begins_with(&ORIGIN)? {
        // Indication, obscured port, obscured address.
        walk.skip(8)?;
    }
    if walk.peek()? >> 4 != 6 {
        return Err(Reject::NotTcp);
    }
    walk.crossed.enter(Encapsulation::Teredo)?;
    Ok(Network::V6)
}
