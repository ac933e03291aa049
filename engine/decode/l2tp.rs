//! L2TP: version 2, which is PPP in UDP (RFC 2661 section 3.1), and version 3, which carries
//! Ethernet in UDP or in IP (RFC 3931 section 4.1).

use super::cursor::Cursor;
use super::link::Network;
use super::tunnel::Encapsulation;
use super::{Reject, link, ppp};

/// Bits of the first two bytes.
const CONTROL: u16 = 0x8000;
const LENGTH: u16 = 0x4000;
const SEQUENCE: u16 = 0x0800;
const OFFSET: u16 = 0x0200;
const VERSION_MASK: u16 = 0x000f;
const VERSION_TWO: u16 = 2;
const VERSION_THREE: u16 = 3;

/// Possible numbers of bytes before the frame in version 3: a cookie of 0, 4 or 8 bytes, and a
/// sublayer of 4. Only the signalling announces them, so we look for the EtherType at each offset.
const BEFORE_FRAME_BYTES: [usize; 4] = [0, 4, 8, 12];

/// This many bytes include the EtherType, wherever the frame begins.
const FRAME_SHOWS_BYTES: usize = 12 + 14;

/// Skips the header of a data message, and PPP.
pub(super) fn network_of(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let flags = cursor.u16()?;
    if flags & CONTROL != 0 {
        return Err(Reject::NotTcp);
    }
    match flags & VERSION_MASK {
        VERSION_TWO => {}
        VERSION_THREE => {
            cursor.skip(2)?;
            return session(cursor);
        }
        _ => return Err(Reject::NotTcp),
    }
    if flags & LENGTH != 0 {
        // It counts from the first byte of the header, and includes itself.
        let length = usize::from(cursor.u16()?);
        cursor.limit(length.checked_sub(4).ok_or(Reject::NotTcp)?);
    }
    let tunnel = cursor.u16()?;
    let session = cursor.u16()?;
    if flags & SEQUENCE != 0 {
        cursor.skip(4)?;
    }
    if flags & OFFSET != 0 {
        let padding_bytes = cursor.u16()?;
        cursor.skip(padding_bytes.into())?;
    }
    cursor.encapsulations.enter(Encapsulation::L2tp(tunnel, session))?;
    ppp::protocol(cursor)
}

/// Skips a session header of version 3 and the Ethernet header after it.
pub(super) fn session(cursor: &mut Cursor<'_>) -> Result<Network, Reject> {
    let session = cursor.u32()?;
    // Session 0 is the signalling.
    let is_frame = |before: &usize| cursor.rest().get(*before..).is_some_and(link::is_ethernet);
    let before = match BEFORE_FRAME_BYTES.into_iter().find(is_frame) {
        Some(before) if session > 0 => before,
        // The snap length cut the packet before the EtherType.
        None if session > 0 && cursor.is_cut() && cursor.rest().len() < FRAME_SHOWS_BYTES => {
            return Err(Reject::Truncated);
        }
        _ => return Err(Reject::NotTcp),
    };
    cursor.encapsulations.enter(Encapsulation::L2tpThree(session))?;
    cursor.skip(before)?;
    link::ethernet(cursor)
}
