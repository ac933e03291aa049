//! The verdicts on an interface, for made-up findings.

use super::super::row::Verdict::{Note, Ok, Wrong};
use super::super::tests::said;
use super::super::window::Seen;
use super::*;
use httplines::sys::counters::FilterCounters;
use httplines::sys::filter::Handshakes;
use httplines::sys::interface::InterfaceStatistics;

fn details(name: &str, ifindex: u32) -> InterfaceDetails {
    InterfaceDetails {
        interface: Interface {
            name: name.into(),
            ifindex,
            is_up: true,
            has_carrier: true,
            is_loopback: false,
            is_ifb: false,
        },
        kind: None,
        mtu_bytes: 1500,
        link: None,
        is_link_elsewhere: false,
        master: None,
        gro_bytes_max: Some(65_536),
        gso_bytes_max: None,
    }
}

fn queues_of(count: u32, count_max: u32) -> Queues {
    Queues { count, count_max, tx_count_max: None }
}

fn good() -> Facts {
    Facts {
        details: details("eth0", 2),
        is_hardware: Some(true),
        cpu_count: 4,
        block_bytes: 256 << 10,
        ring: Some(ReceiveRing { entries: 4096, entries_max: 4096 }),
        queues: Some(queues_of(4, 8)),
        is_lro_on: false,
        is_gro_on: true,
        is_hash_symmetric: Some(true),
    }
}

fn rows(facts: &Facts) -> Vec<Row> {
    judge(facts, &Counted::none())
}

fn lost(new: InterfaceStatistics) -> Vec<Row> {
    judge(&good(), &Counted { new: Some(new), ..Counted::none() })
}

#[test]
fn a_good_nic_is_ok() {
    let counted = Counted {
        interrupts: Some(vec![(0, 900), (1, 800), (2, 900), (5, 1000)]),
        ..Counted::none()
    };
    let rows = judge(&good(), &counted);
    assert!(rows.iter().all(|row| row.verdict == Ok), "{rows:?}");
    said(&rows, Check::Link, Ok, "eth0 is up, MTU 1500");
    said(&rows, Check::Interrupts, Ok, "3,600 in 3 s, 27% of them on CPU 5");
}

#[test]
fn a_virtual_device_has_nothing_to_set() {
    let facts = Facts {
        is_hardware: Some(false),
        ring: None,
        queues: None,
        is_hash_symmetric: None,
        details: InterfaceDetails { kind: Some("veth".into()), ..details("veth1", 7) },
        ..good()
    };
    let rows = rows(&facts);
    assert!(rows.iter().all(|row| row.verdict == Ok), "{rows:?}");
    said(&rows, Check::Link, Ok, "veth1 (veth) is up");
    said(&rows, Check::ReceiveRing, Ok, "a virtual device");
    said(&rows, Check::Interrupts, Ok, "none, a virtual device");
    for is_hardware in [None, Some(true)] {
        let facts = Facts { is_hardware, ..facts.clone() };
        let rows = judge(&facts, &Counted::none());
        said(&rows, Check::ReceiveRing, Ok, "its driver does not tell");
        said(&rows, Check::Interrupts, Note, "not seen: /proc/interrupts has no line");
    }
}

#[test]
fn an_interface_may_be_absent_down_or_without_carrier() {
    let mut facts = good();
    facts.details.interface.has_carrier = false;
    said(&rows(&facts), Check::Link, Wrong, "look at cable");
    facts.is_hardware = Some(false);
    said(&rows(&facts), Check::Link, Wrong, "sudo ip link set PEER up");
    facts.details.interface.is_up = false;
    assert_eq!(rows(&facts).len(), 1);
    said(&rows(&facts), Check::Link, Wrong, "sudo ip link set eth0 up");
    facts.details.interface.name = "x$(id);y".into();
    said(&rows(&facts), Check::Link, Wrong, "sudo ip link set 'x$(id);y' up");
    facts.details = InterfaceDetails {
        interface: Interface { is_up: false, ..details("eth0", 2).interface },
        ..facts.details
    };
    let present = [facts.details, details("eth1", 3)];
    said(&[missing("eth9", &present)], Check::Link, Wrong, "there are: eth0, eth1");
    said(&[any(&present)], Check::Link, Ok, "any: 2 interfaces, 1 of them up");
    said(&[any(&[])], Check::Link, Wrong, "0 of them up");
    said(&[list(&present)], Check::Interfaces, Ok, "eth0 (down), eth1 (up)");
}

#[test]
fn frames_longer_than_a_block_are_cut() {
    let mut facts = Facts { is_lro_on: true, ..good() };
    said(&rows(&facts), Check::FrameSize, Note, "sudo ethtool -K eth0 lro off");
    facts.details.gro_bytes_max = Some(512 << 10);
    said(&rows(&facts), Check::FrameSize, Wrong, "--block-kib 1024");
    facts.details.gro_bytes_max = Some(300_000);
    said(&rows(&facts), Check::FrameSize, Wrong, "httplines -i eth0 --block-kib 512");
    facts.is_gro_on = false;
    facts.is_lro_on = false;
    said(&rows(&facts), Check::FrameSize, Ok, "up to 65536 bytes (GRO is off), which fit");
    facts.details.gso_bytes_max = Some(400_000);
    said(&rows(&facts), Check::FrameSize, Wrong, "400000 bytes are cut");
}

#[test]
fn a_small_ring_is_noted_and_wrong_once_frames_found_it_full() {
    let ring = Some(ReceiveRing { entries: 256, entries_max: 4096 });
    let facts = Facts { ring, ..good() };
    said(&rows(&facts), Check::ReceiveRing, Note, "sudo ethtool -G eth0 rx 4096");
    let new = InterfaceStatistics { rx_missed: 7, ..InterfaceStatistics::default() };
    let rows = judge(&facts, &Counted { new: Some(new), ..Counted::none() });
    said(&rows, Check::ReceiveRing, Wrong, "found it full");
    said(&rows, Check::Losses, Wrong, "in 3 s 7 frames found the NIC's buffers full");
}

#[test]
fn losses_are_told_by_their_cause() {
    let none = InterfaceStatistics::default();
    let long = lost(InterfaceStatistics { rx_length_errors: 3, rx_errors: 3, ..none });
    said(&long, Check::Losses, Wrong, "longer than its MTU 1500");
    said(&long, Check::Losses, Wrong, "sudo ip link set eth0 mtu 9000");
    let bad = lost(InterfaceStatistics { rx_errors: 1200, ..none });
    said(&bad, Check::Losses, Wrong, "1,200 frames came damaged");
    let dropped = InterfaceStatistics { rx_dropped: 5, ..none };
    said(&lost(dropped), Check::Losses, Note, "5 were dropped");
    let before = InterfaceStatistics { rx_missed: 9, ..none };
    let rows = judge(&good(), &Counted { before: Some(before), ..Counted::none() });
    said(&rows, Check::Losses, Ok, "none in 3 s, 9 before");
    let rows = judge(&good(), &Counted { new: None, ..Counted::none() });
    said(&rows, Check::Losses, Note, "not seen, as its counters could not be read");
    // No protocol took them.
    let counters = Box::new(FilterCounters { unclaimed: 5, ..FilterCounters::default() });
    let seen = Seen::Frames { counters, handshakes: Handshakes::default() };
    let rows = judge(&good(), &Counted { new: Some(dropped), seen, ..Counted::none() });
    said(&rows, Check::Losses, Ok, "none in 3 s");
    let mut veth = good();
    veth.details.kind = Some("veth".into());
    let rows = judge(&veth, &Counted { new: Some(dropped), ..Counted::none() });
    said(&rows, Check::Losses, Note, "no protocol took them");
    let (counters, handshakes) = (Box::default(), Handshakes::default());
    let seen = Seen::Frames { counters, handshakes };
    let rows = judge(&veth, &Counted { new: Some(dropped), seen, ..Counted::none() });
    said(&rows, Check::Losses, Wrong, "longer than its MTU");
}

#[test]
fn one_queue_is_noted_and_symmetry_is_told() {
    let one = Facts { queues: Some(queues_of(1, 8)), ..good() };
    said(&rows(&one), Check::Queues, Note, "sudo ethtool -L eth0 combined 4");
    let apart = |tx_count_max| Facts {
        queues: Some(Queues { tx_count_max: Some(tx_count_max), ..queues_of(1, 8) }),
        ..good()
    };
    said(&rows(&apart(3)), Check::Queues, Note, "sudo ethtool -L eth0 rx 4 tx 3");
    said(&rows(&apart(1)), Check::Queues, Note, "sudo ethtool -L eth0 rx 4");
    let only = Facts { queues: Some(queues_of(1, 1)), ..good() };
    said(&rows(&only), Check::Queues, Ok, "1 of at most 1");
    let virtual_one = Facts { is_hardware: Some(false), ..one };
    said(&rows(&virtual_one), Check::Queues, Ok, "1 of at most 8");
    let other = Facts { is_hash_symmetric: Some(false), ..good() };
    said(&rows(&other), Check::Queues, Ok, "only --fanout cpu and --fanout queue need");
    said(&rows(&good()), Check::Queues, Ok, "4 of at most 8, symmetric");
}

#[test]
fn interrupts_on_one_cpu_are_noted() {
    let counted = |counts: Vec<u64>| {
        // CPU 0 is offline.
        let interrupts = Some((1..).zip(counts).collect());
        Counted { interrupts, ..Counted::none() }
    };
    let rows = judge(&good(), &counted(vec![0, 9900, 100, 0]));
    said(&rows, Check::Interrupts, Note, "99% of them on CPU 2");
    said(&rows, Check::Interrupts, Note, "irqbalance");
    let few = judge(&good(), &counted(vec![0, 99, 0, 0]));
    said(&few, Check::Interrupts, Ok, "99 in 3 s");
}

#[test]
fn interfaces_on_top_of_each_other_are_captured_twice() {
    let eth0 = details("eth0", 2);
    let mut vlan = InterfaceDetails { link: Some(2), ..details("eth0.5", 3) };
    vlan.kind = Some("vlan".into());
    let both = [&eth0, &vlan];
    said(&[stacked(&both, false)], Check::Stacked, Wrong, "eth0.5 is on eth0");
    said(&[stacked(&both, true)], Check::Stacked, Note, "httplines -i eth0");
    said(&[stacked(&[&vlan], false)], Check::Stacked, Ok, "no interface");
    let bridge = details("br0", 4);
    let port = InterfaceDetails { master: Some(4), ..details("eth1", 5) };
    said(&[stacked(&[&bridge, &port], false)], Check::Stacked, Note, "br0 is on eth1: with both");
    let mut peer = InterfaceDetails { link: Some(2), ..details("veth0", 6) };
    peer.kind = Some("veth".into());
    said(&[stacked(&[&eth0, &peer], false)], Check::Stacked, Note, "captured twice");
    peer.is_link_elsewhere = true;
    said(&[stacked(&[&eth0, &peer], false)], Check::Stacked, Ok, "no interface");
    let mut vxlan = details("vxlan0", 7);
    vxlan.kind = Some("vxlan".into());
    said(&[stacked(&[&eth0, &vxlan], true)], Check::Stacked, Note, "vxlan0: exchanges have two");
    said(&[stacked(&[&vxlan], false)], Check::Stacked, Ok, "no interface");
}
