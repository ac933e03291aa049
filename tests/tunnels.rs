//! Every encapsulation: the segment inside is found, and its encapsulations are reported.

use crate::support::found::*;
use crate::support::tunnel::*;
use httplines::capture::Frame;
use httplines::config::DecodeConfig;
use httplines::decode::{Decoder, Reject};
use httplines::ids::{REALM_GENEVE, REALM_IPV6, REALM_VXLAN};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn pppoe_sessions() {
    let session = |inner: &[u8]| pppoe(513, &ppp(inner));
    assert_found(1, &["pppoe:513"], |inner| ethernet(0x8864, &session(inner)));
    assert_found(51, &["pppoe:513"], session);
    // Discovery; an unknown version.
    assert_rejected(51, &[0x11, 9, 0, 0, 0, 0], Reject::NotIp);
    assert_rejected(51, &[0x21, 0, 0, 0, 0, 0], Reject::BadHeader);
}

#[test]
fn mpls_label_stacks() {
    for ethertype in [0x8847, 0x8848] {
        assert_found(1, &["mpls:16"], |inner| ethernet(ethertype, &mpls(&[16], inner)));
        assert_found(1, &["mpls:16", "mpls:1048575"], |inner| {
            ethernet(ethertype, &mpls(&[16, 1_048_575], inner))
        });
    }
    // A pseudowire with and without control word, even if the address begins with zero bits.
    for first in [0x02, 0xa2] {
        assert_found(1, &["mpls:7"], |inner| {
            let mut frame = bridged(inner);
            frame[0] = first;
            ethernet(0x8847, &mpls(&[7], &frame))
        });
    }
    assert_found(1, &["mpls:7"], |inner| {
        ethernet(0x8847, &mpls(&[7], &[&[0; 4], &bridged(inner)[..]].concat()))
    });
    assert_found(1, &["mpls:3"], |inner| ethernet(0x0800, &ipv4(137, &mpls(&[3], inner))));
    assert_rejected(1, &ethernet(0x8847, &mpls(&[1], &[0x10; 40])), Reject::NotIp);
    assert_rejected(1, &ethernet(0x8847, &mpls(&[1; 17], &requests()[0])), Reject::TooDeep);
}

#[test]
fn gre_with_every_flag() {
    // Checksum and offset, key, sequence number, in this order (RFC 2890).
    for flags in [0, 0x8000, 0x2000, 0x1000, 0xa000, 0x9000, 0x3000, 0xb000] {
        let words = [(0x8000, 0xcccc_0000), (0x2000, 42), (0x1000, 1)];
        let fields: Vec<u8> = words
            .into_iter()
            .filter(|(bit, _)| flags & bit != 0)
            .flat_map(|(_, value)| word(value))
            .collect();
        let name = if flags & 0x2000 != 0 { "gre:42" } else { "gre" };
        assert_found(101, &[name], |inner| gre(flags, ethertype_of(inner), &fields, inner));
        assert_found(101, &[name], |inner| gre(flags, 0x6558, &fields, &bridged(inner)));
        assert_found(101, &[name, "mpls:5"], |inner| {
            gre(flags, 0x8847, &fields, &mpls(&[5], inner))
        });
    }
    // A source route of one entry, and its end (RFC 1701).
    let routed = [&[0; 4][..], &[8, 0, 0, 4, 1, 2, 3, 4], &[0; 4]].concat();
    assert_found(101, &["gre"], |inner| gre(0x4000, ethertype_of(inner), &routed, inner));
    assert_found(101, &["gre"], |inner| {
        ipv6(GRE, &[&[0, 0][..], &ethertype_of(inner).to_be_bytes(), inner].concat())
    });
    assert_rejected(101, &gre(0x4000, 0x0800, &[1; 200], &[]), Reject::TooDeep);
    assert_rejected(101, &gre(0, 0, &[], &[]), Reject::NotTcp);
    assert_rejected(101, &gre(2, 0x0800, &[], &requests()[0]), Reject::NotTcp);
}

#[test]
fn authentication_headers_of_both_families() {
    // Next header, number of words minus two, and the rest of three and of six words.
    for more in [&[0; 4][..], &[0; 16]] {
        let [v4, v6] = requests();
        let header = |next| [&[next, more.len() as u8 / 4][..], &[0; 6], more].concat();
        let segments = [
            ipv4(51, &[&header(6)[..], &v4[20..]].concat()),
            ipv4(51, &[&header(IPIP)[..], &v4].concat()),
            ipv4(IPIP, &ipv4(51, &[&header(SIX_IN_FOUR)[..], &v6].concat())),
            ipv6(51, &[&header(6)[..], &v6[40..]].concat()),
        ];
        for bytes in segments {
            assert_eq!(decoder().decode(&frame(101, &bytes)).unwrap().payload, REQUEST);
        }
        assert_rejected(101, &ipv4(51, &[&header(50)[..], &[0; 60]].concat()), Reject::NotTcp);
    }
    assert_rejected(101, &ipv4(51, &[51, 0, 0, 0, 0, 0, 0, 0].repeat(20)), Reject::TooDeep);
}

#[test]
fn pptp_is_gre_with_ppp() {
    for (flags, acknowledgment) in [(0x3001, &[][..]), (0x3081, &[0; 4])] {
        assert_found(101, &["pptp:77"], |inner| {
            let payload = [&[0xff, 3], &ppp(inner)[..]].concat();
            let length_call = [payload.len() as u16, 77].map(u16::to_be_bytes).concat();
            let fields = [&length_call, &word(1)[..], acknowledgment].concat();
            gre(flags, 0x880b, &fields, &payload)
        });
    }
    assert_rejected(101, &gre(0x2081, 0x880b, &[0; 8], &[]), Reject::NotTcp);
}

#[test]
fn erspan_of_all_types() {
    assert_found(101, &["erspan"], |inner| gre(0, 0x88be, &[], &bridged(inner)));
    let two = [word(1), word(0x1000_03ff), word(0)].concat();
    assert_found(101, &["erspan:1023"], |inner| gre(0x1000, 0x88be, &two, &bridged(inner)));
    for (last, more) in [(0, &[][..]), (1, &[0; 8])] {
        let three = [&word(1)[..], &word(0x2000_0005), &[0; 4], &word(last), more].concat();
        assert_found(101, &["erspan:5"], |inner| gre(0x1000, 0x22eb, &three, &bridged(inner)));
    }
}

#[test]
fn ip_in_ip() {
    let [v4, v6] = requests();
    for (outer, name) in [
        (ipv4(IPIP, &v4), "ipip"),
        (ipv4(SIX_IN_FOUR, &v6), "6in4"),
        (ipv6(IPIP, &v4), "4in6"),
        (ipv6(SIX_IN_FOUR, &v6), "6in6"),
    ] {
        let mut decoder = decoder();
        let segment = decoder.decode(&frame(101, &outer)).unwrap();
        assert_eq!((segment.payload, path_of(&segment)), (REQUEST, vec![name.to_string()]));
    }
    // The version inside is not the one that the protocol number announces.
    assert_rejected(101, &ipv4(IPIP, &v6), Reject::BadHeader);
    assert_rejected(101, &ipv4(SIX_IN_FOUR, &v4), Reject::BadHeader);
}

#[test]
fn teredo_with_its_indications() {
    let [v4, v6] = requests();
    let authentication = [&[0, 1, 2, 3][..], &[0xaa; 5], &[0; 9]].concat();
    let origin = [0, 0, 1, 2, 3, 4, 5, 6];
    for (source, destination) in [(3544, 50_000), (50_000, 3544)] {
        for front in [&[][..], &authentication, &origin, &[&authentication[..], &origin].concat()] {
            let outer = udp4(source, destination, &[front, &v6].concat());
            let mut decoder = decoder();
            let segment = decoder.decode(&frame(101, &outer)).unwrap();
            assert_eq!(path_of(&segment), ["teredo"]);
        }
    }
    assert_rejected(101, &udp4(3544, 3544, &v4), Reject::NotTcp);
}

#[test]
fn l2tp_data_messages() {
    let ids = [7u16, 1].map(u16::to_be_bytes).concat();
    let tail = |inner: &[u8]| [&[0xff, 3], &ppp(inner)[..]].concat();
    for (source, destination) in [(1701, 1701), (1701, 9999), (9999, 1701)] {
        assert_found(101, &["l2tp:7:1"], |inner| {
            udp4(source, destination, &[&[0, 2], &ids[..], &tail(inner)].concat())
        });
    }
    // Length, sequence numbers and an offset of two bytes.
    assert_found(101, &["l2tp:7:1"], |inner| {
        let rest = [&ids[..], &[0; 4], &[0, 2, 0xdd, 0xdd], &tail(inner)].concat();
        let length = (4 + rest.len() as u16).to_be_bytes();
        udp4(1701, 1701, &[&[0x4a, 2], &length[..], &rest, &[0xee; 5]].concat())
    });
    assert_rejected(101, &udp4(1701, 1701, &[0xc8, 2, 0, 12, 0, 0, 0, 0, 0, 0]), Reject::NotTcp);
    assert_rejected(101, &udp4(1701, 1701, &[0, 3, 0, 0, 0, 0, 0, 0]), Reject::NotTcp);
}

#[test]
fn vxlan_on_any_port_given() {
    for port in [4789, 8472] {
        assert_found(101, &["vxlan:42"], |inner| vxlan(port, 42, &bridged(inner)));
    }
    let bytes = vxlan(5555, 0xff_ffff, &bridged(&requests()[1]));
    assert_rejected(101, &bytes, Reject::NotTcp);
    let mut limits = DecodeConfig::default();
    limits.vxlan_ports.push(5555);
    let mut decoder = Decoder::new(limits);
    let segment = decoder.decode(&frame(101, &bytes)).unwrap();
    assert_eq!(segment.key.realm, REALM_VXLAN | REALM_IPV6 | 0xff_ffff);
    assert_rejected(101, &udp4(1, 4789, &[0; 60]), Reject::NotTcp);
}

#[test]
fn vxlan_that_tells_what_is_inside() {
    let gpe = |protocol: u8, inner: &[u8]| {
        udp4(49152, 4790, &[&[0x0c, 0, 0, protocol], &word(9 << 8)[..], inner].concat())
    };
    assert_found(101, &["vxlan:9"], |inner| gpe(if inner[0] >> 4 == 4 { 1 } else { 2 }, inner));
    assert_found(101, &["vxlan:9"], |inner| gpe(3, &bridged(inner)));
    assert_found(101, &["vxlan:9", "mpls:7"], |inner| gpe(5, &mpls(&[7], inner)));
    assert_rejected(101, &gpe(4, &requests()[0]), Reject::NotTcp);
    // Without the flag it is plain VXLAN, in which all of these bits must be ignored.
    assert_found(101, &["vxlan:9"], |inner| vxlan(4790, 9, &bridged(inner)));
    assert_found(101, &["vxlan:9"], |inner| {
        let header = [&[0xff; 4], &word(9 << 8 | 0xff)[..]].concat();
        udp4(49152, 4789, &[&header[..], &bridged(inner)].concat())
    });
}

#[test]
fn gre_and_mpls_in_udp() {
    assert_found(101, &["gre:7"], |inner| {
        let head = [0x2000, ethertype_of(inner)].map(u16::to_be_bytes).concat();
        udp4(49152, 4754, &[&head, &word(7)[..], inner].concat())
    });
    assert_found(101, &["mpls:1", "mpls:2"], |inner| udp4(49152, 6635, &mpls(&[1, 2], inner)));
}

#[test]
fn gre_of_access_points_and_of_web_caches() {
    for protocol in [0x8200, 0x8210, 0x82f0] {
        assert_found(101, &["gre"], |inner| {
            gre(0, protocol, &[], &wifi([0x88, 1], &[0, 0], inner))
        });
    }
    let v4 = &requests()[0];
    for redirected in [v4.clone(), [&word(0x0100_0000)[..], v4].concat()] {
        let bytes = gre(0, 0x883e, &[], &redirected);
        assert_eq!(decoder().decode(&frame(101, &bytes)).unwrap().payload, REQUEST);
    }
}

#[test]
fn ayiya_with_identity_and_signature() {
    let ayiya = |operation: u8, next: u8, inner: &[u8]| {
        let head = [0x41, 0x52, operation, next, 0, 0, 0, 0];
        udp4(5072, 49152, &[&head, &[1; 16 + 20][..], inner].concat())
    };
    let next = |inner: &[u8]| if inner[0] >> 4 == 4 { IPIP } else { SIX_IN_FOUR };
    assert_found(101, &["ayiya"], |inner| ayiya(0x11, next(inner), inner));
    assert_found(101, &["ayiya"], |inner| ayiya(0x13, next(inner), inner));
    assert_rejected(101, &ayiya(0x12, 41, &requests()[1]), Reject::NotTcp);
    assert_rejected(101, &ayiya(0x11, 59, &[]), Reject::NotTcp);
}

#[test]
fn l2tp_version_three_with_and_without_cookie() {
    for before in [&[][..], &[7; 4], &[7; 8], &[7; 12]] {
        assert_found(101, &["l2tp:9"], |inner| {
            ipv4(115, &[&word(9)[..], before, &bridged(inner)].concat())
        });
        assert_found(101, &["l2tp:9"], |inner| {
            let head = [&[0, 3, 0, 0][..], &word(9)].concat();
            udp4(1701, 1701, &[&head, before, &bridged(inner)].concat())
        });
    }
    assert_rejected(101, &ipv4(115, &[&word(0)[..], &[0; 60]].concat()), Reject::NotTcp);
    assert_rejected(101, &ipv4(115, &word(9)), Reject::NotTcp);
}

#[test]
fn geneve_with_options() {
    for options in [&[][..], &[0xaa; 252]] {
        assert_found(101, &["geneve:42"], |inner| geneve(42, options, 0x6558, &bridged(inner)));
        assert_found(101, &["geneve:42"], |inner| geneve(42, options, ethertype_of(inner), inner));
    }
    let bytes = geneve(42, &[], 0x6558, &bridged(&requests()[0]));
    let mut decoder = decoder();
    assert_eq!(decoder.decode(&frame(101, &bytes)).unwrap().key.realm, REALM_GENEVE | 42);
    assert_rejected(101, &udp4(1, 6081, &[0x40; 60]), Reject::NotTcp);
}

#[test]
fn gtpu_packets_of_users() {
    assert_found(101, &["gtpu:4660"], |inner| gtpu(0, 4660, &[], inner));
    assert_found(101, &["gtpu:4660"], |inner| gtpu(2, 4660, &[0, 1, 0, 0], inner));
    // A PDU session container and one more extension.
    let extensions = [&[0, 1, 0, 0x85][..], &[1, 0x10, 9, 0x40], &[2, 1, 1, 1, 1, 1, 1, 0]];
    assert_found(101, &["gtpu:4660"], |inner| gtpu(6, 4660, &extensions.concat(), inner));
    let [v4, _] = requests();
    let mut echo = gtpu(0, 0, &[], &v4);
    echo[29] = 1;
    assert_rejected(101, &echo, Reject::NotTcp);
    assert_rejected(101, &gtpu(0, 1, &[], &bridged(&v4)), Reject::NotTcp);
    assert_rejected(101, &gtpu(4, 1, &[0, 0, 0, 1, 0, 0, 0, 0], &v4), Reject::NotTcp);
    let endless = [&[0, 0, 0, 1][..], &[1; 80]].concat();
    assert_rejected(101, &gtpu(4, 1, &endless, &v4), Reject::TooDeep);
}

#[test]
fn tunnels_in_tunnels_up_to_a_depth() {
    assert_found(1, &["pppoe:1", "gtpu:2", "gre:3", "vxlan:4"], |inner| {
        let keyed = gre(0x2000, 0x0800, &word(3), &vxlan(4789, 4, &bridged(inner)));
        ethernet(0x8864, &pppoe(1, &ppp(&gtpu(0, 2, &[], &keyed))))
    });
    let nested =
        |count: usize| (0..count).fold(requests()[0].clone(), |inner, _| ipv4(IPIP, &inner));
    let mut decoder = decoder();
    assert_eq!(path_of(&decoder.decode(&frame(101, &nested(8))).unwrap()), ["ipip"; 8]);
    assert_rejected(101, &nested(9), Reject::TooDeep);
    // The network is the innermost one; the tags are those of all frames.
    let tagged = |id: u16, inner: &[u8]| {
        ethernet(0x8100, &[id, ethertype_of(inner)].map(u16::to_be_bytes).concat())
            .into_iter()
            .chain(inner.iter().copied())
            .collect::<Vec<u8>>()
    };
    let inner = geneve(8, &[], 0x6558, &tagged(20, &requests()[0]));
    let bytes = tagged(10, &vxlan(4789, 7, &bridged(&inner)));
    let segment = decoder.decode(&frame(1, &bytes)).unwrap();
    assert_eq!((segment.key.realm, segment.key.vlan), (REALM_GENEVE | 8, [10, 20, 0, 0]));
    assert_eq!(path_of(&segment), ["vxlan:7", "geneve:8"]);
    // If networks are no part of the key, the path has the tags, too, each at its place.
    let limits = DecodeConfig { is_vlan_ignored: true, ..DecodeConfig::default() };
    let mut decoder = Decoder::new(limits);
    let segment = decoder.decode(&frame(1, &bytes)).unwrap();
    assert_eq!((segment.key.realm, segment.key.vlan), (0, [0; 4]));
    assert_eq!(path_of(&segment), ["vlan:10", "vxlan:7", "geneve:8", "vlan:20"]);
}

#[test]
fn a_cut_inside_a_tunnel_is_told() {
    let bytes = vxlan(4789, 1, &bridged(&requests()[0]));
    let whole = frame(101, &bytes);
    let mut decoder = decoder();
    for kept in 0..bytes.len() {
        match decoder.decode(&Frame { bytes: &bytes[..kept], ..whole }) {
            Ok(segment) => {
                assert_eq!(segment.payload_wire_bytes as usize, REQUEST.len());
                assert_eq!(segment.payload.len(), REQUEST.len() - (bytes.len() - kept));
            }
            Err(reason) => assert_eq!(reason, Reject::Truncated),
        }
    }
}

#[test]
fn payloads_that_are_not_what_the_port_promises_are_no_tcp() {
    for port in [1701, 2152, 3544, 4789, 4790, 5072, 6081, 8472] {
        for payload in [&[][..], &[0xff], &[0x10; 30], &[0; 30], b"GET / HTTP/1.1\r\n\r\n"] {
            assert_rejected(101, &udp4(40_000, port, payload), Reject::NotTcp);
        }
        // The bytes that the snap length cut might have been anything.
        let bytes = udp4(40_000, port, &[0; 30]);
        let cut = Frame { bytes: &bytes[..28], ..frame(101, &bytes) };
        assert_eq!(decoder().decode(&cut).unwrap_err(), Reject::Truncated);
    }
    assert_rejected(101, &udp4(53, 53, &[0; 30]), Reject::NotTcp);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No frame of nested tunnels panics, even with bytes changed or cut off. Generating tunnels
    /// makes sure that the inner layers are reached.
    #[test]
    fn any_damage_to_tunnels_has_one_outcome(
        layers in vec(0..12_usize, 0..10),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        kept in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let mut bytes = requests()[0].clone();
        for layer in layers {
            bytes = match layer {
                0 => ipv4(IPIP, &bytes),
                1 => gre(0xb000, 0x6558, &[0; 12], &bridged(&bytes)),
                2 => gre(0x1000, 0x22eb, &[0; 16], &bridged(&bytes)),
                3 => vxlan(4789, 1, &bridged(&bytes)),
                4 => geneve(1, &[0; 8], 0x6558, &bridged(&bytes)),
                5 => gtpu(6, 1, &[0, 1, 0, 0x85, 1, 0x10, 9, 0], &bytes),
                6 => udp4(1701, 1701, &[&[0, 2, 0, 7, 0, 1], &ppp(&bytes)[..]].concat()),
                7 => udp4(1, 3544, &ipv6(IPIP, &bytes)),
                8 => ipv4(137, &mpls(&[1, 2], &bytes)),
                9 => ipv4_with(0x2000, IPIP, &bytes),
                10 => ipv6(44, &[&[4, 0, 0, 1, 0, 0, 0, 1], &bytes[..]].concat()),
                _ => ipv4(IPIP, &bytes),
            };
        }
        let wire_bytes = bytes.len() as u32;
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(kept.index(bytes.len()));
        }
        let mut decoder = decoder();
        if let Ok(segment) = decoder.decode(&Frame { wire_bytes, ..frame(101, &bytes) }) {
            prop_assert!(segment.payload.len() <= bytes.len());
        }
    }
}
