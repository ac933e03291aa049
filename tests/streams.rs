//! Byte streams in transit. Whatever the order, sizes and copies of a connection's segments, the
//! records show the exchanges that took place. Whatever is lost, exchanges that the loss did not
//! touch are reported as they were, those that it touched say so, and nothing is invented.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test main streams::` tries more than a test run
//! does.

use crate::support::packet::RST;
use crate::support::records;
use crate::support::reported::{Reported, reported_of};
use crate::support::traffic::{
    LOSS_DEPENDENT_FIELDS, Last, Plan, PlannedTraffic, Sent, Style, invented, plan,
};
use httplines::decode::is_worth_joining;
use proptest::prelude::*;
use serde_json::Value;
use std::ops::Range;

const START_NS: u64 = 1_700_000_000_000_000_000;
/// Fields with times: that of the frame that carried the first copy of the bytes; and the one that
/// counts copies.
const OF_FRAMES: [&str; 6] =
    ["ts", "connect_ns", "request_ns", "ttfb_ns", "response_ns", "retransmitted_bytes"];

fn told(talk: &PlannedTraffic, sent: &[Sent]) -> Reported {
    reported_of(&talk.frames_of(sent, START_NS, 1000))
}

/// Method, target, request body bytes, status and response body bytes of a record.
fn gist(record: &Value) -> String {
    let fields = ["method", "target", "request_body_bytes", "status", "response_body_bytes"];
    let text = |name: &str| match &record[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    fields.map(text).join(" ")
}

/// The exchanges that a loss may change: one whose segment is lost, and those in progress together
/// with it, or possibly so by what was captured. For these, nothing shows any more which response
/// belongs to which request.
fn touched(talk: &PlannedTraffic, is_lost: &[bool]) -> Vec<bool> {
    let mut touched = vec![false; talk.plan.shapes.len()];
    let is_unseen = unseen(talk, is_lost);
    for (sent, _) in talk.sent.iter().zip(&is_unseen).filter(|(_, is_unseen)| **is_unseen) {
        sent.exchanges.iter().for_each(|exchange| touched[*exchange] = true);
    }
    if is_lost[1] && touched.contains(&true) {
        // Nothing shows where the server's stream began, so what was lost of its beginning is
        // unknown.
        let mut answers = talk.sent.iter().zip(is_lost).filter(|(sent, _)| !sent.is_client);
        let first = answers.find(|(sent, is_lost)| !**is_lost && !sent.payload.is_empty());
        let until = first.map_or(touched.len(), |(sent, _)| sent.exchanges[0] + 1);
        touched[..until].fill(true);
    }
    let groups = &talk.groups;
    match talk.plan.style {
        Style::Waiting | Style::Batches(_) => {
            for (index, group) in groups.iter().enumerate() {
                let is_touched = group.clone().any(|exchange| touched[exchange]);
                if is_touched || is_cut_off(talk, &is_unseen, index) {
                    touched[group.clone()].fill(true);
                }
            }
        }
        // With such a client, no moment is known at which nothing is unanswered.
        Style::Sliding(_) => {
            let is_hit = |group: &&Range<usize>| (*group).clone().any(|at| touched[at]);
            let first = groups.iter().find(is_hit).map_or(touched.len(), |group| group.start);
            touched[first..].fill(true);
        }
    }
    touched
}

/// The frames that are lost, or pass before tracking starts on a connection whose handshake is
/// lost.
fn unseen(talk: &PlannedTraffic, is_lost: &[bool]) -> Vec<bool> {
    let mut unseen = is_lost.to_vec();
    if is_lost[0] && is_lost[1] {
        let joins = |at: &usize| !is_lost[*at] && is_worth_joining(&talk.sent[*at].payload);
        let join = (0..unseen.len()).find(joins).unwrap_or(unseen.len());
        unseen[..join].fill(true);
    }
    unseen
}

/// Whether the client's lost bytes before the group may have been requests of the same batch: no
/// response of the server to them was captured.
fn is_cut_off(talk: &PlannedTraffic, is_lost: &[bool], group: usize) -> bool {
    let Some(before) = group.checked_sub(1) else { return false };
    let of = |group: usize, is_client: bool| {
        let range = talk.groups[group].clone();
        (0..talk.sent.len()).filter(move |index| {
            let sent = &talk.sent[*index];
            let is_own = sent.exchanges.iter().any(|exchange| range.contains(exchange));
            is_own && sent.is_client == is_client && !sent.payload.is_empty()
        })
    };
    let last = of(before, true).next_back().unwrap_or(0);
    let is_unanswered = of(before, false).filter(|index| *index > last).all(|index| is_lost[index]);
    is_unanswered
        && (of(before, true).any(|index| is_lost[index]) || is_cut_off(talk, is_lost, before))
}

/// Frames that may be lost. Excluded are those that acknowledge everything at the end; those that
/// end the connection, unless they end a body; and the bytes that show that a client sends further
/// requests when it has some responses, but not all.
fn may_be_lost(talk: &PlannedTraffic) -> Vec<bool> {
    let count = talk.sent.len();
    let has_data = |sent: &Sent| !sent.payload.is_empty();
    let close = talk.sent.iter().rposition(has_data).unwrap_or(0);
    let first = match &talk.plan.style {
        Style::Waiting => 0,
        // On a midstream connection the first captured request is treated as the first one.
        Style::Batches(_) => 1,
        Style::Sliding(_) => slides_at(talk).map_or(count, |at| at + 1),
    };
    (0..count).map(|index| (first..=close).contains(&index)).collect()
}

/// The frame with which a client sends a further request when it has read some, but not all
/// responses.
fn slides_at(talk: &PlannedTraffic) -> Option<usize> {
    let asks = |exchange| {
        let begins = |sent: &Sent| sent.is_client && sent.exchanges.contains(&exchange);
        talk.sent.iter().position(begins)
    };
    let answered_until = |exchange| {
        let is_answer = |sent: &&Sent| !sent.is_client && sent.exchanges.contains(&exchange);
        talk.sent.iter().filter(is_answer).map(|sent| sent.offset + sent.payload.len() as u32).max()
    };
    (1..talk.plan.shapes.len()).find_map(|exchange| {
        let (before, at) = (asks(exchange - 1)?, asks(exchange)?);
        let read_until = talk.sent[at].ack;
        let is_more = talk.sent[before].ack < read_until;
        let is_own = |sent: &Sent| sent.is_client && sent.exchanges.contains(&exchange);
        let slides = is_more && read_until < answered_until(exchange - 1)?;
        slides.then(|| talk.sent.iter().rposition(is_own)).flatten()
    })
}

fn losses() -> impl Strategy<Value = Vec<bool>> {
    prop_oneof![
        prop::collection::vec(prop::bool::weighted(0.03), 1..200),
        prop::collection::vec(prop::bool::weighted(0.2), 1..200),
        prop::collection::vec(any::<bool>(), 1..200),
    ]
}

/// Segments in which the beginning of a head can be recognised.
fn evident(mut plan: Plan) -> Plan {
    plan.is_tidy = true;
    plan.cuts.iter_mut().for_each(|cut| *cut = (*cut).max(20));
    plan
}

proptest! {
    /// Everything that took place is reported completely.
    #[test]
    fn what_is_held_is_told(plan in plan()) {
        let talk = plan.talk();
        let told = told(&talk, &talk.sent);
        prop_assert_eq!(told.records.iter().map(gist).collect::<Vec<_>>(), talk.truth());
        prop_assert!(told.records.iter().all(|record| record["outcome"] == "complete"));
    }

    /// Both directions in any order, each frame any number of times, and segments with other
    /// boundaries in between: the records are the same.
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
        // A reset ends everything wherever it arrives.
        shuffled.sort_by_key(|(key, sent)| (sent.flags & RST != 0, *key));
        let mut sent = talk.sent[..opening].to_vec();
        sent.extend(shuffled.into_iter().map(|(_, sent)| sent));
        // Everything arrives within the grace period of a hole.
        sent.iter_mut().enumerate().for_each(|(index, sent)| sent.at_us = index as u64 / 2);
        let shuffled = told(&talk, &sent);
        prop_assert_eq!(shuffled.stats.flow.gaps, 0);
        records::assert_same(
            "in order and not",
            &records::without(expected.records, &OF_FRAMES),
            &records::without(shuffled.records, &OF_FRAMES),
        );
    }

    /// Any frames are lost, with segments as small as possible. No message is invented, none is
    /// reported twice, and no response is paired with another request.
    #[test]
    fn losses_invent_nothing(plan in plan(), lost in losses()) {
        let talk = Plan { is_tidy: true, ..plan }.talk();
        let (is_lost, lossy) = with_losses(&talk, |at| lost[at % lost.len()]);
        let invented = invented(&talk, &lossy.records);
        let shown = shown(&talk, &is_lost, &lossy.records);
        prop_assert!(invented.is_none(), "{:?}\n{}", invented, shown);
    }

    /// Any frames are lost. Exchanges that this did not touch are reported as they were, including
    /// times. Those that it touched are not reported as complete. And records report no more lost
    /// bytes than were lost.
    #[test]
    fn losses_are_told_and_touch_nothing_else(plan in plan(), lost in losses()) {
        let talk = evident(plan).talk();
        let (is_lost, lossy) = with_losses(&talk, |at| lost[at % lost.len()]);
        let shown = shown(&talk, &is_lost, &lossy.records);
        let gap_bytes: u64 =
            lossy.records.iter().filter_map(|record| record["gap_bytes"].as_u64()).sum();
        // Without its SYN, a stream begins with the first captured bytes. Earlier bytes, known from
        // the other side's acknowledgements, appear in records, but not as a gap of the stream.
        let is_begun = !is_lost[1];
        prop_assert!(!is_begun || gap_bytes <= lossy.stats.flow.gap_bytes, "{}", gap_bytes);
        let whole = records::without(told(&talk, &talk.sent).records, &LOSS_DEPENDENT_FIELDS);
        let records = records::without(lossy.records, &LOSS_DEPENDENT_FIELDS);
        for (exchange, is_touched) in touched(&talk, &is_lost).into_iter().enumerate() {
            let is_own = talk.sent.iter().zip(&is_lost).any(|(sent, is_lost)| {
                *is_lost && sent.exchanges.contains(&exchange)
            });
            let is_told = records.contains(&whole[exchange]);
            prop_assert!(is_told || is_touched, "missing {}\n{}", whole[exchange], shown);
            let is_whole = is_told && is_own && !is_beyond_http(&talk, exchange);
            prop_assert!(!is_whole, "reported as untouched {}\n{}", whole[exchange], shown);
        }
    }
}

/// The reports if those frames are lost that may be lost and that `is_lost` selects; and which
/// frames those were.
fn with_losses(talk: &PlannedTraffic, is_lost: impl Fn(usize) -> bool) -> (Vec<bool>, Reported) {
    let may_be_lost = may_be_lost(talk);
    let is_lost: Vec<bool> =
        (0..talk.sent.len()).map(|at| may_be_lost[at] && is_lost(at)).collect();
    let pairs = talk.sent.iter().zip(&is_lost);
    let kept: Vec<Sent> =
        pairs.filter(|(_, is_lost)| !**is_lost).map(|(sent, _)| sent.clone()).collect();
    let told = told(talk, &kept);
    (is_lost, told)
}

/// Whether a lost segment of the exchange may have carried the bytes after the end of HTTP.
fn is_beyond_http(talk: &PlannedTraffic, exchange: usize) -> bool {
    exchange + 1 == talk.plan.shapes.len()
        && matches!(talk.plan.last, Last::Connect | Last::Upgrade)
}

/// A retransmission by one side, from within one segment into another, as by an endpoint that
/// merges segments differently.
fn overlap(sent: &[Sent], first: usize, count: usize) -> Option<Sent> {
    let data: Vec<&Sent> = sent.iter().filter(|sent| !sent.payload.is_empty()).collect();
    let first = data.get(first % data.len().max(1))?;
    // Data sent in response to new bytes are not retransmitted together with the data before those.
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

/// The frames and the records, to investigate a failure.
fn shown(talk: &PlannedTraffic, is_lost: &[bool], records: &[Value]) -> String {
    let frame = |(sent, is_lost): (&Sent, &bool)| {
        let begin = String::from_utf8_lossy(&sent.payload[..sent.payload.len().min(40)]);
        format!(
            "{} {} {}+{} ack {} flags {:x} {:?} {} us {begin:?}\n",
            if *is_lost { "lost" } else { "    " },
            if sent.is_client { "->" } else { "<-" },
            sent.offset,
            sent.payload.len(),
            sent.ack,
            sent.flags,
            sent.exchanges,
            sent.at_us,
        )
    };
    let frames: String = talk.sent.iter().zip(is_lost).map(frame).collect();
    let records: String = records.iter().map(|record| format!("{record}\n")).collect();
    format!("{:?}\n{frames}{records}", talk.groups)
}
