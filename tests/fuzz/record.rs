//! Exchanges of any content, as lines: JSON must reproduce every byte.

use exchange::header;
use fields::{FIELDS, Shown, check_field, exchange_of};
use httplines::config::EmitConfig;
use httplines::ids::{Direction, FlowKey, IfaceId, IfaceNames};
use httplines::record::{Exchange, FlowIdentity, JsonFormat};
use httplines::time::TimestampNs;
use serde_json::Value;

#[path = "../support/exchange.rs"]
#[allow(dead_code)]
mod exchange;
#[path = "../support/fields.rs"]
mod fields;
#[path = "../support/keys.rs"]
mod keys;

/// Fields whose values are URIs.
const URIS: [&str; 4] = ["target", "host", "referer", "location"];
const SECRETS: [&str; 4] = ["authorization", "cookie", "set-cookie", "proxy-authorization"];
/// More bytes than are ever shown of a text.
const TEXT_BYTES_MAX: usize = 10_000;

/// Values from an input; only zeros after its end.
#[derive(Debug)]
struct Values<'a>(&'a [u8]);

impl Values<'_> {
    fn number<const N: usize>(&mut self) -> [u8; N] {
        let count = N.min(self.0.len());
        let mut number = [0; N];
        number[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        number
    }

    /// Bytes of any relevant length: a few of the input, repeated.
    fn bytes(&mut self) -> Vec<u8> {
        let [len, times] = self.number();
        let (own, rest) = self.0.split_at(usize::from(len).min(self.0.len()));
        self.0 = rest;
        let mut bytes = own.repeat(1 + usize::from(times & 0x1f).pow(2) * usize::from(times >> 7));
        bytes.truncate(TEXT_BYTES_MAX);
        bytes
    }
}

/// Formats an exchange with arbitrary fields, and checks that the line reproduces them.
pub fn check_line_of(data: &[u8]) {
    let mut values = Values(data);
    let texts: Vec<_> = FIELDS.iter().map(|_| values.bytes()).collect();
    let mut exchange = exchange_of(&texts);
    let iface = String::from_utf8_lossy(&values.bytes()).into_owned();
    let config = fill(&mut exchange, &mut values);
    let names = IfaceNames::default();
    names.insert(IfaceId(0), &iface);
    let key = FlowKey {
        address: [[0; 16], values.number()],
        port: values.number::<2>().map(|half| [half; 2]),
        vlan: values.number().map(u16::from),
        realm: u32::from_be_bytes(values.number()),
    };
    let flow = FlowIdentity { key: &key, client: Direction::Reverse, id: exchange.gap_bytes };
    let mut line = b"before\n".to_vec();
    exchange::line(&mut JsonFormat::new(&config, names), &flow, &exchange, &mut line);
    let line = line.strip_prefix(b"before\n").expect("what was there before");
    assert!(line.len() <= config.line_bytes_max, "a line of {} bytes", line.len());
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    let text = std::str::from_utf8(line).expect("a line is UTF-8");
    keys::key_order(text);
    let record: Value = serde_json::from_str(text).expect("a line is JSON");
    check_field(&record, "iface", iface.as_bytes());
    for (name, value) in FIELDS.iter().zip(&texts) {
        let is_uri = URIS.contains(name);
        if !is_masked(&record[name], value, is_uri, record.get(format!("{name}_len")), &config) {
            check_field(&record, name, value);
        }
    }
    check_numbers(&record, &exchange, &flow);
    check_headers(&record, &exchange, &config);
}

/// Sets the other fields of `exchange` to arbitrary values, and chooses arbitrary output options.
fn fill(exchange: &mut Exchange, values: &mut Values<'_>) -> EmitConfig {
    let [mode, interim, status, mask] = values.number();
    for time in [
        &mut exchange.request.first,
        &mut exchange.request.last,
        &mut exchange.response.first,
        &mut exchange.response.last,
    ] {
        *time = (mode & 1 == 0).then(|| TimestampNs(u64::from_be_bytes(values.number())));
    }
    for _ in 0..interim & 0x3f {
        exchange.add_interim(u16::from(interim) * 257);
    }
    (exchange.n, exchange.response.status) = (mode.into(), u16::from(status) * 257);
    exchange.gap_bytes = u64::from_be_bytes(values.number());
    exchange.retransmitted_bytes = exchange.gap_bytes.rotate_left(32);
    exchange.request.body_bytes = (mode & 2 == 0).then_some(exchange.gap_bytes);
    exchange.connect_ns = (mode & 4 == 0).then_some(exchange.gap_bytes);
    exchange.is_midstream = mode & 8 != 0;
    if mask & 2 != 0 {
        header(&mut exchange.request, "Authorization", &values.bytes());
        header(&mut exchange.response, "X", &values.bytes());
    }
    EmitConfig {
        is_all_headers: mode & 16 != 0,
        is_secrets_shown: mode & 32 != 0,
        extra_headers: if mode & 64 != 0 { vec!["host".to_string()] } else { Vec::new() },
        is_query_redacted: mask & 1 != 0,
        ..EmitConfig::default()
    }
}

/// Whether a part of `value` is masked, or may be. Checks that all before it is shown, and that no
/// query is.
fn is_masked(
    shown: &Value,
    value: &[u8],
    is_uri: bool,
    len: Option<&Value>,
    config: &EmitConfig,
) -> bool {
    let shown = shown.as_str().expect("a text");
    let text = String::from_utf8_lossy(value);
    let may_end_line = |c: char| c.is_control() || "\u{2028}\u{2029}\u{fffd}".contains(c);
    let may_hide = !config.is_secrets_shown && text.contains(may_end_line);
    if !config.is_query_redacted && !may_hide {
        return false;
    }
    let Some((before, _)) = shown.split_once("***") else {
        let has_query = is_uri && config.is_query_redacted && value.contains(&b'?');
        assert!(!has_query || len.is_some(), "{shown} shows a query");
        return len.is_some();
    };
    assert!(unfolded_eq(before, &text), "{shown}");
    true
}

/// Whether `shown` is `text` or a prefix of it, where a fold becomes a single space.
fn unfolded_eq(shown: &str, text: &str) -> bool {
    let plain = |text: &str| text.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>();
    plain(text).starts_with(&plain(shown))
}

fn check_numbers(record: &Value, exchange: &Exchange, flow: &FlowIdentity<'_>) {
    let number = |name: &str| record.get(name).map(|value| value.as_u64().expect("a number"));
    let list = |name: &str| -> Vec<u64> {
        let list = record.get(name).map(|list| list.as_array().expect("a list"));
        list.into_iter().flatten().map(|value| value.as_u64().expect("a number")).collect()
    };
    assert_eq!(record["flow"], format!("{:016x}", flow.id));
    assert_eq!(number("n"), Some(u64::from(exchange.n)));
    assert_eq!(number("client_port"), Some(flow.key.port(1).into()));
    assert_eq!(record["client_ip"], flow.key.ip(1).to_string());
    assert_eq!(list("vlan"), flow.key.vlans().map(u64::from).collect::<Vec<_>>());
    assert_eq!(number("gap_bytes").unwrap_or(0), exchange.gap_bytes);
    assert_eq!(number("retransmitted_bytes").unwrap_or(0), exchange.retransmitted_bytes);
    assert_eq!(number("request_body_bytes"), exchange.request.body_bytes);
    assert_eq!(number("connect_ns"), exchange.connect_ns);
    assert_eq!(record.get("midstream").is_some(), exchange.is_midstream);
    assert_eq!(number("status").unwrap_or(0), u64::from(exchange.response.status));
    let (request, response) = (&exchange.request, &exchange.response);
    let between = |from: Option<TimestampNs>, to: Option<TimestampNs>| Some(to?.since(from?));
    assert_eq!(number("request_ns"), between(request.first, request.last));
    assert_eq!(number("ttfb_ns"), between(request.last, response.first));
    assert_eq!(number("response_ns"), between(response.first, response.last));
    let interim: Vec<u64> = exchange.interim.iter().copied().map(u64::from).collect();
    let len = interim.len() as u64 + u64::from(exchange.interim_omitted);
    assert_eq!(list("interim"), interim);
    assert_eq!(number("interim_len"), (exchange.interim_omitted > 0).then_some(len));
}

/// Checks that the listed headers are those of the messages, in order, and that headers without
/// space are counted.
fn check_headers(record: &Value, exchange: &Exchange, config: &EmitConfig) {
    let mut omitted = 0;
    for (key, message) in
        [("request_headers", &exchange.request), ("response_headers", &exchange.response)]
    {
        let is_wanted = |name: &[u8]| {
            let is_named = config.extra_headers.iter().any(|wanted| wanted.as_bytes() == name);
            config.is_all_headers || is_named
        };
        let wanted = message.headers().filter(|(name, _)| is_wanted(&name.to_ascii_lowercase()));
        let headers: Vec<_> = wanted.collect();
        let listed = record.get(key).map(|list| list.as_array().expect("a list").as_slice());
        let listed = listed.unwrap_or_default();
        omitted += headers.len() - listed.len();
        for (pair, (name, value)) in listed.iter().zip(headers) {
            check_header(pair, name, value, config);
        }
    }
    assert_eq!(record.get("headers_omitted").map_or(0, |count| count.as_u64().unwrap()), {
        omitted as u64
    });
}

fn check_header(pair: &Value, name: &[u8], value: &[u8], config: &EmitConfig) {
    let shown_name = pair[0].as_str().expect("a name");
    assert!(unfolded_eq(shown_name, &String::from_utf8_lossy(name)), "{shown_name}");
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    if SECRETS.contains(&name.as_str()) && !config.is_secrets_shown {
        return assert_eq!(pair[1], "***", "a secret");
    }
    let beside = |what: &str| pair.get(2).and_then(|beside| beside.get(what));
    let is_uri = URIS.contains(&name.as_str()) && name != "target";
    if is_masked(&pair[1], value, is_uri, beside("len"), config) {
        return;
    }
    let shown = Shown { text: &pair[1], b64: beside("b64"), len: beside("len") };
    shown.check(shown_name, value, true);
}
