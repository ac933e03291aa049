//! The interfaces in a network namespace: rtnetlink(7), netdevice(7).
//!
//! Everything comes by one netlink socket, which stays in the namespace in which it was opened.
//! /sys/class/net would show the namespace that mounted it, and getifaddrs(3) has no entry for an
//! interface without an address of its own, such as a tun device. The messages are read here, since
//! the usual crates refuse a name that is not UTF-8, and the kernel takes any bytes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netdevice, recv, sendto,
    socket_with,
};

/// The multicast group that tells of every change of an interface: `RTNLGRP_LINK`, as a mask.
const GROUP_LINK: u32 = 1;
/// `RTM_GETSTATS` and its answer `RTM_NEWSTATS`, Linux 4.7: linux/rtnetlink.h.
const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;
/// `IFLA_STATS_LINK_64`, and the bit that asks for it: linux/if_link.h.
const IFLA_STATS_LINK_64: u16 = 1;
const FILTER_LINK_64: u32 = 1;
/// Positions in `struct rtnl_link_stats64`, in words of 64 bits.
const RX_PACKETS: usize = 0;
const TX_PACKETS: usize = 1;
const RX_ERRORS: usize = 4;
const RX_DROPPED: usize = 6;
const RX_LENGTH_ERRORS: usize = 10;
const RX_OVER_ERRORS: usize = 11;
const RX_FIFO_ERRORS: usize = 14;
const RX_MISSED_ERRORS: usize = 15;
/// Attributes of linux/if_link.h that libc does not define, from Linux 4.6, 5.19 and 6.3 on.
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_GRO_MAX_SIZE: u16 = 58;
const IFLA_GSO_IPV4_MAX_SIZE: u16 = 63;
const IFLA_GRO_IPV4_MAX_SIZE: u16 = 64;

/// `struct nlmsghdr`, `struct ifinfomsg`, `struct if_stats_msg` and `struct nlattr` in bytes.
const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;
const STATS_BYTES: usize = 12;
const ATTRIBUTE_BYTES: usize = 4;

/// The kernel fills at most 32 KiB at a time, if the reader has space for that.
const BUFFER_BYTES: usize = 32 << 10;
/// An answer during which something changed is requested again, up to this many times in all.
const TRIES: u32 = 5;
/// At most this many changes are kept while other messages are read. More are read anew.
const CHANGE_COUNT_MAX: usize = 1024;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's index for it, from 1.
    pub ifindex: u32,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether it has a carrier: a cable with somebody at its other end, or what a virtual device
    /// has in place of it.
    pub has_carrier: bool,
    /// Whether it is the loopback interface.
    pub is_loopback: bool,
    /// Whether it is an ifb device, to which tc-mirred(8) sends frames.
    pub is_ifb: bool,
}

/// What an interface has lost since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// The kernel's index for it.
    pub ifindex: u32,
    /// Frames dropped by its driver, by a full backlog, or because no protocol took them
    /// (`rx_dropped`).
    pub rx_dropped: u64,
    /// Frames dropped because the NIC's buffers were full: `rx_missed_errors` or `rx_fifo_errors`,
    /// the larger of them, as some drivers count a frame in both.
    pub rx_missed: u64,
}

/// An interface, and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceDetails {
    /// Its name, number and state.
    pub interface: Interface,
    /// The kind of a virtual device, such as `veth` or `vlan`.
    pub kind: Option<String>,
    /// The largest packet that it sends, without the link's header.
    pub mtu_bytes: u32,
    /// The interface below it, or the other end of a veth pair, by its index. If
    /// `is_link_elsewhere`, it is in another network namespace.
    pub link: Option<u32>,
    /// `link` is in another network namespace.
    pub is_link_elsewhere: bool,
    /// The bridge, bond or team that it is a port of, by its index.
    pub master: Option<u32>,
    /// The longest packet that GRO makes (`gro_max_size`, for IPv4 `gro_ipv4_max_size`), where the
    /// kernel tells: more than 64 KiB with BIG TCP.
    pub gro_bytes_max: Option<u32>,
    /// The longest packet that it is given to send (`gso_max_size`, for IPv4 `gso_ipv4_max_size`),
    /// where the kernel tells. The NIC, or the last driver, cuts it to the MTU.
    pub gso_bytes_max: Option<u32>,
}

/// The frames of an interface since it was created: `struct rtnl_link_stats64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStatistics {
    /// The kernel's index for it.
    pub ifindex: u32,
    /// Frames received (`rx_packets`).
    pub rx_frames: u64,
    /// Frames sent (`tx_packets`).
    pub tx_frames: u64,
    /// Damaged frames that were received (`rx_errors`), with the two kinds below.
    pub rx_errors: u64,
    /// Of these, frames of a wrong length, as those longer than the NIC takes (`rx_length_errors`
    /// or `rx_over_errors`, the larger of them).
    pub rx_length_errors: u64,
    /// Frames dropped by the driver, by a full backlog, or because no protocol took them
    /// (`rx_dropped`).
    pub rx_dropped: u64,
    /// Frames dropped because the NIC's buffers were full, as of [`InterfaceCounters`].
    pub rx_missed: u64,
}

/// Asks the kernel about interfaces, and is told when one changes.
#[derive(Debug)]
pub struct Interfaces {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The number of the last request.
    sequence: u32,
    /// Interfaces as they became, in the order of the changes.
    changes: VecDeque<Interface>,
    /// Changes were lost: the kernel's queue or ours was full.
    has_lost_changes: bool,
}

impl Interfaces {
    /// Opens the socket, in this thread's network namespace. No privilege is needed.
    pub fn open() -> io::Result<Interfaces> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        // The protocol is 0: NETLINK_ROUTE.
        let socket = socket_with(family, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP_LINK))?;
        Ok(Interfaces {
            socket,
            buffer: vec![0; BUFFER_BYTES],
            sequence: 0,
            changes: VecDeque::new(),
            has_lost_changes: false,
        })
    }

    /// All interfaces, in the kernel's order.
    pub fn list(&mut self) -> io::Result<Vec<Interface>> {
        self.ask(libc::RTM_GETLINK, 0, &[0; LINK_BYTES], |kind, message| match kind {
            libc::RTM_NEWLINK => link_of(message),
            _ => None,
        })
    }

    /// All interfaces with their details, in the kernel's order.
    pub fn list_details(&mut self) -> io::Result<Vec<InterfaceDetails>> {
        self.ask(libc::RTM_GETLINK, 0, &[0; LINK_BYTES], |kind, message| match kind {
            libc::RTM_NEWLINK => details_of(message),
            _ => None,
        })
    }

    /// The frames of interface `ifindex` so far, or of each interface if it is 0. ENODEV: it is
    /// gone.
    pub fn statistics(&mut self, ifindex: u32) -> io::Result<Vec<InterfaceStatistics>> {
        let request = statistics_request(ifindex);
        self.ask(RTM_GETSTATS, ifindex, &request, |kind, message| match kind {
            RTM_NEWSTATS => statistics_of(message),
            _ => None,
        })
    }

    /// The counters of interface `ifindex`, or of all interfaces if it is 0, by ascending index.
    /// ENODEV: it is gone.
    pub fn counters(&mut self, ifindex: u32) -> io::Result<Vec<InterfaceCounters>> {
        let request = statistics_request(ifindex);
        let mut found = self.ask(RTM_GETSTATS, ifindex, &request, |kind, message| match kind {
            RTM_NEWSTATS => counters_of(message),
            _ => None,
        })?;
        found.sort_unstable_by_key(|counters| counters.ifindex);
        Ok(found)
    }

    /// The interfaces that have changed since the last call, as they became, in order. It does not
    /// wait. If the kernel had to leave out changes, all interfaces are returned as they are now.
    pub fn changes(&mut self) -> io::Result<Vec<Interface>> {
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((count, _)) => {
                    for message in messages(&self.buffer[..count]) {
                        note_change(&mut self.changes, &mut self.has_lost_changes, &message);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::NOBUFS) => self.has_lost_changes = true,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if std::mem::take(&mut self.has_lost_changes) {
            self.changes.clear();
            return self.list();
        }
        Ok(self.changes.drain(..).collect())
    }

    /// Waits until the kernel tells of a change, at most `timeout_ms` milliseconds.
    pub fn wait_for_change(&self, timeout_ms: u32) -> io::Result<()> {
        super::wait::WaitSet::default().wait([self.socket.as_fd()], timeout_ms).map(drop)
    }

    /// Asks about interface `ifindex`, or about all if it is 0, until the answer is consistent.
    fn ask<T>(
        &mut self,
        kind: u16,
        ifindex: u32,
        body: &[u8],
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut tries = 0;
        loop {
            let mut found = Vec::new();
            let visit = |kind, message: &[u8]| found.extend(read(kind, message));
            let is_consistent = self.request(kind, ifindex, body, visit)?;
            tries += 1;
            if is_consistent || tries == TRIES {
                return Ok(found);
            }
        }
    }

    /// Sends a request, and visits the messages of its answer. Returns false if something changed
    /// while the kernel made the answer.
    fn request(
        &mut self,
        kind: u16,
        ifindex: u32,
        body: &[u8],
        mut visit: impl FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        self.sequence += 1;
        let is_dump = ifindex == 0;
        let flags = libc::NLM_F_REQUEST | if is_dump { libc::NLM_F_DUMP } else { 0 };
        let mut request = Vec::with_capacity(HEADER_BYTES + body.len());
        request.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        request.extend_from_slice(&(flags as u16).to_ne_bytes());
        request.extend_from_slice(&self.sequence.to_ne_bytes());
        request.extend_from_slice(&0u32.to_ne_bytes());
        request.extend_from_slice(body);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &request, SendFlags::empty(), &kernel)?;
        let mut is_consistent = true;
        loop {
            let count = match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((count, _)) => count,
                Err(Errno::NOBUFS) => {
                    self.has_lost_changes = true;
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(&self.buffer[..count]) {
                if message.sequence != self.sequence {
                    note_change(&mut self.changes, &mut self.has_lost_changes, &message);
                    continue;
                }
                is_consistent &= message.flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                match message.kind.into() {
                    libc::NLMSG_DONE => return Ok(is_consistent),
                    libc::NLMSG_ERROR => {
                        let errno = word(message.body, 0).unwrap_or_default() as i32;
                        return Err(io::Error::from_raw_os_error(-errno));
                    }
                    _ => visit(message.kind, message.body),
                }
                if !is_dump {
                    return Ok(is_consistent);
                }
            }
        }
    }
}

/// The name of interface `ifindex`; `socket` is any socket of its network namespace. `None` if it
/// is gone.
pub fn name_of(socket: impl AsFd, ifindex: u32) -> Option<String> {
    let name = netdevice::index_to_name_inlined(socket, ifindex).ok()?;
    Some(String::from_utf8_lossy(name.as_bytes()).into_owned())
}

/// The index of the interface called `name`, in this thread's network namespace. `None` if there is
/// none.
pub fn index_of(name: &str) -> Option<u32> {
    let (family, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::DGRAM, flags, None).ok()?;
    netdevice::name_to_index(socket, name).ok()
}

/// A message: its header's fields, and what follows the header.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of one answer.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let message = bytes.get(..length)?;
        let body = message.get(HEADER_BYTES..)?;
        let kinds = word(message, 4)?.to_ne_bytes();
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([kinds[0], kinds[1]]),
            flags: u16::from_ne_bytes([kinds[2], kinds[3]]),
            sequence: word(message, 8)?,
            body,
        })
    })
}

/// The attributes behind a message's fixed part: kind and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let words = word(bytes, 0)?.to_ne_bytes();
        let length = usize::from(u16::from_ne_bytes([words[0], words[1]]));
        let kind = u16::from_ne_bytes([words[2], words[3]]);
        let value = bytes.get(ATTRIBUTE_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & libc::NLA_TYPE_MASK as u16, value))
    })
}

/// Keeps what the kernel told without being asked. An interface that was removed is not kept: the
/// sockets that are bound to it know that for sure.
fn note_change(changes: &mut VecDeque<Interface>, has_lost: &mut bool, message: &Message<'_>) {
    if message.kind != libc::RTM_NEWLINK {
        return;
    }
    *has_lost |= changes.len() >= CHANGE_COUNT_MAX;
    if !*has_lost {
        changes.extend(link_of(message.body));
    }
}

/// The interface that a `RTM_NEWLINK` message describes.
fn link_of(message: &[u8]) -> Option<Interface> {
    // A bridge tells of its ports by messages of its own family.
    if *message.first()? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let (ifindex, flags) = (word(message, 4)?, word(message, 8)?);
    let bytes = message.get(LINK_BYTES..)?;
    let name = text_of(bytes, libc::IFLA_IFNAME)?;
    let info = attributes(bytes).find(|(kind, _)| *kind == libc::IFLA_LINKINFO);
    let kind = info.and_then(|(_, info)| text_of(info, libc::IFLA_INFO_KIND));
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    Some(Interface {
        name: String::from_utf8_lossy(name).into_owned(),
        ifindex,
        is_up: has(libc::IFF_UP),
        has_carrier: has(libc::IFF_LOWER_UP),
        is_loopback: has(libc::IFF_LOOPBACK),
        is_ifb: kind == Some(b"ifb"),
    })
}

/// The text of the first attribute of `kind`, without the zero byte at its end.
fn text_of(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let (_, value) = attributes(bytes).find(|(found, _)| *found == kind)?;
    value.split(|byte| *byte == 0).next()
}

/// The interface that a `RTM_NEWLINK` message describes, with its details.
fn details_of(message: &[u8]) -> Option<InterfaceDetails> {
    let interface = link_of(message)?;
    let bytes = message.get(LINK_BYTES..)?;
    let number = |wanted: u16| {
        let (_, value) = attributes(bytes).find(|(kind, _)| *kind == wanted)?;
        word(value, 0)
    };
    let info = attributes(bytes).find(|(kind, _)| *kind == libc::IFLA_LINKINFO);
    let kind = info.and_then(|(_, info)| text_of(info, libc::IFLA_INFO_KIND));
    Some(InterfaceDetails {
        // An interface that is its own lower one, or has 0, has none.
        link: number(libc::IFLA_LINK).filter(|link| ![0, interface.ifindex].contains(link)),
        interface,
        kind: kind.map(|kind| String::from_utf8_lossy(kind).into_owned()),
        mtu_bytes: number(libc::IFLA_MTU)?,
        is_link_elsewhere: number(libc::IFLA_LINK_NETNSID).is_some(),
        master: number(libc::IFLA_MASTER),
        gro_bytes_max: number(IFLA_GRO_MAX_SIZE).max(number(IFLA_GRO_IPV4_MAX_SIZE)),
        gso_bytes_max: number(IFLA_GSO_MAX_SIZE).max(number(IFLA_GSO_IPV4_MAX_SIZE)),
    })
}

/// The body of a request for the counters of interface `ifindex`, or of all if it is 0.
fn statistics_request(ifindex: u32) -> [u8; STATS_BYTES] {
    let mut request = [0; STATS_BYTES];
    request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    request[8..].copy_from_slice(&FILTER_LINK_64.to_ne_bytes());
    request
}

/// The words of `struct rtnl_link_stats64` in a `RTM_NEWSTATS` message.
fn statistics_words(message: &[u8]) -> Option<impl Fn(usize) -> Option<u64>> {
    let mut attributes = attributes(message.get(STATS_BYTES..)?);
    let (_, counters) = attributes.find(|(kind, _)| *kind == IFLA_STATS_LINK_64)?;
    Some(move |index: usize| {
        let bytes = counters.get(index * 8..index * 8 + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    })
}

/// The frames that a full NIC dropped. linux/if_link.h has `rx_missed_errors` for them; drivers
/// that are older than its advice use `rx_fifo_errors`, and some both.
fn missed(counter: &impl Fn(usize) -> Option<u64>) -> Option<u64> {
    Some(counter(RX_MISSED_ERRORS)?.max(counter(RX_FIFO_ERRORS)?))
}

/// The counters in a `RTM_NEWSTATS` message.
fn counters_of(message: &[u8]) -> Option<InterfaceCounters> {
    let (ifindex, counter) = (word(message, 4)?, statistics_words(message)?);
    let rx_missed = missed(&counter)?;
    Some(InterfaceCounters { ifindex, rx_dropped: counter(RX_DROPPED)?, rx_missed })
}

/// The frames in a `RTM_NEWSTATS` message.
fn statistics_of(message: &[u8]) -> Option<InterfaceStatistics> {
    let counter = statistics_words(message)?;
    Some(InterfaceStatistics {
        ifindex: word(message, 4)?,
        rx_frames: counter(RX_PACKETS)?,
        tx_frames: counter(TX_PACKETS)?,
        rx_errors: counter(RX_ERRORS)?,
        rx_length_errors: counter(RX_LENGTH_ERRORS)?.max(counter(RX_OVER_ERRORS)?),
        rx_dropped: counter(RX_DROPPED)?,
        rx_missed: missed(&counter)?,
    })
}

/// The 32 bits at byte `at`.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no netlink sockets")]
    fn loopback_is_among_the_interfaces() {
        let mut interfaces = Interfaces::open().unwrap();
        let all = interfaces.list().unwrap();
        let loopback =
            all.iter().find(|interface| interface.is_loopback).expect("every host has it");
        assert_eq!((loopback.name.as_str(), loopback.ifindex), ("lo", 1));
        assert_eq!(name_of(&interfaces.socket, 1).as_deref(), Some("lo"));
        assert_eq!(name_of(&interfaces.socket, u32::MAX), None);
        assert_eq!(index_of("lo"), Some(1));
        assert_eq!(index_of("no such interface"), None);
        let counted: Vec<u32> =
            interfaces.counters(0).unwrap().iter().map(|counters| counters.ifindex).collect();
        assert!(all.iter().all(|interface| counted.contains(&interface.ifindex)), "{counted:?}");
        assert_eq!(interfaces.counters(1).unwrap().len(), 1);
        let gone = interfaces.counters(u32::MAX >> 1).expect_err("there is none");
        assert_eq!(gone.raw_os_error(), Some(libc::ENODEV));
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = (ATTRIBUTE_BYTES + value.len()) as u16;
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(ifindex: u32, flags: i32, name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; LINK_BYTES];
        bytes[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()));
        bytes.extend_from_slice(&attribute(libc::IFLA_IFNAME, name));
        bytes
    }

    #[test]
    fn names_of_any_bytes_are_read_and_damaged_messages_are_not() {
        let message = link(7, libc::IFF_UP | libc::IFF_LOWER_UP, b"t\xff\0");
        let expected = Interface {
            name: "t\u{fffd}".into(),
            ifindex: 7,
            is_up: true,
            has_carrier: true,
            is_loopback: false,
            is_ifb: false,
        };
        assert_eq!(link_of(&message), Some(expected));
        for length in 0..message.len() - 1 {
            let _ = link_of(&message[..length]);
            assert_eq!(messages(&message[..length]).count(), 0);
        }
        let mut of_bridge = message;
        of_bridge[0] = libc::AF_BRIDGE as u8;
        assert_eq!(link_of(&of_bridge), None);
    }

    #[test]
    fn details_are_read_where_they_are_told() {
        let message = link(7, libc::IFF_UP, b"veth7\0");
        let details = details_of(&message).expect("it is whole");
        assert_eq!((details.mtu_bytes, details.link, details.kind), (1500, None, None));
        let more: Vec<u8> = [
            (libc::IFLA_LINK, 3),
            (libc::IFLA_LINK_NETNSID, 0),
            (libc::IFLA_MASTER, 5),
            (IFLA_GRO_MAX_SIZE, 65_536),
            (IFLA_GRO_IPV4_MAX_SIZE, 200_000),
            (IFLA_GSO_MAX_SIZE, 70_000),
        ]
        .iter()
        .flat_map(|(kind, value): &(u16, u32)| attribute(*kind, &value.to_ne_bytes()))
        .chain(attribute(libc::IFLA_LINKINFO, &attribute(libc::IFLA_INFO_KIND, b"veth\0")))
        .collect();
        let details = details_of(&[message, more].concat()).expect("it is whole");
        assert_eq!((details.link, details.is_link_elsewhere), (Some(3), true));
        assert_eq!((details.master, details.kind.as_deref()), (Some(5), Some("veth")));
        assert_eq!(details.gro_bytes_max, Some(200_000));
        assert_eq!(details.gso_bytes_max, Some(70_000));
    }

    #[test]
    fn frames_are_counted_by_the_words_of_the_kernel() {
        let message_of = |words: &[u64]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let mut message = vec![0; STATS_BYTES];
            message[4..8].copy_from_slice(&7u32.to_ne_bytes());
            message.extend_from_slice(&attribute(IFLA_STATS_LINK_64, &bytes));
            message
        };
        let mut words: Vec<u64> = (100..124).collect();
        let message = message_of(&words);
        let expected = InterfaceStatistics {
            ifindex: 7,
            rx_frames: 100,
            tx_frames: 101,
            rx_errors: 104,
            rx_length_errors: 111,
            rx_dropped: 106,
            rx_missed: 115,
        };
        assert_eq!(statistics_of(&message), Some(expected));
        assert_eq!(statistics_of(&message[..message.len() - 1]), None);
        // A run and doctor count the same.
        let both = |message: &[u8]| {
            (
                counters_of(message).map(|it| it.rx_missed),
                statistics_of(message).map(|it| it.rx_missed),
            )
        };
        assert_eq!(both(&message), (Some(115), Some(115)));
        words[RX_FIFO_ERRORS] = 200;
        assert_eq!(both(&message_of(&words)), (Some(200), Some(200)));
    }

    #[test]
    fn changes_beyond_the_bound_are_read_anew() {
        let body = link(7, 0, b"eth7\0");
        let message = Message { kind: libc::RTM_NEWLINK, flags: 0, sequence: 0, body: &body };
        let (mut changes, mut has_lost) = (VecDeque::new(), false);
        for _ in 0..CHANGE_COUNT_MAX {
            note_change(&mut changes, &mut has_lost, &message);
        }
        assert!(!has_lost);
        note_change(&mut changes, &mut has_lost, &message);
        assert!(has_lost && changes.len() == CHANGE_COUNT_MAX);
    }
}
