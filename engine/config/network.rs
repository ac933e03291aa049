//! IP networks, as the user writes them.

use std::net::IpAddr;
use std::str::FromStr;

/// An IP network: all addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// One of its addresses.
    pub address: IpAddr,
    /// The number of bits they have in common: at most 32, or 128 for IPv6.
    pub prefix_bits: u8,
}

impl Network {
    /// Whether `address` is one of its addresses.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, all_bits) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (u128::from(ours.to_bits()), u128::from(theirs.to_bits()), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits(), 128),
            _ => return false,
        };
        let host_bits = all_bits - u32::from(self.prefix_bits);
        (ours ^ theirs).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// A text that is no network. The message completes a sentence that ends with "takes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address or a network such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    /// `10.0.0.0/8`, `2001:db8::/32`; a single address is a network of one address.
    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let all_bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => all_bits,
            Some(bits) => bits.parse().ok().filter(|n| *n <= all_bits).ok_or(NetworkError)?,
        };
        Ok(Network { address, prefix_bits })
    }
}
