//! An AF_PACKET socket, from its filter to its fanout group: packet(7).
//!
//! The calls come in this order: [`open`](PacketSocket::open), [`ring`](PacketSocket::ring),
//! [`attach`](PacketSocket::attach), [`bind`](PacketSocket::bind), then
//! [`found_group`](PacketSocket::found_group) or [`join_group`](PacketSocket::join_group), and
//! [`lock`](PacketSocket::lock). Nothing flows before `bind`.
//!
//! A packet socket sends frames, too, and write(2) on one that is open needs no capability. Ours
//! never send. So that whoever takes over this process cannot either, each has a ring for sending,
//! of which nothing is mapped: whatever is written to the socket, the kernel looks into that ring,
//! and finds it empty. And all have descriptors from [`lowest_descriptor`] on, where a seal refuses
//! to write: [`seccomp`](super::seccomp).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::cvt;
use super::mmap::Mapping;
use super::ring::Ring;

/// PACKET_STATISTICS of linux/if_packet.h; libc does not define it.
const PACKET_STATISTICS: libc::c_int = 6;
/// TPACKET_V3 packs frames of any size, and uses this number only to check that the sizes agree.
const FRAME_BYTES: u32 = 2048;
/// The most space in front of a frame: the rest of `FRAME_BYTES` has room for its headers, as
/// packet_set_ring of net/packet/af_packet.c requires.
pub const RESERVE_BYTES_MAX: u32 = FRAME_BYTES - 128;

/// Packet sockets have descriptors from here on, unless the others need more.
const LOWEST_DESCRIPTOR: u64 = 512;

/// The lowest descriptor for packet sockets, if at most `other_count` others are open.
pub fn lowest_descriptor(other_count: u64) -> u32 {
    LOWEST_DESCRIPTOR.max(other_count).try_into().unwrap_or(u32::MAX)
}

/// The size of a ring and the timeout of a block.
#[derive(Clone, Copy, Debug)]
pub struct RingSize {
    /// Size of a block: a power of two, and a multiple of the page size.
    pub block_bytes: u32,
    /// Number of blocks.
    pub block_count: u32,
    /// After this time the kernel hands over a block that holds frames but is not full.
    pub retire_timeout_ms: u32,
    /// Free space in front of each frame, which makes blocks fill sooner: at most
    /// [`RESERVE_BYTES_MAX`].
    pub reserve_bytes: u32,
}

/// How a fanout group distributes frames to its members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum FanoutKind {
    /// By a hash that is the same for both directions of a connection.
    Hash = libc::PACKET_FANOUT_HASH,
    /// By the CPU that received them.
    Cpu = libc::PACKET_FANOUT_CPU,
    /// By the NIC queue that received them.
    Queue = libc::PACKET_FANOUT_QM,
    /// By the result of a program.
    Program = libc::PACKET_FANOUT_EBPF,
}

/// A fanout group: its number, which is unique in its network namespace, and its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FanoutGroup {
    id: u16,
    kind: FanoutKind,
}

impl FanoutGroup {
    /// As many members as a group may have if nothing else is asked for: PACKET_FANOUT_DEF_MAX.
    pub const MEMBER_COUNT_DEFAULT: usize = 256;
}

/// The frames a ring has received and lost since the last call: PACKET_STATISTICS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RingStatistics {
    /// Frames that the filter passed: those in the ring and those dropped.
    pub packets: u32,
    /// Frames dropped because the ring was full.
    pub drops: u32,
    /// Times the ring was full and stopped.
    pub freezes: u32,
}

/// The socket. When it is dropped, it leaves its group and promiscuous mode.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a raw socket of protocol 0, which receives nothing until it is bound. Needs
    /// CAP_NET_RAW: EPERM.
    pub fn open() -> io::Result<PacketSocket> {
        let (family, flags) = (AddressFamily::PACKET, SocketFlags::CLOEXEC);
        Ok(PacketSocket { fd: socket_with(family, SocketType::RAW, flags, None)? })
    }

    /// The same socket under the first free descriptor from `lowest` on.
    pub fn with_descriptor_from(self, lowest: u32) -> io::Result<PacketSocket> {
        let lowest = lowest.try_into().map_err(|_| io::ErrorKind::QuotaExceeded)?;
        Ok(PacketSocket { fd: fcntl_dupfd_cloexec(&self.fd, lowest)? })
    }

    /// Runs `program` on every frame: SO_ATTACH_BPF, socket(7).
    pub fn attach(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program.as_raw_fd())
    }

    /// Prevents changes of the program and of the group's program: SO_LOCK_FILTER, socket(7).
    pub fn lock(&self) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1i32)
    }

    /// Creates the socket's ring. ENOMEM: the kernel has no memory for it.
    pub fn ring(&self, size: RingSize) -> io::Result<Ring> {
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        self.set(libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
        self.set(libc::SOL_PACKET, libc::PACKET_RESERVE, &size.reserve_bytes)?;
        let request = libc::tpacket_req3 {
            tp_block_size: size.block_bytes,
            tp_block_nr: size.block_count,
            tp_frame_size: FRAME_BYTES,
            tp_frame_nr: (size.block_bytes / FRAME_BYTES).saturating_mul(size.block_count),
            tp_retire_blk_tov: size.retire_timeout_ms,
            tp_sizeof_priv: 0,
            // No hash is requested: the kernel would compute it under the ring's lock.
            tp_feature_req_word: 0,
        };
        self.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let page_bytes = rustix::param::page_size();
        // Set before the mapping, it cannot be removed as long as the ring is mapped.
        let nothing_to_send = libc::tpacket_req3 {
            tp_block_size: page_bytes as u32,
            tp_block_nr: 1,
            tp_frame_nr: page_bytes as u32 / FRAME_BYTES,
            tp_retire_blk_tov: 0,
            ..request
        };
        self.set(libc::SOL_PACKET, libc::PACKET_TX_RING, &nothing_to_send)?;
        let (block_bytes, block_count) = (size.block_bytes as usize, size.block_count as usize);
        // The kernel maps both rings together or none: the one for sending comes last.
        let memory = Mapping::of_file(self.as_fd(), block_bytes * block_count + page_bytes)?;
        Ok(Ring::new(memory.without_end(page_bytes)?, block_bytes))
    }

    /// Starts receiving all frames of interface `ifindex` (0: of every interface), whatever their
    /// protocol. A member of a fanout group cannot be bound again (EINVAL).
    pub fn bind(&self, ifindex: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as libc::c_ushort,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: ifindex as libc::c_int,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer and the length describe `address`.
        cvt(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(())
    }

    /// Whether the socket is still bound to interface `ifindex`. The kernel unbinds it when the
    /// interface is removed, or moved to another network namespace, and never rebinds it: not even
    /// to a new interface with the same name or index.
    pub fn is_bound_to(&self, ifindex: u32) -> io::Result<bool> {
        // SAFETY: any bytes, zeros too, are a `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of_val(&address) as libc::socklen_t;
        let pointer = (&raw mut address).cast();
        // SAFETY: the pointer and the length describe `address`.
        cvt(unsafe { libc::getsockname(self.fd.as_raw_fd(), pointer, &mut length) })?;
        Ok(address.sll_ifindex == ifindex as libc::c_int)
    }

    /// Puts interface `ifindex` into promiscuous mode for as long as the socket is open.
    pub fn set_promiscuous(&self, ifindex: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: ifindex as libc::c_int,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Creates a fanout group of this kind for `member_count` members, and joins it as its first
    /// one. The kernel chooses a number that no other process has (PACKET_FANOUT_FLAG_UNIQUEID,
    /// Linux 4.12). EINVAL: this kernel allows [`FanoutGroup::MEMBER_COUNT_DEFAULT`] members.
    pub fn found_group(&self, kind: FanoutKind, member_count: usize) -> io::Result<FanoutGroup> {
        let flags = kind as u32 | libc::PACKET_FANOUT_FLAG_UNIQUEID;
        if member_count <= FanoutGroup::MEMBER_COUNT_DEFAULT {
            self.join(0, flags)?;
        } else {
            // `struct fanout_args` of linux/if_packet.h: number and flags, then the maximum.
            let arguments = [flags << 16, member_count as u32];
            self.set(libc::SOL_PACKET, libc::PACKET_FANOUT, &arguments)?;
        }
        let value: u32 = self.get(libc::SOL_PACKET, libc::PACKET_FANOUT)?;
        Ok(FanoutGroup { id: value as u16, kind })
    }

    /// Joins `group` as its last member.
    pub fn join_group(&self, group: FanoutGroup) -> io::Result<()> {
        self.join(group.id, group.kind as u32)
    }

    /// Lets `program` choose the members of this socket's group, which must be of
    /// [`FanoutKind::Program`]. The result is taken modulo the number of members. Before this call
    /// the first member gets every frame.
    pub fn direct_group(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &program.as_raw_fd())
    }

    /// The counts since the last call; reading them resets them.
    pub fn statistics(&self) -> io::Result<RingStatistics> {
        let words: [u32; 3] = self.get(libc::SOL_PACKET, PACKET_STATISTICS)?;
        Ok(RingStatistics { packets: words[0], drops: words[1], freezes: words[2] })
    }

    /// The error that poll(2) reported; reading it clears it: SO_ERROR. ENETDOWN if the interface
    /// went down or vanished.
    pub fn take_error(&self) -> Option<io::Error> {
        match socket_error(&self.fd) {
            Ok(Ok(())) => None,
            Ok(Err(error)) | Err(error) => Some(error.into()),
        }
    }

    /// Without PACKET_FANOUT_FLAG_DEFRAG: with it, fragments would wait in a queue of the kernel,
    /// which junk fills and which no counter of ours sees.
    fn join(&self, id: u16, flags: u32) -> io::Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_FANOUT, &(u32::from(id) | flags << 16))
    }

    fn set<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        let value: *const T = value;
        // SAFETY: the pointer and the length describe `value`.
        cvt(unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, name, value.cast(), length) })?;
        Ok(())
    }

    fn get<T: Words>(&self, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
        let mut value = T::default();
        let mut length = size_of::<T>() as libc::socklen_t;
        let pointer: *mut T = &mut value;
        // SAFETY: the pointer and the length describe `value`, and any bytes make a `Words`.
        cvt(unsafe {
            libc::getsockopt(self.fd.as_raw_fd(), level, name, pointer.cast(), &mut length)
        })?;
        Ok(value)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Integers and arrays of them: types for which any bytes are a value.
trait Words: Default {}
impl Words for u32 {}
impl Words for [u32; 3] {}
