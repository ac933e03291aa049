//! The live source: rings of AF_PACKET sockets behind the kernel filter.
//!
//! Each interface has a fanout group, and each shard has one socket with a ring in every group.
//! Shards join the groups in the same order everywhere, so a connection that is seen on two
//! interfaces reaches one shard. The filter's gate is shut until [`LiveControl::open_gate`].

use std::io;
use std::iter::repeat_n;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Frame, FrameSource, LinkType, Lookahead, Polled, SourceError, VlanTag, here};
use crate::config::{ANY_INTERFACE, CaptureConfig, DecodeConfig, FanoutMode, FilterMode};
use crate::ids::{IfaceId, IfaceNames, Share};
use crate::sys::fanout::Fanout;
use crate::sys::filter::Filter;
use crate::sys::flow_hints::FlowHints;
use crate::sys::interface::{self, Interface, Interfaces};
use crate::sys::limits;
use crate::sys::memory;
use crate::sys::packet_socket::{FanoutGroup, FanoutKind, PacketSocket, lowest_descriptor};
use crate::sys::privileges;
use crate::sys::ring::{Ring, RingFrame, RingWatch};
use crate::sys::wait::WaitSet;
use crate::time::TimestampNs;

mod control;
mod error;
mod links;
mod rings;
mod shed;
mod slow_start;
mod totals;

/// How long a shard waits for frames, at least: the time for which holes stay open.
const WAIT_MS_MIN: u32 = 10;

/// How long it waits once it had none for a while, and nothing of its own is due any more. It wakes
/// as soon as there are frames, all the same.
const IDLE_WAIT_MS: u32 = 100;

/// How long it waits at most, if the retire timeout is longer: whether a shard still polls is
/// judged by the second.
const WAIT_MS_MAX: u32 = 1000;

/// So many waits without frames make a shard idle.
const IDLE_WAIT_COUNT: u32 = 10;

/// The minimum assumed delay between the hand-over of a frame and its walk.
const WALK_MS_MIN: u32 = 18;

/// The most fragmented datagrams that the fanout program remembers, about 130 bytes each.
const DATAGRAM_COUNT_MAX: u32 = 1 << 18;

/// Descriptors for loading the filter and for the rest of the run, apart from rings and outputs.
/// Today 20 suffice.
const DESCRIPTOR_COUNT: u64 = 40;

/// How often a start that waits for an interface looks, if the kernel tells nothing.
const LINK_WAIT_MS: u32 = 1000;

use rings::{OPEN, OpenRing, ring_bytes};
use slow_start::SlowStart;

pub use control::LiveControl;
use control::OpenedInterface;
pub use error::LiveOpenError;
pub use links::Softnet;
pub use totals::{InterfaceState, InterfaceTotals, LiveTotals, RingTotals, ShedTotals};

/// Opens live captures.
#[derive(Debug)]
pub struct LiveCapture;

impl LiveCapture {
    /// The limit on open files that a run of this process needs, `RLIMIT_NOFILE`.
    pub fn descriptor_count(shard_count: u16, interface_count: usize) -> u64 {
        u64::from(lowest_of_run(shard_count)) + u64::from(shard_count) * interface_count as u64
    }

    /// Loads the filter and opens a ring for every shard on every one of `interfaces` (`any` is all
    /// of them), with the gate shut. The sources are in the order of the shards; `names` learns the
    /// interfaces' names. Raises this process's soft limit on open files if that is too low.
    ///
    /// The error is a sentence for the user.
    pub fn open(
        config: &CaptureConfig,
        decode: &DecodeConfig,
        interfaces: &[String],
        shard_count: u16,
        names: &IfaceNames,
    ) -> Result<(LiveControl, Vec<LiveSource>), LiveOpenError> {
        let lowest = lowest_of_run(shard_count);
        let needed_count = LiveCapture::descriptor_count(shard_count, interfaces.len());
        limits::allow_descriptors(needed_count).map_err(LiveOpenError::Descriptors)?;
        let mut links = Interfaces::open().map_err(LiveOpenError::Interfaces)?;
        let (present, found) = find_all(&mut links, interfaces, config.is_waiting)?;
        let slow_start = SlowStart::begin("loading the filter into the kernel");
        // Report the smallest missing privilege first: a socket needs one capability, the filter
        // two.
        PacketSocket::open()
            .map_err(|source| LiveOpenError::from_socket(OPEN, "any interface", source))?;
        warn_of_slow_start();
        let (filter, fanout) = load_programs(config, decode, shard_count)?;
        check_rings(config, shard_count, found.len())?;
        let ring_count = usize::from(shard_count) * found.len();
        slow_start.step(format!("opening {ring_count} rings of {} MiB", ring_bytes(config) >> 20));
        let ring_names =
            found.iter().flat_map(|(name, _)| repeat_n(name.as_str(), shard_count.into()));
        let mut open_rings = rings::open_all(config, lowest, ring_names)?.into_iter();
        let mut watched = Vec::with_capacity(found.len());
        let mut rings: Vec<Vec<ShardRing>> = (0..shard_count).map(|_| Vec::new()).collect();
        for (name, ifindex) in found {
            if ifindex != 0 {
                names.insert(IfaceId(ifindex), name);
            }
            let group = Group { config, filter: &filter, fanout: fanout.as_ref(), name };
            let sockets = group.join(ifindex, open_rings.by_ref(), &mut rings)?;
            watched.push(OpenedInterface { name: name.clone(), ifindex, sockets });
        }
        let mut known: Vec<u32> = watched.iter().map(|it| it.ifindex).collect();
        known.sort_unstable();
        let hints = (config.filter == FilterMode::Http).then(|| filter.hints());
        let share = Share::new(decode.restrictions.sample.hash_max());
        let share = config.is_shedding.then_some(share);
        let source = |rings: Vec<ShardRing>| LiveSource {
            waits: WaitSet::default(),
            idle_wait_count: 0,
            rings,
            retire_timeout_ms: config.retire_timeout_ms,
            names: names.clone(),
            known: known.clone(),
            hints: hints.clone(),
            share: share.clone(),
        };
        let sources = rings.into_iter().map(source).collect();
        let control = LiveControl::new(filter, fanout, watched, links, &present);
        let control = control.with_shedding(share).with_lowest_packet_descriptor(lowest);
        Ok((control, sources))
    }
}

/// Loads the filter, and the fanout program if it is wanted.
fn load_programs(
    config: &CaptureConfig,
    decode: &DecodeConfig,
    shard_count: u16,
) -> Result<(Filter, Option<Fanout>), LiveOpenError> {
    let filter = Filter::load(config, decode).map_err(LiveOpenError::from_filter)?;
    let is_ours = config.fanout == FanoutMode::Flow && shard_count > 1;
    let datagram_count = datagram_count(decode.fragmented_count_max, shard_count);
    let fanout = is_ours.then(|| Fanout::load(&filter, datagram_count)).transpose();
    Ok((filter, fanout.map_err(LiveOpenError::from_filter)?))
}

/// The lowest descriptor for packet sockets of a run of this process.
fn lowest_of_run(shard_count: u16) -> u32 {
    lowest_descriptor(limits::open_count() + other_descriptor_count(shard_count))
}

/// The descriptors that a run needs besides its packet sockets: each shard may have a file with an
/// io_uring.
fn other_descriptor_count(shard_count: u16) -> u64 {
    DESCRIPTOR_COUNT + 2 * u64::from(shard_count)
}

/// Warns that the start takes longer without CAP_PERFMON: the verifier then also follows the paths
/// that a CPU may take in speculation.
fn warn_of_slow_start() {
    // Without the right to load the filter there will be an error, and no start.
    if !privileges::is_trusted() && privileges::may_load_programs() {
        tracing::warn!(
            "without CAP_PERFMON the verifier takes a second or more longer, and the filter is \
             slower; to avoid that: {}",
            error::how_to_gain()
        );
    }
}

/// The fragmented datagrams that the fanout program remembers: as many as all shards may hold.
fn datagram_count(shard_count_max: usize, shard_count: u16) -> u32 {
    let count = shard_count_max.saturating_mul(shard_count.into());
    count.min(DATAGRAM_COUNT_MAX as usize) as u32
}

/// All interfaces that exist, and the names and indices of those that are wanted, once each.
type Found<'a> = (Vec<Interface>, Vec<(&'a String, u32)>);

/// Finds the interfaces that are wanted. If `is_waiting`, returns when all of these are there and
/// up.
fn find_all<'a>(
    links: &mut Interfaces,
    wanted: &'a [String],
    is_waiting: bool,
) -> Result<Found<'a>, LiveOpenError> {
    let mut has_said = false;
    loop {
        links.changes().map_err(LiveOpenError::Interfaces)?;
        let present = links.list().map_err(LiveOpenError::Interfaces)?;
        let mut found: Vec<(&String, u32)> = Vec::with_capacity(wanted.len());
        let mut missing = None;
        for name in wanted {
            match find(name, &present) {
                Ok(ifindex) if found.iter().any(|(_, known)| *known == ifindex) => {}
                Ok(ifindex) => found.push((name, ifindex)),
                Err(error) => missing = missing.or(Some((name, error))),
            }
        }
        let Some((name, error)) = missing else { return Ok((present, found)) };
        if !is_waiting {
            return Err(error);
        }
        if !std::mem::replace(&mut has_said, true) {
            tracing::info!("waiting for {name}");
        }
        links.wait_for_change(LINK_WAIT_MS).map_err(LiveOpenError::Interfaces)?;
    }
}

/// The index of the interface called `name`, 0 for all.
fn find(name: &str, present: &[Interface]) -> Result<u32, LiveOpenError> {
    if name == ANY_INTERFACE {
        return Ok(0);
    }
    match present.iter().find(|interface| interface.name == name) {
        None => {
            let names: Vec<&str> = present.iter().map(|known| known.name.as_str()).collect();
            Err(LiveOpenError::NoInterface { name: name.to_string(), known: names.join(", ") })
        }
        Some(interface) if !interface.is_up => Err(LiveOpenError::Down { name: name.to_string() }),
        Some(interface) => Ok(interface.ifindex),
    }
}

/// What is wrong now with interfaces of these names: they are not there, or down. Needs no
/// privilege.
///
/// # Errors
/// The interfaces cannot be listed.
pub fn check_interfaces(names: &[String]) -> Result<Vec<LiveOpenError>, LiveOpenError> {
    let present = Interfaces::open().and_then(|mut links| links.list());
    let present = present.map_err(LiveOpenError::Interfaces)?;
    Ok(names.iter().filter_map(|name| find(name, &present).err()).collect())
}

/// Refuses the rings of so many shards and interfaces if they do not fit into the memory that is
/// available now.
pub fn check_rings(
    config: &CaptureConfig,
    shard_count: u16,
    interface_count: usize,
) -> Result<(), LiveOpenError> {
    check_memory(config, shard_count, interface_count, memory::available_bytes())
}

/// Refuses rings that would take more than seven eighths of the available memory. The kernel would
/// not refuse: it reclaims memory for them until it begins to kill processes, ours or others.
fn check_memory(
    config: &CaptureConfig,
    shard_count: u16,
    interface_count: usize,
    available_bytes: Option<u64>,
) -> Result<(), LiveOpenError> {
    let Some(available_bytes) = available_bytes else { return Ok(()) };
    let (shard_count, interface_count) = (u64::from(shard_count), interface_count as u64);
    let needed_bytes = ring_bytes(config) * shard_count * interface_count;
    if needed_bytes <= available_bytes / 8 * 7 {
        return Ok(());
    }
    Err(LiveOpenError::Memory {
        ring_mib: ring_bytes(config) >> 20,
        needed_mib: needed_bytes >> 20,
        available_mib: available_bytes >> 20,
        shard_count,
        interface_count,
    })
}

/// How the sockets of one interface become a group.
struct Group<'a> {
    config: &'a CaptureConfig,
    filter: &'a Filter,
    fanout: Option<&'a Fanout>,
    /// Of the interface.
    name: &'a str,
}

impl Group<'_> {
    /// Binds one of `open_rings` for every shard, and gives each shard its own. Also returns the
    /// sockets, for their statistics, and watches of the rings.
    fn join(
        &self,
        ifindex: u32,
        open_rings: impl Iterator<Item = OpenRing>,
        rings: &mut [Vec<ShardRing>],
    ) -> Result<Vec<(Arc<PacketSocket>, RingWatch)>, LiveOpenError> {
        let Group { config, filter, fanout, name } = *self;
        let failed = |step| move |source| LiveOpenError::from_socket(step, name, source);
        let member_count = rings.len();
        let mut group = None;
        let mut sockets = Vec::with_capacity(rings.len());
        for ((shard, rings), (socket, ring)) in rings.iter_mut().enumerate().zip(open_rings) {
            socket.attach(filter.program()).map_err(failed("attach the filter"))?;
            socket.bind(ifindex).map_err(failed("bind a socket"))?;
            if config.is_promiscuous && ifindex != 0 {
                socket.set_promiscuous(ifindex).map_err(failed("set promiscuous mode (see -p)"))?;
            }
            match group {
                None => {
                    let made = found_group(config, &socket, fanout, member_count);
                    group = Some(made.map_err(|source| cannot_found(member_count, name, source))?);
                }
                Some(group) => socket.join_group(group).map_err(failed("join the fanout group"))?,
            }
            socket.lock().map_err(failed("lock the filter"))?;
            let socket = Arc::new(socket);
            sockets.push((socket.clone(), ring.watch()));
            rings.push(ShardRing { ring, socket, name: name.to_string(), is_silent: shard > 0 });
        }
        Ok(sockets)
    }
}

/// Creates the fanout group of an interface. It sends frames to the right shard from its first
/// member on.
fn found_group(
    config: &CaptureConfig,
    socket: &PacketSocket,
    fanout: Option<&Fanout>,
    member_count: usize,
) -> io::Result<FanoutGroup> {
    let kind = match (config.fanout, fanout) {
        (FanoutMode::Flow, Some(_)) => FanoutKind::Program,
        // With one shard any kind will do.
        (FanoutMode::Flow | FanoutMode::Hash, _) => FanoutKind::Hash,
        (FanoutMode::Cpu, _) => FanoutKind::Cpu,
        (FanoutMode::Queue, _) => FanoutKind::Queue,
    };
    let group = socket.found_group(kind, member_count)?;
    if let Some(fanout) = fanout {
        socket.direct_group(fanout.program())?;
    }
    Ok(group)
}

/// Older kernels know no groups of more than 256 members, nor the option by which we ask for them.
fn cannot_found(member_count: usize, name: &str, source: io::Error) -> LiveOpenError {
    if member_count > FanoutGroup::MEMBER_COUNT_DEFAULT
        && source.raw_os_error() == Some(libc::EINVAL)
    {
        return LiveOpenError::Shards { limit: FanoutGroup::MEMBER_COUNT_DEFAULT };
    }
    LiveOpenError::from_socket("make a fanout group", name, source)
}

/// One ring of a shard.
#[derive(Debug)]
struct ShardRing {
    ring: Ring,
    socket: Arc<PacketSocket>,
    /// As the user wrote it.
    name: String,
    /// Whether errors of its socket are not logged: one was logged already, or the first shard logs
    /// it.
    is_silent: bool,
}

/// The frames of one shard, from every interface.
#[derive(Debug)]
pub struct LiveSource {
    waits: WaitSet,
    /// Waits since the last frame.
    idle_wait_count: u32,
    rings: Vec<ShardRing>,
    retire_timeout_ms: u32,
    names: IfaceNames,
    /// Interfaces whose names are known or were looked up, in ascending order.
    known: Vec<u32>,
    /// The hint map of the filter, if the filter looks for HTTP.
    hints: Option<FlowHints>,
    /// The share of connections that passes, if it changes.
    share: Option<Share>,
}

impl LiveSource {
    /// Visits the frames of at most one block of every ring, and shows each frame `ahead_count`
    /// frames ahead. `None`: no block was ready.
    #[inline(always)]
    fn walk(
        &mut self,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Option<usize> {
        let mut frame_count = None;
        for ring in &mut self.rings {
            let Some(block) = ring.ring.next_block() else { continue };
            let walked = look_ahead(block.frames(), ahead_count, |lookahead| {
                let frame = match lookahead {
                    Lookahead::Ahead(frame) => return visit(Lookahead::Ahead(&as_frame(frame))),
                    Lookahead::Here(frame) => frame,
                };
                if let Err(index) = self.known.binary_search(&frame.ifindex) {
                    self.known.insert(index, frame.ifindex);
                    learn(&ring.socket, frame.ifindex, &self.names);
                }
                visit(Lookahead::Here(&as_frame(frame)));
            });
            frame_count = Some(frame_count.unwrap_or(0) + walked);
        }
        frame_count
    }

    /// Waits until a ring has a block, but no longer than the deadlines for holes and output lines
    /// allow.
    fn wait(&mut self) -> Result<(), SourceError> {
        let failed = |source| SourceError::Ring { iface: "the interfaces".to_string(), source };
        let sockets = self.rings.iter().map(|ring| ring.socket.as_fd());
        let is_idle = self.idle_wait_count >= IDLE_WAIT_COUNT;
        self.idle_wait_count += u32::from(!is_idle);
        let wait_ms = self.retire_timeout_ms.max(if is_idle { IDLE_WAIT_MS } else { WAIT_MS_MIN });
        self.waits.wait(sockets, wait_ms.min(WAIT_MS_MAX)).map_err(failed)?;
        for (index, ring) in self.rings.iter_mut().enumerate() {
            if !self.waits.has_failed(index) {
                continue;
            }
            // Reading the error clears it. A pending error would end every wait immediately.
            let error = ring.socket.take_error();
            if error.is_none() {
                self.waits.leave_out(index);
            }
            let error = error.unwrap_or_else(|| io::ErrorKind::Other.into());
            // An outage is reported by the control, for all shards.
            if !ring.is_silent && error.raw_os_error() != Some(libc::ENETDOWN) {
                ring.is_silent = true;
                tracing::warn!("{}: {error}; capturing continues", ring.name);
            }
        }
        Ok(())
    }
}

impl FrameSource for LiveSource {
    /// Never ends. To finish, shut the gate and poll until the ring statistics show that every
    /// frame was delivered.
    fn poll(&mut self, visit: &mut impl FnMut(Frame<'_>)) -> Result<Polled, SourceError> {
        self.poll_ahead(0, &mut here(visit))
    }

    #[inline(always)]
    fn poll_ahead(
        &mut self,
        ahead_count: usize,
        visit: &mut impl FnMut(Lookahead<&Frame<'_>>),
    ) -> Result<Polled, SourceError> {
        if let Some(frame_count) = self.walk(ahead_count, visit) {
            self.idle_wait_count = 0;
            return Ok(Polled::Frames(frame_count));
        }
        self.wait()?;
        Ok(self.walk(ahead_count, visit).map_or(Polled::Idle, Polled::Frames))
    }

    /// The clock, minus the time a frame may wait in a block, and minus the same again for the
    /// walk. The second part has a minimum, since on a busy machine we may wait for a CPU.
    fn now(&self) -> Option<TimestampNs> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let now = TimestampNs::from_parts(clock.as_secs(), clock.subsec_nanos().into());
        let walk_ms = self.retire_timeout_ms.max(WALK_MS_MIN);
        Some(now.minus_ms(u64::from(self.retire_timeout_ms) + u64::from(walk_ms)))
    }

    fn hints(&self) -> Option<FlowHints> {
        self.hints.clone()
    }

    fn share(&self) -> Option<Share> {
        self.share.clone()
    }
}

/// Visits all of `frames`, and shows each frame `ahead_count` frames ahead. Returns their number.
#[inline(always)]
fn look_ahead<F: Iterator + Clone>(
    frames: F,
    ahead_count: usize,
    mut visit: impl FnMut(Lookahead<F::Item>),
) -> usize {
    let mut count = 0;
    let mut far = frames.clone();
    far.by_ref().take(ahead_count).for_each(|frame| visit(Lookahead::Ahead(frame)));
    for frame in frames {
        if ahead_count > 0
            && let Some(frame) = far.next()
        {
            visit(Lookahead::Ahead(frame));
        }
        visit(Lookahead::Here(frame));
        count += 1;
    }
    count
}

/// Looks up the name of an interface that was not seen before.
#[cold]
fn learn(socket: &PacketSocket, ifindex: u32, names: &IfaceNames) {
    if let Some(name) = interface::name_of(socket, ifindex) {
        names.insert(IfaceId(ifindex), &name);
    }
}

fn as_frame(frame: RingFrame<'_>) -> Frame<'_> {
    Frame {
        bytes: frame.bytes,
        wire_bytes: frame.wire_bytes,
        timestamp: frame.timestamp,
        link: link_of(frame.hardware_type),
        vlan: frame.vlan.map(|(tci, tpid)| VlanTag { tci, tpid }),
        iface: IfaceId(frame.ifindex),
        is_checksum_trusted: frame.is_checksum_trusted,
    }
}

/// What frames of an interface of this ARPHRD_ kind begin with (linux/if_arp.h). Loopback has an
/// Ethernet header that is all zeros except for its type; tunnels and tun devices have none.
fn link_of(hardware_type: u16) -> LinkType {
    const ARPHRD_RAWIP: u16 = 519;
    match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => LinkType::Ethernet,
        libc::ARPHRD_NONE | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT => {
            LinkType::Raw
        }
        ARPHRD_RAWIP => LinkType::Raw,
        other => LinkType::Unsupported(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_is_shown_before_it_comes() {
        for (count, ahead_count) in [(0, 3), (2, 3), (10, 3), (10, 0)] {
            let (mut ahead, mut here) = (Vec::new(), Vec::new());
            let walked = look_ahead(0..count, ahead_count, |lookahead| match lookahead {
                Lookahead::Ahead(frame) => ahead.push(frame),
                Lookahead::Here(frame) => {
                    here.push(frame);
                    let shown_count = count.min(frame + 1 + ahead_count);
                    assert_eq!(ahead.len(), if ahead_count > 0 { shown_count } else { 0 });
                }
            });
            assert_eq!((walked, here.len()), (count, count));
            assert!(here.is_sorted() && ahead.is_sorted());
        }
    }

    #[test]
    fn rings_that_do_not_fit_are_refused_before_they_are_opened() {
        let config = CaptureConfig::default();
        let check = |shards, available_mib: u64| {
            check_memory(&config, shards, 2, Some(available_mib << 20))
        };
        assert!(check(4, 586).is_ok());
        let error = check(4, 585).expect_err("512 MiB is more than seven eighths").to_string();
        let sums = "the rings need 512 MiB of memory (shards: 4, interfaces: 2, each ring: 64 MiB)";
        assert!(error.starts_with(sums) && error.contains("585 MiB are free"), "{error}");
        assert!(check_memory(&config, 1024, 1, None).is_ok(), "where nothing is known");
    }
}
