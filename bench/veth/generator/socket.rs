//! Frames from a packet socket, at the other end of the veth pair.

use super::{Plan, Schedule, Sent, whole_rounds};
use crate::clock::{monotonic_ns, thread_cpu_ns};
use crate::frame::{self, Checksum, HEADER_BYTES, SEGMENT_BYTES, kind};
use crate::round::Round;
use crate::sys;
use httplines::sys::interface;
use httplines::sys::packet_socket::PacketSocket;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Frames per system call.
const BATCH: usize = 64;
/// A longer wait than this is slept through, until half of this before its end.
const SLEEP_OVER: Duration = Duration::from_micros(300);
/// The maximum size of a frame that is not segmented.
const WHOLE_BYTES: usize = HEADER_BYTES + SEGMENT_BYTES;
/// `struct virtio_net_hdr` of linux/virtio_net.h.
const VNET_HEADER_BYTES: usize = 10;
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;

/// Sends what is planned out of `interface` of this thread's namespace.
pub fn send(
    round: &Round,
    plan: &Plan,
    interface: &str,
    is_interrupted: &AtomicBool,
) -> io::Result<Sent> {
    let socket = PacketSocket::open()?;
    socket.bind(interface::index_of(interface).ok_or(io::ErrorKind::NotFound)?)?;
    sys::prepare_to_send(&socket)?;
    let schedule = Schedule::begin(plan, round);
    let cpu_before_ns = thread_cpu_ns();
    let mut planned = schedule.frame_count;
    let Schedule { epoch_ns, interval, .. } = schedule;
    let mut sent = Sent { epoch_ns, interval, ..Sent::default() };
    let mut batch = vec![Vec::new(); BATCH];
    let mut last_ns = schedule.start_ns;
    while planned != Some(sent.frames) && !is_interrupted.load(Ordering::Relaxed) {
        let now_ns = monotonic_ns();
        if planned.is_none() && now_ns - schedule.start_ns >= plan.duration.as_nanos() as u64 {
            planned = Some(whole_rounds(sent.frames, round));
            continue;
        }
        let due_ns = schedule.due_ns(sent.frames, now_ns);
        if now_ns < due_ns {
            let before_ns = thread_cpu_ns();
            wait(due_ns - now_ns);
            sent.idle_ns += thread_cpu_ns() - before_ns;
            continue;
        }
        sent.late_ns_max = sent.late_ns_max.max(now_ns - due_ns);
        let left = planned.map_or(u64::MAX, |planned| planned - sent.frames);
        let (mut count, before_ns) = (0, thread_cpu_ns());
        while count < BATCH && (count as u64) < left {
            let number = sent.frames + count as u64;
            let due_ns = schedule.due_ns(number, now_ns);
            if due_ns > now_ns {
                break;
            }
            let time_ns = schedule.epoch_ns + due_ns - schedule.start_ns;
            write_frame(&mut batch[count], round, number, time_ns);
            count += 1;
        }
        sent.make_ns += thread_cpu_ns() - before_ns;
        let went = match sys::send(&socket, &batch[..count]) {
            // Sent, and lost on the wire; the kernel reports one frame at a time.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => 1,
            result => result?,
        };
        last_ns = monotonic_ns();
        sent.frames += went as u64;
        let bytes = batch[..went].iter().map(|frame| frame.len() - VNET_HEADER_BYTES);
        sent.bytes += bytes.sum::<usize>() as u64;
    }
    sent.planned_frames = planned.unwrap_or(sent.frames);
    sent.elapsed_ns = schedule.elapsed_ns(sent.frames, last_ns);
    sent.cpu_ns = thread_cpu_ns() - cpu_before_ns;
    Ok(sent)
}

/// Spins if the wait is short.
fn wait(ns: u64) {
    let wait = Duration::from_nanos(ns);
    if wait > SLEEP_OVER {
        std::thread::sleep(wait - SLEEP_OVER / 2);
    } else {
        std::hint::spin_loop();
    }
}

/// Frame `number` of the trial, after the header that describes its segmentation.
fn write_frame(to: &mut Vec<u8>, round: &Round, number: u64, time_ns: u64) {
    let steps = round.steps.len() as u64;
    let step = &round.steps[(number % steps) as usize];
    let template = &round.templates[step.template as usize];
    // Recorded frames are sent unchanged, whatever their length, and frames in a tunnel are short.
    let may_be_cut = step.kind != kind::REPLAY && round.prefix_bytes == 0;
    let is_super = template.len() > WHOLE_BYTES && may_be_cut;
    let checksum = if is_super { Checksum::Partial } else { Checksum::Whole };
    let turn = round.turn((number / steps) as u32);
    to.clear();
    to.resize(VNET_HEADER_BYTES, 0);
    if is_super {
        let half = |value: usize| (value as u16).to_ne_bytes();
        to[0..2].copy_from_slice(&[NEEDS_CSUM, GSO_TCPV4]);
        to[2..4].copy_from_slice(&half(HEADER_BYTES));
        to[4..6].copy_from_slice(&half(SEGMENT_BYTES));
        // Where the checksum begins to sum, and its offset from there.
        to[6..8].copy_from_slice(&half(34));
        to[8..10].copy_from_slice(&half(16));
    }
    to.extend_from_slice(template);
    frame::finish(&mut to[VNET_HEADER_BYTES..], step, &turn, time_ns, checksum);
}
