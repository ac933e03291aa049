//! Loads and controls the kernel filter of `bpf/http_filter.bpf.c`: bpf(2).
//!
//! Loading needs CAP_BPF. After that no bpf call is made (before Linux 5.19 each one would need the
//! capability again): the gate and the counters are mapped memory.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorExt, MapCore, MapFlags, MapHandle};
use rustix::thread::{MembarrierCommand, membarrier};

use super::affinity;
use super::counters::{FilterCounters, SLOT_WORDS};
use super::flow_hints::FlowHints;
use super::mmap::Mapping;
use super::privileges;
use super::program::LoadError;
use super::restrict::{self, CHOICE_BYTES};
use crate::config::{CaptureConfig, DecodeConfig, FilterMode, PacketDirection};
use crate::ids::FlowHashKey;

super::skeleton!("http_filter");

/// Byte offsets of words in `struct control`.
const CONTROL_GATE: usize = 0;
const CONTROL_MODE: usize = 4;
const CONTROL_DIRECTION: usize = 8;
const CONTROL_RESTRICTIONS: usize = 12;
const CONTROL_HINT_MASK: usize = 16;
const CONTROL_ELIDE_BYTES_MIN: usize = 24;
const CONTROL_SAMPLE_MAX: usize = 28;
const CONTROL_SHARE_MAX: usize = 32;
const CONTROL_WANTS_TLS: usize = 36;
const CONTROL_BYTES: usize = 40;

/// Byte offsets in `struct connection` of `bpf/connection.h`.
const CONNECTION_FLAGS: usize = 8;
const CONNECTION_BYTES: usize = 12;
const CONNECTION_SETTLED: usize = 16;
const CONNECTION_BEGIN: usize = 32;
/// Its flags HINT_LATE, and HINT_ISN_0 with HINT_ISN_1, of `bpf/shared.h`.
const FLAG_LATE: u32 = 1 << 28;
const FLAG_BOTH_ISNS: u32 = 1 << 29 | 1 << 30;

/// How many of the connections that began, and on which data were sent, were seen in which
/// directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// SYN and SYN-ACK were seen.
    pub of_both_ends: u64,
    /// Only one of them was seen, although data were sent: the other direction is missing here.
    pub of_one_end: u64,
}

impl Handshakes {
    /// Adds a connection by its value in the map of sessions, or of openings.
    fn add(&mut self, value: &[u8], is_session: bool) {
        let word = |at: usize| {
            let bytes = value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let flags = word(CONNECTION_FLAGS);
        let is_settled = word(CONNECTION_SETTLED) != 0 || word(CONNECTION_SETTLED + 4) != 0;
        let has_data = is_session || is_settled || word(CONNECTION_BYTES) != 0;
        // The flags end with the connection; where its messages begin is known from both numbers.
        let is_of_both = flags & FLAG_BOTH_ISNS == FLAG_BOTH_ISNS || word(CONNECTION_BEGIN) != 0;
        if flags & FLAG_LATE != 0 || !has_data {
            return;
        }
        match is_of_both {
            true => self.of_both_ends += 1,
            false => self.of_one_end += 1,
        }
    }
}

/// Whether frames may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// No frame passes, and none is counted.
    Shut = 0,
    /// Frames are judged and counted.
    Open = 1,
}

/// The loaded filter. Once it is dropped, the sockets it is attached to receive nothing more.
#[derive(Debug)]
pub struct Filter {
    program: OwnedFd,
    parts: [OwnedFd; 2],
    sessions: ConnectionMap,
    openings: ConnectionMap,
    choices: MapHandle,
    /// Only kept open: the kernel empties a program array when its last descriptor is closed.
    _part_array: MapHandle,
    control: Mapping,
    counters: Mapping,
    hints: FlowHints,
    is_vlan_ignored: bool,
}

impl Filter {
    /// Loads the filter for `config`, with its gate shut. From `decode` it applies the
    /// restrictions, the VXLAN ports, and whether VLANs are ignored.
    ///
    /// # Errors
    /// [`LoadError::is_permission`] if CAP_BPF is missing (CAP_SYS_ADMIN before Linux 5.8).
    pub fn load(config: &CaptureConfig, decode: &DecodeConfig) -> Result<Filter, LoadError> {
        Filter::try_load(config, decode).map_err(LoadError::new)
    }

    fn try_load(config: &CaptureConfig, decode: &DecodeConfig) -> libbpf_rs::Result<Filter> {
        super::hush_libbpf();
        let hash_key = FlowHashKey::random();
        let mut storage = MaybeUninit::uninit();
        let mut open = skeleton::HttpFilterSkelBuilder::default().open(&mut storage)?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.is_trusted = privileges::is_trusted().into();
            constants.flow_hash_key = hash_key.0;
            constants.is_vlan_ignored = decode.is_vlan_ignored.into();
        }
        let cpu_count = affinity::cpu_id_bound()?;
        open.maps.counters.set_max_entries((cpu_count * SLOT_WORDS) as u32)?;
        open.maps.sessions.set_max_entries(config.session_count_max)?;
        open.maps.openings.set_max_entries(config.opening_count_max)?;
        let prefixes = restrict::prefixes(&decode.restrictions.networks);
        open.maps.networks.set_max_entries(prefixes.len().max(1) as u32)?;
        let pair_count = FlowHints::pair_count(config.session_count_max);
        open.maps.hints.set_max_entries(pair_count)?;
        let loaded = open.load()?;
        restrict::choose(&Mapping::of_file(loaded.maps.choices.as_fd(), CHOICE_BYTES)?, decode);
        for (network, choices) in prefixes {
            loaded.maps.networks.update(&network, &choices.to_ne_bytes(), MapFlags::ANY)?;
        }

        let counter_bytes = cpu_count * SLOT_WORDS * size_of::<u64>();
        let duplicate = "cannot duplicate the filter's descriptor";
        let filter = Filter {
            program: loaded.progs.http_filter.as_fd().try_clone_to_owned().context(duplicate)?,
            parts: [
                loaded.progs.filter_plain.as_fd().try_clone_to_owned().context(duplicate)?,
                loaded.progs.filter_tunnel.as_fd().try_clone_to_owned().context(duplicate)?,
            ],
            sessions: ConnectionMap(MapHandle::try_from(&loaded.maps.sessions)?),
            openings: ConnectionMap(MapHandle::try_from(&loaded.maps.openings)?),
            choices: MapHandle::try_from(&loaded.maps.choices)?,
            _part_array: MapHandle::try_from(&loaded.maps.parts)?,
            control: Mapping::of_file(loaded.maps.control.as_fd(), CONTROL_BYTES)?,
            counters: Mapping::of_file(loaded.maps.counters.as_fd(), counter_bytes)?,
            hints: FlowHints::of_map(loaded.maps.hints.as_fd(), pair_count, hash_key)?,
            is_vlan_ignored: decode.is_vlan_ignored,
        };
        filter.write_word(CONTROL_RESTRICTIONS, restrict::kinds(&decode.restrictions));
        let sample_max = decode.restrictions.sample.hash_max();
        filter.write_word(CONTROL_SAMPLE_MAX, sample_max);
        filter.set_share(sample_max);
        filter.write_word(CONTROL_HINT_MASK, pair_count - 1);
        let elide_bytes_min = config.elide_bytes_min.unwrap_or(0);
        filter.write_word(CONTROL_ELIDE_BYTES_MIN, elide_bytes_min.try_into().unwrap_or(0));
        filter.write_word(CONTROL_WANTS_TLS, config.wants_tls.into());
        filter.write_word(
            CONTROL_MODE,
            match config.filter {
                FilterMode::Http => 0,
                FilterMode::Off => 1,
            },
        );
        filter.write_word(
            CONTROL_DIRECTION,
            match config.direction {
                PacketDirection::InOut => 0,
                PacketDirection::In => 1,
                PacketDirection::Out => 2,
            },
        );
        Ok(filter)
    }

    /// Opens or shuts the gate. After it was shut, no CPU is judging a frame any more: all frames
    /// that passed have been counted, by the filter and by their sockets.
    pub fn gate(&self, gate: Gate) {
        self.write_word(CONTROL_GATE, gate as u32);
        fence(Ordering::SeqCst);
        if gate == Gate::Shut {
            await_readers();
        }
    }

    /// From now on rejects the connections whose [`FlowKey::sample_hash`](crate::ids::FlowKey) is
    /// greater than `share_max`, which is at most that of the sample.
    pub fn set_share(&self, share_max: u32) {
        self.write_word(CONTROL_SHARE_MAX, share_max);
    }

    /// All counts so far.
    pub fn counters(&self) -> FilterCounters {
        let mut sum = FilterCounters::default();
        let slot_bytes = SLOT_WORDS * size_of::<u64>();
        for slot in (0..self.counters.len()).step_by(slot_bytes) {
            let word = |index| self.counters.word64(slot + index * size_of::<u64>());
            sum.add_slot(&std::array::from_fn(|index| word(index).load(Ordering::Relaxed)));
        }
        sum
    }

    /// In which directions connections were seen that began since the filter was loaded, of those
    /// that its maps still hold, and of at most `count_max` of each map. Each takes two bpf(2)
    /// calls.
    pub fn handshakes(&self, count_max: usize) -> io::Result<Handshakes> {
        let mut found = Handshakes::default();
        for (map, is_session) in [(&self.sessions, true), (&self.openings, false)] {
            for key in map.keys().take(count_max) {
                if let Some(value) = map.lookup(&key)? {
                    found.add(&value, is_session);
                }
            }
        }
        Ok(found)
    }

    /// The program, for attaching to sockets.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// The programs that the attached one calls. For tests and tools.
    pub fn parts(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.parts.iter().map(AsFd::as_fd)
    }

    /// The table of hints from user space to the filter; all callers share it.
    pub fn hints(&self) -> FlowHints {
        self.hints.clone()
    }

    /// The key of the hash that chooses a connection's hints and its shard, random in each filter.
    pub fn hash_key(&self) -> FlowHashKey {
        self.hints.hash_key()
    }

    /// The map of sessions: [`FlowKey`](crate::ids::FlowKey) to `struct connection` of
    /// `bpf/connection.h`. For tests and tools; each access is a bpf(2) call.
    pub fn sessions(&self) -> &ConnectionMap {
        &self.sessions
    }

    /// The map of openings, likewise. For tests and tools.
    pub fn openings(&self) -> &ConnectionMap {
        &self.openings
    }

    /// The user's choices of ports and VLANs, for the fanout program.
    pub(super) fn choices(&self) -> &MapHandle {
        &self.choices
    }

    /// Whether VLANs and overlay networks are no part of its keys.
    pub(super) fn is_vlan_ignored(&self) -> bool {
        self.is_vlan_ignored
    }

    fn write_word(&self, word: usize, value: u32) {
        self.control.word32(word).store(value, Ordering::Release);
    }
}

/// A map of the filter with its state of connections, as bytes. For tests and tools.
#[derive(Debug)]
pub struct ConnectionMap(MapHandle);

impl ConnectionMap {
    /// The keys, as they are found.
    pub fn keys(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.0.keys()
    }

    /// The value of `key`.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.0.lookup(key, MapFlags::ANY).map_err(io::Error::other)
    }

    /// Sets the value of `key`.
    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.0.update(key, value, MapFlags::ANY).map_err(io::Error::other)
    }

    /// Removes `key`.
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.0.delete(key).map_err(io::Error::other)
    }
}

/// Waits until every CPU has finished its current frame. Frames go through filter and socket under
/// the RCU read lock, and membarrier(2) with this command waits for its holders. If it is refused
/// (nohz_full, seccomp), we sleep for far longer than a frame takes.
fn await_readers() {
    const PAUSE: Duration = Duration::from_millis(20);
    // MEMBARRIER_CMD_GLOBAL, Linux 4.3.
    if membarrier(MembarrierCommand::Global).is_err() {
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::skeleton::types;
    use super::*;
    use crate::ids::FlowKey;
    use std::mem::offset_of;

    #[test]
    fn layouts_are_those_of_the_kernel_half() {
        assert_eq!(size_of::<FlowKey>(), size_of::<types::flow_key>());
        assert_eq!(offset_of!(FlowKey, address), offset_of!(types::flow_key, address));
        assert_eq!(offset_of!(FlowKey, port), offset_of!(types::flow_key, port));
        assert_eq!(offset_of!(FlowKey, vlan), offset_of!(types::flow_key, vlan));
        assert_eq!(offset_of!(FlowKey, realm), offset_of!(types::flow_key, realm));
        assert_eq!(CONTROL_BYTES, size_of::<types::control>());
        assert_eq!(CONTROL_GATE, offset_of!(types::control, gate));
        assert_eq!(CONTROL_MODE, offset_of!(types::control, mode));
        assert_eq!(CONTROL_DIRECTION, offset_of!(types::control, direction));
        assert_eq!(CONTROL_RESTRICTIONS, offset_of!(types::control, restrictions));
        assert_eq!(CONTROL_HINT_MASK, offset_of!(types::control, hint_mask));
        assert_eq!(CONTROL_ELIDE_BYTES_MIN, offset_of!(types::control, elide_bytes_min));
        assert_eq!(CONTROL_SAMPLE_MAX, offset_of!(types::control, sample_max));
        assert_eq!(CONTROL_SHARE_MAX, offset_of!(types::control, share_max));
        assert_eq!(CONTROL_WANTS_TLS, offset_of!(types::control, wants_tls));
    }

    #[test]
    fn a_connection_was_seen_from_both_ends_if_both_numbers_were() {
        assert_eq!(CONNECTION_FLAGS, offset_of!(types::connection, flags));
        assert_eq!(CONNECTION_BYTES, CONNECTION_FLAGS + size_of::<u32>());
        assert_eq!(CONNECTION_SETTLED, offset_of!(types::connection, settled));
        assert_eq!(CONNECTION_BEGIN, offset_of!(types::connection, begin));
        let seen = |flags: u32, bytes: u32, begin: u32, is_session: bool| {
            let mut value = vec![0; size_of::<types::connection>()];
            for (at, word) in
                [(CONNECTION_FLAGS, flags), (CONNECTION_BYTES, bytes), (CONNECTION_BEGIN, begin)]
            {
                value[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
            let mut found = Handshakes::default();
            found.add(&value, is_session);
            (found.of_both_ends, found.of_one_end)
        };
        let one = 1 << 29;
        assert_eq!(seen(FLAG_BOTH_ISNS, 0, 0, true), (1, 0));
        assert_eq!(seen(one, 0, 0, true), (0, 1));
        assert_eq!(seen(0, 0, 7, true), (1, 0), "it has ended");
        assert_eq!(seen(FLAG_BOTH_ISNS | FLAG_LATE, 0, 0, true), (0, 0), "it was joined late");
        assert_eq!(seen(one, 0, 0, false), (0, 0), "nobody answers, and there are no data");
        assert_eq!(seen(one, 5, 0, false), (0, 1));
        assert_eq!(seen(FLAG_BOTH_ISNS, 5, 0, false), (1, 0));
        let mut found = Handshakes::default();
        found.add(&[0; 3], true);
        assert_eq!(found.of_one_end, 1, "what cannot be read is 0, and no panic");
    }

    #[test]
    fn words_mean_the_same_on_both_sides() {
        super::super::assert_shared(&[
            "#define HINT_LATE (1u << 28)",
            "#define HINT_ISN_0 (1u << 29)",
            "#define HINT_ISN_1 (1u << 30)",
            "#define GATE_OPEN 1",
            "#define MODE_HTTP 0",
            "#define MODE_OFF 1",
            "#define DIRECTION_INOUT 0",
            "#define DIRECTION_IN 1",
            "#define DIRECTION_OUT 2",
            "#define VLAN_DEPTH_MAX 4",
            "#define REALM_IPV6 (1u << 31)",
            "#define REALM_VXLAN (1u << 24)",
            "#define REALM_GENEVE (2u << 24)",
        ]);
    }
}
