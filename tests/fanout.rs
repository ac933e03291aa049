//! Which shard a frame goes to: both directions of a connection go to the same shard, whatever
//! encapsulates them.

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use std::collections::{HashMap, HashSet};
    use std::net::SocketAddr;

    use httplines::capture::LinkType;
    use httplines::capture::live::LiveTotals;
    use httplines::config::{CaptureConfig, DecodeConfig, FanoutMode};
    use httplines::decode::Decoder;
    use httplines::ids::{FlowKey, IfaceId, REALM_IPV6};
    use httplines::sys::counters::Reason;
    use httplines::time::TimestampNs;

    use crate::support::fragment::fragments;
    use crate::support::live_capture::{Capture, Kept, small};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::packet::{ACK, Packet};
    use crate::support::skip;
    use crate::support::tunnel::*;

    const SHARDS: u16 = 3;
    const CONNECTIONS: u16 = 24;
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

    /// The request and the response of connection number `n`, as IP packets.
    fn both_ways(n: u16, is_v6: bool) -> [Vec<u8>; 2] {
        let address = |v4: &str, v6: &str, port: u16| -> SocketAddr {
            let text = if is_v6 { format!("[{v6}]:{port}") } else { format!("{v4}:{port}") };
            text.parse().expect("an address")
        };
        let client = address("10.1.0.9", "fd01::9", 40_000 + n);
        let server = address("10.1.0.1", "fd01::1", 8080);
        [
            Packet::tcp(client, server).flags(ACK).payload(GET).ip(),
            Packet::tcp(server, client).flags(ACK).payload(OK).ip(),
        ]
    }

    /// VXLAN as switches send it: the source port is a hash of the inner packet, including its
    /// direction.
    fn switched(ip: &[u8], way: usize) -> Vec<u8> {
        let head = [&word(0x0800_0000)[..], &word(42 << 8), &bridged(ip)].concat();
        bridged(&udp4(50_000 + 777 * way as u16, 4789, &head))
    }

    /// The shards that each connection went to.
    type Shards = HashMap<FlowKey, HashSet<usize>>;

    /// Sends `frames` from one end of a wire and captures at the other end. Returns the capture and
    /// its totals.
    fn captured(
        (client, server): &(Namespace, Namespace),
        fanout: FanoutMode,
        decode: DecodeConfig,
        frames: Vec<Vec<u8>>,
    ) -> (Capture, LiveTotals) {
        let config = CaptureConfig { fanout, ..small() };
        let mut capture = Capture::open_for(decode, server, config, &["veth1"], SHARDS);
        client.run(move || {
            let injector = Injector::new("veth0");
            frames.iter().for_each(|frame| injector.send(frame));
        });
        let totals = capture.settle();
        assert_eq!(totals.drops(), 0);
        (capture, totals)
    }

    /// The same, with what became of the connections.
    fn spread(
        wire: &(Namespace, Namespace),
        fanout: FanoutMode,
        frames: Vec<Vec<u8>>,
    ) -> (Capture, LiveTotals, Shards) {
        spread_for(DecodeConfig::default(), wire, fanout, frames)
    }

    fn spread_for(
        decode: DecodeConfig,
        wire: &(Namespace, Namespace),
        fanout: FanoutMode,
        frames: Vec<Vec<u8>>,
    ) -> (Capture, LiveTotals, Shards) {
        let (capture, totals) = captured(wire, fanout, decode.clone(), frames);
        let mut shards = Shards::new();
        // One decoder for all shards, so that datagrams are joined wherever their fragments went.
        for (key, shard) in decoded(decode, capture.kept.clone()) {
            shards.entry(key).or_default().insert(shard);
        }
        (capture, totals, shards)
    }

    /// The connections of the segments in `frames`, and their shards, decoded by one decoder.
    fn decoded(decode: DecodeConfig, frames: Vec<Kept>) -> Vec<(FlowKey, usize)> {
        let mut segments = Vec::new();
        let mut decoder = Decoder::new(decode);
        for kept in &frames {
            let frame = httplines::capture::Frame {
                bytes: &kept.bytes,
                wire_bytes: kept.wire_bytes,
                timestamp: TimestampNs(0),
                link: LinkType::Ethernet,
                vlan: kept.vlan,
                iface: IfaceId(0),
                is_checksum_trusted: false,
            };
            if let Ok(segment) = decoder.decode(&frame) {
                segments.push((segment.key, kept.shard));
            }
        }
        segments
    }

    /// Asserts that every connection went to the shard of its hash, and that not all went to one.
    fn assert_placed(capture: &Capture, shards: &Shards, what: &str) {
        let hash_key = capture.control.fanout_key().expect("our program chooses the shards");
        assert_eq!(shards.len(), usize::from(CONNECTIONS), "{what}");
        for (key, shards) in shards {
            let own = (key.flow_hash(&hash_key) % u32::from(SHARDS)) as usize;
            assert_eq!(shards, &HashSet::from([own]), "{what}: {key:?}");
        }
        let used: HashSet<_> = shards.values().flatten().collect();
        assert!(used.len() > 1, "{what}");
    }

    fn frames_of(make: impl Fn(&[u8], usize) -> Vec<u8>, is_v6: bool) -> Vec<Vec<u8>> {
        let all = (0..CONNECTIONS).map(|n| both_ways(n, is_v6));
        all.flat_map(|[request, response]| [make(&request, 0), make(&response, 1)]).collect()
    }

    type Wrap = fn(&[u8], usize) -> Vec<u8>;

    #[test]
    fn both_directions_meet_through_every_tunnel() {
        let wraps: [(&str, Wrap); 9] = [
            ("plain", |ip, _| bridged(ip)),
            ("two tags", |ip, _| {
                let tags = [&[0, 5, 0x81, 0][..], &[0, 6], &ethertype_of(ip).to_be_bytes()];
                ethernet(0x88a8, &[&tags.concat(), ip].concat())
            }),
            ("MPLS", |ip, way| ethernet(0x8847, &mpls(&[100 + way as u32], ip))),
            ("GRE", |ip, _| bridged(&gre(0, ethertype_of(ip), &[], ip))),
            ("IP in IP", |ip, _| {
                bridged(&ipv4(if ip[0] >> 4 == 4 { IPIP } else { SIX_IN_FOUR }, ip))
            }),
            ("VXLAN", switched),
            ("Geneve", |ip, _| bridged(&geneve(7, &[], 0x6558, &bridged(ip)))),
            ("GTP-U", |ip, way| bridged(&gtpu(0, way as u32, &[], ip))),
            ("VXLAN in GRE", |ip, way| {
                let outer = switched(ip, way);
                bridged(&gre(0, 0x6558, &[], &outer))
            }),
        ];
        let Some(wire) = Namespace::pair() else { skip!("needs root") };
        for (name, wrap) in wraps {
            // Both families in one capture: loading the programs takes most of the time.
            let frames = [false, true].map(|is_v6| frames_of(wrap, is_v6)).concat();
            let (capture, _, shards) = spread(&wire, FanoutMode::Flow, frames);
            for is_v6 in [false, true] {
                let is_own = |key: &FlowKey| (key.realm & REALM_IPV6 != 0) == is_v6;
                let own = shards.iter().filter(|(key, _)| is_own(key));
                let own = own.map(|(key, shards)| (*key, shards.clone())).collect();
                assert_placed(&capture, &own, &format!("{name}, IPv6: {is_v6}"));
            }
        }
    }

    /// Each direction is in another VLAN or overlay network, and comes in fragments or whole.
    #[test]
    fn both_directions_meet_in_different_networks_if_those_are_ignored() {
        let in_vlan = |id: u16, ip: &[u8]| {
            let tag = [id, ethertype_of(ip)].map(u16::to_be_bytes).concat();
            ethernet(0x8100, &[&tag, ip].concat())
        };
        let mut frames = Vec::new();
        for n in 0..CONNECTIONS {
            let ways = both_ways(n, n % 2 == 0);
            for (way, ip) in ways.iter().enumerate() {
                let id = 10 + way as u16;
                match n % 3 {
                    0 => frames.push(in_vlan(id, ip)),
                    1 => frames.push(bridged(&vxlan(4789, id.into(), &in_vlan(id, ip)))),
                    _ => frames.extend(fragments(ip, n, &[24]).iter().map(|ip| in_vlan(id, ip))),
                }
            }
        }
        let Some(wire) = Namespace::pair() else { skip!("needs root") };
        let decode = DecodeConfig { is_vlan_ignored: true, ..Default::default() };
        let (capture, _, shards) = spread_for(decode, &wire, FanoutMode::Flow, frames);
        assert_placed(&capture, &shards, "ignored networks");
    }

    /// Why we have a program of our own: the kernel's hash stops at UDP.
    #[test]
    fn the_kernels_hash_parts_the_directions_of_a_tunnel() {
        let Some(wire) = Namespace::pair() else { skip!("needs root") };
        // The hash is another one after each start of the machine: each connection has ports of
        // its own.
        let switched = |ip: &[u8], way: usize| {
            let port = ip.iter().map(|byte| u16::from(*byte)).sum::<u16>() % 700;
            let head = [&word(0x0800_0000)[..], &word(42 << 8), &bridged(ip)].concat();
            bridged(&udp4(50_000 + port + 777 * way as u16, 4789, &head))
        };
        let (_, _, shards) = spread(&wire, FanoutMode::Hash, frames_of(switched, false));
        assert!(shards.values().any(|shards| shards.len() > 1), "{shards:?}");
    }

    #[test]
    fn the_kernels_hash_keeps_plain_connections_whole() {
        let Some(wire) = Namespace::pair() else { skip!("needs root") };
        let (_, _, shards) = spread(&wire, FanoutMode::Hash, frames_of(|ip, _| bridged(ip), true));
        assert!(shards.values().all(|shards| shards.len() == 1), "{shards:?}");
    }

    /// Two VLANs use the same addresses and identifications.
    #[test]
    fn fragments_follow_their_first() {
        let frames: Vec<_> = (0..CONNECTIONS)
            .flat_map(|n| {
                let [request, response] = both_ways(n, n % 4 < 2);
                let tagged = |ip: &[u8]| {
                    let tag = [&[0, 5 + (n % 2) as u8][..], &ethertype_of(ip).to_be_bytes()];
                    ethernet(0x8100, &[&tag.concat(), ip].concat())
                };
                let [first, last] = [0, 1].map(|at| fragments(&request, n / 2, &[24])[at].clone());
                [first, last, response].map(|ip| tagged(&ip))
            })
            .collect();
        let Some(wire) = Namespace::pair() else { skip!("needs root") };
        let (capture, totals, shards) = spread(&wire, FanoutMode::Flow, frames);
        // The shards of datagrams are those of their last fragments; the first ones came earlier.
        assert_placed(&capture, &shards, "fragments");
        assert_eq!(totals.filter.of(Reason::Fragment), 2 * u64::from(CONNECTIONS));
    }

    /// Datagrams are joined where their fragments meet, in whatever order they arrive.
    #[test]
    fn fragments_of_a_datagram_meet_on_one_shard() {
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for n in 0..CONNECTIONS {
            let [request, _] = both_ways(n, n % 2 == 0);
            let mut pieces = fragments(&request, n, &[8, 16, 24]);
            pieces.rotate_left(usize::from(n) % 4);
            frames.extend(pieces.iter().map(|ip| bridged(ip)));
            // In a tunnel, and around one.
            let mut inner = fragments(&request, 100 + n, &[24]);
            inner.reverse();
            frames.extend(inner.iter().map(|ip| switched(ip, 0)));
            let tunnel = gre(0, ethertype_of(&request), &[], &request);
            frames.extend(fragments(&tunnel, 200 + n, &[32]).iter().map(|ip| bridged(ip)));
        }
        let count = frames.len() as u64;
        let Some(wire) = Namespace::pair() else { skip!("needs root") };
        let decode = DecodeConfig::default();
        let (capture, totals) = captured(&wire, FanoutMode::Flow, decode.clone(), frames);
        assert_eq!(totals.filter.of(Reason::Fragment), count, "the kernel joins none");
        let mut joined = 0;
        for shard in 0..usize::from(SHARDS) {
            let own = capture.kept.iter().filter(|kept| kept.shard == shard).cloned().collect();
            joined += decoded(decode.clone(), own).len();
        }
        assert_eq!(joined, 3 * usize::from(CONNECTIONS), "each shard joins all that it gets");
    }

    /// Nobody can know the shard of a connection in advance: each capture has a key of its own.
    #[test]
    fn captures_place_connections_differently() {
        let Some(wire) = Namespace::pair() else { skip!("needs root") };
        let frames = frames_of(|ip, _| bridged(ip), false);
        let [first, second] = [0, 1].map(|_| spread(&wire, FanoutMode::Flow, frames.clone()));
        assert_placed(&first.0, &first.2, "the first");
        assert_placed(&second.0, &second.2, "the second");
        assert_ne!(first.0.control.fanout_key(), second.0.control.fanout_key());
        assert_ne!(first.2, second.2, "the same 24 places are as likely as 1 in 3^24");
    }
}
