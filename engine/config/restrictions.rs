//! Which connections are wanted: `--port`, `--net`, `--vlan`, their `exclude-` forms, `--sample`.

use super::{Network, Sample};
use std::ops::RangeInclusive;

/// Wanted and unwanted values of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<T> {
    /// Only these, unless the list is empty.
    pub wanted: Vec<T>,
    /// None of these.
    pub unwanted: Vec<T>,
}

/// Which connections are wanted, by their innermost endpoints and all their VLANs. There is one
/// choice for each kind. A connection is wanted if no kind refuses it and the sample has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// By the port of either endpoint.
    pub ports: Choice<RangeInclusive<u16>>,
    /// By the address of either endpoint.
    pub networks: Choice<Network>,
    /// By any VLAN tag.
    pub vlans: Choice<u16>,
    /// By a hash of the endpoints.
    pub sample: Sample,
}

impl<T> Default for Choice<T> {
    fn default() -> Self {
        Choice { wanted: Vec::new(), unwanted: Vec::new() }
    }
}

impl<T> Choice<T> {
    /// Whether nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }

    /// Whether this kind refuses a connection. `is_of` returns whether the connection has a value.
    pub fn refuses(&self, is_of: impl Fn(&T) -> bool) -> bool {
        self.unwanted.iter().any(&is_of)
            || !self.wanted.is_empty() && !self.wanted.iter().any(&is_of)
    }
}
