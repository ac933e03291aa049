//! Whatever is on the wire, a line is one line of JSON within its size limit, and nothing that fits
//! is lost.

use fields::{FIELDS, check_field, exchange_of};
use httplines::config::{EmitConfig, HeaderShape, SensorName};
use httplines::ids::{Direction, FlowKey, IfaceId, IfaceNames, REALM_IPV6};
use httplines::record::{Exchange, FlowIdentity, Header, Span};
use httplines::record::{FIXED_BYTES_MAX, JsonFormat, LINE_BYTES_MIN};
use httplines::time::TimestampNs;
use proptest::prelude::*;
use serde_json::Value;

use crate::support::exchange;
use crate::support::fields;
use crate::support::schema;

/// Bytes of all kinds: text, text with special characters, noise, and runs of bytes that are
/// expensive to escape.
fn bytes(len_max: usize) -> impl Strategy<Value = Vec<u8>> {
    let repeated = (prop::collection::vec(any::<u8>(), 1..4), 0..len_max)
        .prop_map(|(pattern, len)| pattern.iter().copied().cycle().take(len).collect());
    let dear = (prop::sample::select(vec![0_u8, 0xff, b'"', 0x7f, b'x', b'\n']), 0..len_max)
        .prop_map(|(byte, len)| vec![byte; len]);
    prop_oneof![
        "[ -~]{0,60}".prop_map(String::into_bytes),
        "\\PC{0,40}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..60),
        repeated,
        dear,
    ]
}

fn header_shape() -> impl Strategy<Value = HeaderShape> {
    prop::sample::select(vec![HeaderShape::List, HeaderShape::Object])
}

fn line(config: &EmitConfig, flow: &FlowIdentity<'_>, exchange: &Exchange) -> Vec<u8> {
    let names = IfaceNames::default();
    names.insert(IfaceId(0), "eth0");
    let mut line = Vec::new();
    exchange::line(&mut JsonFormat::new(config, names), flow, exchange, &mut line);
    line
}

proptest! {
    #[test]
    fn short_fields_round_trip(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..18), 11),
    ) {
        let exchange = exchange_of(&values);
        let key = exchange::key_v4();
        // Of random bytes, one value in some thousand looks like a hidden line with a secret.
        let config = EmitConfig { is_secrets_shown: true, ..EmitConfig::default() };
        let line = line(&config, &exchange::flow(&key), &exchange);
        let record = schema::check_line(&line);
        for (name, value) in FIELDS.iter().zip(&values) {
            prop_assert!(record.get(format!("{name}_len")).is_none(), "{} was cut", name);
            check_field(&record, name, value);
        }
    }

    #[test]
    fn any_bytes_of_any_length_make_one_line(
        values in prop::collection::vec(bytes(30_000), 11),
        is_all_headers in any::<bool>(),
        header_shape in header_shape(),
        is_secrets_shown in any::<bool>(),
        interim in prop::collection::vec(any::<u16>(), 0..50),
        times in prop::array::uniform4(any::<Option<u64>>()),
    ) {
        let mut exchange = exchange_of(&values);
        exchange.interim_omitted = interim.len() as u32 / 40;
        exchange.interim = interim;
        let times = times.map(|time| time.map(TimestampNs));
        [exchange.request.first, exchange.request.last, exchange.response.first,
            exchange.response.last] = times;
        let config = EmitConfig {
            is_all_headers, header_shape, is_secrets_shown, ..EmitConfig::default()
        };
        let key = exchange::key_v4();
        let record = schema::check_line(&line(&config, &exchange::flow(&key), &exchange));
        for (name, value) in FIELDS.iter().zip(&values).filter(|_| is_secrets_shown) {
            check_field(&record, name, value);
        }
    }

    #[test]
    fn any_head_at_all_makes_one_line(
        request in bytes(70_000),
        response in bytes(70_000),
        starts in prop::array::uniform2(0_u32..80_000),
        names in prop::option::of(prop::collection::vec("[a-zA-Z-]{1,12}", 0..4)),
        header_shape in header_shape(),
        spans in prop::collection::vec(
            [[0_u32..80_000, 0..3_000], [0_u32..80_000, 0..3_000]], 0..40),
    ) {
        let mut exchange = exchange::typical();
        // The spans in the heads stay unchanged: most of them point anywhere or nowhere.
        exchange.request.text = request;
        exchange.response.text = response;
        exchange.request.start_line_bytes = starts[0];
        exchange.response.start_line_bytes = starts[1];
        for message in [&mut exchange.request, &mut exchange.response] {
            let span = |[start, len]: [u32; 2]| Span::new(start as usize, (start + len) as usize);
            let header = |[name, value]: [[u32; 2]; 2]| {
                Header { name: span(name), value: span(value) }
            };
            message.headers.extend(spans.iter().copied().map(header));
        }
        let config = EmitConfig {
            is_all_headers: names.is_none(),
            extra_headers: names.unwrap_or_default(),
            header_shape,
            is_query_redacted: true,
            ..EmitConfig::default()
        };
        let key = exchange::key_v4();
        schema::check_line(&line(&config, &exchange::flow(&key), &exchange));
    }
}

#[test]
fn the_longest_line_there_can_be_is_within_the_least_bound() {
    let key = FlowKey {
        address: [[0xff; 16]; 2],
        port: [[0xff; 2]; 2],
        vlan: [u16::MAX; 4],
        realm: REALM_IPV6,
    };
    let flow = FlowIdentity { key: &key, client: Direction::Forward, id: u64::MAX };
    let mut longest = 0;
    for byte in [b'x', 0, 0xff, b'"'] {
        for len in [100, 300, 1_000, 3_000, 60_000] {
            let mut exchange = exchange_of(&vec![vec![byte; len]; 11]);
            exchange.n = u32::MAX;
            (exchange.gap_bytes, exchange.retransmitted_bytes) = (u64::MAX, u64::MAX);
            exchange.connect_ns = Some(u64::MAX);
            exchange.interim = vec![u16::MAX; 100];
            exchange.interim_omitted = u32::MAX;
            exchange.response.status = u16::MAX;
            exchange.request.body_bytes = Some(u64::MAX);
            exchange.response.body_bytes = Some(u64::MAX);
            (exchange.is_midstream, exchange.is_switched) = (true, true);
            (exchange.is_conflict, exchange.is_early) = (true, true);
            for (is_all_headers, header_shape) in
                [(false, HeaderShape::List), (true, HeaderShape::List), (true, HeaderShape::Object)]
            {
                let bounds = [0, LINE_BYTES_MIN, 10 << 10, 16 << 10];
                let identities = [None, Some("\"".repeat(SensorName::BYTES_MAX))];
                for (line_bytes_max, sensor) in bounds
                    .into_iter()
                    .flat_map(|bound| identities.iter().map(move |it| (bound, it)))
                {
                    let config = EmitConfig {
                        line_bytes_max,
                        is_all_headers,
                        header_shape,
                        sensor: sensor.as_ref().map(|name| name.parse().expect("a name")),
                        community_id_seed: sensor.as_ref().map(|_| u16::MAX),
                        ..EmitConfig::default()
                    };
                    let line = line(&config, &flow, &exchange);
                    let bound = line_bytes_max.max(LINE_BYTES_MIN);
                    assert!(line.len() <= bound, "{} > {bound}", line.len());
                    serde_json::from_slice::<Value>(&line).unwrap();
                    longest = longest.max(line.len());
                }
            }
        }
    }
    println!("fixed {FIXED_BYTES_MAX}, least bound {LINE_BYTES_MIN}, longest line {longest}");
    assert!(longest > 13 << 10, "the bound is used: {longest}");
}
