//! MPLS label stacks (RFC 3032). No field announces their payload: its first bits must show it (RFC
//! 4928).

use super::Reject;
use super::cursor::Cursor;
use super::link::{Network, ethernet, is_ethernet};
use super::tunnel::Encapsulation;

/// The last entry of a stack has this bit.
const BOTTOM: u32 = 1 << 8;
/// Maximum number of entries of one stack. Networks use up to about six.
const LABEL_COUNT_MAX: usize = 16;

/// Skips a label stack and, if it contains a pseudowire, the Ethernet header in it.
pub(super) fn labels(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    cursor.encapsulations.deepen()?;
    for _ in 0..LABEL_COUNT_MAX {
        let entry = cursor.u32()?;
        cursor.encapsulations.path.push(Encapsulation::Mpls(entry >> 12));
        if entry & BOTTOM != 0 {
            return behind_labels(cursor);
        }
    }
    Err(Reject::TooDeep)
}

fn behind_labels(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    match cursor.peek()? >> 4 {
        4 => Ok(Network::V4),
        6 => Ok(Network::V6),
        // A pseudowire's associated channel carries no user data (RFC 4385 section 5).
        1 => Err(Reject::NotIp),
        nibble => {
            cursor.encapsulations.deepen()?;
            // A control word begins with four zero bits (RFC 4385 section 3), and so do many
            // Ethernet addresses: the EtherType decides.
            if nibble == 0 && !is_ethernet(cursor.rest()) {
                cursor.skip(4)?;
            }
            ethernet(cursor)
        }
    }
}
