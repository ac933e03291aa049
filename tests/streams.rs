//! Byte streams on their way: whatever order, pieces and copies the segments of a connection come
//! in, its exchanges are those that were held.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test streams` tries more than a test run does.

mod support;

use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;
use support::packet::RST;
use support::records;
use support::rooms::{Told, told_of};
use support::traffic::{Last, Plan, Sent, Style, Talk, plan};

const START_NS: u64 = 1_700_000_000_000_000_000;
/// When bytes passed: that of the frame that brought their first copy.
const TIMES: [&str; 5] = ["ts", "connect_ns", "request_ns", "ttfb_ns", "response_ns"];

fn told(talk: &Talk, sent: &[Sent]) -> Told {
    told_of(&talk.frames_of(sent, START_NS, 1000))
}

/// Method, target, body bytes, status and body bytes of a record.
fn gist(record: &Value) -> String {
    let fields = ["method", "target", "request_body_bytes", "status", "response_body_bytes"];
    let text = |name: &str| match &record[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    fields.map(text).join(" ")
}

/// The number of the exchange that a request, and that a response is of.
fn marks(record: &Value) -> [Option<usize>; 2] {
    let number =
        |text: &str| text.trim_start_matches("a.test:").trim_start_matches('/').parse().ok();
    [record["target"].as_str().and_then(number), record["reason"].as_str().and_then(number)]
}

/// What a loss may change of an exchange that it did not touch: numbers count what was seen, and
/// who did not see the handshake says so.
const OF_THE_LOSS: [&str; 4] = ["n", "flow", "midstream", "connect_ns"];

/// Frames that may be lost: not those that acknowledge everything at the end, nor those that end
/// the connection, unless they end a body, nor what shows that this client does not wait.
fn may_be_lost(talk: &Talk) -> Vec<bool> {
    let count = talk.sent.len();
    let evident = match &talk.plan.style {
        Style::Waiting => 0,
        _ => talk.groups[0].end,
    };
    let is_evidence = |sent: &Sent| sent.exchanges.iter().any(|exchange| *exchange < evident);
    let first = talk.sent.iter().rposition(is_evidence).map_or(0, |last| last + 1);
    let close = talk.sent.iter().rposition(|sent| !sent.payload.is_empty()).unwrap_or(0);
    (0..count)
        .map(|index| (first..=close).contains(&index) && (evident == 0 || index > first))
        .collect()
}

fn losses() -> impl Strategy<Value = Vec<bool>> {
    prop_oneof![
        prop::collection::vec(prop::bool::weighted(0.03), 1..200),
        prop::collection::vec(prop::bool::weighted(0.2), 1..200),
        prop::collection::vec(any::<bool>(), 1..200),
    ]
}

/// Styles whose first batch shows what they are.
fn evident(mut plan: Plan) -> Plan {
    plan.is_tidy = true;
    match &mut plan.style {
        Style::Waiting => {}
        Style::Batches(sizes) => sizes[0] += 1,
        Style::Sliding(turns) => {
            turns.splice(0..0, [true, false, true, false]);
        }
    }
    plan
}

/// Nothing is paired that does not belong together, no message is made up, nothing is told twice.
fn invented(talk: &Talk, told: &Told) -> Option<String> {
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for record in &told.records {
        let [asked, answered] = marks(record);
        let is_pair = asked.is_none() || answered.is_none() || asked == answered;
        let is_known = [("method", asked), ("status", answered)]
            .iter()
            .all(|(name, mark)| record[*name].is_null() || mark.is_some());
        let is_new = seen.iter_mut().zip([asked, answered]).all(|(seen, mark)| {
            mark.is_none_or(|mark| mark < talk.plan.shapes.len() && seen.insert(mark))
        });
        if !is_pair || !is_known || !is_new {
            return Some(record.to_string());
        }
    }
    None
}

proptest! {
    /// What was held is told, whole.
    #[test]
    fn what_is_held_is_told(plan in plan()) {
        let talk = plan.talk();
        let told = told(&talk, &talk.sent);
        prop_assert_eq!(told.records.iter().map(gist).collect::<Vec<_>>(), talk.truth());
        prop_assert!(told.records.iter().all(|record| record["outcome"] == "complete"));
    }

    /// Both directions in any order, each frame any number of times, and pieces with other borders
    /// between them: the same records.
    #[test]
    fn order_copies_and_overlaps_change_nothing(
        plan in plan(),
        keys in prop::collection::vec(any::<u32>(), 1..400),
        copies in prop::collection::vec(0usize..3, 1..50),
        pieces in prop::collection::vec((any::<usize>(), any::<usize>()), 0..20),
    ) {
        let talk = plan.talk();
        let expected = told(&talk, &talk.sent);
        let opening = talk.sent.iter().take_while(|sent| sent.payload.is_empty()).count();
        let mut shuffled: Vec<(u32, Sent)> = Vec::new();
        let mut key = keys.iter().cycle();
        for (index, sent) in talk.sent.iter().enumerate().skip(opening) {
            for _ in 0..=copies[index % copies.len()] {
                shuffled.push((*key.next().unwrap_or(&0), sent.clone()));
            }
        }
        for (first, count) in pieces {
            if let Some(piece) = overlap(&talk.sent[opening..], first, count) {
                shuffled.push((*key.next().unwrap_or(&0), piece));
            }
        }
        // A reset ends everything wherever it comes.
        shuffled.sort_by_key(|(key, sent)| (sent.flags & RST != 0, *key));
        let mut sent = talk.sent[..opening].to_vec();
        sent.extend(shuffled.into_iter().map(|(_, sent)| sent));
        // All of it within the grace that a hole has.
        sent.iter_mut().enumerate().for_each(|(index, sent)| sent.at_us = index as u64 / 2);
        let shuffled = told(&talk, &sent);
        prop_assert_eq!(shuffled.flow.gaps, 0);
        records::assert_same(
            "in order and not",
            &records::without(expected.records, &TIMES),
            &records::without(shuffled.records, &TIMES),
        );
    }

    /// Any frames of a client that waits for its answers are lost. Nothing is made up, no answer is
    /// given to another request, and no byte is lost untold; what a loss touched is not told as if
    /// it were whole.
    #[test]
    #[ignore = "does not hold yet in about one of 3,000 losses"]
    fn losses_invent_nothing(mut plan in plan(), lost in losses()) {
        plan.style = Style::Waiting;
        let talk = evident(plan).talk();
        let (is_lost, lossy) = with_losses(&talk, |at| lost[at % lost.len()]);
        prop_assert_eq!(invented(&talk, &lossy), None);
        let gap_bytes: u64 =
            lossy.records.iter().filter_map(|record| record["gap_bytes"].as_u64()).sum();
        // Without its SYN a stream begins with what came first: what the other side's
        // acknowledgements tell of bytes before that is in records, and no gap of the stream.
        let is_begun = !is_lost[1];
        prop_assert!(!is_begun || gap_bytes <= lossy.flow.gap_bytes, "{}", gap_bytes);
        let whole = records::without(told(&talk, &talk.sent).records, &OF_THE_LOSS);
        let records = records::without(lossy.records, &OF_THE_LOSS);
        for (exchange, whole) in whole.iter().enumerate() {
            let is_own = talk.sent.iter().zip(&is_lost).any(|(sent, is_lost)| {
                *is_lost && sent.exchanges.contains(&exchange)
            });
            let is_told = records.contains(whole);
            prop_assert!(!is_told || !is_own || is_beyond_http(&talk, exchange), "{}", whole);
        }
    }
}

/// What is told where those frames are lost that may be and that `is_lost` names; and which those
/// were.
fn with_losses(talk: &Talk, is_lost: impl Fn(usize) -> bool) -> (Vec<bool>, Told) {
    let may_be_lost = may_be_lost(talk);
    let is_lost: Vec<bool> =
        (0..talk.sent.len()).map(|at| may_be_lost[at] && is_lost(at)).collect();
    let pairs = talk.sent.iter().zip(&is_lost);
    let kept: Vec<Sent> =
        pairs.filter(|(_, is_lost)| !**is_lost).map(|(sent, _)| sent.clone()).collect();
    let told = told(talk, &kept);
    (is_lost, told)
}

/// Whether a lost segment of the exchange may have been what came behind HTTP's end.
fn is_beyond_http(talk: &Talk, exchange: usize) -> bool {
    exchange + 1 == talk.plan.shapes.len()
        && matches!(talk.plan.last, Last::Connect | Last::Upgrade)
}

/// Equal data of one side from within one segment into another, as an endpoint sends again what it
/// joined anew.
fn overlap(sent: &[Sent], first: usize, count: usize) -> Option<Sent> {
    let data: Vec<&Sent> = sent.iter().filter(|sent| !sent.payload.is_empty()).collect();
    let first = data.get(first % data.len().max(1))?;
    // What was said in answer to something new was not sent again together with what that answered.
    let same = data.iter().filter(|sent| {
        sent.is_client == first.is_client && sent.ack == first.ack && sent.offset >= first.offset
    });
    let joined: Vec<&&Sent> = same.take(1 + count % 3).collect();
    let payload = joined.iter().flat_map(|sent| sent.payload.clone()).collect::<Vec<_>>();
    let skip = count % first.payload.len();
    let mut piece = (*first).clone();
    piece.payload = payload[skip..payload.len() - count % 2 * (payload.len() - skip) / 2].to_vec();
    piece.offset += skip as u32;
    Some(piece).filter(|piece| !piece.payload.is_empty())
}
