//! [`Selector`]: which exchanges, and the talks that they open, and connections of TLS get a line
//! (`--only`, `--except`).

use super::glob::Glob;
use crate::config::{Condition, Field, Network, Selection};
use crate::record::{Exchange, FlowIdentity, PartialRecord, TlsRecord, WebSocketRecord};
use std::io::Write;
use std::net::IpAddr;

const _: () = assert!(Condition::GLOB_BYTES_MAX == Glob::BYTES_MAX);

/// A [`Selection`] that is ready for use.
#[derive(Debug)]
pub struct Selector {
    /// For each field that wanted conditions name, these conditions.
    wanted: Vec<Vec<Matcher>>,
    unwanted: Vec<Matcher>,
    /// A status or an address.
    text: Vec<u8>,
}

/// A [`Condition`] that is ready for use.
#[derive(Debug)]
struct Matcher {
    field: Field,
    pattern: Pattern,
}

/// What conditions look at. A field that is not there is an empty text.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    flow: FlowIdentity<'a>,
    method: &'a [u8],
    host: &'a [u8],
    target: &'a [u8],
    /// 0 if there is none.
    status: u16,
    grpc_status: Option<u32>,
    sni: &'a [u8],
}

impl<'a> Subject<'a> {
    /// An exchange.
    pub fn exchange(flow: FlowIdentity<'a>, exchange: &'a Exchange) -> Subject<'a> {
        let (request, response) = (&exchange.request, &exchange.response);
        let of_request =
            |value: Option<&'a [u8]>| value.filter(|_| request.is_seen).unwrap_or_default();
        Subject {
            flow,
            method: of_request(request.method()),
            host: of_request(request.host()),
            target: of_request(request.target()),
            status: if response.is_seen { response.status } else { 0 },
            grpc_status: exchange.grpc.as_ref().and_then(|grpc| grpc.status),
            sni: b"",
        }
    }

    /// The exchange that has opened a talk.
    pub fn websocket(record: &WebSocketRecord<'a>) -> Subject<'a> {
        let talk = record.talk;
        Subject {
            flow: record.flow,
            method: talk.method.as_bytes(),
            host: talk.host.unwrap_or_default(),
            target: talk.target.unwrap_or_default(),
            status: talk.status,
            grpc_status: None,
            sni: b"",
        }
    }

    /// A connection of TLS. It has nothing of HTTP.
    pub fn tls(record: &TlsRecord<'a>) -> Subject<'a> {
        Subject {
            flow: record.flow,
            method: b"",
            host: b"",
            target: b"",
            status: 0,
            grpc_status: None,
            sni: record.tls.sni.unwrap_or_default(),
        }
    }
}

#[derive(Debug)]
enum Pattern {
    Glob(Glob),
    Network(Network),
}

impl Selector {
    pub fn new(selection: &Selection) -> Selector {
        let mut wanted: Vec<Vec<Matcher>> = Vec::new();
        for matcher in selection.wanted.iter().map(Matcher::new) {
            match wanted.iter_mut().find(|matchers| matchers[0].field == matcher.field) {
                Some(matchers) => matchers.push(matcher),
                None => wanted.push(vec![matcher]),
            }
        }
        let unwanted = selection.unwanted.iter().map(Matcher::new).collect();
        Selector { wanted, unwanted, text: Vec::new() }
    }

    /// Whether it gets a line.
    pub fn admits(&mut self, subject: &Subject<'_>) -> bool {
        let text = &mut self.text;
        let mut is_one =
            |matchers: &[Matcher]| matchers.iter().any(|matcher| matcher.is_met(subject, text));
        self.wanted.iter().all(|matchers| is_one(matchers)) && !is_one(&self.unwanted)
    }

    /// Whether an exchange that is under way will get a line when it is over. If that depends on a
    /// status that is not known yet, it may not; that of a call of gRPC is known at the end only.
    pub fn will_admit(&mut self, record: &PartialRecord<'_>) -> bool {
        let is_unknown = |matcher: &Matcher| match matcher.field {
            Field::Status => !record.response.is_seen,
            Field::GrpcStatus => may_be_call(record.exchange),
            _ => false,
        };
        let is_open = self.wanted.iter().flatten().chain(&self.unwanted).any(is_unknown);
        !is_open && self.admits(&Subject::exchange(record.flow, record.exchange))
    }
}

/// Whether an exchange that is under way is a call of gRPC, or may become one: that is known with
/// the whole heads of both messages.
fn may_be_call(exchange: &Exchange) -> bool {
    let Exchange { request, response, .. } = exchange;
    let is_known = request.is_seen
        && request.method().is_some()
        && response.is_seen
        && response.status != 0
        && exchange.http2.as_ref().is_none_or(|http2| http2.headers_unknown == 0);
    exchange.grpc.is_some() || !is_known
}

impl Matcher {
    fn new(condition: &Condition) -> Matcher {
        let Condition { field, glob } = condition;
        let pattern = match field {
            Field::Status | Field::GrpcStatus if glob == "none" => {
                Pattern::Glob(Glob::new(b"", false))
            }
            Field::Method | Field::Target | Field::GrpcStatus => {
                Pattern::Glob(Glob::new(glob.as_bytes(), false))
            }
            Field::Host | Field::Sni => Pattern::Glob(Glob::new(glob.as_bytes(), true)),
            Field::Status => {
                Pattern::Glob(Glob::new(glob.replace(['x', 'X'], "?").as_bytes(), false))
            }
            Field::Client | Field::Server => match glob.parse() {
                Ok(network) => Pattern::Network(network),
                Err(_) => Pattern::Glob(Glob::new(glob.as_bytes(), true)),
            },
        };
        Matcher { field: *field, pattern }
    }

    /// Whether the condition is met.
    fn is_met(&self, subject: &Subject<'_>, text: &mut Vec<u8>) -> bool {
        let matches =
            |value: &[u8]| matches!(&self.pattern, Pattern::Glob(glob) if glob.matches(value));
        let FlowIdentity { key, client, .. } = subject.flow;
        match self.field {
            Field::Method => matches(subject.method),
            Field::Host => matches(subject.host),
            Field::Target => matches(subject.target),
            Field::Sni => matches(subject.sni),
            Field::Client => self.takes(key.ip(client.index()), text),
            Field::Server => self.takes(key.ip(client.opposite().index()), text),
            Field::Status => {
                let status = (subject.status != 0).then_some(subject.status.into());
                self.takes_number(status, text)
            }
            Field::GrpcStatus => self.takes_number(subject.grpc_status, text),
        }
    }

    /// Whether a number meets the condition, or that there is none.
    fn takes_number(&self, number: Option<u32>, text: &mut Vec<u8>) -> bool {
        text.clear();
        if let Some(number) = number {
            // Writing to memory does not fail.
            let _ = write!(text, "{number}");
        }
        matches!(&self.pattern, Pattern::Glob(glob) if glob.matches(text))
    }

    /// Whether an address, as records show it, meets the condition.
    fn takes(&self, address: IpAddr, text: &mut Vec<u8>) -> bool {
        match &self.pattern {
            Pattern::Network(network) => network.contains(address),
            Pattern::Glob(glob) => {
                text.clear();
                // Writing to memory does not fail.
                let _ = write!(text, "{address}");
                glob.matches(text)
            }
        }
    }
}
