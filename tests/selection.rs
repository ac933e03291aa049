//! `--only` and `--except`: which exchanges get a line, and that all others are counted.

use httplines::config::{Condition, Config, EmitConfig, Field, Input, LineFormat, Selection};
use httplines::ids::{Direction, FlowKey, IfaceNames, REALM_IPV6};
use httplines::output::{Limits, MemorySink, Policy, RecordWriter, Writer};
use httplines::record::{
    Event, EventSink, Exchange, ExchangeRecord, FlowIdentity, GrpcFields, JsonFormat, PartialRecord,
};
use proptest::prelude::*;
use serde_json::Value;
use std::net::IpAddr;

use crate::support::capture_file::{Order, Unit, WrittenFrame, pcap};
use crate::support::conversation::Conversation;
use crate::support::exchange::{header, request_line, status_line};
use crate::support::packet::{ACK, Packet};
use crate::support::{program, records};

/// Whether all of `text` matches, as plainly as possible.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        ([one, rest @ ..], [byte, behind @ ..]) => {
            (*one == b'?' || one == byte) && matches(rest, behind)
        }
        _ => false,
    }
}

/// The twin: whether a record meets a condition, by what its line shows.
fn is_met(record: &Value, condition: &str) -> bool {
    let (field, glob) = condition.split_once('=').expect("a condition");
    let name = match field {
        "client" => "client_ip",
        "server" => "server_ip",
        other => other,
    };
    let text = match &record[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match field {
        "status" | "grpc_status" if glob == "none" => text.is_empty(),
        "status" => matches(glob.replace('x', "?").as_bytes(), text.as_bytes()),
        "host" => matches(glob.to_lowercase().as_bytes(), text.to_lowercase().as_bytes()),
        "client" | "server" => match glob.parse::<IpAddr>() {
            Ok(address) => text.parse() == Ok(address),
            Err(_) => matches(glob.as_bytes(), text.as_bytes()),
        },
        _ => matches(glob.as_bytes(), text.as_bytes()),
    }
}

fn is_selected(record: &Value, only: &[String], except: &[String]) -> bool {
    let field = |condition: &str| condition.split('=').next().map(str::to_string);
    let is_allowed =
        |one: &String| only.iter().any(|other| field(other) == field(one) && is_met(record, other));
    only.iter().all(is_allowed) && !except.iter().any(|condition| is_met(record, condition))
}

/// The records that are written of `exchanges`, and how many are withheld.
fn written(exchanges: &[(FlowKey, Exchange)], selection: Selection) -> (Vec<Value>, u64) {
    let config = EmitConfig { is_secrets_shown: true, ..EmitConfig::default() };
    let sink = MemorySink::new();
    let limits = Limits::from(&config);
    let (mut senders, writer) =
        Writer::start(vec![Box::new(sink.clone())], 1, limits, Policy::Wait).expect("a thread");
    let format = Box::new(JsonFormat::new(&config, IfaceNames::default()));
    let mut records =
        RecordWriter::new(format, senders.remove(0), None, false).with_selection(&selection);
    for (key, exchange) in exchanges {
        let flow = FlowIdentity { key, client: Direction::Forward, id: 1 };
        records.event(Event::Exchange(ExchangeRecord { flow, exchange }));
        // While it was under way.
        records.event(Event::Partial(PartialRecord { flow, exchange, active_ns: 1 }));
    }
    records.close();
    let stats = records.stats().clone();
    let made = stats.lines - stats.records_partial;
    assert_eq!(made + stats.exchanges_withheld, exchanges.len() as u64);
    drop(records);
    writer.finish().1.expect("memory has no faults");
    let (partial, whole): (Vec<_>, Vec<_>) =
        records::parse(&sink.bytes()).into_iter().partition(|record| record["partial"] == true);
    assert_eq!(partial.len() as u64, stats.records_partial);
    // Exchanges that have no line have no partial ones; of others, it may not be known yet.
    let conditions = || selection.wanted.iter().chain(&selection.unwanted);
    let needs = |field: Field| conditions().any(|condition| condition.field == field);
    let (needs_status, needs_end) = (needs(Field::Status), needs(Field::GrpcStatus));
    let is_known = |record: &&Value| {
        let has = |name: &str| record.get(name).is_some();
        let is_no_call = has("method") && has("status") && !has("grpc_status");
        (!needs_end || is_no_call) && (!needs_status || has("status"))
    };
    let expected = records::without(whole.iter().filter(is_known).cloned().collect(), &[]);
    assert_eq!(records::without(partial, &["partial", "active_ns"]), expected);
    (whole, stats.exchanges_withheld)
}

fn key() -> impl Strategy<Value = FlowKey> {
    (any::<bool>(), 0..3_u8, 0..3_u8).prop_map(|(is_ipv6, client, server)| {
        let mut key = FlowKey { realm: if is_ipv6 { REALM_IPV6 } else { 0 }, ..FlowKey::default() };
        for (address, number) in key.address.iter_mut().zip([client, server]) {
            match is_ipv6 {
                true => (address[0], address[1], address[15]) = (0xfd, 0, number),
                false => address[..4].copy_from_slice(&[10, 0, number, 1]),
            }
        }
        key
    })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let request = ("[GgP]{1,2}", "[/ab?]{0,5}", prop::option::of("[aA.:8]{0,4}"));
    let status = prop::option::of(prop::sample::select(vec![100_u16, 200, 204, 404, 500, 999]));
    let of_call = prop::option::of(prop::sample::select(vec![0_u32, 4, 14, 99]));
    (prop::option::of(request), status, of_call).prop_map(|(request, status, of_call)| {
        let mut exchange = Exchange::default();
        if let Some((method, target, host)) = request {
            let message = &mut exchange.request;
            request_line(message, method.as_bytes(), target.as_bytes(), b"HTTP/1.1");
            if let Some(host) = host {
                header(message, "Host", host.as_bytes());
            }
        }
        if let Some(status) = status {
            status_line(&mut exchange.response, b"HTTP/1.1", status, b"");
        }
        let mut grpc = GrpcFields::default();
        grpc.status = of_call;
        exchange.grpc = of_call.map(|_| Box::new(grpc));
        exchange
    })
}

fn conditions() -> impl Strategy<Value = Vec<String>> {
    let statuses = ["5xx", "404", "4*", "none", "*", "xxx", "??4", "*0*"];
    let of_calls = ["0", "4", "none", "1?", "?*", "*4", "*"];
    let addresses = ["10.0.*", "10.0.1.1", "fd00::1", "FD00::2", "fd*", "*:?", "*", "fd00:0::2"];
    let condition = prop_oneof![
        "[GgP?*]{0,2}".prop_map(|glob| format!("method={glob}")),
        "[/ab?*]{0,4}".prop_map(|glob| format!("target={glob}")),
        "[aA.:8?*]{0,4}".prop_map(|glob| format!("host={glob}")),
        prop::sample::select(statuses.to_vec()).prop_map(|glob| format!("status={glob}")),
        prop::sample::select(of_calls.to_vec()).prop_map(|glob| format!("grpc_status={glob}")),
        (any::<bool>(), prop::sample::select(addresses.to_vec())).prop_map(|(is_client, glob)| {
            format!("{}={glob}", if is_client { "client" } else { "server" })
        }),
    ];
    prop::collection::vec(condition, 0..4)
}

proptest! {
    #[test]
    fn the_lines_are_those_of_the_twin(
        exchanges in prop::collection::vec((key(), exchange()), 1..20),
        only in conditions(),
        except in conditions(),
    ) {
        let parse = |conditions: &[String]| -> Vec<Condition> {
            conditions.iter().map(|text| text.parse().expect("a condition")).collect()
        };
        let (all, _) = written(&exchanges, Selection::default());
        let selection = Selection { wanted: parse(&only), unwanted: parse(&except) };
        let (selected, withheld) = written(&exchanges, selection);
        let expected: Vec<Value> =
            all.into_iter().filter(|record| is_selected(record, &only, &except)).collect();
        prop_assert_eq!(withheld, (exchanges.len() - expected.len()) as u64);
        prop_assert_eq!(selected, expected);
    }
}

/// The targets of the records, and the totals.
fn told(frames: &[WrittenFrame], options: &str) -> (Vec<String>, String) {
    let arguments = format!("-r - -o - {options}");
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let output = program::run(&arguments, Some(&pcap(Order::Little, Unit::Nano, 1, frames)));
    let totals = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{totals}");
    assert!(totals.contains("every frame, flow and line is accounted for"), "{totals}");
    let name = |record: &Value| record["target"].as_str().unwrap_or("-").to_string();
    let mut names: Vec<String> = records::parse(&output.stdout).iter().map(name).collect();
    names.sort_unstable();
    (names, totals)
}

/// Requests of four connections with their responses, one of them over IPv6, and one request that
/// has none.
fn frames() -> Vec<WrittenFrame> {
    let mut frames = Vec::new();
    for (number, (client, server, exchanges)) in [
        ("10.0.0.1:1", "10.0.0.9:80", vec![("/healthz", 200), ("/a", 200), ("/b", 500)]),
        ("10.0.0.2:1", "10.0.0.9:80", vec![("/healthz", 503), ("/c?d", 404)]),
        ("[fd00::1]:1", "[fd00::9]:80", vec![("/six", 204)]),
        ("10.1.0.1:1", "10.0.0.9:80", vec![("/lost", 0)]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut talk = Conversation::new(client, server);
        talk.handshake();
        for (target, status) in exchanges {
            talk.client(format!("GET {target} HTTP/1.1\r\nHost: A.test\r\n\r\n").as_bytes());
            if status != 0 {
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                talk.server(head.as_bytes());
            }
        }
        frames.extend(talk.finish().frames(1_700_000_000_000_000_000 + number as u64, 1_000));
    }
    frames
}

#[test]
fn conditions_choose_among_the_exchanges_of_a_file() {
    let frames = frames();
    for (options, targets) in [
        ("--except target=/healthz", "/a /b /c?d /lost /six"),
        ("--only status=5xx --only status=4xx", "/b /c?d /healthz"),
        ("--only status=5xx --only status=4xx --except target=/healthz", "/b /c?d"),
        ("--only status=5xx --only status=none", "/b /healthz /lost"),
        ("--except status=none --except status=2*", "/b /c?d /healthz"),
        ("--only target=/c*d --only method=GET", "/c?d"),
        ("--only method=get", ""),
        ("--only host=a.TEST --only target=/?", "/a /b"),
        ("--except host=", "/a /b /c?d /healthz /healthz /lost /six"),
        ("--only client=10.0.0.0/16", "/a /b /c?d /healthz /healthz"),
        ("--only client=FD00:0::1", "/six"),
        ("--only server=fd00::*", "/six"),
        ("--except server=10.0.0.9", "/six"),
        ("--only client=10.0.0.1 --only client=10.1.*", "/a /b /healthz /lost"),
        ("--only target=*", "/a /b /c?d /healthz /healthz /lost /six"),
    ] {
        for shards in ["", " --shards 2"] {
            let (told, totals) = told(&frames, &format!("{options}{shards}"));
            assert_eq!(told.join(" "), targets, "{options}");
            let withheld = 7 - told.len();
            let row = format!(", {withheld} exchanges withheld");
            assert_eq!(totals.contains(&row), withheld > 0, "{options}: {totals}");
        }
    }
    let (_, totals) = told(&frames, "--only method=get");
    assert!(totals.contains("why        all exchanges were withheld by --only or"), "{totals}");
}

/// `-c` counts the lines, and what it leaves out is no longer withheld.
#[test]
fn withheld_exchanges_do_not_count() {
    let frames = frames();
    let (lines, totals) = told(&frames, "--except target=/healthz -c 3");
    assert_eq!(lines.len(), 3, "{totals}");
    assert!(!lines.contains(&"/healthz".to_string()));
    assert_eq!(told(&frames, "--only status=503 -c 2").0, ["/healthz"]);
    // A request that nobody answers is left out before, and not withheld.
    let alone =
        Packet::tcp("10.0.0.7:7".parse().expect("one"), "10.0.0.9:80".parse().expect("one"))
            .flags(ACK)
            .seq(1)
            .payload(b"GET /alone HTTP/1.1\r\n\r\n");
    let alone = WrittenFrame::new(1_700_000_000_500_000_000, &alone.ethernet());
    let all: Vec<WrittenFrame> = frames.into_iter().chain([alone]).collect();
    let (lines, totals) = told(&all, "--answered-only --only target=/alone --only target=/six");
    assert_eq!(lines, ["/six"]);
    assert!(totals.contains("6 exchanges withheld"), "{totals}");
    assert!(totals.contains("1 unanswered, left out"), "{totals}");
}

#[test]
fn wrong_conditions_are_refused() {
    let fields = "FIELD=GLOB with one of the fields method, host, target, status, grpc_status,";
    let long = format!("-o - --only target={}", "a".repeat(128));
    let many = format!("-o -{}", " --except host=a".repeat(65));
    for (options, sentence) in [
        ("-o - --only /healthz", fields),
        ("-o - --except path=/healthz", fields),
        ("-o - --except =", fields),
        ("-o - --only grpc_status=OK", "a number such as 14, a GLOB such as 1?, or none"),
        ("-o - --only status=banana", "a class such as 5xx, a GLOB such as 4*, or none"),
        ("-o - --only status=50", "a number such as 404"),
        ("-o - --only status=", "a number such as 404"),
        ("-o - --only client=example.org", "a network such as 10.0.0.0/8, or 10.0.*, not"),
        ("-o - --only server=10.0.0.0/33", "a network such as 10.0.0.0/8, or 10.0.*, not"),
        (&long, "a GLOB of at most 127 bytes"),
        (&many, "--only and --except take 64 conditions together"),
        ("--only status=5xx", "--only and --except are for JSON lines, because a text line"),
        ("--except host=a -o x --format text", "--only and --except are for JSON lines"),
    ] {
        let arguments: Vec<&str> = ["-r", "x"].into_iter().chain(options.split(' ')).collect();
        let output = program::run(&arguments, None);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(sentence), "{options}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let mut config = Config::new(Input::Stdin);
    config.emit.selection.wanted = vec!["method=GET".parse().expect("a condition")];
    assert!(config.check().is_err(), "text lines are written before");
    config.emit.format = LineFormat::Json;
    assert_eq!(config.check(), Ok(()));
}

mod root {
    use crate::support::lab::{self, CLIENT_IFACE, End, Lab, Offload};
    use crate::support::{records, skip};

    #[test]
    fn a_live_capture_withholds_and_goes_on() {
        if let Some(reason) = lab::missing() {
            skip!(reason);
        }
        let mut lab = Lab::new(Offload::On);
        lab.start_nginx();
        let options = ["-i", CLIENT_IFACE, "-o", "-", "--except", "target=/small*", "-c", "2"];
        let capture = lab.start_httplines(End::Client, &options);
        lab.curl(&["/small/1", "/none", "/small/2"]);
        capture.wait_for_lines(1);
        lab.curl(&["/small/3", "/empty"]);
        let finished = capture.wait();
        finished.told("every frame, flow and line is accounted for");
        finished.told("3 exchanges withheld");
        let told = records::parse(&finished.stdout);
        let targets: Vec<_> = told.iter().map(|record| &record["target"]).collect();
        assert_eq!(targets, ["/none", "/empty"]);
    }
}
