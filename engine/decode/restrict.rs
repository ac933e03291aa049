//! Which flows the user wants to see. `bpf/restrict.h` has the same rule for live frames, and
//! `tests/filter_tunnels.rs` compares the two.

use crate::config::Restrictions;
use crate::ids::FlowKey;

impl Restrictions {
    /// Whether there are no restrictions.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.networks.is_empty() && self.vlans.is_empty()
    }

    /// Whether the flow `key` is refused.
    pub fn refuse(&self, key: &FlowKey) -> bool {
        let (ports, addresses) = ([key.port(0), key.port(1)], [key.ip(0), key.ip(1)]);
        self.ports.refuses(|range| ports.iter().any(|port| range.contains(port)))
            || self.vlans.refuses(|id| key.vlans().any(|tag| tag == *id))
            || self.networks.refuses(|network| addresses.iter().any(|at| network.contains(*at)))
    }
}
