//! [`Selector`]: which exchanges get a line (`--only`, `--except`).

use super::glob::Glob;
use crate::config::{Condition, Field, Network, Selection};
use crate::record::{Exchange, ExchangeRecord, FlowIdentity, PartialRecord};
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

    /// Whether the exchange gets a line.
    pub fn admits(&mut self, record: &ExchangeRecord<'_>) -> bool {
        self.takes(&record.flow, record.exchange)
    }

    /// Whether an exchange that is under way will get a line when it is over. If that depends on a
    /// status that is not known yet, it may not.
    pub fn will_admit(&mut self, record: &PartialRecord<'_>) -> bool {
        let is_of_status = |matcher: &Matcher| matcher.field == Field::Status;
        let mut matchers = self.wanted.iter().flatten().chain(&self.unwanted);
        let is_open = !record.response.is_seen && matchers.any(is_of_status);
        !is_open && self.takes(&record.flow, record.exchange)
    }

    fn takes(&mut self, flow: &FlowIdentity<'_>, exchange: &Exchange) -> bool {
        let text = &mut self.text;
        let mut is_one = |matchers: &[Matcher]| {
            matchers.iter().any(|matcher| matcher.is_met(flow, exchange, text))
        };
        self.wanted.iter().all(|matchers| is_one(matchers)) && !is_one(&self.unwanted)
    }
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
            Field::Host => Pattern::Glob(Glob::new(glob.as_bytes(), true)),
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

    /// Whether the exchange meets the condition. A field that it does not have is an empty text.
    fn is_met(&self, flow: &FlowIdentity<'_>, exchange: &Exchange, text: &mut Vec<u8>) -> bool {
        let (request, response) = (&exchange.request, &exchange.response);
        let of_request = |value: Option<&[u8]>| {
            let value = value.filter(|_| request.is_seen).unwrap_or_default();
            matches!(&self.pattern, Pattern::Glob(glob) if glob.matches(value))
        };
        let (key, client) = (flow.key, flow.client);
        match self.field {
            Field::Method => of_request(request.method()),
            Field::Host => of_request(request.host()),
            Field::Target => of_request(request.target()),
            Field::Client => self.takes(key.ip(client.index()), text),
            Field::Server => self.takes(key.ip(client.opposite().index()), text),
            Field::Status => {
                let status = response.is_seen && response.status != 0;
                self.takes_number(status.then_some(response.status.into()), text)
            }
            Field::GrpcStatus => {
                self.takes_number(exchange.grpc.as_ref().and_then(|grpc| grpc.status), text)
            }
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
