//! Which connections a sample has. `bpf/restrict.h` has the same rule for live frames, and
//! `tests/filter_tunnels.rs` compares the two.

use crate::config::Sample;
use crate::ids::FlowKey;

/// 2^64 divided by the golden ratio: multiplication spreads every bit upwards.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl FlowKey {
    /// A hash of the addresses and ports, which is the same for both directions, on every host and
    /// in every run: it has no key, and neither VLANs nor overlay networks are in it. Anybody can
    /// choose endpoints with a given hash.
    pub fn sample_hash(&self) -> u32 {
        let mut hash = 0;
        let mut add = |word: [u8; 4]| {
            hash = (hash ^ u64::from(u32::from_be_bytes(word))).wrapping_mul(FACTOR);
            hash ^= hash >> 32;
        };
        let [[a, b], [c, d]] = self.port;
        self.address.as_flattened().as_chunks::<4>().0.iter().copied().for_each(&mut add);
        add([a, b, c, d]);
        (hash.wrapping_mul(FACTOR) >> 32) as u32
    }
}

impl Sample {
    /// The greatest [`FlowKey::sample_hash`] in the sample.
    pub fn hash_max(self) -> u32 {
        u32::MAX / self.0
    }

    /// Whether it has all connections.
    pub fn is_all(self) -> bool {
        self.0.get() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{REALM_IPV6, REALM_VXLAN};

    /// Endpoints as they occur: the ports of a client follow each other, or its addresses do.
    fn keys() -> impl Iterator<Item = FlowKey> {
        let server = [192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        (0..1 << 16).map(move |number: u32| {
            let [_, _, high, low] = number.to_be_bytes();
            let mut client = server;
            let mut port = [156, 64];
            if number.is_multiple_of(2) {
                client[2..4].copy_from_slice(&[high, low])
            } else {
                port = [high, low]
            }
            FlowKey::new((client, port), (server, [0, 80]), [0; 4], 0).0
        })
    }

    #[test]
    #[cfg_attr(miri, ignore = "so many keys take Miri minutes")]
    fn a_sample_has_its_share_and_a_smaller_one_is_part_of_it() {
        for n in [2, 3, 16, 100] {
            let [sample, half] = [n, 2 * n].map(|n| Sample::one_in(n).expect("not zero"));
            let is_in = |sample: Sample, key: &FlowKey| key.sample_hash() <= sample.hash_max();
            let count = keys().filter(|key| is_in(sample, key)).count() as f64;
            let expected = f64::from(1 << 16) / f64::from(n);
            assert!((count - expected).abs() < 5.0 * expected.sqrt(), "{count}, not {expected}");
            assert!(keys().all(|key| is_in(sample, &key) || !is_in(half, &key)));
        }
        let all = Sample::default();
        assert!(all.is_all() && all.hash_max() == u32::MAX && Sample::one_in(0).is_none());
    }

    /// These are forever: other hosts, and runs long ago, took their samples by them.
    #[test]
    fn the_hash_is_fixed_and_leaves_out_networks() {
        let plain = keys().nth(1).expect("there are more");
        let tagged = FlowKey { vlan: [7, 0, 0, 0], realm: REALM_VXLAN | 5, ..plain };
        let v6 = FlowKey { address: [[7; 16], [9; 16]], realm: REALM_IPV6, ..plain };
        assert_eq!(plain.sample_hash(), tagged.sample_hash());
        assert_eq!([plain.sample_hash(), v6.sample_hash()], [0x042e_5883, 0x3e44_7f3a]);
    }
}
