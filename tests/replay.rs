//! Captures of our own making through the real program: every field of the record, and the same
//! records whatever the file's format, the way it is read, and the number of shards.

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap, pcapng};
use crate::support::conversation::{Conversation, Side};
use crate::support::tunnel::{IPIP, ethernet, gre, ipv4, vxlan, word};
use crate::support::{program, records, schema};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Output;

const START_NS: u64 = 1_700_000_000_123_456_789;
const STEP_NS: u64 = 1_000_000;
const ETHERNET: u32 = 1;

fn httplines(args: &[&str], stdin: Option<&[u8]>) -> Output {
    let output = program::run(args, stdin);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("every frame, flow and line is accounted for"), "{stderr}");
    output
}

/// The records of a capture, each checked against the schema.
fn records_with(capture: &[u8], more: &[&str]) -> Vec<Value> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(capture).expect("room for it");
    let path = file.path().to_str().expect("a path in UTF-8");
    let output = httplines(&[&["-r", path, "-o", "-"], more].concat(), None);
    assert_eq!(output.status.code(), Some(0));
    output.stdout.split_inclusive(|byte| *byte == b'\n').map(schema::check_line).collect()
}

fn records_of(frames: &[WrittenFrame]) -> Vec<Value> {
    records_with(&pcap(Order::Little, Unit::Nano, ETHERNET, frames), &[])
}

fn talk() -> Conversation {
    Conversation::new("10.0.0.1:40000", "10.0.0.2:8080")
}

/// Every kind of conversation, each on its own connection, with all packets interleaved.
fn many_conversations() -> Vec<WrittenFrame> {
    let mut frames = Vec::new();
    for number in 0..40u16 {
        let client = match number % 2 {
            0 => format!("10.0.{number}.1:4000"),
            _ => format!("[fd00::{number:x}]:4000"),
        };
        let server = if number % 2 == 0 { "10.1.0.2:80" } else { "[fd01::2]:80" };
        let isn = u32::MAX - 10 * u32::from(number);
        let mut talk = Conversation::new(&client, server).isn(isn, isn / 2);
        talk = talk.segment_bytes(7 + usize::from(number) * 31);
        if number % 3 == 0 {
            talk = talk.vlans(&[100 + number]);
        }
        if number % 7 != 6 {
            talk.handshake();
        }
        for turn in 0..4 {
            let body = "x".repeat(usize::from(number) * 53 * turn);
            let length = body.len();
            talk.client(
                format!("GET /{number}/{turn} HTTP/1.1\r\nHost: h{number}\r\n\r\n").as_bytes(),
            );
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            talk.server(format!("{head}{body}").as_bytes());
        }
        match number % 5 {
            0 => drop(talk.lose(Side::Server, 2)),
            1 => drop(talk.delay(Side::Client, 1, 2)),
            2 => drop(talk.duplicate(Side::Server, 1)),
            3 => drop(talk.reset(Side::Client)),
            _ => {}
        }
        if number % 5 != 3 {
            talk.finish();
        }
        frames.extend(talk.frames(START_NS + u64::from(number) * 1_000, STEP_NS));
    }
    frames.sort_by_key(|frame| frame.ns);
    frames
}

#[test]
fn a_record_says_what_was_on_the_wire() {
    let mut talk = talk();
    let request =
        b"POST /a?b=c HTTP/1.1\r\nHost: a.test\r\nUser-Agent: tester/1\r\nReferer: /r\r\n\
                    Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    talk.handshake().client(request);
    talk.server(b"HTTP/1.1 100 Continue\r\n\r\n");
    let response = b"HTTP/1.1 201 Made it\r\nServer: s/2\r\nLocation: /a/1\r\n\
                     Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
                     2\r\n{}\r\n0\r\n\r\n";
    talk.server(response).finish();
    let records = records_of(&talk.frames(START_NS, STEP_NS));
    let expected = serde_json::json!([{
        "ts": "2023-11-14T22:13:20.126456789Z",
        "flow": records[0]["flow"],
        "n": 0,
        "client_ip": "10.0.0.1", "client_port": 40000,
        "server_ip": "10.0.0.2", "server_port": 8080,
        "method": "POST", "target": "/a?b=c", "version": "HTTP/1.1",
        "host": "a.test", "user_agent": "tester/1", "referer": "/r",
        "request_content_type": "text/plain",
        "status": 201, "reason": "Made it", "response_content_type": "application/json",
        "server": "s/2", "location": "/a/1",
        "request_body_bytes": 5, "response_body_bytes": 2,
        "connect_ns": STEP_NS, "request_ns": 0, "ttfb_ns": 4 * STEP_NS, "response_ns": 0,
        "interim": [100],
        "outcome": "complete",
    }]);
    assert_eq!(Value::from(records), expected);
}

/// Two exchanges on one connection with these initial sequence numbers, that starts at `start_ns`.
fn two_exchanges(client_isn: u32, server_isn: u32, start_ns: u64) -> Vec<WrittenFrame> {
    let mut talk = talk().isn(client_isn, server_isn);
    talk.handshake();
    for _ in 0..2 {
        talk.client(b"GET / HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 204 None\r\n\r\n");
    }
    talk.finish().frames(start_ns, STEP_NS)
}

/// The `flow` of each record, on one shard and on several.
fn flows_of(frames: &[WrittenFrame]) -> Vec<String> {
    let capture = pcap(Order::Little, Unit::Nano, ETHERNET, frames);
    let [one, many] = [&[][..], &["--shards", "3"]].map(|args| {
        let records = records_with(&capture, args);
        let flow = |record: &Value| record["flow"].as_str().expect("a flow").to_string();
        records.iter().map(flow).collect::<Vec<_>>()
    });
    assert_eq!(one, many);
    one
}

/// A client that uses a port and an initial sequence number again, as after a restart, makes
/// another connection.
#[test]
fn one_number_of_the_client_at_two_times_is_two_flows() {
    let mut frames = two_exchanges(1000, 2000, START_NS);
    let first = flows_of(&frames);
    frames.extend(two_exchanges(1000, 7000, START_NS + 3_600_000_000_000));
    let both = flows_of(&frames);
    assert_eq!((both.len(), &both[..2]), (4, &first[..]));
    assert!(both[0] == both[1] && both[1] != both[2] && both[2] == both[3], "{both:?}");
    // At another time, the same connection has the same value.
    assert_eq!(flows_of(&two_exchanges(1000, 2000, 5 * START_NS / 4)), first);
    // Either half of the handshake is enough to tell it from others.
    let without = |place: usize, server_isn| {
        let mut frames = two_exchanges(1000, server_isn, START_NS);
        frames.remove(place);
        flows_of(&frames)
    };
    assert_eq!(without(0, 2000), first, "the SYN-ACK has both numbers");
    assert_eq!(without(1, 2000), without(1, 7000), "the SYN has one");
    assert!(!without(1, 2000).contains(&first[0]));
}

/// On a mirror, the SYN-ACK may come behind the client's first data. All records of a connection
/// have one `flow`, whenever it comes.
#[test]
fn a_late_syn_ack_leaves_one_flow() {
    let frames = two_exchanges(1000, 2000, START_NS);
    let in_order = flows_of(&frames);
    for place in 2..frames.len() {
        let mut frames = frames.clone();
        let late = frames.remove(1);
        frames.insert(place, WrittenFrame { ns: frames[place - 1].ns, ..late });
        let flows = flows_of(&frames);
        assert_eq!((flows.len(), &flows[0]), (2, &flows[1]), "at {place}");
        // The first record is written when its response has passed.
        assert_eq!(flows == in_order, place <= 4, "at {place}");
    }
}

#[test]
fn the_same_records_on_any_number_of_shards() {
    let capture = pcap(Order::Little, Unit::Nano, ETHERNET, &many_conversations());
    let one = records_with(&capture, &[]);
    assert!(one.len() >= 150, "there is much to compare: {}", one.len());
    assert!(one.iter().any(|record| record["gap_bytes"].is_u64()), "losses among it");
    for shards in ["2", "3", "8"] {
        let many = records_with(&capture, &["--shards", shards]);
        records::assert_same(&format!("1 shard and {shards}"), &one, &many);
    }
}

#[test]
fn the_same_records_from_any_file_and_from_standard_input() {
    let frames = many_conversations();
    let capture = pcap(Order::Little, Unit::Nano, ETHERNET, &frames);
    let expected = records_with(&capture, &[]);
    for (what, other) in [
        ("big-endian pcap", pcap(Order::Big, Unit::Nano, ETHERNET, &frames)),
        ("pcapng", pcapng(Order::Little, &[(1, "wire0")], &frames)),
        ("big-endian pcapng", pcapng(Order::Big, &[(1, "wire0")], &frames)),
    ] {
        let records = records_with(&other, &[]);
        if what.contains("pcapng") {
            assert!(records.iter().all(|record| record["iface"] == "wire0"));
        }
        records::assert_same(what, &expected, &records::without(records, &["iface"]));
    }
    for shards in ["1", "3"] {
        let output = httplines(&["-r", "-", "-o", "-", "--shards", shards], Some(&capture));
        records::assert_same("standard input", &expected, &records::parse(&output.stdout));
    }
}

#[test]
fn a_lost_segment_is_told_and_nothing_else_is_touched() {
    let exchange = |talk: &mut Conversation, number: usize| {
        talk.client(format!("GET /{number} HTTP/1.1\r\n\r\n").as_bytes());
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n".to_vec();
        talk.server(&[head, vec![b'x'; 300]].concat());
    };
    let mut whole = talk().segment_bytes(100);
    whole.handshake();
    (0..4).for_each(|number| exchange(&mut whole, number));
    let mut lossy = whole.clone();
    // Segments 0 to 3 are the first response; 6 is in the body of the second.
    lossy.lose(Side::Server, 6);
    let whole = records_of(&whole.frames(START_NS, STEP_NS));
    let lossy = records_of(&lossy.frames(START_NS, STEP_NS));
    assert_eq!(lossy[1]["gap_bytes"], 100);
    assert_eq!(lossy[1]["response_body_bytes"], 300, "what was lost is counted");
    assert_eq!(lossy[1]["outcome"], "complete");
    let stamped = ["ts", "request_ns", "ttfb_ns", "response_ns", "gap_bytes"];
    records::assert_same(
        "with the loss and without",
        &records::without(whole, &stamped),
        &records::without(lossy, &stamped),
    );
}

#[test]
fn how_a_connection_ended_is_told() {
    for (name, outcome, end) in [
        ("answered", "complete", Value::Null),
        ("reset", "no_response", "rst".into()),
        ("left open", "no_response", "exit".into()),
        ("closed", "no_response", "fin".into()),
        ("cut", "truncated", "fin".into()),
    ] {
        let mut talk = talk();
        talk.handshake().client(b"GET / HTTP/1.1\r\n\r\n");
        match name {
            "answered" => drop(talk.server(b"HTTP/1.1 204 No Content\r\n\r\n")),
            "reset" => drop(talk.reset(Side::Server)),
            "closed" => drop(talk.finish()),
            "cut" => {
                talk.server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").finish();
            }
            _ => {}
        }
        let records = records_of(&talk.frames(START_NS, STEP_NS));
        assert_eq!(records.len(), 1, "{name}");
        assert_eq!(
            (&records[0]["outcome"], &records[0]["end_reason"]),
            (&outcome.into(), &end),
            "{name}"
        );
    }
}

#[test]
fn one_sided_and_late_captures_are_told() {
    let mut talk = talk();
    talk.client(b"GET /late HTTP/1.1\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let late = records_of(&talk.frames(START_NS, STEP_NS));
    assert_eq!((&late[0]["midstream"], &late[0]["status"]), (&true.into(), &200.into()));
    talk.lose(Side::Client, 0);
    let answers = records_of(&talk.frames(START_NS, STEP_NS));
    assert_eq!(answers[0]["outcome"], "no_request");
    assert_eq!(answers[0]["server_port"], 8080, "who answers is the server");
}

#[test]
fn tunnels_and_tags_around_a_connection_are_told() {
    let wrapped = |way: &dyn Fn(&[u8]) -> Vec<u8>| {
        let mut talk = talk().vlans(&[10]);
        talk.handshake().client(b"GET /a HTTP/1.1\r\n\r\n");
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n").finish();
        let mut frames = talk.frames(START_NS, STEP_NS);
        for frame in &mut frames {
            *frame = WrittenFrame::new(frame.ns, &way(&frame.bytes));
        }
        let records = records_of(&frames);
        assert_eq!(records.len(), 1);
        assert_eq!((&records[0]["target"], &records[0]["status"]), (&"/a".into(), &204.into()));
        assert_eq!(records[0]["client_ip"], "10.0.0.1");
        (records[0]["vlan"].clone(), records[0]["tunnel"].clone())
    };
    let outer = |ip: &[u8]| ethernet(0x8100, &[&[0, 5, 8, 0], ip].concat());
    let found = wrapped(&|inner| outer(&vxlan(4789, 42, inner)));
    assert_eq!(found, (json!([5, 10]), json!(["vxlan:42"])));
    let found = wrapped(&|inner| outer(&ipv4(IPIP, &gre(0x2000, 0x6558, &word(7), inner))));
    assert_eq!(found, (json!([5, 10]), json!(["ipip", "gre:7"])));
    assert_eq!(wrapped(&|inner| inner.to_vec()), (json!([10]), Value::Null));
}

#[test]
fn a_bridge_shows_every_packet_twice_and_each_exchange_is_told_once() {
    let mut talk = talk();
    talk.handshake().client(b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nab");
    talk.server(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    talk.finish();
    let frames = talk.frames(START_NS, STEP_NS);
    let once = records_of(&frames);
    assert_eq!((once.len(), &once[0]["outcome"]), (1, &"complete".into()));
    // A router has decremented the TTL of the second copy, which changes the header's checksum.
    let routed = |frame: &WrittenFrame| {
        let mut bytes = frame.bytes.clone();
        (bytes[22], bytes[24]) = (bytes[22] - 1, bytes[24].wrapping_add(1));
        WrittenFrame::new(frame.ns + STEP_NS / 2, &bytes)
    };
    let twice: Vec<_> = frames.iter().flat_map(|frame| [frame.clone(), routed(frame)]).collect();
    let told = records_of(&twice);
    // Nothing tells such copies from retransmissions. The last one comes after the record.
    assert_eq!(told[0]["retransmitted_bytes"], 41);
    assert_eq!(records::without(told, &["retransmitted_bytes"]), once);
}

#[test]
fn the_same_addresses_in_other_vlans_are_other_connections() {
    let mut frames = Vec::new();
    for (number, vlans) in [&[][..], &[42], &[10, 20]].iter().enumerate() {
        let mut talk = talk().vlans(vlans);
        talk.handshake().client(b"GET /a HTTP/1.1\r\n\r\n");
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n").finish();
        frames.extend(talk.frames(START_NS + number as u64 * 1000, STEP_NS));
    }
    frames.sort_by_key(|frame| frame.ns);
    let records = records_of(&frames);
    let mut vlans: Vec<_> = records.iter().map(|record| record["vlan"].to_string()).collect();
    vlans.sort_unstable();
    assert_eq!(vlans, ["[10,20]", "[42]", "null"]);
    assert!(records.iter().all(|record| record["outcome"] == "complete" && record["n"] == 0));
}

/// `flow` and `n` are those of the exchange, in whatever networks its copies pass; `vlan` and
/// `tunnel` tell these apart. Another connection with the same addresses and ports has another
/// `flow`, and so has a copy whose handshake was not captured.
#[test]
fn copies_in_several_networks_have_one_flow() {
    let copy = |vlans: &[u16], (client_isn, server_isn), skipped: usize| {
        let mut talk = talk().vlans(vlans).isn(client_isn, server_isn);
        talk.handshake();
        for _ in 0..2 {
            talk.client(b"GET / HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 204 None\r\n\r\n");
        }
        talk.finish().frames(START_NS, STEP_NS).split_off(skipped)
    };
    let numbers = (1000, 2000);
    let copies = [copy(&[], numbers, 0), copy(&[42], numbers, 0), copy(&[10, 20], numbers, 0)];
    let others = [copy(&[43], (1000, 2001), 0), copy(&[44], (1001, 2000), 0)];
    let late = [copy(&[45], numbers, 3), copy(&[46], numbers, 3)];
    let mut frames = [&copies[..], &others, &late].concat().concat();
    frames.sort_by_key(|frame| frame.ns);
    let mut told: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for record in records_of(&frames) {
        assert_eq!(record["outcome"], "complete");
        let n = record["n"].as_u64().expect("a number");
        told.entry(record["flow"].to_string()).or_default().push((n, record["vlan"].to_string()));
    }
    let mut told: Vec<_> = told.into_values().collect();
    told.iter_mut().for_each(|copies| copies.sort_unstable());
    told.sort_unstable_by_key(|copies| copies.last().cloned());
    let of_connection = |vlans: &[&str]| {
        let both = (0..2).flat_map(|n| vlans.iter().map(move |vlan| (n, vlan.to_string())));
        both.collect::<Vec<_>>()
    };
    let singles = ["[43]", "[44]", "[45]", "[46]"].map(|vlan| of_connection(&[vlan]));
    let mut expected = singles.to_vec();
    expected.push(of_connection(&["[10,20]", "[42]", "null"]));
    assert_eq!(told, expected);
}

/// Of two SYN-ACKs to one SYN, as from two servers with the same address, the one that the client
/// continues with counts.
#[test]
fn a_second_answer_to_the_syn_changes_nothing() {
    let mut talk = talk();
    talk.handshake().client(b"GET /a HTTP/1.1\r\n\r\n");
    talk.server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    talk.client(b"GET /b HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 204 None\r\n\r\n").finish();
    let expected = records_of(&talk.frames(START_NS, STEP_NS));
    assert_eq!(expected.len(), 2);
    for at in 2..10 {
        let mut frames = talk.frames(START_NS, STEP_NS);
        let mut other = frames[1].clone();
        // Its sequence number, after the headers of Ethernet and IP.
        other.bytes[38] ^= 0x40;
        other.ns = frames[at].ns - STEP_NS / 2;
        frames.insert(at, other);
        records::assert_same(&format!("before frame {at}"), &expected, &records_of(&frames));
    }
}

#[test]
fn text_is_the_first_line_of_every_message() {
    let mut talk = talk();
    talk.handshake().client(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\n\r\n");
    talk.server(b"HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 Gone\r\n\r\n")
        .finish();
    let capture = pcap(Order::Little, Unit::Micro, ETHERNET, &talk.frames(START_NS, STEP_NS));
    let output = httplines(&["-r", "-"], Some(&capture));
    let expected = "GET /a HTTP/1.1\nPOST /b HTTP/1.1\nHTTP/1.1 200 Fine\nHTTP/1.1 404 Gone\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn a_capture_that_is_cut_off_is_reported_up_to_the_cut() {
    let mut talk = talk();
    talk.handshake().client(b"GET /a HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 204 None\r\n\r\n");
    let capture = pcap(Order::Little, Unit::Nano, ETHERNET, &talk.frames(START_NS, STEP_NS));
    let output = httplines(&["-r", "-", "-o", "-"], Some(&capture[..capture.len() - 20]));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cut off"));
    assert_eq!(records::parse(&output.stdout)[0]["outcome"], "complete");
}

#[test]
fn what_is_not_http_is_told_by_kind() {
    let mut frames = Vec::new();
    let hello: &[u8] = b"\x16\x03\x01\x00\x05hello";
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (port, payload) in [(1, hello), (2, preface), (3, b"EHLO mail\r\n"), (4, b"")] {
        let mut talk = Conversation::new(&format!("10.0.0.1:{port}"), "10.0.0.2:443");
        talk.handshake();
        if !payload.is_empty() {
            talk.client(payload);
        }
        frames.extend(talk.finish().frames(START_NS, STEP_NS));
    }
    let capture = pcap(Order::Little, Unit::Nano, ETHERNET, &frames);
    let output = httplines(&["-r", "-"], Some(&capture));
    assert_eq!(output.stdout, b"");
    let totals = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(totals.contains("1 TLS, 1 HTTP/2, 1 other, 1 without payload"), "{totals}");
}

/// Which of three connections are reported: one in VLAN 5, one on port 8080, one over IPv6.
#[test]
fn only_connections_that_are_wanted() {
    let mut frames = Vec::new();
    for (target, client, server, vlan) in [
        ("/vlan", "10.0.0.1:1001", "10.0.0.2:80", Some(5)),
        ("/port", "10.1.0.1:1002", "10.1.0.2:8080", None),
        ("/v6", "[fd00::1]:1003", "[fd00::2]:80", None),
    ] {
        let mut talk = Conversation::new(client, server);
        if let Some(id) = vlan {
            talk = talk.vlans(&[id]);
        }
        talk.handshake();
        talk.client(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n");
        talk.finish();
        frames.extend(talk.frames(START_NS, STEP_NS));
    }
    let capture = pcap(Order::Little, Unit::Nano, ETHERNET, &frames);
    for (args, wanted) in [
        ("--port 80", "/v6 /vlan"),
        ("--port 79-81,8080", "/port /v6 /vlan"),
        ("--port 80 --port 8080", "/port /v6 /vlan"),
        ("--port 1002", "/port"),
        ("--exclude-port 80", "/port"),
        ("--net 10.0.0.0/8", "/port /vlan"),
        ("--net 10.0.0.2", "/vlan"),
        ("--net fd00::/16,10.1.0.0/16", "/port /v6"),
        ("--net 10.0.0.0/8 --exclude-net 10.1.0.0/24", "/vlan"),
        ("--exclude-net ::/0", "/port /vlan"),
        ("--net 0.0.0.0/0", "/port /vlan"),
        ("--vlan 5", "/vlan"),
        ("--vlan 4,6", ""),
        ("--exclude-vlan 5", "/port /v6"),
        ("--vlan 5 --port 8080", ""),
        ("--exclude-vlan 5 --exclude-port 8080", "/v6"),
        ("--sample 1/1", "/port /v6 /vlan"),
        ("--sample 1/2", "/port /vlan"),
        ("--sample 1/8", "/vlan"),
        ("--sample 1/16", ""),
        ("--sample 1/8 --port 8080", ""),
    ] {
        let more: Vec<&str> = args.split(' ').collect();
        for shards in [&[][..], &["--shards", "2"]] {
            let records = records_with(&capture, &[&more, shards].concat());
            let mut targets: Vec<_> =
                records.iter().map(|record| record["target"].as_str().expect("one")).collect();
            targets.sort_unstable();
            assert_eq!(targets.join(" "), wanted, "{args}");
        }
    }
}
