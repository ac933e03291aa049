//! [`TunnelPath`]: the encapsulations around a frame's segment, small enough to travel with every
//! segment.

use std::fmt;

/// One encapsulation, with the number that identifies its tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encapsulation {
    /// GRE without a key (RFC 2784).
    Gre,
    /// GRE with a key (RFC 2890).
    GreKey(u32),
    /// GRE version 1 with PPP inside: the call id (RFC 2637).
    Pptp(u16),
    /// ERSPAN type I, which has no header of its own.
    ErspanOne,
    /// ERSPAN type II or III: the session id, 10 bits.
    Erspan(u16),
    /// IPv4 in IPv4 (RFC 2003).
    V4InV4,
    /// IPv6 in IPv4 (RFC 4213).
    V6InV4,
    /// IPv4 in IPv6 (RFC 2473).
    V4InV6,
    /// IPv6 in IPv6 (RFC 2473).
    V6InV6,
    /// IPv6 in UDP, through NATs (RFC 4380).
    Teredo,
    /// L2TP version 2: tunnel and session id (RFC 2661).
    L2tp(u16, u16),
    /// L2TP version 3: session id (RFC 3931).
    L2tpThree(u32),
    /// IP in UDP, with a signature (AYIYA).
    Ayiya,
    /// VXLAN: the network identifier, 24 bits (RFC 7348).
    Vxlan(u32),
    /// Geneve: the network identifier, 24 bits (RFC 8926).
    Geneve(u32),
    /// GTP-U: the tunnel endpoint identifier (3GPP TS 29.281).
    Gtpu(u32),
    /// One entry of an MPLS label stack: the label, 20 bits (RFC 3032).
    Mpls(u32),
    /// PPPoE: the session id (RFC 2516).
    Pppoe(u16),
    /// A VLAN tag: the id, 12 bits (IEEE 802.1Q). It is listed here only if VLANs are no part of
    /// the key ([`DecodeConfig::is_vlan_ignored`](crate::config::DecodeConfig)).
    Vlan(u16),
}

/// Bits of the field that identifies the kind of an encapsulation; 0 means none.
const KIND_BITS: u32 = 5;
/// This bit is set if encapsulations were left out because the path was full.
const CUT: u128 = 1 << 127;

impl Encapsulation {
    /// Its kind, the width of its number in bits, and the number.
    fn code(self) -> (u8, u32, u32) {
        match self {
            Encapsulation::Gre => (1, 0, 0),
            Encapsulation::GreKey(key) => (2, 32, key),
            Encapsulation::Pptp(call) => (3, 16, call.into()),
            Encapsulation::ErspanOne => (4, 0, 0),
            Encapsulation::Erspan(session) => (5, 10, session.into()),
            Encapsulation::V4InV4 => (6, 0, 0),
            Encapsulation::V6InV4 => (7, 0, 0),
            Encapsulation::V4InV6 => (8, 0, 0),
            Encapsulation::V6InV6 => (9, 0, 0),
            Encapsulation::Teredo => (10, 0, 0),
            Encapsulation::L2tp(tunnel, session) => {
                (11, 32, u32::from(tunnel) << 16 | u32::from(session))
            }
            Encapsulation::Vxlan(vni) => (12, 24, vni),
            Encapsulation::Geneve(vni) => (13, 24, vni),
            Encapsulation::Gtpu(teid) => (14, 32, teid),
            Encapsulation::Mpls(label) => (15, 20, label),
            Encapsulation::Pppoe(session) => (16, 16, session.into()),
            Encapsulation::L2tpThree(session) => (17, 32, session),
            Encapsulation::Ayiya => (18, 0, 0),
            Encapsulation::Vlan(id) => (19, 12, id.into()),
        }
    }

    /// The encapsulation whose code is the last of `codes`, and the codes before it.
    fn last_of(codes: u128) -> Option<(Encapsulation, u128)> {
        let kind = codes & ((1 << KIND_BITS) - 1);
        let number = (codes >> KIND_BITS) as u32;
        let (low, high) = (number as u16, (number >> 16) as u16);
        let found = match kind {
            1 => Encapsulation::Gre,
            2 => Encapsulation::GreKey(number),
            3 => Encapsulation::Pptp(low),
            4 => Encapsulation::ErspanOne,
            5 => Encapsulation::Erspan(low & 0x3ff),
            6 => Encapsulation::V4InV4,
            7 => Encapsulation::V6InV4,
            8 => Encapsulation::V4InV6,
            9 => Encapsulation::V6InV6,
            10 => Encapsulation::Teredo,
            11 => Encapsulation::L2tp(high, low),
            12 => Encapsulation::Vxlan(number & 0xff_ffff),
            13 => Encapsulation::Geneve(number & 0xff_ffff),
            14 => Encapsulation::Gtpu(number),
            15 => Encapsulation::Mpls(number & 0xf_ffff),
            16 => Encapsulation::Pppoe(low),
            17 => Encapsulation::L2tpThree(number),
            18 => Encapsulation::Ayiya,
            19 => Encapsulation::Vlan(low & 0xfff),
            _ => return None,
        };
        let (_, number_bits, _) = found.code();
        Some((found, codes >> (KIND_BITS + number_bits)))
    }
}

impl fmt::Display for Encapsulation {
    /// The form in records: `gre`, `vxlan:42`, `l2tp:7:1`. (The JSON format lists VLANs apart.)
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Encapsulation::Gre => f.write_str("gre"),
            Encapsulation::GreKey(key) => write!(f, "gre:{key}"),
            Encapsulation::Pptp(call) => write!(f, "pptp:{call}"),
            Encapsulation::ErspanOne => f.write_str("erspan"),
            Encapsulation::Erspan(session) => write!(f, "erspan:{session}"),
            Encapsulation::V4InV4 => f.write_str("ipip"),
            Encapsulation::V6InV4 => f.write_str("6in4"),
            Encapsulation::V4InV6 => f.write_str("4in6"),
            Encapsulation::V6InV6 => f.write_str("6in6"),
            Encapsulation::Teredo => f.write_str("teredo"),
            Encapsulation::L2tp(tunnel, session) => write!(f, "l2tp:{tunnel}:{session}"),
            Encapsulation::L2tpThree(session) => write!(f, "l2tp:{session}"),
            Encapsulation::Ayiya => f.write_str("ayiya"),
            Encapsulation::Vxlan(vni) => write!(f, "vxlan:{vni}"),
            Encapsulation::Geneve(vni) => write!(f, "geneve:{vni}"),
            Encapsulation::Gtpu(teid) => write!(f, "gtpu:{teid}"),
            Encapsulation::Mpls(label) => write!(f, "mpls:{label}"),
            Encapsulation::Pppoe(session) => write!(f, "pppoe:{session}"),
            Encapsulation::Vlan(id) => write!(f, "vlan:{id}"),
        }
    }
}

/// The encapsulations around a segment, in 16 bytes: a code for each, the innermost in the lowest
/// bits.
///
/// It is a value rather than an index into a table, so shards share nothing, and a flood of tunnels
/// cannot fill anything. It has space for 25 codes without a number, or for 5 MPLS labels. The
/// outermost ones that fit are kept, and [`TunnelPath::is_cut`] shows that there were more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TunnelPath(u128);

impl TunnelPath {
    /// Maximum number of encapsulations in a path.
    pub const LEN_MAX: usize = u128::BITS.div_ceil(KIND_BITS) as usize;

    /// Adds an encapsulation inside the existing ones.
    pub fn push(&mut self, inner: Encapsulation) {
        let (kind, number_bits, number) = inner.code();
        let code_bits = KIND_BITS + number_bits;
        // One bit is the mark for a cut, and nothing may follow an encapsulation that was left out.
        if self.0.leading_zeros() <= code_bits {
            self.0 |= CUT;
            return;
        }
        self.0 = self.0 << code_bits | u128::from(number) << KIND_BITS | u128::from(kind);
    }

    /// Whether there are no encapsulations.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether there are further encapsulations inside that are not listed.
    pub fn is_cut(self) -> bool {
        self.0 & CUT != 0
    }

    /// The encapsulations, outermost first.
    pub fn outermost_first(self) -> impl Iterator<Item = Encapsulation> {
        let mut path = [None; TunnelPath::LEN_MAX];
        let mut codes = self.0 & !CUT;
        for slot in path.iter_mut().rev() {
            let Some((found, before)) = Encapsulation::last_of(codes) else { break };
            *slot = Some(found);
            codes = before;
        }
        path.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Encapsulation as E;

    #[test]
    fn what_goes_in_comes_out() {
        let all = [
            E::Gre,
            E::GreKey(u32::MAX),
            E::Pptp(u16::MAX),
            E::ErspanOne,
            E::Erspan(0x3ff),
            E::V4InV4,
            E::V6InV4,
            E::V4InV6,
            E::V6InV6,
            E::Teredo,
            E::L2tp(u16::MAX, 1),
            E::Vxlan(0xff_ffff),
            E::Geneve(0),
            E::Gtpu(0),
            E::Mpls(0xf_ffff),
            E::Pppoe(1),
            E::L2tpThree(u32::MAX),
            E::Ayiya,
            E::Vlan(0xfff),
        ];
        for first in all {
            for second in all {
                let mut path = TunnelPath::default();
                assert!(path.is_empty());
                path.push(first);
                path.push(second);
                assert_eq!(path.outermost_first().collect::<Vec<_>>(), [first, second]);
                assert!(!path.is_empty() && !path.is_cut());
            }
        }
    }

    #[test]
    fn a_path_that_does_not_fit_says_so() {
        let mut path = TunnelPath::default();
        for label in 0..5 {
            path.push(E::Mpls(label));
        }
        assert!(!path.is_cut());
        path.push(E::Mpls(5));
        // Two bits are left, but nothing may follow an encapsulation that was left out.
        path.push(E::Gre);
        assert!(path.is_cut());
        assert_eq!(path.outermost_first().collect::<Vec<_>>(), [0, 1, 2, 3, 4].map(E::Mpls));
        let mut path = TunnelPath::default();
        (0..100).for_each(|_| path.push(E::Gre));
        assert_eq!(path.outermost_first().count(), TunnelPath::LEN_MAX);
        assert_eq!(E::L2tp(7, 1).to_string(), "l2tp:7:1");
    }
}
