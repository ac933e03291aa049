//! `--sensor` and `--community-id`: what lines say of who wrote them, and of their connection for
//! other tools.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::commands::{check_all, program, row};
use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
use crate::support::conversation::Conversation;
use crate::support::lab::missing_program;
use crate::support::skip::skip;
use crate::support::tunnel::{bridged, ethernet, vxlan};
use crate::support::{program, schema};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A name of 129 bytes.
const TOO_LONG: &str = "-r good.pcap -o - --sensor aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
     aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The frames of a connection with one exchange.
fn talk(client: &str, server: &str) -> Vec<WrittenFrame> {
    let mut talk = Conversation::new(client, server);
    talk.handshake().client(GET).server(OK).finish();
    talk.frames(1_000_000_000, 1_000_000)
}

/// Connections of both versions of IP, of either order of endpoints, with equal addresses, in VLANs
/// and in VXLAN.
fn capture() -> Vec<u8> {
    let mut frames: Vec<WrittenFrame> = [
        ("10.0.0.1:4242", "10.0.0.2:80"),
        ("10.0.0.9:80", "10.0.0.2:80"),
        ("10.0.0.3:9000", "10.0.0.3:80"),
        ("[2001:db8::1]:4242", "[2001:db8::2]:80"),
        ("[2001:db8::2]:4242", "[2001:db8::1]:80"),
    ]
    .iter()
    .flat_map(|(client, server)| talk(client, server))
    .collect();
    let mut tagged = Conversation::new("10.0.0.1:5000", "10.0.0.2:80").vlans(&[7, 9]);
    tagged.handshake().client(GET).server(OK).finish();
    frames.extend(tagged.frames(1_000_000_000, 1_000_000));
    frames.extend(talk("172.16.0.1:6000", "172.16.0.2:80").iter().map(|inner| {
        let outer = vxlan(4789, 42, &bridged(&inner.bytes[14..]));
        WrittenFrame::new(inner.ns, &ethernet(0x0800, &outer))
    }));
    pcap(Order::Little, Unit::Nano, 1, &frames)
}

/// The records of the program, with these arguments.
fn records(arguments: &[&str]) -> Vec<Value> {
    let done = program::run(&[&["-q", "-r", "-", "-o", "-"], arguments].concat(), Some(&capture()));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines = done.stdout.split_inclusive(|byte| *byte == b'\n');
    lines.map(schema::check_line).collect()
}

#[test]
fn every_record_has_what_was_asked_for_and_no_other_has() {
    let plain = records(&[]);
    assert_eq!(plain.len(), 7);
    let name = "edge \"1\" Zürich";
    let all = records(&["--sensor", name, "--community-id", "--community-id-seed", "65535"]);
    let unseeded = records(&["--community-id"]);
    for ((plain, all), unseeded) in plain.iter().zip(&all).zip(&unseeded) {
        assert_eq!((plain.get("sensor"), plain.get("community_id")), (None, None));
        assert_eq!(all["sensor"], json!(name));
        assert_eq!(unseeded.get("sensor"), None);
        assert_ne!(all["community_id"], unseeded["community_id"]);
        let mut rest = all.clone();
        let fields = rest.as_object_mut().expect("a record");
        fields.retain(|name, _| name != "sensor" && name != "community_id");
        assert_eq!(rest, *plain);
    }
}

#[test]
fn what_cannot_be_told_is_refused() {
    let name = "takes a name of 1 to 128 bytes of printable text, without white space around it";
    let json =
        "--sensor and --community-id are for JSON lines: add -o FILE, or -o - for standard o";
    let seed = "--community-id-seed takes a whole number from 0 to 65535";
    let rows = [
        row("-r good.pcap -o - --sensor=", 2, "--sensor needs a value"),
        row("-r good.pcap -o - --sensor=a\u{1b}[2Jb", 2, name),
        row("-r good.pcap -o - --sensor=a\u{202e}b", 2, name),
        row(TOO_LONG, 2, name),
        row("-r good.pcap --sensor a", 2, json),
        row("-r good.pcap --community-id", 2, json),
        row("-r good.pcap -o - --format text --community-id", 2, json),
        row("-r good.pcap -o - --community-id --community-id-seed 65536", 2, seed),
        row("-r good.pcap -o - --community-id --community-id-seed -1", 2, seed),
        row(
            "-r good.pcap -o - --community-id-seed 1",
            2,
            "--community-id-seed is the seed of --community-id: add that option, or leave the seed",
        ),
    ];
    check_all(&rows, program);
}

/// What tshark gives to each connection, by the innermost addresses and ports of its frames, lower
/// first.
fn of_tshark(capture: &std::path::Path, seed: u16) -> BTreeMap<Vec<(IpAddr, u16)>, String> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture).args(["--enable-protocol", "communityid"]);
    tshark.args(["-o", &format!("communityid.seed:{seed}"), "-T", "fields", "-E", "occurrence=l"]);
    let fields =
        ["ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "communityid"];
    tshark.args(fields.map(|field| ["-e", field]).concat());
    let done = tshark.output().expect("tshark starts");
    let text = String::from_utf8(done.stdout).expect("text");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let end = |at: usize| {
            let address = [cells[at], cells[at + 1]].concat();
            let address = address.parse().unwrap_or_else(|_| panic!("no address: {line:?}"));
            (address, cells[at + 2].parse().expect("a port"))
        };
        let mut ends = vec![end(0), end(3)];
        ends.sort_unstable();
        found.insert(ends, cells[6].to_string());
    }
    found
}

#[test]
fn tshark_gives_the_same_ids() {
    if let Some(reason) = missing_program("tshark") {
        skip!(reason);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ids.pcap");
    std::fs::write(&path, capture()).expect("a file");
    for seed in [0, 1, 513] {
        let theirs = of_tshark(&path, seed);
        let seed = seed.to_string();
        for record in records(&["--community-id", "--community-id-seed", &seed]) {
            let end = |of: &str| -> (IpAddr, u16) {
                let ip = record[format!("{of}_ip")].as_str().expect("an address");
                let port = record[format!("{of}_port")].as_u64().expect("a port");
                (ip.parse().expect("an address"), port as u16)
            };
            let mut ends = vec![end("client"), end("server")];
            ends.sort_unstable();
            assert_eq!(
                Some(&record["community_id"].as_str().unwrap().to_string()),
                theirs.get(&ends)
            );
        }
    }
}

/// The id of a connection in a tunnel is that of the same connection outside.
#[test]
fn the_innermost_endpoints_count() {
    let frames = talk("172.16.0.1:6000", "172.16.0.2:80");
    let plain = pcap(Order::Little, Unit::Nano, 1, &frames);
    let done = program::run(&["-q", "-r", "-", "-o", "-", "--community-id"], Some(&plain));
    let outside = schema::check_line(&done.stdout);
    let all = records(&["--community-id"]);
    let inside = all.iter().find(|record| record.get("tunnel").is_some()).expect("a tunnel");
    assert_eq!(inside["community_id"], outside["community_id"]);
}

/// Live: needs root.
mod root {
    use super::*;
    use crate::support::lab::{self, End, Lab, Offload, SERVER_IFACE};
    use crate::support::stats_schema;

    #[test]
    fn the_file_of_statistics_names_the_sensor() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let args = ["-i", SERVER_IFACE, "-o", "http.jsonl", "-B", "32768", "--stats-interval", "1"];
        let more = ["--sensor", "edge \"1\"", "--community-id"];
        let running = lab.start_httplines(End::Server, &[&args[..], &more].concat());
        lab.curl(&["/small/one"]);
        running.stop();
        let lines = std::fs::read(lab.path().join("http.jsonl")).expect("lines");
        let record = schema::check_line(&lines);
        assert_eq!(record["sensor"], json!("edge \"1\""));
        assert!(record["community_id"].is_string());
        let stats = stats_schema::lines_of(&lab.path().join("http.stats"));
        assert!(stats.len() >= 2);
        assert!(stats.iter().all(|line| line["sensor"] == json!("edge \"1\"")));
    }
}
