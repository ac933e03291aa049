//! The kernel filter on frames with tunnels, and with restrictions: it is compared, through
//! BPF_PROG_TEST_RUN, with user space's decoding of the same frames.

/// Needs CAP_BPF; otherwise each test reports that it was skipped.
mod root {
    use std::net::SocketAddr;

    use httplines::capture::{Frame, LinkType};
    use httplines::config::{Choice, DecodeConfig, Network, Restrictions, Sample};
    use httplines::decode::{Decoder, Reject};
    use httplines::ids::{FlowKey, IfaceId, REALM_IPV6};
    use httplines::sys::counters::Reason;
    use httplines::sys::filter::Filter;
    use httplines::time::TimestampNs;
    use proptest::prelude::*;

    use crate::support::kernel_packet::{config_for, forget, key_bytes, reason_of};
    use crate::support::packet::{ACK, Packet};
    use crate::support::skip;
    use crate::support::tunnel::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn load(decode: &DecodeConfig) -> Option<Filter> {
        crate::support::kernel_packet::load(&config_for(1024), decode)
    }

    /// The filter for `decode`, or skips the test.
    macro_rules! loaded {
        ($decode:expr) => {
            match load($decode) {
                Some(filter) => filter,
                None => skip!("loading the filter needs CAP_BPF".to_string()),
            }
        };
    }

    fn decoded(decode: &DecodeConfig, bytes: &[u8]) -> Result<FlowKey, Reject> {
        let frame = Frame {
            bytes,
            wire_bytes: bytes.len() as u32,
            timestamp: TimestampNs(0),
            link: LinkType::Ethernet,
            vlan: None,
            iface: IfaceId(0),
            is_checksum_trusted: false,
        };
        Decoder::new(decode.clone()).decode(&frame).map(|segment| segment.key)
    }

    /// The filter's reason for a frame, and the session it created.
    fn judged(filter: &Filter, frame: &[u8]) -> (Reason, Option<Vec<u8>>) {
        forget(filter);
        (reason_of(filter, frame), filter.sessions().keys().next())
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// A request from a client to a server, as an IP packet.
    fn request(is_v6: bool) -> Vec<u8> {
        let (client, server) = match is_v6 {
            false => ("10.0.0.9:40000", "10.0.0.1:8080"),
            true => ("[fd00::9]:40000", "[fd00::1]:8080"),
        };
        Packet::tcp(address(client), address(server)).flags(ACK).payload(GET).ip()
    }

    /// An Ethernet header and tags; the content determines the EtherType.
    fn tagged(tags: &[u16], ip: &[u8]) -> Vec<u8> {
        let mut inner = ip.to_vec();
        let mut ethertype = ethertype_of(ip);
        for id in tags.iter().rev() {
            inner = [&id.to_be_bytes(), &ethertype.to_be_bytes()[..], &inner].concat();
            ethertype = 0x8100;
        }
        ethernet(ethertype, &inner)
    }

    /// Puts headers in front of its argument.
    type Wrap = fn(&[u8]) -> Vec<u8>;

    /// Encapsulations of an IP packet in an IP packet, of the kinds that the kernel follows.
    fn encapsulations() -> Vec<(&'static str, Wrap)> {
        vec![
            ("IP in IPv4", |ip| ipv4(if ip[0] >> 4 == 4 { IPIP } else { SIX_IN_FOUR }, ip)),
            ("IP in IPv6", |ip| ipv6(if ip[0] >> 4 == 4 { IPIP } else { SIX_IN_FOUR }, ip)),
            ("GRE", |ip| gre(0, ethertype_of(ip), &[], ip)),
            ("GRE, all fields", |ip| gre(0xb000, ethertype_of(ip), &[0; 12], ip)),
            ("GRE in IPv6", |ip| {
                ipv6(GRE, &[&[0, 0], &ethertype_of(ip).to_be_bytes()[..], ip].concat())
            }),
            ("GRE with Ethernet", |ip| gre(0x2000, 0x6558, &[0; 4], &tagged(&[], ip))),
            ("GRE with tags", |ip| gre(0, 0x6558, &[], &tagged(&[7, 8], ip))),
            ("GRE with MPLS", |ip| gre(0, 0x8847, &[], &mpls(&[16, 17], ip))),
            ("ERSPAN I", |ip| gre(0, 0x88be, &[], &tagged(&[], ip))),
            ("ERSPAN II", |ip| gre(0x1000, 0x88be, &[0; 12], &tagged(&[3], ip))),
            ("ERSPAN III", |ip| gre(0x1000, 0x22eb, &[0; 16], &tagged(&[], ip))),
            ("ERSPAN III, subheader", |ip| {
                let fields = [&[0; 15], &[1][..], &[0; 8]].concat();
                gre(0x1000, 0x22eb, &fields, &tagged(&[], ip))
            }),
            ("VXLAN", |ip| vxlan(4789, 42, &tagged(&[], ip))),
            ("VXLAN, old port, tag", |ip| vxlan(8472, 0xff_ffff, &tagged(&[9], ip))),
            ("Geneve", |ip| geneve(42, &[], 0x6558, &tagged(&[], ip))),
            ("Geneve, options, IP", |ip| geneve(1, &[0; 252], ethertype_of(ip), ip)),
            ("GTP-U", |ip| gtpu(0, 7, &[], ip)),
            ("GTP-U, sequence", |ip| gtpu(2, 7, &[0; 4], ip)),
            ("GTP-U, extension", |ip| gtpu(4, 7, &[0, 0, 0, 0x85, 1, 0, 9, 0], ip)),
            ("GTP-U, two extensions", |ip| {
                gtpu(4, 7, &[0, 0, 0, 0x85, 1, 0, 9, 0x20, 1, 0, 0, 0], ip)
            }),
            ("MPLS in IP", |ip| ipv4(137, &mpls(&[16], ip))),
        ]
    }

    /// The IP packet with a meaningless word after its header, so that no tunnel in it is followed
    /// by the filter's first part.
    fn far(mut ip: Vec<u8>) -> Vec<u8> {
        if ip[0] >> 4 == 4 {
            ip[0] += 1;
            let bytes = u16::from_be_bytes([ip[2], ip[3]]) + 4;
            ip[2..4].copy_from_slice(&bytes.to_be_bytes());
            ip.splice(20..20, [1; 4]);
        } else {
            let next = std::mem::replace(&mut ip[6], 60);
            let bytes = u16::from_be_bytes([ip[4], ip[5]]) + 8;
            ip[4..6].copy_from_slice(&bytes.to_be_bytes());
            ip.splice(40..40, [next, 0, 1, 4, 0, 0, 0, 0]);
        }
        ip
    }

    /// Headers between Ethernet and the first IP header.
    fn links() -> Vec<(&'static str, Wrap)> {
        vec![
            ("Ethernet", |ip| tagged(&[], ip)),
            ("a tag", |ip| tagged(&[100], ip)),
            ("two tags", |ip| tagged(&[100, 200], ip)),
            ("MPLS", |ip| ethernet(0x8847, &mpls(&[16], ip))),
            ("four labels", |ip| ethernet(0x8847, &mpls(&[16, 17, 18, 19], ip))),
            ("PPPoE", |ip| ethernet(0x8864, &pppoe(5, &ppp(ip)))),
        ]
    }

    /// Asserts that the filter finds the same flow in the frame as user space.
    fn assert_agree(filter: &Filter, decode: &DecodeConfig, frame: &[u8], what: &str) {
        let (reason, session) = judged(filter, frame);
        let key = decoded(decode, frame).unwrap_or_else(|reject| panic!("{what}: {reject:?}"));
        assert_eq!(reason, Reason::Admitted, "{what}");
        assert_eq!(session, Some(key_bytes(&key)), "{what}");
        let is_plain = key.vlan == [0; 4] && key.realm & !REALM_IPV6 == 0;
        assert!(is_plain || !decode.is_vlan_ignored, "{what}: {key:?}");
    }

    #[test]
    fn every_tunnel_leads_to_the_flow_that_user_space_finds() {
        every_tunnel_leads_to_the_same_flow(false);
    }

    #[test]
    fn so_it_does_if_vlans_are_ignored() {
        every_tunnel_leads_to_the_same_flow(true);
    }

    fn every_tunnel_leads_to_the_same_flow(is_vlan_ignored: bool) {
        let decode = DecodeConfig { is_vlan_ignored, ..Default::default() };
        let filter = loaded!(&decode);
        for (link_name, link) in links() {
            for is_v6 in [false, true] {
                let plain = link(&request(is_v6));
                assert_agree(&filter, &decode, &plain, link_name);
            }
            for (name, encapsulate) in encapsulations() {
                for is_v6 in [false, true] {
                    let frame = link(&encapsulate(&request(is_v6)));
                    let what = format!("{name}, inside IPv6: {is_v6}, behind {link_name}");
                    assert_agree(&filter, &decode, &frame, &what);
                    let far = link(&far(encapsulate(&request(is_v6))));
                    assert_agree(&filter, &decode, &far, &format!("{what}, far"));
                }
            }
        }
    }

    #[test]
    fn a_tunnel_is_the_same_near_and_far() {
        let decode = DecodeConfig::default();
        let filter = loaded!(&decode);
        let count = encapsulations().len();
        let changes = prop::collection::vec((0usize..80, any::<u8>()), 0..3);
        let cuts = 0usize..40;
        let cases = ProptestConfig::with_cases(4000);
        proptest!(cases, |(tunnel in 0..count, is_v6: bool, changes in changes, cut in cuts)| {
            let mut ip = encapsulations()[tunnel].1(&request(is_v6));
            let behind = if ip[0] >> 4 == 4 { 20 } else { 40 };
            for (at, byte) in changes {
                let at = (behind + at).min(ip.len() - 1);
                ip[at] = byte;
            }
            // Some frames end early, within the payload or its headers.
            ip.truncate((ip.len() - cut.saturating_sub(20) * 4).max(behind));
            let near = judged(&filter, &tagged(&[], &ip));
            let far = judged(&filter, &tagged(&[], &far(ip)));
            // The filter's first part follows more inner IPv6 extension headers than the second.
            if far.0 != Reason::Unparsed {
                prop_assert_eq!(near, far);
            }
        });
    }

    #[test]
    fn tunnels_in_tunnels() {
        let decode = DecodeConfig::default();
        let filter = loaded!(&decode);
        for (outer_name, outer) in encapsulations() {
            for (inner_name, inner) in encapsulations() {
                let twice = outer(&inner(&request(false)));
                let what = format!("{inner_name} in {outer_name}");
                // The frame's own tags and the inner ones may be more than a key holds.
                match decoded(&decode, &tagged(&[], &twice)) {
                    Ok(_) => assert_agree(&filter, &decode, &tagged(&[], &twice), &what),
                    Err(reject) => assert_eq!(reject, Reject::TooDeep, "{what}"),
                }
                let thrice = tagged(&[], &outer(&twice));
                assert!(judged(&filter, &thrice).0.is_pass(), "{what}, once more");
            }
        }
        let deep = (0..3).fold(request(false), |ip, _| ipv4(IPIP, &ip));
        assert_eq!(judged(&filter, &tagged(&[], &deep)).0, Reason::TooDeep);
    }

    #[test]
    fn what_only_user_space_can_tell_goes_up() {
        let decode = DecodeConfig::default();
        let filter = loaded!(&decode);
        let ip = request(false);
        let v6 = request(true);
        let fragment = |protocol| tagged(&[], &ipv4_with(0x0001_2000, protocol, &[0; 64]));
        for (what, frame, reason) in [
            ("PPTP", tagged(&[], &gre(0x3001, 0x880b, &[0; 8], &ppp(&ip))), Reason::Tunnel),
            ("GRE with routes", tagged(&[], &gre(0x4000, 0x0800, &[0; 8], &ip)), Reason::Tunnel),
            ("Teredo", tagged(&[], &udp4(3544, 40_000, &v6)), Reason::Tunnel),
            ("L2TP", tagged(&[], &udp4(1701, 1701, &[0; 40])), Reason::Tunnel),
            ("VXLAN-GPE", tagged(&[], &udp4(9, 4790, &[0; 40])), Reason::Tunnel),
            ("AYIYA", tagged(&[], &udp4(5072, 9, &[0; 60])), Reason::Tunnel),
            ("GRE in UDP", tagged(&[], &udp4(9, 4754, &[0; 40])), Reason::Tunnel),
            ("MPLS in UDP", tagged(&[], &udp4(9, 6635, &[0; 40])), Reason::Tunnel),
            ("L2TPv3", tagged(&[], &ipv4(115, &[0; 40])), Reason::Tunnel),
            ("AH", tagged(&[], &ipv4(51, &[0; 60])), Reason::Tunnel),
            ("WCCP", tagged(&[], &gre(0, 0x883e, &[0; 4], &ip)), Reason::Tunnel),
            ("802.11 in GRE", tagged(&[], &gre(0, 0x8200, &[], &[0; 60])), Reason::Tunnel),
            ("SNAP", ethernet(60, &snap(&ip)), Reason::Tunnel),
            ("a pseudowire", ethernet(0x8847, &mpls(&[16], &tagged(&[], &ip))), Reason::Tunnel),
            ("five labels", ethernet(0x8847, &mpls(&[16; 5], &ip)), Reason::Tunnel),
            ("a fragment of UDP", fragment(UDP), Reason::Fragment),
            ("a fragment of GRE", fragment(GRE), Reason::Fragment),
            ("a fragment of ICMP", fragment(1), Reason::NotTcp),
            ("a fragment in VXLAN", tagged(&[], &vxlan(4789, 1, &fragment(6))), Reason::Fragment),
        ] {
            assert_eq!(judged(&filter, &frame).0, reason, "{what}");
        }
    }

    #[test]
    fn what_leads_to_no_tcp_is_rejected() {
        let decode = DecodeConfig::default();
        let filter = loaded!(&decode);
        let ip = request(false);
        let icmp = ipv4(1, &[0; 64]);
        for (what, frame) in [
            ("DNS", tagged(&[], &udp4(40_000, 53, &[0; 40]))),
            ("VXLAN without an identifier", tagged(&[], &udp4(1, 4789, &[0; 64]))),
            ("VXLAN to another port", tagged(&[], &vxlan(4791, 42, &tagged(&[], &ip)))),
            ("ICMP in VXLAN", tagged(&[], &vxlan(4789, 42, &tagged(&[], &icmp)))),
            ("ARP in VXLAN", tagged(&[], &vxlan(4789, 42, &ethernet(0x0806, &[0; 28])))),
            ("GTP-U's echo", tagged(&[], &udp4(2152, 2152, &[0x32, 1, 0, 4, 0, 0, 0, 0]))),
            ("OSPF", tagged(&[], &ipv4(89, &[0; 64]))),
        ] {
            let (reason, _) = judged(&filter, &frame);
            assert_eq!(reason, Reason::NotTcp, "{what}");
            assert!(decoded(&decode, &frame).is_err(), "{what}");
        }
    }

    #[test]
    fn any_port_carries_vxlan_that_was_named() {
        let decode = DecodeConfig { vxlan_ports: vec![65_535], ..Default::default() };
        let filter = loaded!(&decode);
        let frame = |port| tagged(&[], &vxlan(port, 42, &tagged(&[], &request(false))));
        assert_agree(&filter, &decode, &frame(65_535), "the port that was named");
        assert_eq!(judged(&filter, &frame(4789)).0, Reason::NotTcp);
    }

    fn networks() -> impl Strategy<Value = Vec<Network>> {
        let v4 = (0u8..=32, 0u8..4).prop_map(|(bits, last)| (format!("10.0.0.{last}"), bits));
        let v6 = (0u8..=128, 0u8..16).prop_map(|(bits, last)| (format!("fd00::{last:x}"), bits));
        let network = prop_oneof![v4, v6].prop_map(|(address, prefix_bits)| Network {
            address: address.parse().expect("an address"),
            prefix_bits,
        });
        prop::collection::vec(network, 0..3)
    }

    fn ports() -> impl Strategy<Value = Vec<std::ops::RangeInclusive<u16>>> {
        prop::collection::vec((78u16..84, 0u16..3).prop_map(|(first, n)| first..=first + n), 0..3)
    }

    fn choice<T: std::fmt::Debug>(
        list: impl Strategy<Value = Vec<T>> + Clone,
    ) -> impl Strategy<Value = Choice<T>> {
        (list.clone(), list).prop_map(|(wanted, unwanted)| Choice { wanted, unwanted })
    }

    prop_compose! {
        fn restrictions()(
            ports in choice(ports().boxed()),
            networks in choice(networks().boxed()),
            vlans in choice(prop::collection::vec(1u16..4, 0..2)),
            one_in in prop_oneof![Just(1), 1u32..5],
        ) -> Restrictions {
            let sample = Sample::one_in(one_in).expect("not zero");
            Restrictions { ports, networks, vlans, sample }
        }
    }

    #[test]
    fn restrictions_are_those_of_user_space() {
        drop(loaded!(&DecodeConfig::default()));
        let connection = (0u8..4, 0u8..4, 77u16..88, 77u16..88, prop::bool::ANY);
        let frames = prop::collection::vec(
            (connection, prop::collection::vec(1u16..5, 0..3), prop::bool::ANY),
            40,
        );
        let cases = ProptestConfig::with_cases(60);
        proptest!(cases, |(
            restrictions in restrictions(),
            is_vlan_ignored: bool,
            share in prop_oneof![Just(u32::MAX), any::<u32>()],
            frames in frames,
        )| {
            let share_max = share.min(restrictions.sample.hash_max());
            let decode = DecodeConfig { restrictions, is_vlan_ignored, ..Default::default() };
            let filter = load(&decode).expect("it was loaded before");
            filter.set_share(share_max);
            for ((a, b, port, other_port, is_v6), tags, is_tunnelled) in frames {
                let end = |last: u8, port: u16| match is_v6 {
                    false => address(&format!("10.0.0.{last}:{port}")),
                    true => address(&format!("[fd00::{last}]:{port}")),
                };
                let ip = Packet::tcp(end(a, port), end(b, other_port)).payload(GET).ip();
                let frame = match is_tunnelled {
                    false => tagged(&tags, &ip),
                    true => tagged(&[], &vxlan(4789, 5, &tagged(&tags, &ip))),
                };
                let expected = match decoded(&decode, &frame) {
                    Err(Reject::Unwanted) => (Reason::Unwanted, None),
                    Err(Reject::Sampled) => (Reason::Sampled, None),
                    Ok(key) if key.sample_hash() > share_max => (Reason::Shed, None),
                    found => (Reason::Admitted, found.ok().map(|key| key_bytes(&key))),
                };
                prop_assert_eq!(judged(&filter, &frame), expected);
            }
        });
    }
}
