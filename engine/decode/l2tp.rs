//! L2TP version 2: PPP in UDP (RFC 2661 section 3.1).

use super::link::Network;
use super::tunnel::Encapsulation;
use super::walk::Walk;
use super::{Reject, ppp};

/// Bits of the first two bytes.
const CONTROL: u16 = 0x8000;
const LENGTH: u16 = 0x4000;
const SEQUENCE: u16 = 0x0800;
const OFFSET: u16 = 0x0200;
const VERSION_MASK: u16 = 0x000f;
const VERSION: u16 = 2;

/// Steps over the header of a data message and over PPP.
pub(super) fn network_of(walk: &mut Walk<'_>) -> Result<Network, Reject> {
    let flags = walk.u16()?;
    if flags & VERSION_MASK != VERSION || flags & CONTROL != 0 {
        return Err(Reject::NotTcp);
    }
    if flags & LENGTH != 0 {
        // It counts from the first byte of the header, and itself.
        let length = usize::from(walk.u16()?);
        walk.limit(length.checked_sub(4).ok_or(Reject::NotTcp)?);
    }
    let tunnel = walk.u16()?;
    let session = walk.u16()?;
    if flags & SEQUENCE != 0 {
        walk.skip(4)?;
    }
    if flags & OFFSET != 0 {
        let padding_bytes = walk.u16()?;
        walk.skip(padding_bytes.into())?;
    }
    walk.crossed.enter(Encapsulation::L2tp(tunnel, session))?;
    ppp::protocol(walk)
}
