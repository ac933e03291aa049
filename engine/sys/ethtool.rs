//! What a driver says of its NIC: the ioctl SIOCETHTOOL, linux/ethtool.h. Reading needs no
//! privilege.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::cvt;

/// Commands of linux/ethtool.h.
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GRSSH: u32 = 0x46;

/// ETH_FLAG_LRO, in the answer to ETHTOOL_GFLAGS.
const FLAG_LRO: u32 = 1 << 15;

/// The words of `struct ethtool_ringparam`, and those that are used here.
const RING_WORDS: usize = 9;
const RING_RX_MAX: usize = 1;
const RING_RX: usize = 5;

/// The words of `struct ethtool_channels`: command, four maxima, four counts.
const CHANNELS_WORDS: usize = 9;
const CHANNELS_RX_MAX: usize = 1;
const CHANNELS_TX_MAX: usize = 2;
const CHANNELS_COMBINED_MAX: usize = 4;
const CHANNELS_RX: usize = 5;
const CHANNELS_COMBINED: usize = 8;

/// The words of `struct ethtool_rxfh` before its table and its key. The fifth word holds the hash
/// function and, since Linux 6.8, `input_xfrm`.
const HASH_WORDS: usize = 7;
const HASH_TABLE_COUNT: usize = 2;
const HASH_KEY_BYTES: usize = 3;
const HASH_FUNCTION: usize = 4;
/// ETH_RSS_HASH_TOP and ETH_RSS_HASH_XOR.
const FUNCTION_TOEPLITZ: u8 = 1 << 0;
const FUNCTION_XOR: u8 = 1 << 1;
/// RXH_XFRM_SYM_XOR and RXH_XFRM_SYM_OR_XOR; 0xff means that the driver does not tell.
const TRANSFORM_SYMMETRIC: u8 = 1 << 0 | 1 << 1;
const TRANSFORM_UNKNOWN: u8 = 0xff;
/// No driver has more. (The kernel writes no more than it was told that there is space for.)
const HASH_BYTES_MAX: usize = 1 << 20;

/// The entries of a NIC's receive rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRing {
    /// Entries of each ring.
    pub entries: u32,
    /// As many as the NIC can have.
    pub entries_max: u32,
}

/// The receive queues of a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Queues in use.
    pub count: u32,
    /// As many as the NIC can have.
    pub count_max: u32,
    /// How many queues for sending there can be, if these are set apart from those for receiving
    /// (`ethtool -L IFACE rx N tx N`); `None`: they are set together (`combined N`).
    pub tx_count_max: Option<u32>,
}

/// Asks drivers.
#[derive(Debug)]
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// Opens the socket, in this thread's network namespace.
    pub fn open() -> io::Result<Ethtool> {
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        Ok(Ethtool(socket_with(family, SocketType::DGRAM, flags, None)?))
    }

    /// The receive rings of `iface`. EOPNOTSUPP: it has none, as virtual devices.
    pub fn receive_ring(&self, iface: &str) -> io::Result<ReceiveRing> {
        let mut words = [0; RING_WORDS];
        words[0] = ETHTOOL_GRINGPARAM;
        self.call(iface, &mut words)?;
        Ok(ReceiveRing { entries: words[RING_RX], entries_max: words[RING_RX_MAX] })
    }

    /// The receive queues of `iface`. EOPNOTSUPP: the driver does not tell.
    pub fn queues(&self, iface: &str) -> io::Result<Queues> {
        let mut words = [0; CHANNELS_WORDS];
        words[0] = ETHTOOL_GCHANNELS;
        self.call(iface, &mut words)?;
        Ok(queues_of(&words))
    }

    /// Whether the NIC of `iface` merges segments itself (LRO).
    pub fn is_lro_on(&self, iface: &str) -> io::Result<bool> {
        Ok(self.value(ETHTOOL_GFLAGS, iface)? & FLAG_LRO != 0)
    }

    /// Whether the kernel merges segments that `iface` receives (GRO).
    pub fn is_gro_on(&self, iface: &str) -> io::Result<bool> {
        Ok(self.value(ETHTOOL_GGRO, iface)? != 0)
    }

    /// Whether the NIC of `iface` sends both directions of a connection to one queue: its hash is
    /// symmetric. EOPNOTSUPP: the driver has no hash, or does not tell.
    pub fn is_hash_symmetric(&self, iface: &str) -> io::Result<bool> {
        let mut sizes = [0; HASH_WORDS];
        sizes[0] = ETHTOOL_GRSSH;
        self.call(iface, &mut sizes)?;
        let table_bytes = sizes[HASH_TABLE_COUNT] as usize * size_of::<u32>();
        let key_bytes = sizes[HASH_KEY_BYTES] as usize;
        if table_bytes.max(key_bytes) > HASH_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let rest = (table_bytes + key_bytes).div_ceil(size_of::<u32>());
        let mut words = vec![0; HASH_WORDS + rest];
        words[..HASH_WORDS].copy_from_slice(&sizes);
        words[0] = ETHTOOL_GRSSH;
        self.call(iface, &mut words)?;
        let [function, transform, _, _] = words[HASH_FUNCTION].to_ne_bytes();
        let rest: Vec<u8> = words[HASH_WORDS..].iter().flat_map(|it| it.to_ne_bytes()).collect();
        let key = &rest[table_bytes..table_bytes + key_bytes];
        Ok(is_symmetric(function, transform, key))
    }

    fn value(&self, command: u32, iface: &str) -> io::Result<u32> {
        let mut words = [command, 0];
        self.call(iface, &mut words)?;
        Ok(words[1])
    }

    /// Makes the call that the first of `words` names; the others are its answer. Those of a
    /// command with a table tell how long the table is.
    fn call(&self, iface: &str, words: &mut [u32]) -> io::Result<()> {
        // SAFETY: zeros are a valid value.
        let mut request: libc::ifreq = unsafe { zeroed() };
        // The last byte stays 0.
        if iface.len() >= request.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(iface.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the request names the interface and points to `words`, which live through the
        // call. The callers pass as many as the kernel writes for their command.
        cvt(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL, &mut request) })?;
        Ok(())
    }
}

/// The queues in a `struct ethtool_channels`.
fn queues_of(words: &[u32; CHANNELS_WORDS]) -> Queues {
    let (rx_max, combined_max) = (words[CHANNELS_RX_MAX], words[CHANNELS_COMBINED_MAX]);
    Queues {
        count: words[CHANNELS_RX].saturating_add(words[CHANNELS_COMBINED]),
        // Most drivers have the one kind or the other; with both, all can be combined.
        count_max: rx_max.max(combined_max),
        tx_count_max: (combined_max == 0).then_some(words[CHANNELS_TX_MAX]),
    }
}

/// Whether a hash is the same for both directions: XOR is; Toeplitz is if its input is made
/// symmetric, or its key repeats itself each 16 bits (Woo and Park, "Scalable TCP Session
/// Monitoring with Symmetric Receive-side Scaling").
fn is_symmetric(function: u8, transform: u8, key: &[u8]) -> bool {
    let is_transformed = transform != TRANSFORM_UNKNOWN && transform & TRANSFORM_SYMMETRIC != 0;
    let is_key_periodic = key.len() > 2 && key[2..].iter().zip(key).all(|(a, b)| a == b);
    let is_toeplitz = function & FUNCTION_TOEPLITZ != 0;
    function & FUNCTION_XOR != 0 || is_transformed || is_toeplitz && is_key_periodic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_repeats_itself_makes_the_hash_symmetric() {
        let key = [0x6d, 0x5a].repeat(20);
        let other: Vec<u8> = (0..40).collect();
        assert!(is_symmetric(FUNCTION_TOEPLITZ, 0, &key));
        assert!(!is_symmetric(FUNCTION_TOEPLITZ, 0, &other));
        assert!(!is_symmetric(FUNCTION_TOEPLITZ, TRANSFORM_UNKNOWN, &other));
        assert!(is_symmetric(FUNCTION_TOEPLITZ, 1, &other));
        assert!(is_symmetric(FUNCTION_TOEPLITZ, 2, &other));
        assert!(is_symmetric(FUNCTION_XOR, 0, &[]));
        assert!(!is_symmetric(FUNCTION_TOEPLITZ, 0, &[]));
        // CRC32.
        assert!(!is_symmetric(1 << 2, 0, &key));
    }

    #[test]
    fn queues_are_combined_or_apart() {
        let combined = queues_of(&[ETHTOOL_GCHANNELS, 0, 0, 1, 16, 0, 0, 1, 4]);
        assert_eq!(combined, Queues { count: 4, count_max: 16, tx_count_max: None });
        let apart = queues_of(&[ETHTOOL_GCHANNELS, 8, 6, 0, 0, 1, 2, 0, 0]);
        assert_eq!(apart, Queues { count: 1, count_max: 8, tx_count_max: Some(6) });
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no sockets")]
    fn loopback_has_no_ring_and_an_unknown_name_no_device() {
        let ethtool = Ethtool::open().expect("a socket");
        let errno = |error: io::Error| error.raw_os_error();
        let ring = ethtool.receive_ring("lo").map_err(errno);
        assert_eq!(ring, Err(Some(libc::EOPNOTSUPP)));
        assert!(ethtool.is_gro_on("lo").is_ok());
        for name in ["no such", "a name that is too long for an interface", ""] {
            let error = ethtool.is_lro_on(name).map_err(errno);
            assert_eq!(error, Err(Some(libc::ENODEV)), "{name}");
        }
    }
}
