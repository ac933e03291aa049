//! UDP (RFC 768) on the ports of tunnels: VXLAN, Geneve, GTP-U, Teredo, L2TP, GRE, MPLS, AYIYA. A
//! payload that does not match its port is counted as not TCP, without a further reason. On other
//! ports there may be QUIC.

use super::cursor::Cursor;
use super::link::Network;
use super::{Reject, ayiya, gre, gtpu, l2tp, mpls, overlay, quic, teredo};
use crate::config::DecodeConfig;

const PORT_L2TP: u16 = 1701;
const PORT_GTPU: u16 = 2152;
const PORT_TEREDO: u16 = 3544;
/// RFC 8086.
const PORT_GRE: u16 = 4754;
const PORT_VXLAN_GPE: u16 = 4790;
const PORT_AYIYA: u16 = 5072;
const PORT_GENEVE: u16 = 6081;
/// RFC 7510.
const PORT_MPLS: u16 = 6635;

/// Skips UDP and the tunnel's own header.
pub(super) fn network_of(
    cursor: &mut Cursor<'_>,
    limits: &DecodeConfig,
) -> Result<Network, Reject> {
    let [a, b, c, d, high, low, _, _] = *cursor.take::<8>()?;
    let source = u16::from_be_bytes([a, b]);
    let destination = u16::from_be_bytes([c, d]);
    // 0 is the length of a jumbogram or superpacket (RFC 2675 section 4).
    let length = u16::from_be_bytes([high, low]);
    if length != 0 {
        cursor.limit(usize::from(length).checked_sub(8).ok_or(Reject::BadHeader)?);
    }
    let is_cut = cursor.is_cut();
    match tunnel(cursor, limits, (source, destination), length) {
        // The payload is complete, but too short for the tunnel: NAT keep-alives, other protocols.
        Err(Reject::Truncated) if !is_cut => Err(Reject::NotTcp),
        found => found,
    }
}

fn tunnel(
    cursor: &mut Cursor<'_>,
    limits: &DecodeConfig,
    (source, destination): (u16, u16),
    length: u16,
) -> Result<Network, Reject> {
    // Overlays vary the source port (RFC 7348 section 5); the others may respond to any port from
    // their own.
    if limits.vxlan_ports.contains(&destination) {
        return overlay::vxlan(cursor);
    }
    match destination {
        PORT_VXLAN_GPE => return overlay::vxlan_gpe(cursor),
        PORT_GENEVE => return overlay::geneve(cursor),
        PORT_GRE => return gre::network_of(cursor),
        PORT_MPLS => return mpls::labels(cursor),
        _ => {}
    }
    for port in [destination, source] {
        match port {
            PORT_GTPU => return gtpu::network_of(cursor),
            PORT_TEREDO => return teredo::network_of(cursor),
            PORT_AYIYA => return ayiya::network_of(cursor),
            PORT_L2TP => return l2tp::network_of(cursor),
            _ => {}
        }
    }
    Err(quic::reject_of(source, destination, length, cursor.rest()))
}
