//! [`Cursor`]: the position of decoding in a frame, and the encapsulations around it.

use super::tunnel::{Encapsulation, TunnelPath};
use super::{DEPTH_MAX, Reject};
use crate::ids::VLAN_DEPTH_MAX;

/// The low bits of a tag's control information: the VLAN id (IEEE 802.1Q).
const VLAN_ID_MASK: u16 = 0x0fff;

/// The VLAN ids of a frame, outermost first. Priority tags (id 0) are not VLANs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VlanStack {
    pub ids: [u16; VLAN_DEPTH_MAX],
    len: usize,
}

/// The encapsulations around the current layer: all that is known of a frame apart from the bytes
/// that are still to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EncapsulationStack {
    /// The tags of the frame, followed by those of the frames tunnelled in it.
    pub vlans: VlanStack,
    /// The overlay network, as in `FlowKey::realm` but without the bit for IPv6.
    pub realm: u32,
    pub path: TunnelPath,
    /// VLANs and overlay networks are no part of the key. VLANs are then reported in the path.
    pub is_vlan_ignored: bool,
    depth: u8,
}

impl EncapsulationStack {
    pub fn new(is_vlan_ignored: bool) -> EncapsulationStack {
        EncapsulationStack { is_vlan_ignored, ..EncapsulationStack::default() }
    }

    pub fn vlan(&mut self, tci: u16) -> Result<(), Reject> {
        let id = tci & VLAN_ID_MASK;
        if id == 0 {
            return Ok(());
        }
        *self.vlans.ids.get_mut(self.vlans.len).ok_or(Reject::TooDeep)? = id;
        self.vlans.len += 1;
        if self.is_vlan_ignored {
            self.path.push(Encapsulation::Vlan(id));
        }
        Ok(())
    }

    /// Enters an encapsulation. The depth limit bounds every path through a frame.
    pub fn enter(&mut self, encapsulation: Encapsulation) -> Result<(), Reject> {
        self.deepen()?;
        self.path.push(encapsulation);
        Ok(())
    }

    /// Goes one level deeper without an entry of its own in the record.
    pub fn deepen(&mut self) -> Result<(), Reject> {
        if self.depth == DEPTH_MAX {
            return Err(Reject::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }
}

/// A position in captured bytes. Every step is checked against their length; nothing is read twice.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    /// The captured bytes from here to the end of the layer that was entered last.
    rest: &'a [u8],
    /// Bytes at the end of that layer that were on the wire but cut off by the snap length.
    cut_bytes: usize,
    pub encapsulations: EncapsulationStack,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub fn new(
        bytes: &'a [u8],
        wire_bytes: usize,
        encapsulations: EncapsulationStack,
    ) -> Cursor<'a> {
        Cursor { rest: bytes, cut_bytes: wire_bytes.saturating_sub(bytes.len()), encapsulations }
    }

    /// The captured bytes that are still to be read, without the trailer of the layer.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes of the layer are left, as it was on the wire.
    #[inline]
    pub fn wire_bytes(&self) -> usize {
        self.rest.len() + self.cut_bytes
    }

    /// Whether the snap length cut the layer.
    pub fn is_cut(&self) -> bool {
        self.cut_bytes > 0
    }

    /// Whether the unread bytes begin with `prefix`; the cursor does not move. If the snap length
    /// cut them too early to decide, the error is [`Reject::Truncated`].
    pub fn begins_with(&self, prefix: &[u8]) -> Result<bool, Reject> {
        if self.is_cut() && self.rest.len() < prefix.len() && prefix.starts_with(self.rest) {
            return Err(Reject::Truncated);
        }
        Ok(self.rest.starts_with(prefix))
    }

    #[inline]
    pub fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Reject> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Reject::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub fn skip(&mut self, count: usize) -> Result<(), Reject> {
        self.rest = self.rest.get(count..).ok_or(Reject::Truncated)?;
        Ok(())
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Reject> {
        self.take().map(|bytes| u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Reject> {
        self.take().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// The next byte; the cursor does not move.
    #[inline]
    pub fn peek(&self) -> Result<u8, Reject> {
        self.rest.first().copied().ok_or(Reject::Truncated)
    }

    /// Ends the layer `wire_bytes` from here: what follows is padding, or belongs to the outer
    /// layer. A length beyond the outer layer is believed: the missing bytes count as lost.
    #[inline]
    pub fn limit(&mut self, wire_bytes: usize) {
        match self.rest.get(..wire_bytes) {
            Some(rest) => (self.rest, self.cut_bytes) = (rest, 0),
            None => self.cut_bytes = wire_bytes - self.rest.len(),
        }
    }
}
