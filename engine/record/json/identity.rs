//! From `flow` to `vlan`: the part of a line that is the same for all exchanges of a connection,
//! except for the exchange's number. The most recent ones are cached, so that a busy connection is
//! rendered once.

use super::budget::*;
use crate::ids::{Direction, FlowKey, VLAN_DEPTH_MAX};
use crate::record::FlowIdentity;
use crate::record::community_id::append_community_id;
use crate::record::digits::{
    IP_BYTES_MAX, append_decimal, append_ip, append_list, eight_hex_digits,
};
use crate::record::line_buffer::LineBuffer;

/// The number of cached identities. If more connections than this are active in turn, nearly every
/// identity is rendered again, which costs the same as no cache.
const KEPT_COUNT: usize = 1024;

/// The size of the part after the exchange's number: the usual one, and the maximum without and
/// with a Community ID.
const USUAL_BYTES: usize = 96;
const PLAIN_BYTES_MAX: usize = 192;
const BYTES_MAX: usize = PLAIN_BYTES_MAX + COMMUNITY_ID_FIELD_BYTES;

const _: () = assert!(
    KEY_CLIENT_IP.len()
        + KEY_CLIENT_PORT.len()
        + KEY_SERVER_IP.len()
        + KEY_SERVER_PORT.len()
        + 2 * (IP_BYTES_MAX + 5)
        + KEY_VLAN.len()
        + VLAN_DEPTH_MAX * 6
        < PLAIN_BYTES_MAX
);

/// The size of the part before the number.
const FLOW_BYTES: usize = KEY_FLOW.len() + 16 + KEY_N.len();

/// A rendered identity, and the connection it belongs to.
#[derive(Clone, Debug)]
struct Kept {
    key: FlowKey,
    client: Direction,
    id: u64,
    flow: [u8; FLOW_BYTES],
    len: usize,
    rest: [u8; BYTES_MAX],
}

/// The cache of rendered identities.
#[derive(Debug, Default)]
pub(super) struct Identities {
    /// Indexed by the low bits of the flow's id. Empty until the first identity is rendered.
    kept: Vec<Option<Kept>>,
    text: Vec<u8>,
    community_id_seed: Option<u16>,
}

impl Identities {
    /// No identities so far. With a seed, they have a Community ID.
    pub(super) fn new(community_id_seed: Option<u16>) -> Identities {
        Identities { community_id_seed, ..Identities::default() }
    }

    /// Writes the identity of `flow` around the exchange's number. `MAY_HAVE_MORE` is whether it
    /// may have a Community ID.
    #[inline(always)]
    pub(super) fn write<const MAY_HAVE_MORE: bool>(
        &mut self,
        flow: &FlowIdentity<'_>,
        n: u32,
        buffer: &mut LineBuffer<'_>,
    ) {
        let at = flow.id as usize % KEPT_COUNT;
        let kept = match self.kept.get(at) {
            // Ids are hashes, and somebody who chooses the endpoints can make two of them equal.
            Some(Some(kept))
                if kept.id == flow.id && kept.key == *flow.key && kept.client == flow.client =>
            {
                kept
            }
            _ => self.render(at, flow),
        };
        buffer.put(&kept.flow);
        buffer.decimal(u64::from(n));
        match kept.rest.first_chunk::<USUAL_BYTES>() {
            Some(usual) if kept.len <= USUAL_BYTES => buffer.put_first(usual, kept.len),
            _ if MAY_HAVE_MORE => buffer.put_first(&kept.rest, kept.len),
            _ => match kept.rest.first_chunk::<PLAIN_BYTES_MAX>() {
                Some(plain) => buffer.put_first(plain, kept.len),
                // The rest is longer.
                None => unreachable!(),
            },
        }
    }

    #[cold]
    #[inline(never)]
    fn render(&mut self, at: usize, flow: &FlowIdentity<'_>) -> &Kept {
        let FlowIdentity { key, client, id } = *flow;
        let mut kept =
            Kept { key: *key, client, id, flow: [0; FLOW_BYTES], len: 0, rest: [0; BYTES_MAX] };
        let text = &mut self.text;
        text.clear();
        text.extend_from_slice(KEY_FLOW);
        for half in [(id >> 32) as u32, id as u32] {
            text.extend_from_slice(&eight_hex_digits(half).to_le_bytes());
        }
        text.extend_from_slice(KEY_N);
        kept.flow.copy_from_slice(text);
        text.clear();
        let (client, server) = (client.index(), client.opposite().index());
        text.extend_from_slice(KEY_CLIENT_IP);
        append_ip(key.ip(client), text);
        text.extend_from_slice(KEY_CLIENT_PORT);
        append_decimal(u64::from(key.port(client)), text);
        text.extend_from_slice(KEY_SERVER_IP);
        append_ip(key.ip(server), text);
        text.extend_from_slice(KEY_SERVER_PORT);
        append_decimal(u64::from(key.port(server)), text);
        if let Some(seed) = self.community_id_seed {
            text.extend_from_slice(KEY_COMMUNITY_ID);
            append_community_id(key, seed, text);
            text.push(b'"');
        }
        if key.vlan[0] != 0 {
            append_list(KEY_VLAN, key.vlans(), text);
        }
        kept.len = text.len();
        kept.rest[..text.len()].copy_from_slice(text);
        if self.kept.is_empty() {
            self.kept.resize(KEPT_COUNT, None);
        }
        self.kept[at].insert(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::REALM_IPV6;
    use crate::record::line_buffer::append_line;
    use proptest::prelude::*;

    fn written(identities: &mut Identities, flow: &FlowIdentity<'_>, n: u32) -> Vec<u8> {
        let mut out = Vec::new();
        append_line(&mut out, |buffer| identities.write::<true>(flow, n, buffer));
        out
    }

    /// Endpoints as given, or with the longest rendering.
    fn key((low, high, port, vlan, is_long): (u8, u8, u16, u16, bool)) -> FlowKey {
        let address = [low, high].map(|byte| [if is_long { byte | 0x80 } else { byte }; 16]);
        FlowKey {
            address,
            port: [port.to_be_bytes(), [0x1f, 0x90]],
            vlan: if is_long { [4094; VLAN_DEPTH_MAX] } else { [vlan, 0, 0, 0] },
            realm: if is_long { REALM_IPV6 } else { 0 },
        }
    }

    proptest! {
        /// A cached identity is never shown for another connection, even if ids collide.
        #[test]
        fn an_identity_is_that_of_its_own_flow(
            flows in prop::collection::vec(
                ((0..3_u8, 0..3_u8, 79..82_u16, 0..2_u16, any::<bool>()), 0..3_u64, any::<bool>()),
                1..40),
            n: u32,
            seed: Option<u16>,
        ) {
            let new = || Identities::new(seed);
            let mut identities = new();
            for (ends, id, is_forward) in flows {
                let key = key(ends);
                let client = if is_forward { Direction::Forward } else { Direction::Reverse };
                // Three ids share one cache slot, and each is used by many keys.
                let id = id << 32 | 0xabcd;
                let flow = FlowIdentity { key: &key, client, id };
                let wanted = written(&mut new(), &flow, n);
                prop_assert_eq!(written(&mut identities, &flow, n), wanted);
            }
        }
    }
}
