//! What became of each exchange that was sent: in which lines it was found, and which of those that
//! were not could not be.

use super::load::Outage;
use crate::check::{Fate, Record};
use crate::round::Round;
use crate::traffic::Step;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Clients' addresses and ports: as bpf/traffic.bpf.c makes them from a connection's number.
const CLIENT_NETWORK: u32 = 0x0a00_0000;
const CLIENT_PORT_FIRST: u64 = 10_000;
const CLIENT_PORT_COUNT: u64 = 50_000;
/// The keys of this many files are remembered, to find a line that is in two of them.
const FILES_REMEMBERED: usize = 16;
/// No more examples of anything are kept.
const EXAMPLES_MAX: usize = 5;

/// Exchanges, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Fates {
    /// All of their frames were sent, or would have been.
    pub sent: u64,
    /// In a line as they were sent.
    pub right: u64,
    /// Not found as they were sent, and of a connection of which frames were sent while the link
    /// was down.
    pub cut: u64,
    /// Of other connections, and in a line that says that it is incomplete.
    pub damaged: u64,
    /// Of other connections, and in a line that says something else than what was sent.
    pub wrong: u64,
    /// Of other connections, and in no line.
    pub missing: u64,
    /// Lines of other connections with an exchange that was never sent, or that has a line already.
    pub strays: u64,
}

/// The lines that were found.
#[derive(Debug)]
pub struct Ledger {
    round: Arc<Round>,
    /// The connection of each exchange of a round.
    connections: Vec<u32>,
    /// By the exchange's number.
    fates: Vec<Fate>,
    /// The connections of lines that have no exchange of their own.
    strays: Vec<u64>,
    /// `(flow, n)` of the lines of the last files, hashed.
    keys: VecDeque<HashSet<u64>>,
    /// Lines with a `(flow, n)` that another line has.
    pub twice_count: u64,
    /// Lines that are no record.
    pub broken_count: u64,
    /// Some of both.
    pub examples: Vec<String>,
}

impl Ledger {
    /// For rounds of this kind.
    pub fn new(round: Arc<Round>) -> Ledger {
        let mut connections = vec![0; round.expected.len()];
        let numbered = |step: &&Step| step.text != crate::frame::text::NONE;
        for step in round.steps.iter().filter(numbered) {
            connections[step.number as usize] = step.connection;
        }
        Ledger {
            round,
            connections,
            fates: Vec::new(),
            strays: Vec::new(),
            keys: VecDeque::new(),
            twice_count: 0,
            broken_count: 0,
            examples: Vec::new(),
        }
    }

    /// The connection of each exchange of a round.
    pub fn connections(&self) -> &[u32] {
        &self.connections
    }

    /// The next lines are those of another file.
    pub fn begin_file(&mut self) {
        self.keys.push_front(HashSet::new());
        self.keys.truncate(FILES_REMEMBERED);
    }

    /// Enters a line.
    pub fn enter(&mut self, line: &str) {
        let Ok(record) = serde_json::from_str::<Record<'_>>(line) else {
            self.broken_count += 1;
            return self.keep_example("no record", line);
        };
        let mut hasher = DefaultHasher::new();
        (record.flow, record.n).hash(&mut hasher);
        let key = hasher.finish();
        if self.keys.iter().any(|keys| keys.contains(&key)) {
            self.twice_count += 1;
            self.keep_example("twice", line);
        }
        if let Some(keys) = self.keys.front_mut() {
            keys.insert(key);
        }
        let (number, fate) = record.judge(&self.round);
        let Some(number) = number else { return self.strays.push(connection_of(&record)) };
        let index = number as usize;
        if index >= self.fates.len() {
            self.fates.resize(index + 1, Fate::Missing);
        }
        match self.fates[index] {
            Fate::Missing => self.fates[index] = fate,
            // The two halves of a damaged exchange may be two lines.
            Fate::Damaged if fate == Fate::Damaged => {}
            _ => self.strays.push(connection_of(&record)),
        }
    }

    fn keep_example(&mut self, what: &str, line: &str) {
        if self.examples.len() < EXAMPLES_MAX {
            let start: String = line.chars().take(300).collect();
            self.examples.push(format!("{what}: {start}"));
        }
    }

    /// What became of the exchanges of the first `frame_count` frames, if the frames in `outages`
    /// could not be captured.
    pub fn fates(&self, frame_count: u64, outages: &[Outage]) -> Fates {
        let round = &self.round;
        let (steps, count) = (round.steps.len() as u64, round.expected.len() as u64);
        let rounds = frame_count.div_ceil(steps);
        // What was not sent any more could not be captured, either.
        let end = frame_count..rounds * steps;
        let cut = self.connections_in(outages.iter().chain([&end]));
        let global = |number: u64| {
            number / count * u64::from(round.connection_count)
                + u64::from(self.connections[(number % count) as usize])
        };
        let mut fates = Fates::default();
        for number in 0..rounds * count {
            let last =
                number / count * steps + round.expected[(number % count) as usize].last_step as u64;
            if last >= frame_count {
                continue;
            }
            fates.sent += 1;
            let fate = self.fates.get(number as usize).copied().unwrap_or(Fate::Missing);
            *match fate {
                Fate::Right => &mut fates.right,
                _ if cut.contains(&global(number)) => &mut fates.cut,
                Fate::Damaged => &mut fates.damaged,
                Fate::Wrong => &mut fates.wrong,
                Fate::Missing => &mut fates.missing,
            } += 1;
        }
        fates.strays = self.strays.iter().filter(|it| !cut.contains(it)).count() as u64;
        fates
    }

    /// The connections of which a frame is in one of the ranges.
    fn connections_in<'a>(&self, ranges: impl Iterator<Item = &'a Outage>) -> HashSet<u64> {
        let steps = self.round.steps.len() as u64;
        let frames = ranges.flat_map(|range| range.clone());
        frames
            .map(|frame| {
                let connection = self.round.steps[(frame % steps) as usize].connection;
                frame / steps * u64::from(self.round.connection_count) + u64::from(connection)
            })
            .collect()
    }
}

/// The number of a record's connection, by its client; of one that was seen from the wrong side, by
/// its server.
fn connection_of(record: &Record<'_>) -> u64 {
    let number = |ip: Option<&str>, port: Option<u16>| {
        let address = u32::from(ip?.parse::<Ipv4Addr>().ok()?);
        let (block, port) = (address.checked_sub(CLIENT_NETWORK)?, u64::from(port?));
        let is_client = address >> 24 == CLIENT_NETWORK >> 24;
        let port = port.checked_sub(CLIENT_PORT_FIRST).filter(|_| is_client)?;
        Some(u64::from(block) * CLIENT_PORT_COUNT + port)
    };
    let of_client = number(record.client_ip, record.client_port);
    of_client.or_else(|| number(record.server_ip, record.server_port)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    /// A line as it should be for exchange `number`, `(flow, n)` of which are `flow` and `n`.
    fn line(ledger: &Ledger, number: u64, outcome: &str) -> String {
        let count = ledger.round.expected.len() as u64;
        let it = &ledger.round.expected[(number % count) as usize];
        let place = if it.method.len() == 3 { "qq" } else { "q" };
        let connection = number / count * u64::from(ledger.round.connection_count)
            + u64::from(ledger.connections[(number % count) as usize]);
        let address = Ipv4Addr::from(CLIENT_NETWORK + (connection / CLIENT_PORT_COUNT) as u32);
        format!(
            "{{\"ts\":\"2026-11-23T14:58:27.974638772Z\",\"flow\":\"{connection:016x}\",\
             \"n\":{number},\"client_ip\":\"{address}\",\"client_port\":{},\
             \"server_ip\":\"172.16.0.1\",\"server_port\":80,\"method\":\"{}\",\
             \"target\":\"/{place}/{number:08x}0123456789abcdef\",\"status\":{},\
             \"server\":\"n{number:08x}\",\"request_body_bytes\":{},\"response_body_bytes\":{},\
             \"outcome\":\"{outcome}\"}}",
            CLIENT_PORT_FIRST + connection % CLIENT_PORT_COUNT,
            it.method,
            it.status,
            it.request_body_bytes,
            it.response_body_bytes
        )
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(Arc::new(Workload::Small.round(3, 2000)));
        ledger.begin_file();
        ledger
    }

    #[test]
    fn every_exchange_has_one_fate() {
        let mut ledger = ledger();
        let (steps, count) = (ledger.round.steps.len() as u64, ledger.round.expected.len() as u64);
        for number in 0..2 * count {
            let outcome = if number == 7 { "no_response" } else { "complete" };
            if number != 5 {
                let text = line(&ledger, number, outcome);
                ledger.enter(&text);
            }
        }
        let found = ledger.fates(2 * steps, &[]);
        let wanted = Fates {
            sent: 2 * count,
            right: 2 * count - 2,
            damaged: 1,
            missing: 1,
            ..Fates::default()
        };
        assert_eq!(found, wanted);
        // The third round was begun: what it has is sent only with its last frame.
        let begun = ledger.fates(2 * steps + steps / 2, &[]);
        assert!(begun.sent > found.sent && begun.sent < 3 * count);
        assert_eq!(begun.right, found.right);
        assert!(begun.cut > 0 && begun.missing > found.missing);
    }

    /// Only connections with a frame in an outage may have damaged exchanges.
    #[test]
    fn an_outage_excuses_the_connections_in_it() {
        let mut ledger = ledger();
        let (steps, count) = (ledger.round.steps.len() as u64, ledger.round.expected.len() as u64);
        let outage = steps + 10..steps + 40;
        let cut = ledger.connections_in([&outage].into_iter());
        let of_round = u64::from(ledger.round.connection_count);
        for number in 0..2 * count {
            let connection = number / count * of_round
                + u64::from(ledger.connections[(number % count) as usize]);
            if !cut.contains(&connection) {
                let text = line(&ledger, number, "complete");
                ledger.enter(&text);
            }
        }
        let excused = ledger.fates(2 * steps, std::slice::from_ref(&outage));
        assert!(excused.cut > 0 && excused.missing == 0, "{excused:?}");
        assert_eq!(excused.right + excused.cut, excused.sent);
        let not_excused = ledger.fates(2 * steps, &[]);
        assert_eq!((not_excused.cut, not_excused.missing), (0, excused.cut));
    }

    #[test]
    fn lines_that_should_not_be_there_are_found() {
        let mut ledger = ledger();
        let steps = ledger.round.steps.len() as u64;
        let text = line(&ledger, 0, "complete");
        ledger.enter(&text);
        // In the next file, too.
        ledger.begin_file();
        ledger.enter(&text);
        ledger.enter(&text[..40]);
        let fates = ledger.fates(steps, &[]);
        assert_eq!((fates.right, fates.strays), (1, 1));
        assert_eq!((ledger.twice_count, ledger.broken_count), (1, 1));
        assert_eq!(ledger.examples.len(), 2);
    }
}
