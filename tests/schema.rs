//! Lines of many kinds of exchange match `docs/schema.json`, and it allows nothing that cannot
//! occur.

use std::collections::BTreeSet;

use httplines::config::EmitConfig;
use httplines::decode::{Encapsulation, TunnelPath};
use httplines::flow::End;
use httplines::ids::{Direction, FlowKey, IfaceId, IfaceNames, REALM_IPV6};
use httplines::record::{
    Event, Exchange, FlowIdentity, Format, GrpcFields, Http2Fields, JsonFormat, Message, Outcome,
    PartialRecord, ResetBy, Trailers, WebSocketClose, WebSocketCounts, WebSocketRecord,
    WebSocketTalk,
};
use httplines::time::TimestampNs;
use serde_json::{Value, json};

use crate::support::exchange;
use crate::support::schema;
use crate::tls;

use exchange::{START_NS, flow, header, key_v4, put, request_line, status_line, typical};

fn line_of(config: &EmitConfig, flow: &FlowIdentity<'_>, exchange: &Exchange) -> Vec<u8> {
    let names = IfaceNames::default();
    names.insert(IfaceId(0), "eth0");
    names.insert(IfaceId(1), &"long".repeat(100));
    let mut line = Vec::new();
    exchange::line(&mut JsonFormat::new(config, names), flow, exchange, &mut line);
    line
}

fn record(exchange: &Exchange) -> Value {
    schema::check_line(&line_of(&EmitConfig::default(), &flow(&key_v4()), exchange))
}

#[test]
fn a_typical_line_to_the_byte() {
    let line = line_of(&EmitConfig::default(), &flow(&key_v4()), &typical());
    let expected = concat!(
        r#"{"ts":"2026-11-23T14:00:00.123456789Z","flow":"0123456789abcdef","n":0,"#,
        r#""client_ip":"10.0.0.1","client_port":4242,"server_ip":"10.0.0.2","server_port":80,"#,
        r#""iface":"eth0","method":"GET","target":"/assets/app.4f1c9a7e.js?v=20261123","#,
        r#""version":"HTTP/1.1","host":"www.example.com","user_agent":"Mozilla/5.0 (X11; Linux "#,
        r#"x86_64; rv:141.0) Gecko/20100101 Firefox/141.0","#,
        r#""referer":"https://www.example.com/index.html","status":200,"reason":"OK","#,
        r#""response_content_type":"application/javascript; charset=utf-8","#,
        r#""server":"nginx/1.29.3","#,
        r#""request_body_bytes":0,"response_body_bytes":18234,"request_ns":0,"ttfb_ns":543211,"#,
        r#""response_ns":350000,"outcome":"complete"}"#,
        "\n"
    );
    assert_eq!(std::str::from_utf8(&line).unwrap(), expected);
    schema::check_line(&line);
}

/// More encapsulations than a path holds.
fn deep() -> TunnelPath {
    let mut path = TunnelPath::default();
    (0..5).for_each(|_| path.push(Encapsulation::L2tp(u16::MAX, u16::MAX)));
    path
}

/// Lines with a sensor and a Community ID.
fn identified(sensor: &str) -> EmitConfig {
    let sensor = Some(sensor.parse().expect("a name"));
    EmitConfig { sensor, community_id_seed: Some(1), ..EmitConfig::default() }
}

/// An exchange in which every field is present, and every text is `value`.
fn full(value: &[u8]) -> Exchange {
    let mut exchange = Exchange {
        n: u32::MAX,
        interim: vec![103; 32],
        interim_omitted: 8,
        gap_bytes: u64::MAX,
        retransmitted_bytes: u64::MAX,
        connect_ns: Some(u64::MAX),
        outcome: Some(Outcome::NoResponse),
        end: Some(End::Evicted),
        is_midstream: true,
        is_switched: true,
        is_conflict: true,
        iface: IfaceId(1),
        tunnel: deep(),
        ..Exchange::default()
    };
    let request = &mut exchange.request;
    request_line(request, value, value, value);
    for name in ["Host", "User-Agent", "Referer", "Content-Type", "Accept"] {
        header(request, name, value);
    }
    request.body_bytes = Some(u64::MAX);
    request.first = Some(TimestampNs(0));
    request.last = Some(TimestampNs(u64::MAX));
    request.is_ended = true;
    let response = &mut exchange.response;
    status_line(response, b"HTTP/1.1", u16::MAX, value);
    for name in ["Content-Type", "Server", "Location", "X"] {
        header(response, name, value);
    }
    response.body_bytes = Some(u64::MAX);
    response.first = Some(TimestampNs(START_NS));
    response.last = Some(TimestampNs(u64::MAX));
    exchange.http2 = Some(Http2Fields {
        stream: 0x7fff_ffff,
        scheme: put(&mut exchange.request, value),
        connect_protocol: put(&mut exchange.request, value),
        headers_unknown: u32::MAX,
        reset_by: Some(ResetBy::Client),
        reset_code: Some(12),
        is_upgraded: true,
        is_pushed: true,
    });
    let mut grpc = GrpcFields::default();
    grpc.status = Some(u32::MAX);
    grpc.message = Some(value.to_vec());
    grpc.message_wire_bytes = value.len();
    (grpc.request_messages, grpc.response_messages) = (Some(u64::MAX), Some(u64::MAX));
    grpc.encoding = Some(value.to_vec());
    exchange.grpc = Some(Box::new(grpc));
    for message in [&mut exchange.request, &mut exchange.response] {
        let mut behind = Message::default();
        header(&mut behind, "Checksum", value);
        let trailers = Trailers { text: behind.text, headers: behind.headers };
        message.trailers = Some(Box::new(trailers));
    }
    exchange
}

/// A talk of WebSocket in which every field is present, over or under way, and every text is
/// `value`.
fn talks(value: &[u8]) -> [WebSocketTalk<'_>; 2] {
    let counts = WebSocketCounts {
        text: u64::MAX,
        binary: u64::MAX,
        message_bytes: u64::MAX,
        frames: u64::MAX,
    };
    let close = WebSocketClose {
        is_by_client: Some(false),
        code: Some(u16::MAX),
        reason: value,
        reason_wire_bytes: usize::MAX,
    };
    let over = WebSocketTalk {
        n: u32::MAX,
        method: "GET",
        status: 101,
        host: Some(value),
        target: Some(value),
        subprotocol: Some(value),
        is_deflate: true,
        client: Some(counts),
        server: Some(counts),
        pings: Some(u64::MAX),
        pongs: Some(u64::MAX),
        close: Some(close),
        began_at: TimestampNs(u64::MAX),
        duration_ns: u64::MAX,
        outcome: Some(Outcome::NoResponse),
        end: Some(End::Evicted),
        gap_bytes: u64::MAX,
        is_midstream: true,
        is_conflict: true,
        active_ns: None,
        iface: IfaceId(1),
        tunnel: deep(),
    };
    [over, WebSocketTalk { outcome: None, end: None, active_ns: Some(u64::MAX), ..over }]
}

fn talk_line(config: &EmitConfig, flow: &FlowIdentity<'_>, talk: &WebSocketTalk<'_>) -> Vec<u8> {
    let names = IfaceNames::default();
    names.insert(IfaceId(1), &"long".repeat(100));
    let mut line = Vec::new();
    let record = WebSocketRecord { flow: *flow, talk };
    JsonFormat::new(config, names).line(&Event::WebSocket(record), &mut line);
    line
}

/// The schema tells kinds of records apart.
#[test]
fn a_talk_has_no_fields_of_exchanges_and_the_other_way_round() {
    let validator = schema::validator_of(schema::schema());
    let key = key_v4();
    let flow = flow(&key);
    let talk = talk_line(&EmitConfig::default(), &flow, &talks(b"a")[0]);
    let talk: Value = serde_json::from_slice(&talk).unwrap();
    let exchange = record(&typical());
    for (record, name, value) in [
        (&talk, "status", json!(101)),
        (&talk, "type", json!("http")),
        (&exchange, "type", json!("websocket")),
        (&exchange, "pings", json!(1)),
    ] {
        let mut other = record.clone();
        assert!(validator.is_valid(&other));
        other[name] = value;
        assert!(!validator.is_valid(&other), "{name}");
    }
}

/// The line of an exchange that is under way.
fn partial_line(config: &EmitConfig, flow: &FlowIdentity<'_>, mut exchange: Exchange) -> Value {
    (exchange.outcome, exchange.end) = (None, None);
    let mut line = Vec::new();
    let partial = PartialRecord { flow: *flow, exchange: &exchange, active_ns: u64::MAX };
    JsonFormat::new(config, IfaceNames::default()).line(&Event::Partial(partial), &mut line);
    schema::check_line(&line)
}

#[test]
fn a_partial_line_has_no_outcome_and_a_final_one_no_active_time() {
    let of_typical = partial_line(&EmitConfig::default(), &flow(&key_v4()), typical());
    let whole = record(&typical());
    let added = json!({ "partial": true, "active_ns": u64::MAX });
    for (name, value) in whole.as_object().unwrap() {
        if name == "outcome" || name == "iface" {
            continue;
        }
        assert_eq!(of_typical[name], *value, "{name}");
    }
    assert_eq!(
        (&of_typical["partial"], &of_typical["active_ns"]),
        (&added["partial"], &added["active_ns"])
    );
    let validator = schema::validator_of(schema::schema());
    let both = |first: &Value, name: &str, value: Value| {
        let mut record = first.clone();
        record[name] = value;
        record
    };
    assert!(validator.is_valid(&of_typical) && validator.is_valid(&whole));
    assert!(!validator.is_valid(&both(&of_typical, "outcome", json!("complete"))));
    assert!(!validator.is_valid(&both(&of_typical, "end_reason", json!("fin"))));
    assert!(!validator.is_valid(&both(&whole, "active_ns", json!(1))));
    assert!(!validator.is_valid(&both(&whole, "partial", json!(true))));
}

#[test]
fn every_property_can_be_produced_and_no_other() {
    let mut produced = BTreeSet::new();
    let all = EmitConfig { is_all_headers: true, ..identified(&"é".repeat(64)) };
    let mut key = FlowKey { realm: REALM_IPV6, vlan: [4095; 4], ..FlowKey::default() };
    key.address = [[0xff; 16]; 2];
    key.address[0][3] = 0xfe;
    key.port = [[0xff; 2]; 2];
    let mut early = full(b"short");
    early.is_early = true;
    for exchange in [full(b"short"), full(&[b'x'; 20_000]), full(&[0xff; 20_000]), early, typical()]
    {
        for config in [&EmitConfig::default(), &all] {
            for client in [Direction::Forward, Direction::Reverse] {
                let flow = FlowIdentity { key: &key, client, id: u64::MAX };
                let record = schema::check_line(&line_of(config, &flow, &exchange));
                produced.extend(record.as_object().unwrap().keys().cloned());
                let record = partial_line(config, &flow, exchange.clone());
                produced.extend(record.as_object().unwrap().keys().cloned());
            }
        }
    }
    for value in [&b"short"[..], &[b'x'; 20_000], &[0xff; 20_000]] {
        for talk in talks(value) {
            let flow = FlowIdentity { key: &key, client: Direction::Forward, id: u64::MAX };
            let record = schema::check_line(&talk_line(&all, &flow, &talk));
            produced.extend(record.as_object().unwrap().keys().cloned());
        }
    }
    let flow = FlowIdentity { key: &key, client: Direction::Forward, id: u64::MAX };
    for value in [&b"short"[..], &[b'x'; 20_000], &[0xff; 20_000]] {
        let record = tls::check(&all, &flow, value);
        produced.extend(record.as_object().unwrap().keys().cloned());
    }
    let declared: BTreeSet<String> = schema::property_names().into_iter().collect();
    assert_eq!(produced, declared);
}

#[test]
fn every_field_is_described() {
    let properties = schema::schema()["properties"].as_object().unwrap();
    for (name, property) in properties {
        let description = property["description"].as_str().unwrap_or_default();
        assert!(description.len() > 10, "{name} needs a description");
    }
    assert_eq!(schema::schema()["additionalProperties"], json!(false));
}

#[test]
fn what_is_unknown_is_absent() {
    let mut exchange = typical();
    exchange.response.clear();
    exchange.request.body_bytes = None;
    exchange.outcome = Some(Outcome::NoResponse);
    exchange.end = Some(End::Idle);
    let record = record(&exchange);
    for key in ["status", "reason", "ttfb_ns", "response_ns", "request_body_bytes", "gap_bytes"] {
        assert_eq!(record.get(key), None, "{key}");
    }
    assert_eq!(
        (&record["outcome"], &record["end_reason"]),
        (&json!("no_response"), &json!("idle"))
    );
}

#[test]
fn a_response_alone() {
    let mut exchange = typical();
    exchange.request.clear();
    let of_response = record(&exchange);
    assert_eq!(of_response["ts"], "2026-11-23T14:00:00.124000000Z");
    assert_eq!(of_response["version"], "HTTP/1.1");
    assert_eq!((of_response.get("method"), of_response.get("request_ns")), (None, None));
}

#[test]
fn times_are_never_invented() {
    let mut exchange = typical();
    exchange.request.first = None;
    exchange.request.last = Some(TimestampNs(START_NS + 5));
    let by_last = record(&exchange);
    assert_eq!(by_last["ts"], "2026-11-23T14:00:00.000000005Z");
    assert_eq!(by_last.get("request_ns"), None);
    assert_eq!(by_last["ttfb_ns"], 123_999_995);
    exchange.request.last = None;
    let by_response = record(&exchange);
    assert_eq!(by_response["ts"], "2026-11-23T14:00:00.124000000Z");
    assert_eq!(by_response.get("ttfb_ns"), None);
    exchange.response.first = None;
    exchange.response.last = None;
    assert_eq!(record(&exchange).get("ts"), None);
    let mut unfinished = typical();
    unfinished.request.is_ended = false;
    assert_eq!(record(&unfinished).get("ttfb_ns"), None);
    let mut early = typical();
    early.is_early = true;
    assert_eq!(
        (record(&early).get("ttfb_ns"), &record(&early)["early_response"]),
        (None, &json!(true))
    );
}

#[test]
fn interim_responses_that_are_not_listed_are_counted() {
    let mut exchange = typical();
    (0..32).for_each(|_| exchange.add_interim(103));
    assert_eq!(record(&exchange).get("interim_len"), None);
    exchange.add_interim(100);
    let record = record(&exchange);
    assert_eq!((&record["interim"], &record["interim_len"]), (&json!(vec![103; 32]), &json!(33)));
    exchange.clear();
    assert_eq!((exchange.interim.len(), exchange.interim_omitted), (0, 0));
}

#[test]
fn a_long_target_survives_beside_long_headers() {
    let mut exchange = full(&[b'h'; 512]);
    let target = [b'/'; 7 * 1024];
    exchange.request.fields.target = put(&mut exchange.request, &target);
    let record = record(&exchange);
    assert_eq!(record["target"].as_str().unwrap().len(), target.len());
    assert_eq!(record.get("target_len"), None);
}

#[test]
fn headers_by_name_and_all() {
    let named = EmitConfig {
        extra_headers: vec!["accept".into(), "COOKIE".into(), "set-cookie".into()],
        ..EmitConfig::default()
    };
    let key = key_v4();
    let record = schema::check_line(&line_of(&named, &flow(&key), &typical()));
    assert_eq!(record["request_headers"], json!([["Accept", "*/*"], ["Cookie", "***"]]));
    assert_eq!(record["response_headers"], json!([["Set-Cookie", "***"]]));
    let shown = EmitConfig { is_all_headers: true, is_secrets_shown: true, ..named };
    let record = schema::check_line(&line_of(&shown, &flow(&key), &typical()));
    assert_eq!(record["request_headers"][4], json!(["Cookie", "session=0123456789abcdef"]));
    assert_eq!(record["response_headers"].as_array().unwrap().len(), 4);
    assert_eq!(record.get("headers_omitted"), None);
}

#[test]
fn headers_without_room_are_counted_from_the_end() {
    let all = EmitConfig { is_all_headers: true, ..EmitConfig::default() };
    let mut exchange = typical();
    for message in [&mut exchange.request, &mut exchange.response] {
        // Without the empty line at its end a text can be extended.
        message.text.truncate(message.text.len() - 2);
    }
    for number in 0..1_000 {
        header(&mut exchange.request, &format!("X-{number}"), b"0123456789");
    }
    header(&mut exchange.response, "Odd", b"a\xffb");
    header(&mut exchange.response, "Long", &[b'y'; 3_000]);
    let record = schema::check_line(&line_of(&all, &flow(&key_v4()), &exchange));
    let listed = record["request_headers"].as_array().unwrap();
    assert!(listed.len() > 100);
    assert_eq!(listed.last().unwrap()[0], format!("X-{}", listed.len() - 6));
    assert_eq!(record["headers_omitted"], 1_005 - listed.len());
    let response = record["response_headers"].as_array().unwrap();
    assert_eq!(response[4], json!(["Odd", "a\u{fffd}b", {"b64": "Yf9i"}]));
    assert_eq!(response[5][2], json!({"len": 3_000}));
}

#[test]
fn tunnels_are_named_outermost_first() {
    let mut exchange = typical();
    exchange.tunnel.push(Encapsulation::Mpls(16));
    exchange.tunnel.push(Encapsulation::Vxlan(42));
    assert_eq!(record(&exchange)["tunnel"], json!(["mpls:16", "vxlan:42"]));
    exchange.tunnel = deep();
    let codes = vec!["l2tp:65535:65535"; 3];
    let mut expected: Vec<Value> = codes.into_iter().map(Value::from).collect();
    expected.push(json!("..."));
    assert_eq!(record(&exchange)["tunnel"], Value::from(expected));
}

/// Only what was asked for is added, in its place, and nothing else changes.
#[test]
fn a_sensor_and_a_community_id_are_added_to_every_kind_of_record() {
    let identified = identified("edge \"1\" \\ Zürich");
    let plain = EmitConfig::default();
    let masked = |config: &EmitConfig| EmitConfig { is_query_redacted: true, ..config.clone() };
    let key = FlowKey { vlan: [7, 0, 0, 0], ..key_v4() };
    let flow = flow(&key);
    let partial = |config: &EmitConfig| {
        let mut line = Vec::new();
        let exchange = &Exchange { outcome: None, ..typical() };
        let partial = PartialRecord { flow, exchange, active_ns: 1 };
        JsonFormat::new(config, IfaceNames::default()).line(&Event::Partial(partial), &mut line);
        line
    };
    let lines = |config: &EmitConfig| {
        let exchanges = [full(b"short"), typical()].map(|it| line_of(config, &flow, &it));
        let talks = talks(b"a").map(|talk| talk_line(config, &flow, &talk));
        let others = [line_of(&masked(config), &flow, &typical()), partial(config)];
        exchanges.into_iter().chain(talks).chain(others).map(|it| String::from_utf8(it).unwrap())
    };
    let community_id = r#""community_id":"1:dk304MIbtwaMeHiFkzESTzU1nFk=","#;
    for (line, plain) in lines(&identified).zip(lines(&plain)) {
        schema::check_line(line.as_bytes());
        let sensor = r#"Z","sensor":"edge \"1\" \\ Zürich","flow":"#;
        let with_sensor = plain.replacen(r#"Z","flow":"#, sensor, 1);
        let place = with_sensor.find(r#""vlan":"#).expect("it has a VLAN");
        let wanted = format!("{}{community_id}{}", &with_sensor[..place], &with_sensor[place..]);
        assert_eq!(line, wanted);
    }
    let mut without_time = typical();
    (without_time.request.first, without_time.request.last) = (None, None);
    (without_time.response.first, without_time.response.last) = (None, None);
    let line = line_of(&identified, &flow, &without_time);
    assert!(line.starts_with(br#"{"sensor":"edge \"1\""#), "{}", String::from_utf8_lossy(&line));
    schema::check_line(&line);
}
