//! Community ID: the id that Zeek, Suricata and others give to the same connection (Community ID
//! Flow Hashing, version 1, github.com/corelight/community-id-spec).

use sha1::{Digest, Sha1};

use super::escape::append_base64;
use crate::ids::FlowKey;

/// The length of an id: `1:` and 20 bytes in base64.
pub const COMMUNITY_ID_BYTES: usize = 2 + 28;

/// The number of TCP among the protocols of IP.
const TCP: u8 = 6;

/// Appends the id of a connection. It says nothing of VLANs and tunnels: the hash is of `seed`, the
/// innermost addresses, and the ports. Both directions have one id, because the lower endpoint
/// comes first, as in a [`FlowKey`].
pub fn append_community_id(key: &FlowKey, seed: u16, out: &mut Vec<u8>) {
    let address_bytes = if key.is_ipv6() { 16 } else { 4 };
    let mut hash = Sha1::new();
    hash.update(seed.to_be_bytes());
    for address in &key.address {
        hash.update(&address[..address_bytes]);
    }
    hash.update([TCP, 0]);
    hash.update(key.port.as_flattened());
    out.extend_from_slice(b"1:");
    append_base64(&hash.finalize(), COMMUNITY_ID_BYTES, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Direction, REALM_IPV6, VLAN_DEPTH_MAX};
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn bytes(address: IpAddr) -> [u8; 16] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes = v6.octets(),
        }
        bytes
    }

    fn id(source: (IpAddr, u16), destination: (IpAddr, u16), seed: u16) -> String {
        let realm = if source.0.is_ipv6() { REALM_IPV6 } else { 0 };
        let [source, destination] =
            [source, destination].map(|(address, port)| (bytes(address), port.to_be_bytes()));
        let (key, _) = FlowKey::new(source, destination, [0; VLAN_DEPTH_MAX], realm);
        let mut out = Vec::new();
        append_community_id(&key, seed, &mut out);
        assert_eq!(out.len(), COMMUNITY_ID_BYTES);
        String::from_utf8(out).unwrap()
    }

    /// Those of TCP among the specification's baselines, for the seeds 0 and 1.
    #[test]
    fn the_published_vectors() {
        let vectors = [
            (
                ("128.232.110.120", 34855, "66.35.250.204", 80),
                ["1:LQU9qZlK+B5F3KDmev6m5PMibrg=", "1:3V71V58M3Ksw/yuFALMcW0LAHvc="],
            ),
            (
                ("2001:470:e5bf:dead:4957:2174:e82c:4887", 63943, "2607:f8b0:400c:c03::1a", 25),
                ["1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=", "1:eJYTW6AOzFLlSUoESovMjnu7rMw="],
            ),
        ];
        for ((source, source_port, destination, destination_port), ids) in vectors {
            let source = (source.parse().unwrap(), source_port);
            let destination = (destination.parse().unwrap(), destination_port);
            for (seed, expected) in ids.iter().enumerate() {
                assert_eq!(id(source, destination, seed as u16), *expected);
                assert_eq!(id(destination, source, seed as u16), *expected);
            }
        }
    }

    /// The specification's pseudo code, word for word, without [`FlowKey`].
    fn naive(source: (IpAddr, u16), destination: (IpAddr, u16), seed: u16) -> String {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let (first, second) = if octets(source.0) < octets(destination.0)
            || source.0 == destination.0 && source.1 < destination.1
        {
            (source, destination)
        } else {
            (destination, source)
        };
        let mut text = seed.to_be_bytes().to_vec();
        text.extend(octets(first.0));
        text.extend(octets(second.0));
        text.extend([6, 0]);
        text.extend([first.1, second.1].map(u16::to_be_bytes).concat());
        let hash = Sha1::digest(&text);
        let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".as_bytes();
        let bits: String = hash.iter().map(|byte| format!("{byte:08b}")).collect::<String>() + "00";
        let sixes = bits.as_bytes().chunks(6).map(|six| {
            let six = std::str::from_utf8(six).unwrap();
            char::from(digits[usize::from_str_radix(six, 2).unwrap()])
        });
        format!("1:{}=", sixes.collect::<String>())
    }

    proptest! {
        #[test]
        fn ids_are_those_of_the_naive(
            v4: [[u8; 4]; 2], v6: [[u8; 16]; 2], ports: [u16; 2], seed: u16,
            is_v6: bool, is_same_address: bool, is_same_port: bool,
        ) {
            let mut ends = [0, 1].map(|at| {
                let address = if is_v6 { IpAddr::from(v6[at]) } else { IpAddr::from(v4[at]) };
                (address, ports[at])
            });
            if is_same_address {
                ends[1].0 = ends[0].0;
            }
            if is_same_port {
                ends[1].1 = ends[0].1;
            }
            prop_assert_eq!(id(ends[0], ends[1], seed), naive(ends[0], ends[1], seed));
            prop_assert_eq!(id(ends[1], ends[0], seed), naive(ends[0], ends[1], seed));
        }
    }

    /// Other tools know nothing of a connection's networks.
    #[test]
    fn vlans_and_overlay_networks_make_no_difference() {
        let ends = [([10; 16], [0, 80]), ([11; 16], [16, 0])];
        let ids = [([0; VLAN_DEPTH_MAX], 0), ([7; VLAN_DEPTH_MAX], crate::ids::REALM_VXLAN | 42)]
            .map(|(vlan, realm)| {
                let (key, direction) = FlowKey::new(ends[0], ends[1], vlan, realm);
                assert_eq!(direction, Direction::Forward);
                let mut out = Vec::new();
                append_community_id(&key, 0, &mut out);
                out
            });
        assert_eq!(ids[0], ids[1]);
    }
}
