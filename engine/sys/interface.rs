//! The interfaces in this thread's network namespace: getifaddrs(3), netdevice(7).
//!
//! The counters come from there, too. /sys/class/net would show the namespace that mounted it.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

/// An interface, and what it has lost so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's index for it, from 1.
    pub ifindex: u32,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether it is the loopback interface.
    pub is_loopback: bool,
    /// Frames dropped before the stack saw them (`rx_dropped`), modulo 2^32.
    pub rx_dropped: u32,
    /// Frames dropped because the NIC's buffers were full (`rx_missed_errors`), modulo 2^32.
    pub rx_missed: u32,
}

/// `struct rtnl_link_stats` of linux/if_link.h, up to the last field we read.
#[repr(C)]
struct LinkStatistics {
    before: [u32; 6],
    rx_dropped: u32,
    between: [u32; 8],
    rx_missed: u32,
}

/// All interfaces, in the kernel's order.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut first = std::ptr::null_mut();
    // SAFETY: getifaddrs writes a list to `first`, which freeifaddrs below frees.
    super::cvt(unsafe { libc::getifaddrs(&mut first) })?;
    let mut found = Vec::new();
    let mut entry = first;
    // SAFETY: the list ends with a null pointer; until freeifaddrs its entries are valid.
    while let Some(interface) = unsafe { entry.as_ref() } {
        entry = interface.ifa_next;
        // SAFETY: `interface` is an entry of the list.
        found.extend(unsafe { link_of(interface) });
    }
    // SAFETY: the list came from getifaddrs, and nothing in it is borrowed any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// The interface that `entry` describes; `None` for the entries that hold an IP address.
///
/// # Safety
/// `entry` is part of a list from getifaddrs that has not been freed.
unsafe fn link_of(entry: &libc::ifaddrs) -> Option<Interface> {
    // SAFETY: an address is null or begins with its family.
    let family = unsafe { entry.ifa_addr.as_ref() }?.sa_family;
    if libc::c_int::from(family) != libc::AF_PACKET {
        return None;
    }
    // SAFETY: addresses of this family are `sockaddr_ll`, and their data are link statistics or
    // null.
    let (address, statistics) = unsafe {
        let address = entry.ifa_addr.cast::<libc::sockaddr_ll>().read_unaligned();
        (address, entry.ifa_data.cast::<LinkStatistics>().as_ref())
    };
    // SAFETY: names end with a zero byte.
    let name = unsafe { CStr::from_ptr(entry.ifa_name) };
    let has = |flag: libc::c_int| entry.ifa_flags & flag as libc::c_uint != 0;
    Some(Interface {
        name: name.to_string_lossy().into_owned(),
        ifindex: address.sll_ifindex as u32,
        is_up: has(libc::IFF_UP),
        is_loopback: has(libc::IFF_LOOPBACK),
        rx_dropped: statistics.map_or(0, |known| known.rx_dropped),
        rx_missed: statistics.map_or(0, |known| known.rx_missed),
    })
}

/// The name of interface `ifindex`: netdevice(7). `None` if it is gone.
pub fn name_of(ifindex: u32) -> Option<String> {
    match netdevice::index_to_name(any_socket()?, ifindex) {
        Ok(name) => Some(name),
        // The kernel accepts any bytes as a name.
        Err(Errno::ILSEQ) => {
            let present = interfaces().unwrap_or_default();
            let ours = present.into_iter().find(|interface| interface.ifindex == ifindex);
            ours.map(|interface| interface.name)
        }
        Err(_) => None,
    }
}

/// The index of the interface called `name`: netdevice(7). `None` if there is none.
pub fn index_of(name: &str) -> Option<u32> {
    netdevice::name_to_index(any_socket()?, name).ok()
}

/// A socket of any kind: the kernel answers queries about its network namespace.
fn any_socket() -> Option<OwnedFd> {
    let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
    socket_with(family, SocketType::DGRAM, flags, None).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_interfaces() {
        let all = interfaces().unwrap();
        let loopback =
            all.iter().find(|interface| interface.is_loopback).expect("every host has it");
        assert_eq!((loopback.name.as_str(), loopback.ifindex), ("lo", 1));
        assert_eq!(name_of(1).as_deref(), Some("lo"));
        assert_eq!(index_of("lo"), Some(1));
        assert_eq!(index_of("no such interface"), None);
        assert_eq!(name_of(u32::MAX), None);
    }
}
