//! The two directions of a connection in different networks: VLANs, VXLAN or Geneve networks, and
//! tunnels whose numbers are no part of a connection's identity.

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
use crate::support::conversation::Conversation;
use crate::support::fragment::fragments;
use crate::support::packet::checksum;
use crate::support::tunnel::*;
use crate::support::{program, records};
use serde_json::{Value, json};

const START_NS: u64 = 1_700_000_000_123_456_789;
const CONNECTIONS: u16 = 12;
const SERVER_PORT: u16 = 8080;

/// The frames that carry an IP packet of the client (`is_own`) or of the server.
type Wrap = fn(&[u8], bool) -> Vec<Vec<u8>>;

/// One way to carry the two directions.
struct Carrier {
    name: &'static str,
    wrap: Wrap,
    /// Whether the networks are part of a connection's identity by default.
    is_in_key: bool,
    /// The fields of records: those of the request, the exchange's first message.
    vlan: Value,
    tunnel: Value,
}

/// Tags around an IP packet, outermost first.
fn tagged(tags: &[(u16, u16)], ip: &[u8]) -> Vec<u8> {
    let (mut inner, mut ethertype) = (ip.to_vec(), ethertype_of(ip));
    for (kind, id) in tags.iter().rev() {
        inner = [&id.to_be_bytes(), &ethertype.to_be_bytes()[..], &inner].concat();
        ethertype = *kind;
    }
    ethernet(ethertype, &inner)
}

fn in_vlan(id: u16, ip: &[u8]) -> Vec<u8> {
    tagged(&[(0x8100, id)], ip)
}

/// The packet behind a router.
fn routed(ip: &[u8]) -> Vec<u8> {
    let mut ip = ip.to_vec();
    if ip[0] >> 4 == 6 {
        ip[7] -= 1;
        return ip;
    }
    ip[8] -= 1;
    ip[10..12].fill(0);
    let sum = checksum(&ip[..20]).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    ip
}

/// An identification for the datagram of a packet.
fn id_of(ip: &[u8]) -> u16 {
    ip.iter().fold(0, |id: u16, byte| id.wrapping_mul(31).wrapping_add((*byte).into()))
}

/// A number for each direction.
fn by_way<T>(is_own: bool, own: T, other: T) -> T {
    if is_own { own } else { other }
}

fn carrier(name: &'static str, is_in_key: bool, vlan: Value, tunnel: Value, wrap: Wrap) -> Carrier {
    Carrier { name, wrap, is_in_key, vlan, tunnel }
}

fn carriers() -> Vec<Carrier> {
    [networks(), fragments_and_copies(), other_tunnels()].into_iter().flatten().collect()
}

/// Networks that are part of a connection's identity by default.
fn networks() -> Vec<Carrier> {
    vec![
        carrier("VLANs", true, json!([10]), Value::Null, |ip, is_own| {
            vec![in_vlan(by_way(is_own, 10, 20), ip)]
        }),
        carrier("one direction without a tag", true, Value::Null, Value::Null, |ip, is_own| {
            vec![by_way(is_own, bridged(ip), in_vlan(20, ip))]
        }),
        carrier("inner tags", true, json!([5, 10]), Value::Null, |ip, is_own| {
            vec![tagged(&[(0x88a8, 5), (0x8100, by_way(is_own, 10, 20))], ip)]
        }),
        carrier("one tag and two", true, json!([10]), Value::Null, |ip, is_own| {
            vec![by_way(is_own, in_vlan(10, ip), tagged(&[(0x88a8, 5), (0x8100, 10)], ip))]
        }),
        carrier("VXLAN", true, Value::Null, json!(["vxlan:5001"]), |ip, is_own| {
            vec![bridged(&vxlan(4789, by_way(is_own, 5001, 5002), &bridged(ip)))]
        }),
        carrier("one direction in VXLAN", true, Value::Null, Value::Null, |ip, is_own| {
            vec![by_way(is_own, bridged(ip), bridged(&vxlan(4789, 5002, &bridged(ip))))]
        }),
        carrier("Geneve", true, Value::Null, json!(["geneve:7"]), |ip, is_own| {
            vec![bridged(&geneve(by_way(is_own, 7, 8), &[0; 8], 0x6558, &bridged(ip)))]
        }),
        carrier("VXLAN and Geneve", true, Value::Null, json!(["vxlan:7"]), |ip, is_own| {
            let inner = bridged(ip);
            vec![bridged(&by_way(is_own, vxlan(8472, 7, &inner), geneve(7, &[], 0x6558, &inner)))]
        }),
        carrier(
            "VLANs in VXLAN in VLANs",
            true,
            json!([10, 30]),
            json!(["vxlan:1"]),
            |ip, is_own| {
                let inner = vxlan(4789, by_way(is_own, 1, 2), &in_vlan(by_way(is_own, 30, 40), ip));
                vec![in_vlan(by_way(is_own, 10, 20), &inner)]
            },
        ),
    ]
}

/// The same with fragments, and on both sides of a router.
fn fragments_and_copies() -> Vec<Carrier> {
    vec![
        carrier("fragments in VLANs", true, json!([10]), Value::Null, |ip, is_own| {
            fragments(ip, id_of(ip), &[8])
                .iter()
                .map(|ip| in_vlan(by_way(is_own, 10, 20), ip))
                .collect()
        }),
        carrier("both sides of a router", true, json!([10]), Value::Null, |ip, is_own| {
            let vlans = by_way(is_own, [10, 20], [20, 10]);
            vec![in_vlan(vlans[0], ip), in_vlan(vlans[1], &routed(ip))]
        }),
        carrier(
            "fragments on both sides of a router",
            true,
            json!([10]),
            Value::Null,
            |ip, is_own| {
                let vlans = by_way(is_own, [10, 20], [20, 10]);
                let pieces = fragments(ip, id_of(ip), &[8]);
                let copies = |ip: &Vec<u8>| [in_vlan(vlans[0], ip), in_vlan(vlans[1], &routed(ip))];
                pieces.iter().flat_map(copies).collect()
            },
        ),
    ]
}

/// Tunnels whose numbers are no part of a connection's identity.
fn other_tunnels() -> Vec<Carrier> {
    vec![
        carrier("GRE with keys", false, Value::Null, json!(["gre:1"]), |ip, is_own| {
            vec![bridged(&gre(0x2000, ethertype_of(ip), &word(by_way(is_own, 1, 2)), ip))]
        }),
        carrier("NVGRE", false, Value::Null, json!(["gre:256"]), |ip, is_own| {
            let key = word(by_way(is_own, 1, 2) << 8);
            vec![bridged(&gre(0x2000, 0x6558, &key, &bridged(ip)))]
        }),
        carrier("MPLS", false, Value::Null, json!(["mpls:16"]), |ip, is_own| {
            vec![ethernet(0x8847, &mpls(&[by_way(is_own, 16, 17)], ip))]
        }),
        carrier("GTP-U", false, Value::Null, json!(["gtpu:1"]), |ip, is_own| {
            vec![bridged(&gtpu(0, by_way(is_own, 1, 2), &[], ip))]
        }),
    ]
}

/// Connection number `n`: two exchanges, of which some of the first have a body that stays in the
/// kernel.
fn connection(carrier_number: usize, n: u16) -> Conversation {
    let port = 20_000 + 100 * carrier_number as u16 + n;
    let mut talk = match n % 3 {
        0 => Conversation::new(&format!("[fd00::1]:{port}"), &format!("[fd00::2]:{SERVER_PORT}")),
        _ => Conversation::new(&format!("10.1.0.9:{port}"), &format!("10.1.0.1:{SERVER_PORT}")),
    };
    let body = "x".repeat(if n % 4 == 1 { 30_000 } else { 10 });
    talk = talk.segment_bytes(1200);
    talk.handshake().client(format!("GET /{carrier_number}/{n} HTTP/1.1\r\n\r\n").as_bytes());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    talk.server(format!("{head}{body}").as_bytes());
    talk.client(format!("GET /{carrier_number}/{n}/last HTTP/1.1\r\n\r\n").as_bytes());
    talk.server(b"HTTP/1.1 204 No Content\r\n\r\n").finish();
    talk
}

/// The frames of a conversation by a carrier.
fn carried(talk: &Conversation, wrap: Wrap) -> Vec<Vec<u8>> {
    let frames = talk.frames(0, 1);
    let wrapped = |frame: &WrittenFrame| {
        let ip = &frame.bytes[14..];
        let ports = if ip[0] >> 4 == 4 { 20 } else { 40 };
        let is_own = ip[ports..ports + 2] != SERVER_PORT.to_be_bytes();
        wrap(ip, is_own)
    };
    frames.iter().flat_map(wrapped).collect()
}

/// All connections of a carrier, in turn.
fn frames_of(number: usize, carrier: &Carrier) -> Vec<Vec<u8>> {
    let talks = (0..CONNECTIONS).map(|n| carried(&connection(number, n), carrier.wrap));
    let mut talks: Vec<_> = talks.map(Vec::into_iter).collect();
    let mut frames = Vec::new();
    loop {
        let before = frames.len();
        frames.extend(talks.iter_mut().flat_map(|talk| talk.take(3).collect::<Vec<_>>()));
        if frames.len() == before {
            return frames;
        }
    }
}

/// The records of a capture of `frames`, and the totals.
fn told(frames: &[Vec<u8>], args: &[&str]) -> (Vec<Value>, String) {
    let at = |n: usize| START_NS + n as u64 * 1000;
    let frames = frames.iter().enumerate().map(|(n, bytes)| WrittenFrame::new(at(n), bytes));
    let capture = pcap(Order::Little, Unit::Nano, 1, &frames.collect::<Vec<_>>());
    let output = program::run(&[&["-r", "-", "-o", "-"], args].concat(), Some(&capture));
    let totals = String::from_utf8(output.stderr).expect("text");
    assert!(totals.contains("every frame, flow and line is accounted for"), "{totals}");
    (records::parse(&output.stdout), totals)
}

/// Asserts that each exchange of a carrier is told once and whole.
fn assert_whole(number: usize, carrier: &Carrier, records: &[Value]) {
    let prefix = format!("/{number}/");
    let target = |record: &Value| record["target"].as_str().unwrap_or_default().to_owned();
    let own: Vec<_> = records.iter().filter(|it| target(it).starts_with(&prefix)).collect();
    for record in &own {
        let name = carrier.name;
        assert_eq!(record["outcome"], "complete", "{name}: {record}");
        assert_eq!(record.get("gap_bytes"), None, "{name}: {record}");
        assert_eq!(record.get("conflict"), None, "{name}: {record}");
        assert_eq!(record["vlan"], carrier.vlan, "{name}: {record}");
        assert_eq!(record["tunnel"], carrier.tunnel, "{name}: {record}");
        let is_last = target(record).ends_with("last");
        assert_eq!(record["n"], u64::from(is_last), "{name}: {record}");
        assert_eq!(record.get("connect_ns").is_some(), !is_last, "{name}: {record}");
    }
    let mut targets: Vec<_> = own.iter().map(|record| target(record)).collect();
    targets.sort_unstable();
    let both = |n| [format!("{prefix}{n}"), format!("{prefix}{n}/last")];
    let mut wanted: Vec<_> = (0..CONNECTIONS).flat_map(both).collect();
    wanted.sort_unstable();
    assert_eq!(targets, wanted, "{}", carrier.name);
}

#[test]
fn directions_in_different_networks_are_one_connection_if_those_are_ignored() {
    for (number, carrier) in carriers().iter().enumerate() {
        let frames = frames_of(number, carrier);
        for shards in ["1", "3"] {
            let (records, totals) = told(&frames, &["--ignore-vlan", "--shards", shards]);
            assert_whole(number, carrier, &records);
            assert_eq!(records.len(), 2 * usize::from(CONNECTIONS), "{}", carrier.name);
            assert!(!totals.contains("one-sided") && !totals.contains("hint"), "{totals}");
            if !carrier.is_in_key {
                records::assert_same(carrier.name, &records, &told(&frames, &[]).0);
            }
        }
    }
}

/// By default each network has connections of its own.
#[test]
fn one_sided_connections_in_networks_bring_a_hint() {
    const HINT: &str = "connections with data; if the other one is in another VLAN or VNI, try \
                        --ignore-vlan";
    for (number, carrier) in carriers().iter().enumerate().filter(|(_, it)| it.is_in_key) {
        if carrier.name.contains("router") {
            // Each side has both directions.
            let (records, totals) = told(&frames_of(number, carrier), &[]);
            assert_eq!(records.len(), 4 * usize::from(CONNECTIONS), "{}", carrier.name);
            assert!(!totals.contains(HINT), "{totals}");
            continue;
        }
        let (records, totals) = told(&frames_of(number, carrier), &[]);
        assert!(records.iter().all(|it| it["outcome"] != "complete"), "{}", carrier.name);
        let halves = 2 * CONNECTIONS;
        assert!(
            totals.contains(&format!(
                "  hint       only one direction was seen of {halves} of {halves} {HINT}\n"
            )),
            "{totals}"
        );
        assert!(totals.contains(&format!("{halves} flows one-sided")), "{totals}");
    }
    let vlans = &carriers()[0];
    // The halves of one connection are a reason for a hint, one half is none.
    let one = carried(&connection(0, 1), vlans.wrap);
    assert!(told(&one, &[]).1.contains(&format!("2 of 2 {HINT}")));
    let own = carried(&connection(0, 1), |ip, is_own| by_way(is_own, vec![in_vlan(9, ip)], vec![]));
    assert!(!told(&own, &[]).1.contains("hint"));
    // Nor are those of a minority.
    let some: Vec<_> = (0..5).flat_map(|n| carried(&connection(0, n), vlans.wrap)).collect();
    assert!(told(&some, &[]).1.contains(HINT));
    let whole = (1..3).flat_map(|number| {
        (0..CONNECTIONS)
            .flat_map(move |n| carried(&connection(number, n), |ip, _| vec![in_vlan(9, ip)]))
    });
    let most_are_whole = [some, whole.collect()].concat();
    assert!(!told(&most_are_whole, &[]).1.contains("hint"));
    // Where there are no networks, ignoring them would not help.
    let missing: Vec<_> = (0..CONNECTIONS)
        .flat_map(|n| {
            carried(&connection(0, n), |ip, is_own| by_way(is_own, vec![bridged(ip)], vec![]))
        })
        .collect();
    let (_, totals) = told(&missing, &[]);
    assert!(totals.contains("12 flows one-sided") && !totals.contains("hint"), "{totals}");
}

/// Ignored tags still decide about `--vlan`, and each direction has its own.
#[test]
fn restrictions_apply_to_tags_that_are_ignored() {
    let vlans = &carriers()[0];
    let frames = frames_of(0, vlans);
    let count = 2 * usize::from(CONNECTIONS);
    for (args, outcome, wanted) in [
        ("--vlan 10,20", "complete", count),
        ("--exclude-vlan 30", "complete", count),
        ("--vlan 10", "no_response", count),
        ("--exclude-vlan 10", "no_request", count),
        ("--vlan 30", "", 0),
    ] {
        let args: Vec<&str> = ["--ignore-vlan"].into_iter().chain(args.split(' ')).collect();
        let (records, _) = told(&frames, &args);
        assert_eq!(records.len(), wanted, "{args:?}");
        assert!(records.iter().all(|record| record["outcome"] == outcome), "{args:?}");
    }
}

/// The same connection three times: without a tag, in VLAN 42, and in VLANs 10 and 20.
#[test]
fn copies_in_other_vlans_count_once() {
    let talk = connection(0, 1);
    let copies: Wrap = |ip, _| {
        vec![bridged(ip), in_vlan(42, &routed(ip)), tagged(&[(0x8100, 10), (0x8100, 20)], ip)]
    };
    assert_eq!(told(&carried(&talk, copies), &[]).0.len(), 6);
    let (records, totals) = told(&carried(&talk, copies), &["--ignore-vlan"]);
    // Times depend on the number of frames, and nothing tells copies from retransmissions.
    let times = ["ts", "connect_ns", "request_ns", "ttfb_ns", "response_ns", "retransmitted_bytes"];
    let single = told(&carried(&talk, |ip, _| vec![bridged(ip)]), &[]).0;
    let [records, single] = [records, single].map(|records| records::without(records, &times));
    records::assert_same("copies", &single, &records);
    assert!(totals.contains("duplicate bytes"), "{totals}");
}

/// Needs root; otherwise each test reports that it was skipped.
mod root {
    use super::*;
    use crate::support::lab::{self, Finished, Running};
    use crate::support::namespace::{Injector, Namespace};
    use crate::support::skip;
    use std::process::{Command, Stdio};

    /// Captures all connections of all carriers live, on two shards, until there are `line_count`
    /// lines.
    fn captured(args: &'static [&str], line_count: usize) -> Option<(Vec<Value>, Finished)> {
        let (client, server) = Namespace::pair()?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let output = directory.path().join("lines.jsonl");
        let path = output.clone();
        let child = server.run(move || {
            let mut command = Command::new(crate::httplines());
            command.args(["-i", "veth1", "--shards", "2", "-o"]).arg(path).args(args);
            command.stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        });
        let running = Running::new(child.expect("httplines starts"), "capturing");
        client.run(|| {
            let injector = Injector::new("veth0");
            for (number, carrier) in carriers().iter().enumerate() {
                frames_of(number, carrier).iter().for_each(|frame| injector.send(frame));
            }
        });
        let lines = || std::fs::read_to_string(&output).map_or(0, |text| text.lines().count());
        lab::wait_until("all is told", || lines() >= line_count);
        let finished = running.stop();
        Some((finished.records(&output), finished))
    }

    #[test]
    fn live_directions_meet_if_networks_are_ignored() {
        let carriers = carriers();
        let count = carriers.len() * 2 * usize::from(CONNECTIONS);
        let Some((records, finished)) = captured(&["--ignore-vlan"], count) else {
            skip!("needs root")
        };
        assert_eq!(records.len(), count);
        for (number, carrier) in carriers.iter().enumerate() {
            let records: Vec<_> = records.iter().map(without_iface).collect();
            assert_whole(number, carrier, &records);
        }
        // The filter knows both directions of a connection, as it must to find the end of a body.
        finished.told("ends of bodies found by the filter");
        finished.told("every frame, flow and line is accounted for");
        assert!(!finished.stderr.contains("hint"), "{}", finished.stderr);
    }

    #[test]
    fn live_directions_are_apart_by_default() {
        let carriers = carriers();
        let is_whole = |carrier: &&Carrier| !carrier.is_in_key || carrier.name.contains("router");
        let count = carriers.iter().filter(is_whole).count() * 2 * usize::from(CONNECTIONS);
        let Some((records, finished)) = captured(&[], count) else { skip!("needs root") };
        let complete = records.iter().filter(|record| record["outcome"] == "complete");
        let mut targets: Vec<_> = complete.map(|record| record["target"].to_string()).collect();
        // Both sides of a router are told.
        targets.sort_unstable();
        targets.dedup();
        assert_eq!(targets.len(), count);
        finished.told("try --ignore-vlan");
        finished.told("every frame, flow and line is accounted for");
    }

    fn without_iface(record: &Value) -> Value {
        let mut record = record.clone();
        record.as_object_mut().expect("an object").remove("iface");
        record
    }
}
