//! Teredo: IPv6 in UDP, through NATs (RFC 4380 section 5.1.1).

use super::Reject;
use super::cursor::Cursor;
use super::link::Network;
use super::tunnel::Encapsulation;

/// The first bytes of the indications before the IPv6 header.
const AUTHENTICATION: [u8; 2] = [0, 1];
const ORIGIN: [u8; 2] = [0, 0];

/// Skips the authentication and the origin indication; both are optional, and come in this order.
pub(super) fn network_of(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    if cursor.begins_with(&AUTHENTICATION)? {
        let [_, _, id_bytes, value_bytes] = *cursor.take::<4>()?;
        // Client identifier, authentication value, nonce, confirmation byte.
        cursor.skip(usize::from(id_bytes) + usize::from(value_bytes) + 8 + 1)?;
    }
    if cursor.begins_with(&ORIGIN)? {
        // Indication, obscured port, obscured address.
        cursor.skip(8)?;
    }
    if cursor.peek()? >> 4 != 6 {
        return Err(Reject::NotTcp);
    }
    cursor.encapsulations.enter(Encapsulation::Teredo)?;
    Ok(Network::V6)
}
