//! Compares what a receiver found with what was sent.

use crate::arrivals::{Mark, arrival_ns};
use crate::delay::{Delaying, Delays};
use crate::frame::{REQUEST_DIGITS, RESPONSE_DIGITS};
use crate::generator::Sent;
use crate::receiver::files_in;
use crate::round::Round;
use crate::round::tls::NAME;
use crate::round::websocket::{CLOSE_CODE, Talk};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Exchanges, by what the receiver reported of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exchanges {
    /// Exchanges whose last frame was sent.
    pub sent: u64,
    /// Found, and correct in all checked fields.
    pub right: u64,
    /// Found, and reported as incomplete: an outcome that is not `complete`, or a gap.
    pub damaged: u64,
    /// Found, reported as complete, and different from what was sent.
    pub wrong: u64,
    /// Not found.
    pub missing: u64,
    /// Found again, or never sent.
    pub extra: u64,
    /// Lines of the output.
    pub lines: u64,
}

/// The fate of one exchange.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fate {
    /// There is no record of it.
    Missing,
    /// Its record says that it is incomplete.
    Damaged,
    /// Its record says that it is complete, and something else than what was sent.
    Wrong,
    /// Its record is as it was sent.
    Right,
}

/// The exchanges of a trial.
#[derive(Debug)]
pub struct Check<'a> {
    round: &'a Round,
    fates: Vec<Fate>,
    /// Of the talks behind exchanges, if there are any.
    talk_fates: Vec<Fate>,
    exchanges: Exchanges,
    delaying: Delaying,
}

/// The fields of a record that are checked.
#[derive(Deserialize)]
pub struct Record<'a> {
    /// `websocket` or `tls`; absent of an exchange.
    #[serde(borrow, rename = "type")]
    kind: Option<&'a str>,
    client_frames: Option<u64>,
    server_frames: Option<u64>,
    client_messages: Option<u64>,
    server_messages: Option<u64>,
    client_message_bytes: Option<u64>,
    server_message_bytes: Option<u64>,
    pings: Option<u64>,
    pongs: Option<u64>,
    close_code: Option<u16>,
    #[serde(borrow)]
    sni: Option<&'a str>,
    #[serde(borrow)]
    tls_version: Option<&'a str>,
    client_bytes: Option<u64>,
    server_bytes: Option<u64>,
    #[serde(borrow)]
    ts: Option<&'a str>,
    /// Its connection.
    #[serde(borrow)]
    pub flow: Option<&'a str>,
    /// Its number in the connection.
    pub n: Option<u64>,
    /// Address and port of its client.
    #[serde(borrow)]
    pub client_ip: Option<&'a str>,
    pub client_port: Option<u16>,
    /// The address of its server.
    #[serde(borrow)]
    pub server_ip: Option<&'a str>,
    pub server_port: Option<u16>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target: Option<Cow<'a, str>>,
    status: Option<u16>,
    #[serde(borrow)]
    server: Option<Cow<'a, str>>,
    request_body_bytes: Option<u64>,
    response_body_bytes: Option<u64>,
    #[serde(borrow)]
    outcome: Option<&'a str>,
    gap_bytes: Option<u64>,
    request_ns: Option<u64>,
    ttfb_ns: Option<u64>,
    response_ns: Option<u64>,
}

impl Record<'_> {
    /// The kernel's timestamp of its last frame.
    fn end_ns(&self, start_ns: u64) -> Option<u64> {
        Some(start_ns + self.request_ns? + self.ttfb_ns? + self.response_ns?)
    }

    /// The digits of its request.
    fn digits(&self) -> Option<&str> {
        let digits = self.target.as_deref()?.split('/').nth(2)?;
        (digits.len() == REQUEST_DIGITS).then_some(digits)
    }

    /// Which of the exchanges in the rounds of a trial it is about, and how much of that it has
    /// right.
    pub fn judge(&self, round: &Round) -> (Option<u32>, Fate) {
        let asked = self.digits().and_then(|digits| u32::from_str_radix(&digits[..8], 16).ok());
        let answered = self.server.as_deref().and_then(|server| server.strip_prefix('n'));
        let answered = answered.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let is_whole = self.outcome == Some("complete") && self.gap_bytes.is_none();
        let fate = match (asked, answered) {
            _ if !is_whole => Fate::Damaged,
            (Some(asked), Some(answered)) if asked == answered && self.is_as_sent(asked, round) => {
                Fate::Right
            }
            _ => Fate::Wrong,
        };
        (asked.or(answered), fate)
    }

    /// The same for the record of a talk.
    fn judge_talk(&self, round: &Round) -> (Option<u32>, Fate) {
        let asked = self.digits().and_then(|digits| u32::from_str_radix(&digits[..8], 16).ok());
        let index = asked.and_then(|number| (number as usize).checked_rem(round.expected.len()));
        let talk = index.and_then(|index| round.expected[index].talk);
        let fate = match talk {
            _ if self.outcome != Some("complete") || self.gap_bytes.is_some() => Fate::Damaged,
            Some(talk) if self.talk() == Some(talk) && self.close_code == Some(CLOSE_CODE) => {
                Fate::Right
            }
            _ => Fate::Wrong,
        };
        (asked, fate)
    }

    /// The same for the record of a connection of TLS.
    fn judge_tls(&self, round: &Round) -> (Option<u32>, Fate) {
        let name = self.sni.and_then(|name| name.strip_prefix(NAME[0])?.strip_suffix(NAME[1]));
        let digits = name.filter(|digits| digits.len() == REQUEST_DIGITS);
        let number = digits.and_then(|digits| u32::from_str_radix(digits.get(..8)?, 16).ok());
        let index = number.and_then(|number| (number as usize).checked_rem(round.expected.len()));
        let fate = match index.and_then(|index| round.expected[index].tls) {
            _ if self.outcome != Some("complete") => Fate::Damaged,
            Some(tls)
                if self.tls_version == Some(tls.version.name())
                    && [self.client_bytes, self.server_bytes] == tls.bytes.map(Some) =>
            {
                Fate::Right
            }
            _ => Fate::Wrong,
        };
        (number, fate)
    }

    fn talk(&self) -> Option<Talk> {
        Some(Talk {
            frames: [self.client_frames?, self.server_frames?],
            messages: [self.client_messages?, self.server_messages?],
            message_bytes: [self.client_message_bytes?, self.server_message_bytes?],
            pings: self.pings?,
            pongs: self.pongs?,
        })
    }

    fn is_as_sent(&self, number: u32, round: &Round) -> bool {
        let Some(index) = (number as usize).checked_rem(round.expected.len()) else {
            return false;
        };
        let expected = &round.expected[index];
        self.method.as_deref() == Some(expected.method)
            && self.status == Some(expected.status)
            && self.request_body_bytes == Some(expected.request_body_bytes)
            && self.response_body_bytes == Some(expected.response_body_bytes)
    }

    /// The fields that are the same in every round.
    fn gist(&self) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            self.method,
            self.target,
            self.status,
            self.request_body_bytes,
            self.response_body_bytes,
            self.outcome,
            self.gap_bytes
        )
    }
}

/// Visits the records in a file, each with the offset of its end, and counts them.
fn each_record(path: &Path, mut visit: impl FnMut(&Record<'_>, u64)) -> anyhow::Result<u64> {
    let opened = File::open(path).with_context(|| format!("{}", path.display()))?;
    let mut reader = BufReader::with_capacity(1 << 20, opened);
    let (mut line, mut count, mut end) = (String::new(), 0, 0);
    while reader.read_line(&mut line)? > 0 {
        count += 1;
        end += line.len() as u64;
        let record = serde_json::from_str(&line)
            .with_context(|| format!("line {count} is no record: {line}"))?;
        visit(&record, end);
        line.clear();
    }
    Ok(count)
}

impl<'a> Check<'a> {
    /// For a trial that sent this many whole rounds.
    pub fn new(round: &'a Round, round_count: u64) -> Check<'a> {
        let sent = round.expected.len() as u64 * round_count;
        Check {
            round,
            fates: vec![Fate::Missing; sent as usize],
            talk_fates: vec![Fate::Missing; if round.has_talks() { sent as usize } else { 0 }],
            exchanges: Exchanges { sent, ..Exchanges::default() },
            delaying: Delaying::default(),
        }
    }

    /// Compares the records of httplines with what was sent; `marks` are the arrival times of
    /// lines.
    pub fn records(
        mut self,
        output: &Path,
        sent: &Sent,
        marks: &[Mark],
    ) -> anyhow::Result<(Exchanges, Option<Delays>)> {
        let visit = |record: &Record<'_>, end| self.record(record, sent, arrival_ns(marks, end));
        self.exchanges.lines = each_record(output, visit)?;
        let delays = self.delaying.sum();
        Ok((self.sum(), delays))
    }

    fn record(&mut self, record: &Record<'_>, sent: &Sent, arrival_ns: Option<u64>) {
        let is_talk = record.kind == Some("websocket");
        let (number, fate) = match record.kind {
            Some("websocket") => record.judge_talk(self.round),
            Some("tls") => record.judge_tls(self.round),
            _ => record.judge(self.round),
        };
        let Some(number) = number else {
            self.exchanges.extra += 1;
            return;
        };
        let is_half = fate == Fate::Damaged;
        let fates = if is_talk { &mut self.talk_fates } else { &mut self.fates };
        match fates.get_mut(number as usize) {
            // The two halves of a damaged exchange may be reported as two records.
            Some(known) if *known == Fate::Missing || (is_half && *known == Fate::Damaged) => {
                *known = fate;
            }
            _ => {
                self.exchanges.extra += 1;
                return;
            }
        }
        if is_talk {
            return;
        }
        if let Some(time) = record.digits().and_then(|it| u64::from_str_radix(&it[8..], 16).ok())
            && let Some(ts) = record.ts.and_then(nanoseconds)
        {
            self.delaying.to_timestamp.record(ts.saturating_sub(time));
            if let Some(arrival_ns) = arrival_ns.filter(|_| fate == Fate::Right) {
                self.delay(number, record.end_ns(ts), sent, arrival_ns);
            }
        }
    }

    fn delay(&mut self, number: u32, end_ns: Option<u64>, sent: &Sent, arrival_ns: u64) {
        let (count, steps) = (self.round.expected.len(), self.round.steps.len());
        let (round, index) = (number as usize / count, number as usize % count);
        let last = round * steps + self.round.expected[index].last_step;
        if let Some(due_ns) = sent.due_ns(last as u64) {
            self.delaying.to_line.record(arrival_ns.saturating_sub(due_ns));
        }
        if let Some(end_ns) = end_ns {
            self.delaying.from_timestamp.record(arrival_ns.saturating_sub(end_ns));
        }
    }

    /// Compares the records of httplines with those of the capture that was sent, times the number
    /// of rounds.
    pub fn recorded(
        mut self,
        output: &Path,
        expected: &Path,
        round_count: u64,
    ) -> anyhow::Result<Exchanges> {
        let mut left: HashMap<String, u64> = HashMap::new();
        each_record(expected, |record, _| *left.entry(record.gist()).or_default() += round_count)?;
        self.exchanges.sent = left.values().sum();
        let exchanges = &mut self.exchanges;
        exchanges.lines = each_record(output, |record, _| match left.get_mut(&record.gist()) {
            Some(count @ 1..) => {
                *count -= 1;
                exchanges.right += 1;
            }
            _ => exchanges.extra += 1,
        })?;
        exchanges.missing = left.values().sum();
        Ok(self.exchanges)
    }

    /// Searches all files in `directory` for the numbers of requests, in the form of any program.
    pub fn mentions(mut self, directory: &Path) -> anyhow::Result<Exchanges> {
        self.talk_fates.clear();
        for path in files_in(directory) {
            let mut bytes = Vec::new();
            File::open(&path)?.read_to_end(&mut bytes)?;
            self.exchanges.lines += memchr::memchr_iter(b'\n', &bytes).count() as u64;
            for at in memchr::memmem::find_iter(&bytes, "/q") {
                let rest = &bytes[at + 2..];
                let rest = rest.strip_prefix(b"q").unwrap_or(rest);
                let digits = rest.strip_prefix(b"/").and_then(|rest| rest.get(..REQUEST_DIGITS));
                let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let text = digits.map(|digits| String::from_utf8_lossy(&digits[..RESPONSE_DIGITS]));
                let number = text.and_then(|text| u32::from_str_radix(&text, 16).ok());
                // One program may mention a request many times.
                match number.and_then(|number| self.fates.get_mut(number as usize)) {
                    Some(fate) => *fate = Fate::Right,
                    None => self.exchanges.extra += u64::from(digits.is_some()),
                }
            }
        }
        Ok(self.sum())
    }

    /// An exchange with a talk is as right as the worse of the two.
    fn sum(mut self) -> Exchanges {
        let mut talks = self.talk_fates.iter();
        for fate in &self.fates {
            *match fate.min(talks.next().unwrap_or(&Fate::Right)) {
                Fate::Missing => &mut self.exchanges.missing,
                Fate::Damaged => &mut self.exchanges.damaged,
                Fate::Wrong => &mut self.exchanges.wrong,
                Fate::Right => &mut self.exchanges.right,
            } += 1;
        }
        self.exchanges
    }
}

/// Parses `2026-11-23T14:58:27.974638772Z` to nanoseconds since 1970.
fn nanoseconds(text: &str) -> Option<u64> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    // Days of the civil calendar, counted from March, so that a leap day ends its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let seconds = days * 86_400 + part(11..13)? * 3600 + part(14..16)? * 60 + part(17..19)?;
    Some(seconds * 1_000_000_000 + part(20..29)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::INTERVAL_SHIFT;
    use crate::workload::Workload;

    #[test]
    fn times_are_counted_from_1970() {
        assert_eq!(nanoseconds("1970-01-01T00:00:00.000000000Z"), Some(0));
        assert_eq!(nanoseconds("2000-02-29T00:00:01.000000002Z"), Some(951_782_401_000_000_002));
        assert_eq!(nanoseconds("2026-11-23T14:58:27.974638772Z"), Some(1_795_445_907_974_638_772));
        assert_eq!(nanoseconds("yesterday"), None);
    }

    fn record(number: usize, round: &Round) -> String {
        let expected = &round.expected[number];
        format!(
            "{{\"ts\":\"1970-01-01T00:00:01.000000000Z\",\"method\":\"{}\",\
             \"target\":\"/qq/{number:08x}{:016x}\",\"status\":{},\"server\":\"n{number:08x}\",\
             \"request_ns\":10,\"ttfb_ns\":10,\"response_ns\":10,\
             \"request_body_bytes\":{},\"response_body_bytes\":{},\"outcome\":\"complete\"}}\n",
            expected.method,
            999_999_000u64,
            expected.status,
            expected.request_body_bytes,
            expected.response_body_bytes
        )
    }

    #[test]
    fn a_connection_of_tls_has_one_fate() {
        let round = Workload::Tls.round(1, 200);
        let line = |number: usize| {
            let tls = round.expected[number].tls.unwrap();
            format!(
                "{{\"type\":\"tls\",\"sni\":\"www{number:08x}{:016x}.example.com\",\
                 \"tls_version\":\"{}\",\"client_bytes\":{},\"server_bytes\":{},\
                 \"outcome\":\"complete\"}}\n",
                1_700_000_000_000_000_000u64,
                tls.version.name(),
                tls.bytes[0],
                tls.bytes[1]
            )
        };
        let lines = [
            line(0),
            line(1).replace("complete", "failed"),
            line(2).replace("_bytes\":", "_bytes\":1"),
            line(3).replace("\"1.", "\"0."),
            line(0),
            line(4).replace(".com", ".org"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        std::fs::write(&output, lines.concat()).unwrap();
        let sent = round.expected.len() as u64;
        let (found, _) = Check::new(&round, 1).records(&output, &Sent::default(), &[]).unwrap();
        let wanted = Exchanges {
            sent,
            right: 1,
            damaged: 1,
            wrong: 2,
            missing: sent - 4,
            extra: 2,
            lines: 6,
        };
        assert_eq!(found, wanted);
    }

    #[test]
    fn every_exchange_has_one_fate() {
        let round = Workload::Small.round(1, 200);
        let lines = [
            record(0, &round),
            record(1, &round).replace("n00000001", "n00000002"),
            record(3, &round).replace("complete", "truncated"),
            record(4, &round).replace("\"GET\"", "\"PUT\"").replace("\"POST\"", "\"PUT\""),
            record(0, &round),
            record(5, &round).replace("/qq/", "/other/x/"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        std::fs::write(&output, lines.concat()).unwrap();
        // The first line arrives a millisecond after the first frame was due, the others later.
        let bytes = lines[0].len() as u64;
        let marks =
            [Mark { time_ns: 1_001_000_000, bytes }, Mark { time_ns: 2_000_000_000, bytes: 9000 }];
        let epoch_ns = 1_000_000_000 - round.expected[0].last_step as u64 * 1000;
        let sent = Sent { epoch_ns, interval: 1000 << INTERVAL_SHIFT, ..Sent::default() };
        let (found, delays) = Check::new(&round, 2).records(&output, &sent, &marks).unwrap();
        let sent = round.expected.len() as u64 * 2;
        let wanted = Exchanges {
            sent,
            right: 1,
            damaged: 1,
            wrong: 3,
            missing: sent - 5,
            extra: 1,
            lines: 6,
        };
        assert_eq!(found, wanted);
        let delays = delays.unwrap();
        let (first, to_line) = (&delays.to_timestamp, delays.to_line.unwrap());
        assert_eq!((first.p50_ns, first.max_ns), (1000, 1000));
        assert_eq!((to_line.p50_ns, to_line.max_ns), (1_000_447, 1_000_447));
        // Its first frame arrived at the second, its last 30 ns later.
        assert_eq!(delays.from_timestamp.unwrap().max_ns, 1_000_447);
        let mentioned = Check::new(&round, 2).mentions(folder.path()).unwrap();
        assert_eq!((mentioned.right, mentioned.missing), (4, sent - 4));
    }
}
