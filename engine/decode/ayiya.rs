//! AYIYA: IP in UDP, through NATs and with a signature (draft-massar-v6ops-ayiya-02).

use super::cursor::Cursor;
use super::link::Network;
use super::tunnel::Encapsulation;
use super::{Reject, protocol};

/// Operations that carry a packet: forward, echo request and forward.
const FORWARD: [u8; 2] = [1, 3];

/// Skips the header, the identity and the signature.
pub(super) fn network_of(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let [identity, signature, operation, next, ..] = *cursor.take::<8>()?;
    let network = match next {
        protocol::IPV4 => Network::V4,
        protocol::IPV6 => Network::V6,
        _ => return Err(Reject::NotTcp),
    };
    if !FORWARD.contains(&(operation & 0x0f)) {
        return Err(Reject::NotTcp);
    }
    // The identity's length is a power of two; the signature's is in words of 4 bytes.
    cursor.skip((1 << (identity >> 4)) + usize::from(signature >> 4) * 4)?;
    cursor.encapsulations.enter(Encapsulation::Ayiya)?;
    Ok(network)
}
