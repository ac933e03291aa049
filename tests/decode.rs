//! The segment is found on every link type, and in IP with everything that may precede TCP.

use crate::support::found::*;
use crate::support::oracle::{oracle, told};
use crate::support::packet::Packet;
use crate::support::tunnel::*;
use httplines::capture::{Frame, VlanTag};
use httplines::decode::Reject;
use httplines::stats::DecodeStats;
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn ethernet_two_and_802_3() {
    assert_found(1, &[], bridged);
    let ieee = |inner: &[u8]| ethernet(snap(inner).len() as u16, &snap(inner));
    assert_found(1, &[], ieee);
    // A spanning tree's frame, an ARP request.
    assert_rejected(1, &ethernet(38, &[0x42; 38]), Reject::NotIp);
    assert_rejected(1, &ethernet(0x0806, &[0; 28]), Reject::NotIp);
    assert_rejected(1, &[0; 13], Reject::Truncated);
}

#[test]
fn vlan_tags_of_all_kinds() {
    for announced in [0x8100, 0x88a8, 0x9100] {
        assert_found(1, &[], |inner| {
            let tag = |id: u16, ethertype: u16| [id, ethertype].map(u16::to_be_bytes).concat();
            let ethertype = ethertype_of(inner);
            ethernet(announced, &[&tag(10, 0x8100), &tag(20, ethertype), inner].concat())
        });
    }
    let mut packet = Packet::tcp("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
    for id in [1, 2, 3, 4] {
        packet = packet.vlan(id);
    }
    let bytes = packet.ethernet();
    assert_eq!(decoder().decode(&frame(1, &bytes)).unwrap().key.vlan, [1, 2, 3, 4]);
    assert_rejected(1, &packet.vlan(5).ethernet(), Reject::TooDeep);
}

#[test]
fn tags_that_the_kernel_took_out_are_the_outermost() {
    let packet = Packet::tcp("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
    let bytes = packet.vlan(7).ethernet();
    // The upper bits are priority and drop eligibility; id 0 is a priority and no VLAN.
    for (tci, vlan) in [(0xf005, [5, 7, 0, 0]), (0xe000, [7, 0, 0, 0])] {
        let tag = Some(VlanTag { tci, tpid: 0x88a8 });
        let whole = Frame { vlan: tag, ..frame(1, &bytes) };
        assert_eq!(decoder().decode(&whole).unwrap().key.vlan, vlan);
    }
}

#[test]
fn jumbo_frames_and_superpackets_with_a_length() {
    for payload_bytes in [8_960, 65_535 - 40] {
        let packet = Packet::tcp("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let payload = vec![b'x'; payload_bytes];
        let bytes = packet.payload(&payload).ethernet();
        assert_eq!(decoder().decode(&frame(1, &bytes)).unwrap().payload, payload);
    }
}

#[test]
fn linux_cooked_captures() {
    let sll = |inner: &[u8]| [&[0; 14], &ethertype_of(inner).to_be_bytes()[..], inner].concat();
    assert_found(113, &[], sll);
    let sll2 = |inner: &[u8]| [&ethertype_of(inner).to_be_bytes()[..], &[0; 18], inner].concat();
    assert_found(276, &[], sll2);
    assert_found(113, &[], |inner| [&[0; 14], &[0, 4][..], &snap(inner)].concat());
    // With a tag, as on `any` if the NIC does not remove tags.
    let tagged = |inner: &[u8]| [&[0, 30], &ethertype_of(inner).to_be_bytes()[..], inner].concat();
    assert_found(113, &[], |inner| [&[0; 14], &[0x81, 0][..], &tagged(inner)].concat());
    assert_found(276, &[], |inner| [&[0x81, 0], &[0; 18][..], &tagged(inner)].concat());
}

#[test]
fn loopback_and_raw() {
    for (v4, v6) in [([2, 0, 0, 0], [24, 0, 0, 0]), ([0, 0, 0, 2], [0, 0, 0, 30])] {
        let family = move |inner: &[u8]| if inner[0] >> 4 == 4 { v4 } else { v6 };
        assert_found(0, &[], |inner| [&family(inner)[..], inner].concat());
        assert_found(108, &[], |inner| [&family(inner)[..], inner].concat());
    }
    for link in [12, 14, 101, 228, 229] {
        assert_found(link, &[], <[u8]>::to_vec);
    }
    assert_rejected(101, &[0x50; 40], Reject::NotIp);
    assert_rejected(147, &[0x45; 40], Reject::UnsupportedLink);
}

#[test]
fn ppp_with_and_without_framing() {
    for link in [9, 50] {
        assert_found(link, &[], ppp);
        assert_found(link, &[], |inner| [&[0xff, 3], &ppp(inner)[..]].concat());
        // The protocol in one byte.
        assert_found(link, &[], |inner| ppp(inner)[1..].to_vec());
        assert_found(link, &["mpls:9"], |inner| [&[2, 0x81], &mpls(&[9], inner)[..]].concat());
        assert_rejected(link, &[0xff, 3, 0xc0, 0x21, 1, 2, 3, 4], Reject::NotIp);
    }
    // With the direction before it, or in place of the address.
    for direction in [0, 1] {
        assert_found(204, &[], |inner| [&[direction, 0xff, 3], &ppp(inner)[..]].concat());
        assert_found(204, &[], |inner| [&[direction], &ppp(inner)[..]].concat());
        assert_found(166, &[], |inner| [&[direction, 3], &ppp(inner)[..]].concat());
    }
}

#[test]
fn cisco_hdlc() {
    for link in [104, 50, 205] {
        let direction = &[1][..usize::from(link == 205)];
        for address in [0x0f, 0x8f] {
            assert_found(link, &[], |inner| {
                let header = [&[address, 0], &ethertype_of(inner).to_be_bytes()[..]].concat();
                [direction, &header, inner].concat()
            });
        }
        let inner = [direction, &[0x8f, 0, 0x80, 0x35, 0, 0, 0, 0]].concat();
        assert_rejected(link, &inner, Reject::NotIp);
    }
}

#[test]
fn wifi_data_frames() {
    assert_found(105, &[], |inner| wifi([0x08, 1], &[], inner));
    assert_found(105, &[], |inner| wifi([0x88, 2], &[0, 0], inner));
    // Four addresses; with QoS and HT control.
    assert_found(105, &[], |inner| wifi([0x08, 3], &[0; 6], inner));
    assert_found(105, &[], |inner| wifi([0x88, 0x83], &[0; 12], inner));
    let inner = &requests()[0];
    assert_rejected(105, &wifi([0x08, 0x41], &[], inner), Reject::Encrypted);
    assert_rejected(105, &wifi([0x80, 0], &[], inner), Reject::NotIp);
    assert_rejected(105, &wifi([0xc8, 1], &[0, 0], inner), Reject::NotIp);
    assert_rejected(105, &wifi([0x88, 1], &[0x80, 0], inner), Reject::UnsupportedLink);
    assert_rejected(105, &wifi([0x08, 0x05], &[], inner), Reject::UnsupportedLink);
}

#[test]
fn radiotap_headers() {
    // Flags only; a time, and flags that announce padding; two presence words.
    let plain = [0, 0, 9, 0, 2, 0, 0, 0, 0x10];
    assert_found(127, &[], |inner| [&plain, &wifi([0x08, 1], &[], inner)[..]].concat());
    let padded = [&[0, 0, 17, 0, 3, 0, 0, 0][..], &[0; 8], &[0x20]].concat();
    assert_found(127, &[], |inner| {
        [&padded, &wifi([0x88, 1], &[0, 0, 0xdd, 0xdd], inner)[..]].concat()
    });
    let double = [&[0, 0, 13, 0, 2, 0, 0, 0x80][..], &[0, 0, 0, 0, 0]].concat();
    assert_found(127, &[], |inner| [&double, &wifi([0x08, 1], &[], inner)[..]].concat());
    assert_rejected(127, &[0, 0, 4, 0, 0, 0, 0, 0], Reject::BadHeader);
    assert_rejected(127, &[0, 0, 8, 0, 0, 0, 0, 0x80], Reject::Truncated);
    let endless = [&[0, 0, 255, 0][..], &[0xff; 255]].concat();
    assert_rejected(127, &endless, Reject::TooDeep);
}

#[test]
fn prism_and_avs_headers() {
    let wifi = |inner: &[u8]| wifi([0x08, 1], &[], inner);
    for link in [119, 163] {
        let avs = [[0x80, 0x21, 0x10, 0x01], [0, 0, 0, 64]].concat();
        assert_found(link, &[], |inner| [&avs[..], &[0; 56], &wifi(inner)].concat());
    }
    for length in [144_u32.to_le_bytes(), 144_u32.to_be_bytes()] {
        assert_found(119, &[], |inner| {
            [&[0x44, 0, 0, 0], &length[..], &[0; 136], &wifi(inner)].concat()
        });
    }
    assert_rejected(119, &[0; 200], Reject::BadHeader);
    assert_rejected(119, &[0x44, 0, 0, 0, 144, 0, 0, 0, 1], Reject::Truncated);
}

#[test]
fn headers_that_name_their_link() {
    let ppi = |link: u8| [0, 0, 20, 0, link, 0, 0, 0, 2, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_found(192, &[], |inner| [&ppi(105)[..], &wifi([0x88, 2], &[0, 0], inner)].concat());
    assert_found(192, &[], |inner| [&ppi(1)[..], &bridged(inner)].concat());
    assert_rejected(192, &[ppi(192), ppi(1)].concat(), Reject::UnsupportedLink);
    assert_rejected(192, &[0, 0, 7, 0, 1, 0, 0, 0], Reject::BadHeader);
    let pktap = |link: u8| [&[108, 0, 0, 0, 1, 0, 0, 0, link, 0, 0, 0][..], &[0; 96]].concat();
    assert_found(258, &[], |inner| [&pktap(1)[..], &bridged(inner)].concat());
    assert_found(258, &[], |inner| [&pktap(12)[..], inner].concat());
    assert_rejected(258, &[pktap(147), vec![0; 60]].concat(), Reject::UnsupportedLink);
}

/// A record of netfilter's log, from its attributes onwards, in either byte order.
fn attributes(is_big: bool, inner: &[u8]) -> Vec<u8> {
    let number = |value: u16| if is_big { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut bytes = vec![2, 0, 0, 1];
    let prefix: &[u8] = b"in\0";
    for (kind, value) in [(1, &[0; 4][..]), (10, prefix), (9, inner)] {
        bytes.extend([number(4 + value.len() as u16), number(kind)].concat());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[test]
fn nflog_records() {
    for is_big in [false, true] {
        assert_found(239, &[], |inner| attributes(is_big, inner));
    }
    assert_rejected(239, &[2, 0, 0, 1, 8, 0, 1, 0, 0, 0, 0, 0], Reject::NotIp);
    assert_rejected(239, &[2, 0, 0, 1, 2, 0, 1, 0, 0, 0, 0, 0], Reject::BadHeader);
}

#[test]
fn netlink_messages_with_a_record() {
    let message = |inner: &[u8]| {
        let body = attributes(false, inner);
        let length = (16 + body.len() as u32).to_le_bytes();
        [&length[..], &[0, 4], &[0; 10], &body].concat()
    };
    let cooked = [&[0, 4, 3, 0x38][..], &[0; 10], &[0, 12]].concat();
    assert_found(253, &[], |inner| [&cooked[..], &message(inner)].concat());
    // A packet that waits in a queue for the verdict of a program.
    assert_found(253, &[], |inner| {
        let header = [&[11, 0, 1, 0][..], &[0; 7], &[0]].concat();
        let payload = [(4 + inner.len() as u16).to_le_bytes(), [10, 0]].concat();
        let body = [&[2, 0, 0, 44], &header[..], &payload, inner].concat();
        let length = (16 + body.len() as u32).to_le_bytes();
        [&cooked[..], &length, &[0, 3], &[0; 10], &body].concat()
    });
    let inner = &requests()[0];
    let batch = [&cooked[..], &message(inner), &message(inner)].concat();
    assert_rejected(253, &batch, Reject::UnsupportedLink);
    assert_rejected(253, &[0; 40], Reject::NotIp);
}

#[test]
fn superpackets_without_a_length() {
    let payload = vec![b'x'; 100_000];
    for (from, to) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
        // BIG TCP: longer than the length field can express, which is 0 then.
        let small = Packet::tcp(from.parse().unwrap(), to.parse().unwrap()).ip();
        let mut bytes = [&small[..], &payload].concat();
        let length = if bytes[0] >> 4 == 4 { 2..4 } else { 4..6 };
        bytes[length].fill(0);
        let mut decoder = decoder();
        let mut whole = frame(101, &bytes);
        assert_eq!(decoder.decode(&whole).unwrap().payload.len(), payload.len());
        // Cut by the snap length: the missing bytes are reported.
        whole.bytes = &bytes[..200];
        let segment = decoder.decode(&whole).unwrap();
        assert_eq!(segment.payload_wire_bytes as usize, payload.len());
        assert_eq!(segment.payload.len(), 200 - small.len());
        // A jumbo frame, and the largest packet that has a length.
        for bytes in [8960, 65_535 - small.len()] {
            let jumbo = Packet::tcp(from.parse().unwrap(), to.parse().unwrap());
            let jumbo = jumbo.payload(&payload[..bytes]).ip();
            assert_eq!(decoder.decode(&frame(101, &jumbo)).unwrap().payload.len(), bytes);
        }
    }
}

#[test]
fn ipv4_options_and_wrong_checksums() {
    let [inner, _] = requests();
    let mut decoder = decoder();
    for option_words in 0..=10 {
        let mut bytes = inner.clone();
        bytes.splice(20..20, vec![1; option_words * 4]);
        bytes[0] = 0x45 + option_words as u8;
        let total = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&total);
        bytes[10..12].fill(0);
        let header = 20 + option_words * 4;
        let sum = crate::support::packet::checksum(&bytes[..header]).to_be_bytes();
        bytes[10..12].copy_from_slice(&sum);
        assert_eq!(decoder.decode(&frame(101, &bytes)).unwrap().payload, REQUEST);
        assert_eq!(decoder.stats().ipv4_checksums_wrong, option_words as u64);
        bytes[10] ^= 0x10;
        assert_eq!(decoder.decode(&frame(101, &bytes)).unwrap().payload, REQUEST);
    }
    assert_eq!(decoder.stats().ipv4_checksums_wrong, 11);
    let mut short = inner.clone();
    short[0] = 0x44;
    assert_rejected(101, &short, Reject::BadHeader);
    // A header longer than its packet.
    [short[0], short[3]] = [0x4f, 40];
    assert_rejected(101, &short, Reject::BadHeader);
}

#[test]
fn a_wrong_checksum_of_tcp_is_not_looked_at() {
    for (mut bytes, at) in requests().into_iter().zip([20 + 16, 40 + 16]) {
        bytes[at] ^= 0x55;
        let mut decoder = decoder();
        assert_eq!(decoder.decode(&frame(101, &bytes)).unwrap().payload, REQUEST);
        assert_eq!(decoder.stats().ipv4_checksums_wrong, 0);
    }
}

#[test]
fn ipv6_extension_headers() {
    let [_, v6] = requests();
    let tcp = &v6[40..];
    let options = |next: u8| [next, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // The authentication header has a length in other units; this fragment header fragments
    // nothing.
    let authentication = [&[60, 4][..], &[0; 22]].concat();
    let atomic = [6, 0, 0, 0, 1, 2, 3, 4];
    let chain = [&options(43)[..], &options(51), &authentication, &options(44), &atomic, tcp];
    let mut decoder = decoder();
    let bytes = ipv6(0, &chain.concat());
    assert_eq!(decoder.decode(&frame(101, &bytes)).unwrap().payload, REQUEST);
    let endless = ipv6(0, &options(0).repeat(12));
    assert_rejected(101, &endless, Reject::TooDeep);
    assert_rejected(101, &ipv6(59, &[]), Reject::NotTcp);
}

/// A link type that we decode, or any other.
fn link() -> impl Strategy<Value = u16> {
    let known = [0, 1, 9, 50, 51, 101, 104, 105, 108, 113, 127, 239, 253, 276];
    prop_oneof![9 => prop::sample::select(known.to_vec()), 1 => any::<u16>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// If etherparse finds TCP, we find the same; also with a few bytes changed.
    #[test]
    fn etherparse_finds_the_same(
        is_v6: bool,
        tags in vec(1..4095_u16, 0..3),
        ports in any::<[u16; 2]>(),
        seq: u32,
        options in vec(0..4_u8, 0..40),
        payload in vec(any::<u8>(), 0..100),
        changes in vec((0..100_usize, any::<u8>()), 0..3),
    ) {
        let host = |last: u8, port: u16| match is_v6 {
            true => format!("[fd00::{last}]:{port}"),
            false => format!("10.0.0.{last}:{port}"),
        };
        let [from, to] = [host(1, ports[0]), host(2, ports[1])].map(|host| host.parse().unwrap());
        let packet = Packet::tcp(from, to).seq(seq).options(&options).payload(&payload);
        let mut bytes = tags.iter().fold(packet, |packet, id| packet.vlan(*id)).ethernet();
        for (at, value) in &changes {
            if let Some(byte) = bytes.get_mut(*at) {
                *byte = *value;
            }
        }
        let mut decoder = decoder();
        let found = decoder.decode(&frame(1, &bytes));
        match oracle(&bytes) {
            Some(expected) => {
                let segment = found.expect("etherparse finds a segment");
                prop_assert_eq!(told(&segment), expected);
            }
            None => prop_assert!(found.is_err() || !changes.is_empty()),
        }
    }

    /// No bytes of any link type panic, every frame has one outcome, and no payload is longer than
    /// the frame.
    #[test]
    fn any_bytes_have_one_outcome(
        frames in vec((link(), vec(any::<u8>(), 0..200), 0..100_u32), 1..20),
    ) {
        let mut decoder = decoder();
        let mut stats = DecodeStats::default();
        for (link, bytes, cut) in &frames {
            let wire_bytes = bytes.len() as u32 + cut;
            let frame = Frame { wire_bytes, ..frame(*link, bytes) };
            let outcome = decoder.decode(&frame);
            if let Ok(segment) = &outcome {
                prop_assert!(segment.payload.len() <= bytes.len());
                prop_assert!(segment.payload.len() <= segment.payload_wire_bytes as usize);
            }
            stats.count(&outcome);
        }
        let sum: u64 = stats.each().iter().map(|(_, count)| count).sum();
        prop_assert_eq!(sum, frames.len() as u64);
    }
}
