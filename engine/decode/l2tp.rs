//! L2TP: version 2, which is PPP in UDP (RFC 2661 section 3.1), and version 3, which carries
//! Ethernet in UDP or in IP (RFC 3931 section 4.1).

use super::link::Network;
use super::tunnel::Encapsulation;
use super::walk::Walk;
use super::{Reject, link, ppp};

/// Bits of the first two bytes.
const CONTROL: u16 = 0x8000;
const LENGTH: u16 = 0x4000;
const SEQUENCE: u16 = 0x0800;
const OFFSET: u16 = 0x0200;
const VERSION_MASK: u16 = 0x000f;
const VERSION_TWO: u16 = 2;
const VERSION_THREE: u16 = 3;

/// Bytes that may stand before the frame in version 3: a cookie of 0, 4 or 8 bytes, and a sublayer
/// of 4. Only the signalling tells, so the place of the EtherType must.
const BEFORE_FRAME_BYTES: [usize; 4] = [0, 4, 8, 12];

/// With so many bytes the EtherType shows, wherever the frame begins.
const FRAME_SHOWS_BYTES: usize = 12 + 14;

/// Steps over the header of a data message and over PPP.
pub(super) fn network_of(walk: &mut Walk<'_>) -> Result<Network, Reject> {
    let flags = walk.u16()?;
    if flags & CONTROL != 0 {
        return Err(Reject::NotTcp);
    }
    match flags & VERSION_MASK {
        VERSION_TWO => {}
        VERSION_THREE => {
            walk.skip(2)?;
            return session(walk);
        }
        _ => return Err(Reject::NotTcp),
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

/// Steps over a session's header of version 3 and the Ethernet header behind it.
pub(super) fn session(walk: &mut Walk<'_>) -> Result<Network, Reject> {
    let session = walk.u32()?;
    // Session 0 is the signalling.
    let is_frame = |before: &usize| walk.rest().get(*before..).is_some_and(link::is_ethernet);
    let before = match BEFORE_FRAME_BYTES.into_iter().find(is_frame) {
        Some(before) if session > 0 => before,
        // The snap length cut it before that could show.
        None if session > 0 && walk.is_cut() && walk.rest().len() < FRAME_SHOWS_BYTES => {
            return Err(Reject::Truncated);
        }
        _ => return Err(Reject::NotTcp),
    };
    walk.crossed.enter(Encapsulation::L2tpThree(session))?;
    walk.skip(before)?;
    link::ethernet(walk)
}
