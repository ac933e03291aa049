//! The walk over a TPACKET_V3 ring: linux/if_packet.h and Documentation/networking/packet_mmap.rst.
//!
//! The ring is a row of blocks. The kernel fills them in turn and hands each over by its status
//! word; we read it and hand it back the same way. The offsets inside a block come from the kernel,
//! but we trust none of them: a frame that is not inside its block ends the walk of that block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mmap::Mapping;
use crate::time::TimestampNs;

/// `struct tpacket_block_desc`: its size, and the offsets of its words.
const BLOCK_HEADER_BYTES: usize = 48;
const BLOCK_STATUS: usize = 8;
const BLOCK_FRAMES: usize = 12;
const BLOCK_FIRST_FRAME: usize = 16;

/// `struct tpacket3_hdr` and the `struct sockaddr_ll` after it.
const FRAME_HEADER_BYTES: usize = 48;
const FRAME_ADDRESS_BYTES: usize = 20;

/// 802.1Q, if the kernel does not report the protocol of a tag.
const TPID_DEFAULT: u16 = 0x8100;

/// The two statuses that vouch for a checksum: packet(7).
const CHECKSUM_TRUSTED: u32 = libc::TP_STATUS_CSUMNOTREADY | libc::TP_STATUS_CSUM_VALID;

/// One captured frame, borrowed from its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFrame<'a> {
    /// The captured bytes, from the link header on if the interface has one.
    pub bytes: &'a [u8],
    /// Length on the wire, without a tag that was taken out.
    pub wire_bytes: u32,
    /// The kernel's receive time.
    pub timestamp: TimestampNs,
    /// Control information and protocol of the VLAN tag that was taken out of the frame.
    pub vlan: Option<(u16, u16)>,
    /// The interface.
    pub ifindex: u32,
    /// The interface's kind: an ARPHRD_ value of linux/if_arp.h.
    pub hardware_type: u16,
    /// The direction of the frame: a PACKET_ value of packet(7).
    pub packet_type: u8,
    /// The kernel says of the transport's checksum that it was verified, or that it is still to be
    /// computed.
    pub is_checksum_trusted: bool,
}

/// The ring and our position in it.
#[derive(Debug)]
pub struct Ring {
    memory: Arc<Mapping>,
    block_bytes: usize,
    next: usize,
}

impl Ring {
    /// The ring in `memory`, with blocks of `block_bytes` bytes each.
    ///
    /// # Panics
    /// If the memory is not a whole number of blocks, or a block is too small for its header.
    pub fn new(memory: Mapping, block_bytes: usize) -> Ring {
        assert!(block_bytes >= BLOCK_HEADER_BYTES && memory.len().is_multiple_of(block_bytes));
        Ring { memory: Arc::new(memory), block_bytes, next: 0 }
    }

    /// A ring on heap memory whose blocks contain `blocks`, in the kernel's layout, all of them
    /// handed over. For instruments and tests without the kernel.
    ///
    /// # Panics
    /// If the frames of a block do not fit into `block_bytes`.
    pub fn on_heap(block_bytes: usize, blocks: &[Vec<RingFrame<'_>>]) -> Ring {
        let mut memory = Mapping::on_heap(block_bytes * blocks.len());
        for (number, frames) in blocks.iter().enumerate() {
            let last = frames.len().saturating_sub(1);
            let frames = frames.iter().enumerate();
            let count = frames.len() as u32;
            let bytes: Vec<u8> =
                frames.flat_map(|(at, frame)| laid_out(frame, at == last)).collect();
            assert!(BLOCK_HEADER_BYTES + bytes.len() <= block_bytes, "the frames fit");
            let start = number * block_bytes;
            memory.write(start + BLOCK_FRAMES, &count.to_ne_bytes());
            let first = BLOCK_HEADER_BYTES as u32;
            memory.write(start + BLOCK_FIRST_FRAME, &first.to_ne_bytes());
            memory.write(start + BLOCK_HEADER_BYTES, &bytes);
        }
        let mut ring = Ring::new(memory, block_bytes);
        ring.hand_over();
        ring
    }

    /// Hands over every block, as the kernel would, to be walked again.
    ///
    /// # Panics
    /// If the ring is the kernel's.
    pub fn hand_over(&mut self) {
        assert!(self.memory.is_on_heap(), "the kernel hands over its own blocks");
        for start in (0..self.memory.len()).step_by(self.block_bytes) {
            let status = self.memory.word32(start + BLOCK_STATUS);
            status.store(libc::TP_STATUS_USER, Ordering::Release);
        }
    }

    /// Lets other threads see how full the ring is.
    pub fn watch(&self) -> RingWatch {
        RingWatch { memory: self.memory.clone(), block_bytes: self.block_bytes }
    }

    /// The next block, if the kernel has handed it over.
    pub fn next_block(&mut self) -> Option<Block<'_>> {
        let start = self.next;
        let status = self.memory.word32(start + BLOCK_STATUS);
        // Acquire: everything the kernel wrote before the status is visible.
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        self.next = (start + self.block_bytes) % self.memory.len();
        let word = |offset| self.memory.word32(start + offset).load(Ordering::Relaxed);
        let (frame_count, first) = (word(BLOCK_FRAMES), word(BLOCK_FIRST_FRAME));
        // SAFETY: the kernel does not write to the block until its status changes, which `Block`
        // does when it is dropped; it borrows the ring, so there is no second one. The status word
        // is outside of the range, and a `RingWatch` reads nothing else.
        let bytes =
            unsafe { self.memory.bytes(start + BLOCK_HEADER_BYTES..start + self.block_bytes) };
        Some(Block { status, bytes, frame_count, first: first as usize })
    }
}

/// How full a ring is. Any thread may look while the ring is walked: it reads status words only.
#[derive(Debug)]
pub struct RingWatch {
    memory: Arc<Mapping>,
    block_bytes: usize,
}

impl RingWatch {
    /// The number of blocks of the ring.
    pub fn block_count(&self) -> u64 {
        (self.memory.len() / self.block_bytes) as u64
    }

    /// The memory of the ring.
    pub fn ring_bytes(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Blocks that the kernel has handed over and that were not handed back yet. The kernel cannot
    /// fill them.
    pub fn full_block_count(&self) -> u64 {
        let starts = (0..self.memory.len()).step_by(self.block_bytes);
        let is_full = |start: &usize| {
            let status = self.memory.word32(start + BLOCK_STATUS).load(Ordering::Relaxed);
            status & libc::TP_STATUS_USER != 0
        };
        starts.filter(is_full).count() as u64
    }
}

/// A block on loan from the kernel, handed back when it is dropped.
#[derive(Debug)]
pub struct Block<'ring> {
    status: &'ring AtomicU32,
    /// The bytes after the block's header.
    bytes: &'ring [u8],
    frame_count: u32,
    /// Offset of the first frame, counted from the block's start.
    first: usize,
}

impl Block<'_> {
    /// Number of frames in it, according to the kernel.
    pub fn frame_count(&self) -> u32 {
        self.frame_count
    }

    /// The frames, in the order of arrival.
    pub fn frames(&self) -> Frames<'_> {
        Frames { bytes: self.bytes, at: self.first, left: self.frame_count }
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // Release: our reads are done before the kernel writes again.
        self.status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

/// Iterator over the frames of a [`Block`]. It ends early at a frame that is not inside the block.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    /// Offset of the next frame's header, counted from the block's start.
    at: usize,
    left: u32,
}

impl<'a> Iterator for Frames<'a> {
    type Item = RingFrame<'a>;

    #[inline]
    fn next(&mut self) -> Option<RingFrame<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let rest = self.bytes.get(self.at.checked_sub(BLOCK_HEADER_BYTES)?..)?;
        let Some((next_offset, frame)) = read_frame(rest) else {
            self.left = 0;
            return None;
        };
        if next_offset == 0 {
            self.left = 0;
        }
        self.at += next_offset;
        Some(frame)
    }
}

/// The frame whose header is at the front of `rest`, and the distance to the next frame (0: there
/// is none).
#[inline]
fn read_frame(rest: &[u8]) -> Option<(usize, RingFrame<'_>)> {
    let (header, behind) = rest.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let address = behind.first_chunk::<FRAME_ADDRESS_BYTES>()?;
    let word = |at: usize| {
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);

    let (captured_bytes, wire_bytes) = (word(12) as usize, word(16));
    let (status, link_offset) = (word(20), half(24) as usize);
    let bytes = rest.get(link_offset..)?.get(..captured_bytes)?;
    let tpid = if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 { half(36) } else { TPID_DEFAULT };
    let has_tag = status & libc::TP_STATUS_VLAN_VALID != 0;
    let frame = RingFrame {
        bytes,
        wire_bytes: wire_bytes.max(captured_bytes as u32),
        timestamp: TimestampNs::from_parts(word(4).into(), word(8).into()),
        vlan: has_tag.then_some((word(32) as u16, tpid)),
        ifindex: u32::from_ne_bytes([address[4], address[5], address[6], address[7]]),
        hardware_type: u16::from_ne_bytes([address[8], address[9]]),
        packet_type: address[10],
        is_checksum_trusted: status & CHECKSUM_TRUSTED != 0,
    };
    Some((word(0) as usize, frame))
}

/// A frame in the kernel's layout: header, address, a gap, the bytes, padding to 8.
fn laid_out(frame: &RingFrame<'_>, is_last: bool) -> Vec<u8> {
    let mut laid = vec![0u8; 80];
    let link_offset = laid.len() as u16;
    let total = (laid.len() + frame.bytes.len()).next_multiple_of(8);
    let (seconds, nanoseconds) =
        (frame.timestamp.0 / 1_000_000_000, frame.timestamp.0 % 1_000_000_000);
    let (tci, tpid) = frame.vlan.unwrap_or_default();
    let tagged = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
    let status = if frame.vlan.is_some() { tagged } else { 0 };
    let mut put = |at: usize, value: &[u8]| laid[at..at + value.len()].copy_from_slice(value);
    put(0, &(if is_last { 0 } else { total as u32 }).to_ne_bytes());
    put(4, &(seconds as u32).to_ne_bytes());
    put(8, &(nanoseconds as u32).to_ne_bytes());
    put(12, &(frame.bytes.len() as u32).to_ne_bytes());
    put(16, &frame.wire_bytes.to_ne_bytes());
    put(20, &status.to_ne_bytes());
    put(24, &link_offset.to_ne_bytes());
    put(32, &u32::from(tci).to_ne_bytes());
    put(36, &tpid.to_ne_bytes());
    put(52, &frame.ifindex.to_ne_bytes());
    put(56, &frame.hardware_type.to_ne_bytes());
    put(58, &[frame.packet_type]);
    laid.extend_from_slice(frame.bytes);
    laid.resize(total, 0);
    laid
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK_BYTES: usize = 4096;

    const FIRST: RingFrame<'static> = RingFrame {
        bytes: b"first",
        wire_bytes: 1000,
        timestamp: TimestampNs::from_parts(7, 9),
        vlan: None,
        ifindex: 3,
        hardware_type: 772,
        packet_type: 4,
        is_checksum_trusted: false,
    };

    fn ring(block_count: usize) -> Ring {
        Ring::new(Mapping::on_heap(BLOCK_BYTES * block_count), BLOCK_BYTES)
    }

    fn memory_of(ring: &mut Ring) -> &mut Mapping {
        Arc::get_mut(&mut ring.memory).expect("nobody watches it")
    }

    /// A frame with a tag, which is valid if `status` marks it so.
    fn frame(payload: &[u8], status: u32, is_last: bool) -> Vec<u8> {
        let frame = RingFrame { bytes: payload, vlan: Some((0x2064, 0x88a8)), ..FIRST };
        let mut bytes = laid_out(&frame, is_last);
        bytes[20..24].copy_from_slice(&status.to_ne_bytes());
        bytes
    }

    fn hand_over(ring: &mut Ring, block: usize, frame_count: u32, frames: &[u8]) {
        let start = block * BLOCK_BYTES;
        memory_of(ring).write(start + BLOCK_FRAMES, &frame_count.to_ne_bytes());
        memory_of(ring)
            .write(start + BLOCK_FIRST_FRAME, &(BLOCK_HEADER_BYTES as u32).to_ne_bytes());
        memory_of(ring).write(start + BLOCK_HEADER_BYTES, frames);
        ring.memory.word32(start + BLOCK_STATUS).store(libc::TP_STATUS_USER, Ordering::Release);
    }

    fn is_ours(ring: &Ring, block: usize) -> bool {
        ring.memory.word32(block * BLOCK_BYTES + BLOCK_STATUS).load(Ordering::Acquire) != 0
    }

    #[test]
    fn blocks_are_walked_in_order_and_handed_back() {
        let mut ring = ring(2);
        assert!(ring.next_block().is_none());
        for round in 0..3u8 {
            for block in 0..2u8 {
                hand_over(&mut ring, block.into(), 1, &frame(&[round, block], 0, true));
            }
            for block in 0..2u8 {
                let loan = ring.next_block().expect("it was handed over");
                assert_eq!(loan.frames().next().unwrap().bytes, [round, block]);
                drop(loan);
                assert!(!is_ours(&ring, block.into()));
            }
            assert!(ring.next_block().is_none());
        }
    }

    #[test]
    fn a_watch_sees_the_blocks_that_were_handed_over() {
        let mut ring = Ring::on_heap(BLOCK_BYTES, &[vec![FIRST], vec![], vec![FIRST]]);
        let watch = ring.watch();
        assert_eq!((watch.block_count(), watch.ring_bytes()), (3, 3 * BLOCK_BYTES as u64));
        for left in (0..3).rev() {
            let block = ring.next_block().expect("it was handed over");
            assert_eq!(watch.full_block_count(), left + 1, "it is on loan");
            drop(block);
            assert_eq!(watch.full_block_count(), left);
        }
    }

    #[test]
    fn a_ring_on_the_heap_gives_its_frames_back_as_often_as_it_is_handed_over() {
        let tagged = RingFrame { bytes: b"second!!!", vlan: Some((0x2064, 0x88a8)), ..FIRST };
        let blocks = [vec![FIRST, tagged], vec![], vec![tagged]];
        let mut ring = Ring::on_heap(BLOCK_BYTES, &blocks);
        for _ in 0..2 {
            for frames in &blocks {
                let block = ring.next_block().expect("it was handed over");
                assert_eq!(block.frames().collect::<Vec<_>>(), *frames);
            }
            assert!(ring.next_block().is_none());
            ring.hand_over();
        }
    }

    #[test]
    fn frames_come_with_what_the_kernel_says_of_them() {
        let mut ring = ring(1);
        let tagged = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        let frames = [
            frame(b"first", 0, false),
            frame(b"second!!!", tagged, false),
            frame(b"", libc::TP_STATUS_VLAN_VALID, true),
        ];
        hand_over(&mut ring, 0, 3, &frames.concat());
        let block = ring.next_block().unwrap();
        let seen: Vec<_> = block.frames().collect();
        assert_eq!(block.frame_count(), 3);
        let second = RingFrame { bytes: b"second!!!", vlan: Some((0x2064, 0x88a8)), ..FIRST };
        let third = RingFrame { bytes: b"", vlan: Some((0x2064, 0x8100)), ..FIRST };
        assert_eq!(seen, [FIRST, second, third]);
    }

    #[test]
    fn offsets_outside_the_block_end_the_walk() {
        let whole = frame(b"payload", 0, false);
        let hostile: &[(usize, &[u8])] = &[
            (12, &u32::MAX.to_ne_bytes()), // captured length
            (12, &4000u32.to_ne_bytes()),  // a little too long
            (24, &u16::MAX.to_ne_bytes()), // link offset
        ];
        for (at, value) in hostile {
            let mut ring = ring(1);
            let mut frames = [whole.clone(), whole.clone()].concat();
            frames[whole.len() + at..][..value.len()].copy_from_slice(value);
            hand_over(&mut ring, 0, 2, &frames);
            assert_eq!(ring.next_block().unwrap().frames().count(), 1, "{at} {value:?}");
        }
        for first in [0, 47, 4090, 4096, u32::MAX] {
            let mut ring = ring(1);
            hand_over(&mut ring, 0, 9, &whole);
            memory_of(&mut ring).write(BLOCK_FIRST_FRAME, &first.to_ne_bytes());
            assert_eq!(ring.next_block().unwrap().frames().count(), 0, "{first}");
        }
    }

    proptest! {
        #[test]
        fn no_block_can_lead_us_astray(
            noise in prop::collection::vec(any::<u64>(), BLOCK_BYTES / 8),
            offsets in prop::collection::vec((0..BLOCK_BYTES / 4, 0u32..5000), 0..40),
        ) {
            let mut noise: Vec<u8> = noise.into_iter().flat_map(u64::to_ne_bytes).collect();
            for (word, value) in offsets {
                noise[word * 4..word * 4 + 4].copy_from_slice(&value.to_ne_bytes());
            }
            let mut ring = ring(1);
            memory_of(&mut ring).write(0, &noise);
            ring.memory.word32(BLOCK_STATUS).store(libc::TP_STATUS_USER, Ordering::Release);
            let block = ring.next_block().unwrap();
            for frame in block.frames().take(10_000) {
                prop_assert!(frame.bytes.len() <= BLOCK_BYTES);
                prop_assert!(frame.wire_bytes as usize >= frame.bytes.len());
            }
        }
    }
}
