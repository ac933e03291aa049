//! The user's restrictions, in the layout of the kernel half: `bpf/choice.h` and `bpf/restrict.h`.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::mmap::Mapping;
use crate::config::{Choice, DecodeConfig, Network, Restrictions};
use crate::ids::REALM_IPV6;

/// The choice for a port, a VLAN id or a network: `CHOICE_*`.
const WANTED: u32 = 1;
const UNWANTED: u32 = 2;
const VXLAN: u32 = 4;

/// Bits per number in the words of `choices`, where VLANs follow the ports.
const CHOICE_BITS: usize = 4;
const CHOICE_VLANS: usize = 65_536;
/// Size of those words in bytes.
pub(super) const CHOICE_BYTES: usize = (CHOICE_VLANS + 4096) * CHOICE_BITS / 8;

/// `struct network`: bits of the prefix, realm, address.
pub(super) type NetworkKey = [u8; 24];

/// Bits of the realm before the address; a prefix always includes them.
const REALM_BITS: u32 = 32;

/// `control.restrictions`: for each kind, whether there is a choice, and whether it lists what is
/// wanted.
pub(super) fn kinds(restrictions: &Restrictions) -> u32 {
    fn bits<T>(choice: &Choice<T>) -> u32 {
        u32::from(!choice.is_empty()) | u32::from(!choice.wanted.is_empty()) << 1
    }
    let Restrictions { ports, networks, vlans, .. } = restrictions;
    bits(ports) | bits(vlans) << 2 | bits(networks) << 4
}

/// Writes the choices of ports and VLANs to `words`.
pub(super) fn choose(words: &Mapping, decode: &DecodeConfig) {
    let set = |number: usize, choice: u32| {
        let (byte, shift) = (number * CHOICE_BITS / 64 * 8, number * CHOICE_BITS % 64);
        words.word64(byte).fetch_or(u64::from(choice) << shift, Ordering::Relaxed);
    };
    let Restrictions { ports, vlans, .. } = &decode.restrictions;
    for (ranges, choice) in [(&ports.wanted, WANTED), (&ports.unwanted, UNWANTED)] {
        ranges.iter().cloned().flatten().for_each(|port| set(port.into(), choice));
    }
    for (ids, choice) in [(&vlans.wanted, WANTED), (&vlans.unwanted, UNWANTED)] {
        ids.iter().for_each(|id| set(CHOICE_VLANS + usize::from(id & 0x0fff), choice));
    }
    decode.vxlan_ports.iter().for_each(|port| set((*port).into(), VXLAN));
}

/// The prefixes of `networks`. A look-up finds only the longest, so each has the choices of all
/// prefixes that contain it, too.
pub(super) fn prefixes(networks: &Choice<Network>) -> Vec<(NetworkKey, u32)> {
    let all = || networks.wanted.iter().chain(&networks.unwanted);
    let holds = |outer: &Network, inner: &Network| {
        outer.prefix_bits <= inner.prefix_bits && outer.contains(inner.address)
    };
    let choices = |inner: &Network| {
        let is_held_by = |list: &[Network]| list.iter().any(|outer| holds(outer, inner));
        let wanted = if is_held_by(&networks.wanted) { WANTED } else { 0 };
        let unwanted = if is_held_by(&networks.unwanted) { UNWANTED } else { 0 };
        wanted | unwanted
    };
    all().map(|network| (key_of(network), choices(network))).collect()
}

fn key_of(network: &Network) -> NetworkKey {
    let mut key = [0; 24];
    let realm = match network.address {
        IpAddr::V4(address) => {
            key[8..12].copy_from_slice(&address.octets());
            0
        }
        IpAddr::V6(address) => {
            key[8..24].copy_from_slice(&address.octets());
            REALM_IPV6
        }
    };
    key[..4].copy_from_slice(&(REALM_BITS + u32::from(network.prefix_bits)).to_ne_bytes());
    key[4..8].copy_from_slice(&realm.to_ne_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_the_same_on_both_sides() {
        super::super::assert_shared(&[
            "#define RESTRICT_PORTS 1",
            "#define RESTRICT_TO_PORTS 2",
            "#define RESTRICT_VLANS 4",
            "#define RESTRICT_TO_VLANS 8",
            "#define RESTRICT_NETWORKS 16",
            "#define RESTRICT_TO_NETWORKS 32",
            &format!("#define CHOICE_WANTED {WANTED}"),
            &format!("#define CHOICE_UNWANTED {UNWANTED}"),
            &format!("#define CHOICE_VXLAN {VXLAN}"),
            &format!("#define CHOICE_BITS {CHOICE_BITS}"),
            &format!("#define CHOICE_VLANS {CHOICE_VLANS}"),
            &format!("#define CHOICE_WORDS {}", CHOICE_BYTES / 8),
        ]);
    }
}
