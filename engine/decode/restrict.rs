//! Which flows the user wants to see. `bpf/restrict.h` has the same rule for live frames, and
//! `tests/filter_tunnels.rs` compares the two.

use super::Reject;
use crate::config::Restrictions;
use crate::ids::FlowKey;

impl Restrictions {
    /// Whether there are no restrictions.
    fn is_empty(&self) -> bool {
        self.ports.is_empty()
            && self.networks.is_empty()
            && self.vlans.is_empty()
            && self.sample.is_all()
    }

    /// Whether the flow `key` is refused, apart from the sample.
    fn refuse(&self, key: &FlowKey) -> bool {
        let (ports, addresses) = ([key.port(0), key.port(1)], [key.ip(0), key.ip(1)]);
        self.ports.refuses(|range| ports.iter().any(|port| range.contains(port)))
            || self.vlans.refuses(|id| key.vlans().any(|tag| tag == *id))
            || self.networks.refuses(|network| addresses.iter().any(|at| network.contains(*at)))
    }
}

/// Which flows are wanted now.
#[derive(Debug)]
pub(super) struct Admission {
    restrictions: Restrictions,
    /// The greatest [`FlowKey::sample_hash`] that is wanted while rings overflow.
    share_max: u32,
}

impl Admission {
    /// `None` if all flows are wanted.
    pub(super) fn new(restrictions: &Restrictions, share_max: u32) -> Option<Admission> {
        let is_all = restrictions.is_empty() && share_max == u32::MAX;
        (!is_all).then(|| Admission { restrictions: restrictions.clone(), share_max })
    }

    /// Whether the flow `key` is wanted; the error says why it is not.
    #[inline(never)]
    pub(super) fn check(&self, key: &FlowKey) -> Result<(), Reject> {
        if self.restrictions.refuse(key) {
            return Err(Reject::Unwanted);
        }
        let sample_max = self.restrictions.sample.hash_max();
        match key.sample_hash() {
            hash if hash > sample_max => Err(Reject::Sampled),
            hash if hash > self.share_max => Err(Reject::Shed),
            _ => Ok(()),
        }
    }
}
