//! Which flows the user wants to see. `bpf/restrict.h` has the same rule for live frames, and
//! `tests/filter_tunnels.rs` compares the two.

use super::Reject;
use crate::config::Restrictions;
use crate::ids::FlowKey;

impl Restrictions {
    /// Whether there are no restrictions.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
            && self.networks.is_empty()
            && self.vlans.is_empty()
            && self.sample.is_all()
    }

    /// Whether the flow `key` is wanted; the error says why it is not.
    #[inline(never)]
    pub fn check(&self, key: &FlowKey) -> Result<(), Reject> {
        let (ports, addresses) = ([key.port(0), key.port(1)], [key.ip(0), key.ip(1)]);
        if self.ports.refuses(|range| ports.iter().any(|port| range.contains(port)))
            || self.vlans.refuses(|id| key.vlans().any(|tag| tag == *id))
            || self.networks.refuses(|network| addresses.iter().any(|at| network.contains(*at)))
        {
            return Err(Reject::Unwanted);
        }
        if self.sample.contains(key) { Ok(()) } else { Err(Reject::Sampled) }
    }
}
