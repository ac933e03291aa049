//! An interface that is to be captured on: its state, and what its driver says.

use super::row::{Check, Row, percent, quoted};
use super::window::{Counted, Seen};
use crate::cli::numbers::grouped;
use httplines::config::CaptureConfig;
use httplines::sys::affinity;
use httplines::sys::ethtool::{Ethtool, Queues, ReceiveRing};
use httplines::sys::interface::{Interface, InterfaceDetails};
use std::io;
use std::path::Path;

/// What a block has no space for: its header, and that of a frame (linux/if_packet.h: 48 and, with
/// an address and the headers' alignment, less than 200 bytes).
const BLOCK_OVERHEAD_BYTES: u32 = 256;

/// The longest packet that GRO and TSO make, where the kernel does not tell: before BIG TCP.
const SUPERPACKET_BYTES: u32 = 65_536;

/// Rings of a NIC with more entries hold a burst.
const RING_ENTRIES_ENOUGH: u32 = 1024;

/// So many interrupts in the window show how they are spread.
const INTERRUPTS_MIN: u64 = 300;

/// From this share of the interrupts on, in percent, one CPU has them all.
const ONE_CPU_PERCENT: u64 = 90;

/// What was found, apart from what was counted.
#[derive(Clone, Debug)]
pub struct Facts {
    details: InterfaceDetails,
    /// It has a device of its own, and is not made by software. `None`: not known.
    is_hardware: Option<bool>,
    cpu_count: u64,
    block_bytes: u32,
    /// `None`: the driver has no such thing, or does not tell.
    ring: Option<ReceiveRing>,
    queues: Option<Queues>,
    is_lro_on: bool,
    is_gro_on: bool,
    is_hash_symmetric: Option<bool>,
}

/// Asks the driver.
pub fn gather(details: &InterfaceDetails) -> Facts {
    let name = details.interface.name.as_str();
    let ethtool = Ethtool::open().ok();
    let ethtool = ethtool.as_ref();
    Facts {
        is_hardware: is_hardware(details),
        cpu_count: affinity::allowed_cpus().len() as u64,
        block_bytes: CaptureConfig::default().block_bytes,
        ring: ethtool.and_then(|it| it.receive_ring(name).ok()).filter(|it| it.entries_max > 0),
        queues: ethtool.and_then(|it| it.queues(name).ok()).filter(|it| it.count > 0),
        is_lro_on: ethtool.and_then(|it| it.is_lro_on(name).ok()).unwrap_or(false),
        is_gro_on: ethtool.and_then(|it| it.is_gro_on(name).ok()).unwrap_or(false),
        is_hash_symmetric: ethtool.and_then(|it| it.is_hash_symmetric(name).ok()),
        details: details.clone(),
    }
}

/// Whether the interface has a device, as /sys tells, which may be missing, or be that of another
/// network namespace. What has a kind is virtual.
fn is_hardware(details: &InterfaceDetails) -> Option<bool> {
    if details.kind.is_some() || details.interface.is_loopback {
        return Some(false);
    }
    let place = Path::new("/sys/class/net").join(&details.interface.name);
    place.exists().then(|| place.join("device").exists())
}

/// How an interface is shown in a list.
pub fn state_of(interface: &Interface) -> &'static str {
    match (interface.is_up, interface.has_carrier) {
        (false, _) => "down",
        (true, false) => "up without carrier",
        (true, true) => "up",
    }
}

/// The row without an interface: those that there are.
pub fn list(present: &[InterfaceDetails]) -> Row {
    let told =
        |it: &InterfaceDetails| format!("{} ({})", it.interface.name, state_of(&it.interface));
    let told: Vec<String> = present.iter().map(told).collect();
    Row::ok(Check::Interfaces, told.join(", ")).advise("to check one: httplines doctor -i IFACE")
}

/// The row of an interface that is not there.
pub fn missing(name: &str, present: &[InterfaceDetails]) -> Row {
    let names: Vec<&str> = present.iter().map(|it| it.interface.name.as_str()).collect();
    Row::wrong(Check::Link, format!("there is no {name}; there are: {}", names.join(", ")))
        .advise("name one with -i, or start the run with --wait if it comes later")
}

/// The row if the kernel does not tell which interfaces there are, for `error`.
pub fn unseen(check: Check, error: &io::Error) -> Row {
    Row::note(check, format!("not seen: the kernel does not list its interfaces: {error}"))
}

/// The row of `any`.
pub fn any(present: &[InterfaceDetails]) -> Row {
    let up = present.iter().filter(|it| it.interface.is_up).count();
    let finding = format!("any: {} interfaces, {up} of them up", present.len());
    if up > 0 { Row::ok(Check::Link, finding) } else { Row::wrong(Check::Link, finding) }
}

/// The rows. An interface that is down has only the first.
pub fn judge(facts: &Facts, counted: &Counted) -> Vec<Row> {
    let link = link(facts);
    if !facts.details.interface.is_up {
        return vec![link];
    }
    vec![
        link,
        frame_size(facts),
        receive_ring(facts, counted),
        losses(facts, counted),
        queues(facts),
        interrupts(facts, counted),
    ]
}

fn link(facts: &Facts) -> Row {
    let InterfaceDetails { interface, mtu_bytes, kind, .. } = &facts.details;
    let name = &interface.name;
    let kind = kind.as_ref().map_or(String::new(), |kind| format!(" ({kind})"));
    match (interface.is_up, interface.has_carrier) {
        (true, true) => Row::ok(Check::Link, format!("{name}{kind} is up, MTU {mtu_bytes}")),
        (false, _) => Row::wrong(Check::Link, format!("{name}{kind} is down"))
            .advise(format!("sudo ip link set {} up", quoted(name))),
        (true, false) => Row::wrong(Check::Link, format!("{name}{kind} is up, but has no carrier"))
            .advise(match facts.is_hardware {
                None | Some(true) => {
                    format!("look at cable, mirror port and other end: ethtool {}", quoted(name))
                }
                Some(false) => "bring up the other end: sudo ip link set PEER up".to_string(),
            }),
    }
}

fn frame_size(facts: &Facts) -> Row {
    let (name, block_bytes) = (&facts.details.interface.name, facts.block_bytes);
    let block_kib = block_bytes >> 10;
    let of = |limit: Option<u32>| limit.unwrap_or(SUPERPACKET_BYTES);
    let gro_bytes = if facts.is_gro_on { of(facts.details.gro_bytes_max) } else { 0 };
    // What the host sends is captured before the NIC cuts it.
    let bytes_max = gro_bytes.max(of(facts.details.gso_bytes_max)).max(facts.details.mtu_bytes);
    if bytes_max > block_bytes - BLOCK_OVERHEAD_BYTES {
        let fitting_kib = (bytes_max + BLOCK_OVERHEAD_BYTES).next_power_of_two() >> 10;
        return Row::wrong(
            Check::FrameSize,
            format!(
                "{name}: frames of up to {bytes_max} bytes are cut, as a block has {block_kib} KiB"
            ),
        )
        .advise(format!("httplines -i {} --block-kib {fitting_kib} ...", quoted(name)));
    }
    let gro = if facts.is_gro_on { "on" } else { "off" };
    let finding = format!(
        "{name}: up to {bytes_max} bytes (GRO is {gro}), which fit into blocks of {block_kib} KiB"
    );
    match facts.is_lro_on {
        true => Row::note(
            Check::FrameSize,
            format!("{finding}; LRO is on: the NIC merges segments, and times become coarser"),
        )
        .advise(format!("sudo ethtool -K {} lro off", quoted(name))),
        false => Row::ok(Check::FrameSize, finding),
    }
}

fn receive_ring(facts: &Facts, counted: &Counted) -> Row {
    let name = &facts.details.interface.name;
    let Some(ReceiveRing { entries, entries_max }) = facts.ring else {
        let why = match facts.is_hardware {
            Some(false) => "a virtual device",
            None | Some(true) => "its driver does not tell",
        };
        return Row::ok(Check::ReceiveRing, format!("{name}: none to set, {why}"));
    };
    let finding = format!("{name}: {entries} entries of at most {entries_max}");
    let larger = format!("sudo ethtool -G {} rx {entries_max}", quoted(name));
    match (entries < entries_max, counted.new.is_some_and(|new| new.rx_missed > 0)) {
        (true, true) => {
            Row::wrong(Check::ReceiveRing, format!("{finding}, and frames found it full"))
                .advise(larger)
        }
        (true, false) if entries < RING_ENTRIES_ENOUGH => {
            Row::note(Check::ReceiveRing, format!("{finding}: bursts may find it full"))
                .advise(larger)
        }
        _ => Row::ok(Check::ReceiveRing, finding),
    }
}

fn losses(facts: &Facts, counted: &Counted) -> Row {
    let (name, mtu) = (&facts.details.interface.name, facts.details.mtu_bytes);
    let (Some(new), Some(old)) = (&counted.new, &counted.before) else {
        let finding = format!("{name}: not seen, as its counters could not be read");
        return Row::note(Check::Losses, finding);
    };
    // Nothing else drops frames on a veth, except that no protocol takes them.
    let is_seen = matches!(counted.seen, Seen::Frames { .. });
    let is_veth = facts.details.kind.as_deref() == Some("veth") && is_seen;
    // The kernel counts a frame that no protocol took as dropped, after the filter saw it.
    let dropped = new.rx_dropped.saturating_sub(counted.unclaimed());
    let row = |what: String| Row::wrong(Check::Losses, format!("{name}: in 3 s {what}"));
    if new.rx_missed > 0 {
        let missed = grouped(new.rx_missed);
        return row(format!("{missed} frames found the NIC's buffers full"))
            .advise("see receive ring, queues and interrupts");
    }
    if new.rx_length_errors > 0 || is_veth && dropped > 0 {
        let count = grouped(new.rx_length_errors.max(dropped));
        return row(format!("{count} frames were dropped: probably longer than its MTU {mtu}"))
            .advise(format!("sudo ip link set {} mtu 9000", quoted(name)));
    }
    if new.rx_errors > 0 {
        return row(format!("{} frames came damaged", grouped(new.rx_errors)))
            .advise(format!("look at cable and other end: ethtool -S {}", quoted(name)));
    }
    if dropped > 0 {
        let count = grouped(dropped);
        let why = "by its driver, a full backlog, or as no protocol took them";
        return Row::note(Check::Losses, format!("{name}: in 3 s {count} were dropped: {why}"))
            .advise(format!("ethtool -S {} may tell which; see backlog, too", quoted(name)));
    }
    let before = old.rx_missed.saturating_add(old.rx_errors);
    Row::ok(Check::Losses, format!("{name}: none in 3 s, {} before", grouped(before)))
}

fn queues(facts: &Facts) -> Row {
    let name = &facts.details.interface.name;
    let Some(Queues { count, count_max, tx_count_max }) = facts.queues else {
        return Row::ok(Check::Queues, format!("{name}: none to set"));
    };
    let finding = format!("{name}: {count} of at most {count_max}");
    // Frames of a virtual device arrive on the CPU of who sends them.
    let is_spread = facts.is_hardware == Some(false) || count > 1;
    if !is_spread && count_max > 1 && facts.cpu_count > 1 {
        let wanted = |most: u32| u64::from(most).min(facts.cpu_count);
        let rx = wanted(count_max);
        let set = match tx_count_max {
            None => format!("combined {rx}"),
            Some(..=1) => format!("rx {rx}"),
            Some(tx_max) => format!("rx {rx} tx {}", wanted(tx_max)),
        };
        return Row::note(Check::Queues, format!("{finding}: one CPU receives all frames"))
            .advise(format!("sudo ethtool -L {} {set}", quoted(name)));
    }
    match facts.is_hash_symmetric {
        Some(false) if count > 1 => Row::ok(
            Check::Queues,
            format!("{finding}; not symmetric, as only --fanout cpu and --fanout queue need"),
        )
        .advise(format!("only for these: sudo ethtool -X {} xfrm symmetric-xor", quoted(name))),
        Some(true) => Row::ok(Check::Queues, format!("{finding}, symmetric")),
        _ => Row::ok(Check::Queues, finding),
    }
}

fn interrupts(facts: &Facts, counted: &Counted) -> Row {
    let name = &facts.details.interface.name;
    let Some(by_cpu) = &counted.interrupts else {
        return match facts.is_hardware {
            Some(false) => Row::ok(Check::Interrupts, format!("{name}: none, a virtual device")),
            None | Some(true) => Row::note(
                Check::Interrupts,
                format!("{name}: not seen: /proc/interrupts has no line of it, or is not there"),
            ),
        };
    };
    let sum: u64 = by_cpu.iter().map(|(_, count)| count).sum();
    let most = by_cpu.iter().max_by_key(|(_, count)| *count);
    let (cpu, share) = most.map_or((0, 0), |(cpu, count)| (*cpu, percent(*count, sum)));
    if sum == 0 {
        return Row::ok(Check::Interrupts, format!("{name}: none in 3 s"));
    }
    let finding = format!("{name}: {} in 3 s, {share}% of them on CPU {cpu}", grouped(sum));
    let has_many = facts.cpu_count > 1 && facts.queues.is_some_and(|it| it.count > 1);
    if sum >= INTERRUPTS_MIN && share >= ONE_CPU_PERCENT && has_many {
        return Row::note(Check::Interrupts, finding)
            .advise("sudo apt install irqbalance, or write /proc/irq/N/smp_affinity_list");
    }
    Row::ok(Check::Interrupts, finding)
}

/// The row about interfaces on top of each other, of which both are captured on. `wanted` are the
/// captured ones, or all if `is_any`.
pub fn stacked(wanted: &[&InterfaceDetails], is_any: bool) -> Row {
    let up: Vec<_> = wanted.iter().copied().filter(|it| it.interface.is_up).collect();
    let find =
        |ifindex: Option<u32>| up.iter().copied().find(|it| Some(it.interface.ifindex) == ifindex);
    let is_of = |it: &InterfaceDetails, kinds: &[&str]| {
        it.kind.as_deref().is_some_and(|kind| kinds.contains(&kind))
    };
    let pairs = up.iter().copied().filter_map(|upper| {
        let link = upper.link.filter(|_| !upper.is_link_elsewhere);
        // A port of a bridge or a bond is below it.
        let pair = find(link).map(|lower| (upper, lower));
        pair.or_else(|| find(upper.master).map(|master| (master, upper)))
    });
    let (mut twice, mut once) = (None, None);
    for (upper, lower) in pairs {
        let kind = if is_of(upper, &["vlan"]) { &mut twice } else { &mut once };
        kind.get_or_insert((upper, lower));
    }
    let names = |(upper, lower): (&InterfaceDetails, &InterfaceDetails)| {
        (upper.interface.name.clone(), lower.interface.name.clone())
    };
    if let Some((upper, lower)) = twice.map(names) {
        let finding = format!("{upper} is on {lower}: with both, each exchange has two lines");
        let advice = format!("httplines -i {} ..., or --ignore-vlan", quoted(&lower));
        // With `any` nobody asked for both.
        let row = if is_any { Row::note } else { Row::wrong };
        return row(Check::Stacked, finding).advise(advice);
    }
    if let Some(upper) = up.iter().find(|it| is_of(it, &["vxlan", "geneve"]) && up.len() > 1) {
        let name = &upper.interface.name;
        let finding = format!(
            "{name}: exchanges have two lines if the tunnel runs over another of the interfaces"
        );
        return Row::note(Check::Stacked, finding)
            .advise(format!("httplines -i {} ...", quoted(name)));
    }
    if let Some((upper, lower)) = once.map(names) {
        let finding = format!(
            "{upper} is on {lower}: with both, each packet is captured twice, at twice the cost"
        );
        return Row::note(Check::Stacked, finding)
            .advise(format!("httplines -i {} ...", quoted(&upper)));
    }
    Row::ok(Check::Stacked, "no interface is captured together with one below it")
}

#[cfg(test)]
mod tests;
