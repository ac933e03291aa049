//! [`Handshake`]: how a connection began, and the `flow` value that all of its records share.

use crate::decode::SeqNumber;
use crate::ids::{Direction, FlowKey};
use crate::packed_option::PackedOption;
use crate::time::TimestampNs;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The fixed keys of the hash behind the record's `flow`. They never change, so that records of
/// different runs agree.
const FLOW_ID_KEYS: (u64, u64) = (0x6874_7470_6c69_6e65, 0x7320_666c_6f77_2069);

/// A SYN is sent again a second later at the earliest (RFC 6298 section 2).
const SYN_AGAIN_NS: u64 = 1_000_000_000;

/// When and how the connection began, as far as that was captured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handshake {
    /// The endpoint that opened it.
    pub client: Option<Direction>,
    /// The client's initial sequence number.
    pub client_isn: PackedOption<SeqNumber>,
    /// The server's initial sequence number.
    pub server_isn: PackedOption<SeqNumber>,
    /// When the first SYN passed; for a midstream connection, when its first captured payload did.
    pub began_at: TimestampNs,
    /// What else was seen.
    pub marks: Marks,
    /// When the first SYN-ACK passed.
    pub syn_ack_at: PackedOption<TimestampNs>,
}

/// What was seen of a connection, in one byte: whether its SYN was, and whether both sides have
/// spoken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks(u8);

impl Marks {
    const HAS_SYN: u8 = 1;
    const IS_ANSWERED: u8 = 2;
}

impl Handshake {
    /// A handshake that began with a SYN of `client` with the number `isn`.
    pub fn of_syn(client: Direction, isn: SeqNumber, syn_at: TimestampNs) -> Handshake {
        Handshake {
            client: Some(client),
            client_isn: Some(isn).into(),
            server_isn: PackedOption::NONE,
            began_at: syn_at,
            marks: Marks(Marks::HAS_SYN),
            syn_ack_at: PackedOption::NONE,
        }
    }

    /// The SYN was captured, at `syn_at`. The first one counts.
    pub fn see_syn(&mut self, syn_at: TimestampNs) {
        if self.marks.0 & Marks::HAS_SYN == 0 {
            self.marks.0 |= Marks::HAS_SYN;
            self.began_at = syn_at;
        }
    }

    /// Both sides have spoken.
    pub fn see_answer(&mut self) {
        self.marks.0 |= Marks::IS_ANSWERED;
    }

    /// Whether both sides have spoken: the one that did not speak first has sent something that may
    /// belong to the connection, other than a reset.
    pub fn is_answered(&self) -> bool {
        self.marks.0 & Marks::IS_ANSWERED != 0
    }

    /// The record's `flow`: a hash with fixed keys of the endpoints, the client's initial sequence
    /// number, and the server's, if a SYN-ACK was captured. Networks are left out, so that the
    /// copies of a connection inside a tunnel and outside have one `flow`; the numbers tell
    /// connections of networks with the same addresses apart. A midstream connection has no
    /// numbers; the time at which it was joined and its networks take their place. Never 0.
    pub fn flow_id(&self, key: &FlowKey) -> u64 {
        let mut key = *key;
        if !self.is_midstream() {
            key.ignore_networks();
        }
        let [[a, b], [c, d]] = key.port;
        let ports = u32::from_le_bytes([a, b, c, d]);
        let vlans = key.vlan.iter().fold(0, |ids, id| ids << 16 | u64::from(*id));
        let (numbers, known_count) = match (self.client_isn.get(), self.server_isn.get()) {
            (Some(client), Some(server)) => (join(client.0, server.0), 2),
            (Some(client), None) => (u64::from(client.0), 1),
            (None, _) => (self.began_at.0, 0),
        };
        let mut hasher = SipHasher13::new_with_keys(FLOW_ID_KEYS.0, FLOW_ID_KEYS.1);
        hasher.write(key.address.as_flattened());
        hasher.write_u64(join(ports, key.realm));
        hasher.write_u64(vlans);
        hasher.write_u64(numbers);
        hasher.write_u8(known_count);
        hasher.finish().max(1)
    }

    /// The time from SYN to SYN-ACK, if both were captured; 0 if their timestamps run backwards. A
    /// SYN that is much later than the SYN-ACK is another one than it answers.
    pub fn connect_ns(&self) -> Option<u64> {
        let syn_ack_at = self.syn_ack_at.get().filter(|_| self.marks.0 & Marks::HAS_SYN != 0)?;
        let is_answered_one = self.began_at.since(syn_ack_at) < SYN_AGAIN_NS;
        is_answered_one.then(|| syn_ack_at.since(self.began_at))
    }

    /// Whether the connection is midstream: its beginning was not captured.
    pub fn is_midstream(&self) -> bool {
        self.client_isn.is_none()
    }
}

/// Two numbers as one, the same on every machine.
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{REALM_GENEVE, REALM_IPV6, REALM_VXLAN};

    /// The same connection in several networks has one `flow` if its beginning was captured.
    #[test]
    fn networks_are_part_of_the_flow_only_where_no_number_is_known() {
        let networks = [
            ([0; 4], 0),
            ([42, 0, 0, 0], 0),
            ([10, 20, 0, 0], 0),
            ([0; 4], REALM_VXLAN | 42),
            ([0; 4], REALM_GENEVE | 42),
        ];
        let began = |isn: Option<u32>| Handshake {
            client_isn: isn.map(SeqNumber).into(),
            began_at: TimestampNs(1),
            ..Handshake::default()
        };
        for ip_realm in [0, REALM_IPV6] {
            let flow_ids = |handshake: Handshake| {
                let key = |vlan, realm| FlowKey { vlan, realm, ..FlowKey::default() };
                let mut ids = networks
                    .map(|(vlan, realm)| handshake.flow_id(&key(vlan, ip_realm | realm)))
                    .to_vec();
                ids.sort_unstable();
                ids.dedup();
                ids
            };
            let [of_one, of_another] = [7, 8].map(|isn| flow_ids(began(Some(isn))));
            assert_eq!((of_one.len(), of_another.len()), (1, 1));
            assert_ne!(of_one, of_another);
            assert_eq!(flow_ids(began(None)).len(), networks.len());
        }
        let [v4, v6] = [0, REALM_IPV6].map(|realm| FlowKey { realm, ..FlowKey::default() });
        assert_ne!(began(Some(7)).flow_id(&v4), began(Some(7)).flow_id(&v6));
    }

    #[test]
    fn a_handshake_whose_timestamps_run_backwards_took_no_time() {
        let connect_ns = |syn_at: u64, syn_ack_at: u64, is_syn_first: bool| {
            let mut handshake = Handshake::default();
            let see_syn = |handshake: &mut Handshake| handshake.see_syn(TimestampNs(syn_at));
            if is_syn_first {
                see_syn(&mut handshake);
            }
            handshake.syn_ack_at.set(Some(TimestampNs(syn_ack_at)));
            see_syn(&mut handshake);
            handshake.connect_ns()
        };
        for is_syn_first in [true, false] {
            assert_eq!(connect_ns(100, 130, is_syn_first), Some(30));
            assert_eq!(connect_ns(500_000_000, 60, is_syn_first), Some(0));
            // Sent again: the answer was to the first one, which was not captured.
            assert_eq!(connect_ns(1_000_000_060, 60, is_syn_first), None);
        }
        let mut handshake = Handshake::default();
        handshake.syn_ack_at.set(Some(TimestampNs(60)));
        assert_eq!(handshake.connect_ns(), None);
    }
}
