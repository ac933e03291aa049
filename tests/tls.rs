//! Connections of TLS: what is in clear is told, and the rest is counted by sequence numbers alone,
//! so that what the filter leaves in the kernel changes no record.

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
use crate::support::conversation::Conversation;
use crate::support::conversation::Side::{Client, Server};
use crate::support::packet::{ACK, FIN, Packet, RST, SYN};
use crate::support::records::without;
use crate::support::reported::{Reported, reported_with};
use crate::support::tls::{client_hello, data, finished, record, server_hello};
use crate::support::{program, schema};
use httplines::capture::LinkType;
use httplines::config::{Config, EmitConfig, RecordKinds};
use httplines::flow::End;
use httplines::ids::{IfaceId, IfaceNames};
use httplines::pipeline::Pipeline;
use httplines::record::{
    Event, FlowIdentity, Format, JA4_BYTES, JsonFormat, TlsAlert, TlsCertificate, TlsConnection,
    TlsOutcome, TlsRecord,
};
use httplines::time::TimestampNs;
use serde_json::{Value, json};
use std::net::SocketAddr;

const START_NS: u64 = 1_795_442_400_000_000_000;
const ONLY: RecordKinds =
    RecordKinds { http: false, websocket: false, tls: true, is_tls_early: false };

/// A record in which every field is present, and every text is `value`.
pub fn check(config: &EmitConfig, flow: &FlowIdentity<'_>, value: &[u8]) -> Value {
    let mut alpn = Vec::new();
    for protocol in value.chunks(255) {
        alpn.push(protocol.len() as u8);
        alpn.extend_from_slice(protocol);
    }
    let certificate = TlsCertificate {
        cn: Some(value.into()),
        issuer: Some(value.into()),
        validity: [Some(*b"2026-01-01T00:00:00Z"); 2],
        sha256: [0xff; 32],
    };
    let tls = TlsConnection {
        sni: Some(value),
        alpn_offered: Some(&alpn),
        alpn: Some(value),
        version: Some(0x0304),
        cipher: Some(0xc02f),
        group: Some(29),
        ja3: Some([0xff; 16]),
        ja3s: Some([0xff; 16]),
        ja4: Some(*b"t13d1516h2_8daaf6152771_e5627efa2ab1"),
        is_ech: true,
        is_hello_retry: true,
        is_resumed: Some(false),
        is_early_data: true,
        certificate: Some(&certificate),
        client_certificate: Some(&certificate),
        alert: Some(TlsAlert { is_by_client: false, code: 113 }),
        client_hello_bytes: Some(u32::MAX),
        began_at: TimestampNs(u64::MAX),
        connect_ns: Some(u64::MAX),
        hello_ns: Some(u64::MAX),
        handshake_ns: Some(u64::MAX),
        duration_ns: Some(u64::MAX),
        client_bytes: Some(u64::MAX),
        server_bytes: Some(u64::MAX),
        outcome: Some(TlsOutcome::NoServer),
        end: Some(End::Evicted),
        gap_bytes: u64::MAX,
        is_midstream: true,
        iface: IfaceId(1),
        tunnel: Default::default(),
    };
    const { assert!(JA4_BYTES == 36) };
    let names = IfaceNames::default();
    names.insert(IfaceId(1), &"long".repeat(100));
    let mut line = Vec::new();
    JsonFormat::new(config, names)
        .line(&Event::Tls(TlsRecord { flow: *flow, tls: &tls }), &mut line);
    schema::check_line(&line)
}

fn emit() -> EmitConfig {
    EmitConfig { records: ONLY, ..EmitConfig::default() }
}

fn told(frames: &[WrittenFrame]) -> Reported {
    let reported = reported_with(frames, &emit());
    for line in reported.lines.split_inclusive(|byte| *byte == b'\n') {
        schema::check_line(line);
    }
    reported
}

/// The records of TLS.
fn records_of(frames: &[WrittenFrame]) -> Vec<Value> {
    told(frames).records.into_iter().filter(|record| record["type"] == "tls").collect()
}

fn conversation(server_bytes: usize) -> Conversation {
    let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:443");
    talk.handshake()
        .client(&client_hello("www.example.org", 1700))
        .server(&server_hello(3000))
        .client(&[finished(), data(500)].concat())
        .server(&data(server_bytes));
    talk
}

/// What the filter leaves of a capture: SYN, FIN and RST, and what begins in the first 16 KiB.
fn filtered(frames: &[WrittenFrame], isns: [u32; 2]) -> Vec<WrittenFrame> {
    let is_kept = |frame: &&WrittenFrame| {
        let tcp = &frame.bytes[34..];
        let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let is_server = tcp[0..2] == 443_u16.to_be_bytes();
        let isn = isns[usize::from(is_server)];
        tcp[13] & (SYN | FIN | RST) != 0 || seq.wrapping_sub(isn + 1) < 16 << 10
    };
    frames.iter().filter(is_kept).cloned().collect()
}

#[test]
fn a_connection_has_one_record_at_its_end() {
    let records = records_of(&conversation(100_000).finish().frames(START_NS, 1_000_000));
    assert_eq!(records.len(), 1, "{records:?}");
    let server_bytes = server_hello(3000).len() + data(100_000).len();
    let client_bytes = client_hello("www.example.org", 1700).len() + finished().len() + 505;
    for (name, value) in [
        ("sni", json!("www.example.org")),
        ("alpn_offered", json!(["h2", "http/1.1"])),
        ("tls_version", json!("1.3")),
        ("cipher", json!("TLS_AES_128_GCM_SHA256")),
        ("group", json!("x25519")),
        ("resumed", json!(false)),
        ("outcome", json!("complete")),
        ("end_reason", json!("fin")),
        ("connect_ns", json!(1_000_000)),
        ("client_bytes", json!(client_bytes)),
        ("server_bytes", json!(server_bytes)),
        ("alpn", Value::Null),
        ("gap_bytes", Value::Null),
    ] {
        assert_eq!(records[0][name], value, "{name}: {}", records[0]);
    }
}

#[test]
fn what_the_filter_leaves_out_changes_no_record() {
    let mut by_reset = conversation(100_000);
    by_reset.reset(Client);
    let mut by_server = conversation(50_000);
    by_server.reset(Server);
    let mut open = conversation(100_000);
    open.client(&data(100));
    for talk in [conversation(100_000).finish(), &mut by_reset, &mut by_server, &mut open] {
        let frames = talk.frames(START_NS, 1_000_000);
        let left = filtered(&frames, [1000, 2000]);
        assert!(left.len() + 20 < frames.len());
        let [all, few] = [records_of(&frames), records_of(&left)];
        assert_eq!(all.len(), 1);
        assert_eq!(all, few);
        assert_eq!(all[0]["outcome"], "complete");
    }
    // The length of a direction whose end was not seen is not known.
    let unseen = records_of(&by_reset.frames(START_NS, 1_000_000));
    assert_eq!((unseen[0].get("server_bytes"), &unseen[0]["end_reason"]), (None, &json!("rst")));
    assert!(unseen[0]["client_bytes"].is_u64() && unseen[0]["duration_ns"].is_u64());
}

/// A segment for each GiB tells how often sequence numbers wrap around.
#[test]
fn more_than_four_gib_are_counted() {
    let mut frames = conversation(20_000).frames(START_NS, 1_000_000);
    let ends: [SocketAddr; 2] =
        ["10.0.0.1:4000", "10.0.0.2:443"].map(|end| end.parse().expect("address:port"));
    let mut at_ns = START_NS + 1_000_000_000;
    let begin = 2001_u32;
    let mut segment = |from: usize, seq: u32, ack: u32, flags, payload: &[u8]| {
        let packet = Packet::tcp(ends[from], ends[1 - from]).seq(seq).ack(ack).flags(flags);
        at_ns += 1_000_000_000;
        frames.push(WrittenFrame::new(at_ns, &packet.payload(payload).ethernet()));
    };
    let total: u64 = 11 << 30;
    for gib in 1..=10_u64 {
        segment(1, begin.wrapping_add((gib << 30) as u32), 1001, ACK, &[0x55; 1000]);
    }
    let end = begin.wrapping_add(total as u32);
    segment(1, end, 9000, FIN | ACK, b"");
    segment(0, 9000, end.wrapping_add(1), FIN | ACK, b"");
    let records = records_of(&frames);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["server_bytes"], total, "{}", records[0]);
    assert_eq!(
        (&records[0]["client_bytes"], &records[0]["end_reason"]),
        (&json!(7999), &json!("fin"))
    );
}

/// Who does not know the numbers cannot end the connection.
#[test]
fn a_fin_that_agrees_with_nothing_ends_nothing() {
    let expected = records_of(&conversation(100_000).finish().frames(START_NS, 1_000_000));
    let ends: [SocketAddr; 2] =
        ["10.0.0.1:4000", "10.0.0.2:443"].map(|end| end.parse().expect("address:port"));
    let mut frames = conversation(100_000).finish().frames(START_NS, 1_000_000);
    let forged = |from: usize, seq: u32, ack: u32| {
        let packet = Packet::tcp(ends[from], ends[1 - from]).seq(seq).ack(ack).flags(FIN | ACK);
        WrittenFrame::new(START_NS + 60_000_000, &packet.ethernet())
    };
    let at = frames.len() - 4;
    // Of the client, everything has passed the filter, so that its numbers are known.
    for (from, seq, ack) in [(0, 1 << 30, 1 << 29), (1, 1 << 29, 1 << 30), (1, 1 << 28, 78)] {
        frames.insert(at, forged(from, seq, ack));
    }
    let rst = Packet::tcp(ends[1], ends[0]).seq(1 << 28).ack(1 << 30).flags(RST | ACK);
    frames.insert(at, WrittenFrame::new(START_NS + 60_000_000, &rst.ethernet()));
    let rst = Packet::tcp(ends[0], ends[1]).seq(1 << 28).flags(RST);
    frames.insert(at, WrittenFrame::new(START_NS + 60_000_000, &rst.ethernet()));
    assert_eq!(without(records_of(&frames), &["duration_ns"]), without(expected, &["duration_ns"]));
}

/// The end of the first connection is not seen. A SYN alone does not end it.
#[test]
fn ports_that_are_used_again_are_another_connection() {
    let mut frames = conversation(50_000).frames(START_NS, 1_000_000);
    let mut next = Conversation::new("10.0.0.1:4000", "10.0.0.2:443").isn(1 << 20, 1 << 21);
    next.handshake();
    frames.extend(next.frames(START_NS + 1_000_000_000, 1_000_000));
    assert_eq!(records_of(&frames)[0]["end_reason"], "exit");
    next.client(&client_hello("next.example.org", 300)).server(&server_hello(2000));
    next.client(&finished()).finish();
    let again = next.frames(START_NS + 1_000_000_000, 1_000_000);
    frames.truncate(frames.len() - 3);
    frames.extend(again);
    let records = records_of(&frames);
    let told = |at: usize| [&records[at]["sni"], &records[at]["end_reason"]];
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(told(0), [&json!("www.example.org"), &json!("reused")]);
    assert_eq!(told(1), [&json!("next.example.org"), &json!("fin")]);
    assert!(records.iter().all(|record| record["outcome"] == "complete"));
}

/// What passes behind the handshake keeps a connection no longer than an idle one, with the filter
/// and without it.
#[test]
fn a_connection_at_rest_is_told_after_an_hour() {
    let mut frames = conversation(20_000).frames(START_NS, 1_000_000);
    let ends: [SocketAddr; 2] =
        ["10.0.0.1:4000", "10.0.0.2:443"].map(|end| end.parse().expect("address:port"));
    for minute in 1..=70_u64 {
        let packet = Packet::tcp(ends[1], ends[0]).seq(30_000 + minute as u32).ack(2000).flags(ACK);
        let at_ns = START_NS + minute * 60_000_000_000;
        frames.push(WrittenFrame::new(at_ns, &packet.payload(&[1; 50]).ethernet()));
    }
    // Too late: it is not known any more what this ends.
    let fin = Packet::tcp(ends[1], ends[0]).seq(40_000).ack(2000).flags(FIN | ACK);
    frames.push(WrittenFrame::new(START_NS + 71 * 60_000_000_000, &fin.ethernet()));
    for frames in [frames.clone(), filtered(&frames, [1000, 2000])] {
        let records = records_of(&frames);
        assert_eq!((records.len(), &records[0]["end_reason"]), (1, &json!("idle")));
    }
}

#[test]
fn hellos_behind_other_protocols() {
    let starts: [(&str, &[(bool, &str)]); 5] = [
        (
            "smtp",
            &[
                (false, "220 a ESMTP\r\n"),
                (true, "EHLO a\r\n"),
                (false, "250 STARTTLS\r\n"),
                (true, "STARTTLS\r\n"),
                (false, "220 go\r\n"),
            ],
        ),
        ("imap", &[(false, "* OK ready\r\n"), (true, "a STARTTLS\r\n"), (false, "a OK go\r\n")]),
        ("postgresql", &[(true, "\0\0\0\x08\x04\u{d2}\x16\x2f"), (false, "S")]),
        (
            "socks",
            &[
                (true, "\x05\x01\0"),
                (false, "\x05\0"),
                (true, "\x05\x01\0\x01\0\0\0\x01\x01\x01"),
                (false, "\x05\0\0\x01\0\0\0\0\0\0"),
            ],
        ),
        ("proxy", &[(true, "PROXY TCP4 10.0.0.1 10.0.0.2 4000 443\r\n")]),
    ];
    for (name, start) in starts {
        let mut talk = Conversation::new("10.0.0.1:4000", "10.0.0.2:25");
        talk.handshake();
        for (is_client, text) in start {
            match is_client {
                true => talk.client(text.as_bytes()),
                false => talk.server(text.as_bytes()),
            };
        }
        talk.client(&client_hello("mail.example.org", 10))
            .server(&server_hello(900))
            .client(&finished())
            .finish();
        let records = records_of(&talk.frames(START_NS, 1_000_000));
        assert_eq!(records.len(), 1, "{name}");
        assert_eq!(records[0]["sni"], "mail.example.org", "{name}");
        assert_eq!(records[0]["outcome"], "complete", "{name}");
    }
}

/// Nothing else about the capture changes if TLS is told.
#[test]
fn only_who_asks_is_told() {
    let frames = conversation(40_000).finish().frames(START_NS, 1_000_000);
    let without = reported_with(&frames, &EmitConfig::default());
    assert!(without.records.is_empty());
    assert_eq!(without.stats.protocol.tls, Default::default());
    let with = told(&frames);
    assert_eq!(without.stats.protocol.flows, with.stats.protocol.flows);
    assert_eq!(with.stats.protocol.tls.connections_complete, 1);
    assert_eq!(with.stats.protocol.tls.version_13, 1);
}

/// The memory that the shard counts for half-open connections, each with `first` of the client.
fn half_open_bytes(count: u16, first: &[u8]) -> usize {
    let mut pipeline =
        Pipeline::new(&Config::default(), |event: Event<'_>| drop(format!("{event:?}")));
    for port in 0..count {
        let mut talk = Conversation::new(&format!("10.0.0.1:{}", 1024 + port), "10.0.0.2:443");
        talk.handshake().client(first);
        for frame in talk.frames(START_NS + u64::from(port) * 10_000, 1000) {
            pipeline.frame(&frame.as_frame(LinkType::Ethernet));
        }
    }
    let bytes = pipeline.held_bytes()[1] / usize::from(count);
    pipeline.finish();
    assert_eq!(pipeline.held_bytes(), [0, 0]);
    bytes
}

#[test]
fn half_open_handshakes_cost_no_more_than_half_open_requests() {
    let hello = client_hello("www.example.org", 1700);
    let request = [b"GET / HTTP/1.1\r\nCookie: ", &vec![b'a'; hello.len()][..]].concat();
    let http = half_open_bytes(2000, &request);
    // A ClientHello without an answer, one whose last byte is missing, and one that is longer than
    // what is read.
    let long =
        [record(22, &[&[1, 0, 0xff, 0xff][..], &[3; 12_000]].concat()), record(22, &[3; 9000])];
    for first in [&hello[..], &hello[..hello.len() - 1]] {
        let tls = half_open_bytes(2000, first);
        assert!(tls > 0 && tls <= http, "{tls} bytes, {http} of HTTP");
    }
    assert!(half_open_bytes(200, &long.concat()) < 33_000);
    // At rest.
    let mut pipeline = Pipeline::new(&Config::default(), |_: Event<'_>| {});
    for frame in conversation(30_000).frames(START_NS, 1000) {
        pipeline.frame(&frame.as_frame(LinkType::Ethernet));
    }
    let at_rest = pipeline.held_bytes()[1];
    assert!((1..800).contains(&at_rest), "{at_rest} bytes at rest");
}

#[test]
fn options_that_tls_has_and_has_not() {
    for (options, answer) in [
        (&["--records", "http,tls"][..], "have JSON lines only: add -o FILE"),
        (&["-o", "-", "--tls-early"], "--tls-early is about connections of TLS: add tls"),
        (&["-o", "-", "--records", "tls", "-c", "1"], "-c counts exchanges: add http"),
    ] {
        let output = program::run(&[&["-r", "-"], options].concat(), None);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(answer), "{stderr}");
    }
    let frames = conversation(40_000).finish().frames(START_NS, 1_000_000);
    let capture = pcap(Order::Little, Unit::Nano, 1, &frames);
    let lines = |options: &[&str]| {
        let args = [&["-r", "-", "-o", "-", "--records", "tls"], options].concat();
        let output = program::run(&args, Some(&capture));
        let totals = String::from_utf8_lossy(&output.stderr).into_owned();
        (String::from_utf8(output.stdout).unwrap(), totals)
    };
    let (all, totals) = lines(&[]);
    assert_eq!(all.lines().count(), 1, "{totals}");
    assert!(totals.contains("1 reported, 1 complete"), "{totals}");
    assert_eq!(lines(&["--only", "sni=*.EXAMPLE.org"]).0, all);
    let (none, totals) = lines(&["--only", "sni=other"]);
    assert!(none.is_empty() && totals.contains("1 connections of TLS withheld"), "{totals}");
    let early: Value = serde_json::from_str(&lines(&["--tls-early"]).0).unwrap();
    let mut whole: Value = serde_json::from_str(&all).unwrap();
    for name in ["duration_ns", "client_bytes", "server_bytes", "outcome", "end_reason"] {
        assert!(whole.as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    assert_eq!(early, whole);
}

#[test]
fn a_lost_part_of_a_hello_is_not_told() {
    let mut talk = conversation(1000);
    talk.finish();
    talk.lose(Client, 1);
    let records = records_of(&talk.frames(START_NS, 1_000_000));
    let hello_bytes = client_hello("www.example.org", 1700).len() - 1460;
    assert_eq!(records[0]["gap_bytes"], hello_bytes);
    assert_eq!(records[0]["sni"], "www.example.org", "it was in front of what was lost");
    assert_eq!((records[0].get("ja3"), records[0].get("ja4")), (None, None));
    assert_eq!(records[0]["cipher"], "TLS_AES_128_GCM_SHA256");
}
