//! A leaf: the identities that several modules share. They are types, so that two integers are
//! never swapped.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

/// The number of a shard, from 0, below the shard count of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// An interface of the run: the kernel's ifindex when live, the interface's number in a pcapng
/// file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Default)]
pub struct IfaceId(pub u32);

/// The names of the run's interfaces, in no order. A source adds a name before its first frame from
/// that interface. A formatter reads it once and remembers it. An interface without a name has no
/// entry.
#[derive(Clone, Debug, Default)]
pub struct IfaceNames(Arc<RwLock<Vec<(IfaceId, String)>>>);

impl IfaceNames {
    /// Adds or replaces the name of `id`.
    pub fn insert(&self, id: IfaceId, name: &str) {
        let mut names = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        names.retain(|(known, _)| *known != id);
        names.push((id, name.to_string()));
    }

    /// The name of `id`, if it has one.
    pub fn get(&self, id: IfaceId) -> Option<String> {
        let names = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        names.iter().find(|(known, _)| *known == id).map(|(_, name)| name.clone())
    }
}

/// Which share of the connections is captured now, by [`FlowKey::sample_hash`]. The control of a
/// live capture sets it, and the shards follow.
#[derive(Clone, Debug)]
pub struct Share(Arc<AtomicU32>);

impl Share {
    /// The connections up to `share_max`.
    pub fn new(share_max: u32) -> Share {
        Share(Arc::new(AtomicU32::new(share_max)))
    }

    /// The greatest hash of a connection that is captured.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set(&self, share_max: u32) {
        self.0.store(share_max, Ordering::Relaxed);
    }
}

/// The direction of a segment, by the order of the endpoints in its [`FlowKey`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Direction {
    /// From endpoint 0 (the lower) to endpoint 1.
    #[default]
    Forward = 0,
    /// From endpoint 1 to endpoint 0.
    Reverse = 1,
}

impl Direction {
    /// The other direction.
    pub fn opposite(self) -> Direction {
        match self {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        }
    }

    /// 0 or 1, for arrays that hold something for each direction; the index of the sending
    /// endpoint.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// VLAN tags a key can hold. A frame with more is counted as `vlan_too_deep`, here and in the
/// kernel.
pub const VLAN_DEPTH_MAX: usize = 4;

/// Bit of [`FlowKey::realm`]: the addresses are IPv6.
pub const REALM_IPV6: u32 = 1 << 31;
/// Bits of [`FlowKey::realm`]: the low 24 are a VXLAN network identifier.
pub const REALM_VXLAN: u32 = 1 << 24;
/// Bits of [`FlowKey::realm`]: the low 24 are a Geneve network identifier.
pub const REALM_GENEVE: u32 = 2 << 24;

/// The identity of a connection: the innermost endpoints and, unless they are ignored, the VLAN
/// stack and the VXLAN or Geneve network. It has the same bytes in kernel and user space: `struct
/// flow_key` in `bpf/shared.h`.
///
/// Endpoints are ordered (address, then port, as big-endian bytes), so that both directions have
/// one key.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowKey {
    /// The addresses, lower endpoint first. IPv4 takes the first four bytes, the rest is zero.
    pub address: [[u8; 16]; 2],
    /// The ports, in the order of the addresses, big-endian as on the wire.
    pub port: [[u8; 2]; 2],
    /// VLAN ids, outermost first, 0 after the last. A priority tag (id 0) is no VLAN and not
    /// listed.
    pub vlan: [u16; VLAN_DEPTH_MAX],
    /// [`REALM_IPV6`] and the kind and number of the overlay network; 0 for plain IPv4.
    pub realm: u32,
}

/// The key of [`FlowKey::flow_hash`]: one for each run, which the kernel's programs and all shards
/// share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowHashKey(pub(crate) [u32; 12]);

impl FlowHashKey {
    /// A random key, so that nobody can choose the shard of a connection.
    pub fn random() -> FlowHashKey {
        // The standard library's hash has a random key of its own.
        let random = RandomState::new();
        FlowHashKey(std::array::from_fn(|at| random.hash_one(at) as u32))
    }
}

impl fmt::Debug for FlowHashKey {
    /// The key is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowHashKey(..)")
    }
}

impl Hash for FlowKey {
    /// The same as the derived hash, but in six words instead of thirteen pieces.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [[a, b], [c, d]] = self.port;
        let ports = u32::from_ne_bytes([a, b, c, d]);
        let [e, f, g, h] = self.vlan.map(u64::from);
        state.write_u128(u128::from_ne_bytes(self.address[0]));
        state.write_u128(u128::from_ne_bytes(self.address[1]));
        state.write_u64(u64::from(ports) << 32 | u64::from(self.realm));
        state.write_u64(e << 48 | f << 32 | g << 16 | h);
    }
}

impl FlowKey {
    /// The key of a segment from `source` to `destination`, and its direction.
    #[inline]
    pub fn new(
        (source, source_port): ([u8; 16], [u8; 2]),
        (destination, destination_port): ([u8; 16], [u8; 2]),
        vlan: [u16; VLAN_DEPTH_MAX],
        realm: u32,
    ) -> (FlowKey, Direction) {
        let order = |a: &[u8; 16], p: [u8; 2]| (u128::from_be_bytes(*a), u16::from_be_bytes(p));
        if order(&source, source_port) <= order(&destination, destination_port) {
            let key = FlowKey {
                address: [source, destination],
                port: [source_port, destination_port],
                vlan,
                realm,
            };
            (key, Direction::Forward)
        } else {
            let key = FlowKey {
                address: [destination, source],
                port: [destination_port, source_port],
                vlan,
                realm,
            };
            (key, Direction::Reverse)
        }
    }

    /// Takes VLANs and overlay networks out of the key: the twin of `ignore_networks` in
    /// `bpf/parse.h`. See [`DecodeConfig::is_vlan_ignored`](crate::config::DecodeConfig).
    pub(crate) fn ignore_networks(&mut self) {
        self.vlan = [0; VLAN_DEPTH_MAX];
        self.realm &= REALM_IPV6;
    }

    /// Whether it names a VLAN or an overlay network.
    pub(crate) fn has_network(&self) -> bool {
        self.vlan[0] != 0 || self.realm & !REALM_IPV6 != 0
    }

    /// The key as the kernel reads it: six words in the host's byte order.
    pub fn words(&self) -> [u64; 6] {
        let bytes = self.bytes();
        let (words, _) = bytes.as_chunks::<8>();
        std::array::from_fn(|at| u64::from_ne_bytes(words[at]))
    }

    fn bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(self.address.as_flattened());
        bytes[32..36].copy_from_slice(self.port.as_flattened());
        for (at, id) in self.vlan.iter().enumerate() {
            bytes[36 + 2 * at..38 + 2 * at].copy_from_slice(&id.to_ne_bytes());
        }
        bytes[44..].copy_from_slice(&self.realm.to_ne_bytes());
        bytes
    }

    /// A keyed hash that is the same for both directions and in the kernel: the twin of `flow_hash`
    /// in `bpf/parse.h`. The sum of products is NH, a universal hash (RFC 4418 section 5.2): two
    /// keys that are chosen without knowing `hash_key` have the same sum with a probability of at
    /// most 2^-32.
    pub fn flow_hash(&self, hash_key: &FlowHashKey) -> u32 {
        let bytes = self.bytes();
        let (words, _) = bytes.as_chunks::<4>();
        let sum = |at: usize| u64::from(u32::from_ne_bytes(words[at]).wrapping_add(hash_key.0[at]));
        let pair = |(first, second): (usize, usize)| sum(first) * sum(second);
        let mut hash = pair((0, 4)).wrapping_add(pair((8, 11))).wrapping_add(pair((9, 10)));
        if self.is_ipv6() {
            hash = [(1, 5), (2, 6), (3, 7)].map(pair).into_iter().fold(hash, u64::wrapping_add);
        }
        ((hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// Whether the addresses are IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.realm & REALM_IPV6 != 0
    }

    /// The address of endpoint `index` (0 or 1; see [`Direction::index`]).
    pub fn ip(&self, index: usize) -> IpAddr {
        let bytes = self.address[index & 1];
        if self.is_ipv6() {
            IpAddr::V6(Ipv6Addr::from(bytes))
        } else {
            IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        }
    }

    /// The port of endpoint `index` (0 or 1).
    pub fn port(&self, index: usize) -> u16 {
        u16::from_be_bytes(self.port[index & 1])
    }

    /// The VLAN ids, outermost first.
    pub fn vlans(&self) -> impl Iterator<Item = u16> + '_ {
        self.vlan.iter().copied().take_while(|id| *id != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(realm: u32) -> impl Iterator<Item = FlowKey> {
        (0..4096u16).map(move |port| FlowKey {
            address: [[7; 16], [9; 16]],
            port: [[0, 80], port.to_be_bytes()],
            realm,
            ..FlowKey::default()
        })
    }

    /// Keys that share the low bits of their hash, which choose shard and hint, are spread again
    /// under another key.
    #[test]
    fn nobody_knows_the_hash_without_its_key() {
        let [known, other] = [FlowHashKey::random(), FlowHashKey::random()];
        assert_ne!(known, other);
        for realm in [0, REALM_IPV6, REALM_VXLAN | 42] {
            let chosen: Vec<_> = keys(realm).filter(|key| key.flow_hash(&known) % 8 == 3).collect();
            assert!((256..1024).contains(&chosen.len()), "{} of 4096 in 8 shards", chosen.len());
            for shard in 0..8 {
                let there = chosen.iter().filter(|key| key.flow_hash(&other) % 8 == shard).count();
                let share = chosen.len() / 8;
                assert!((share / 4..share * 4).contains(&there), "{there} of {}", chosen.len());
            }
        }
    }

    /// Every bit of a key that a frame can set changes the hash.
    #[test]
    fn each_bit_of_the_key_counts() {
        let hash_key = FlowHashKey::random();
        let base = FlowKey { realm: REALM_IPV6, ..FlowKey::default() };
        let hash = base.flow_hash(&hash_key);
        let mut changed = Vec::new();
        for bit in 0..128 {
            for end in 0..2 {
                let mut key = base;
                key.address[end][bit / 8] ^= 1 << (bit % 8);
                changed.push(key);
            }
        }
        for bit in 0..16 {
            let flip = |change: &dyn Fn(&mut FlowKey)| {
                let mut key = base;
                change(&mut key);
                key
            };
            let low = (1u16 << bit).to_be_bytes();
            changed.extend((0..2).map(|end| flip(&|key| key.port[end] = low)));
            changed.extend((0..VLAN_DEPTH_MAX).map(|at| flip(&|key| key.vlan[at] = 1 << bit)));
            changed.push(flip(&|key| key.realm |= 1 << bit));
        }
        for key in changed {
            assert_ne!(key.flow_hash(&hash_key), hash, "{key:?}");
        }
    }
}
