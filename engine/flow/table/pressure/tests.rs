//! Who gives way, with tables of a few hundred flows.

use super::*;
use crate::config::FlowConfig;
use crate::decode::TcpFlags;
use crate::flow::tests::Sent;
use crate::flow::{End, FlowEvents};
use crate::ids::Direction::{Forward, Reverse};
use std::collections::BTreeSet;

/// What ended, in order.
#[derive(Default)]
struct Ended(Vec<u16>);

impl FlowEvents<()> for Ended {
    fn chunk(&mut self, _: &FlowKey, _: &Handshake, (): &mut (), _: Direction, _: Chunk<'_>) {}

    fn ended(&mut self, key: &FlowKey, _: &Handshake, (): &mut (), _: End) {
        self.0.push(number_of(key));
    }
}

fn number_of(key: &FlowKey) -> u16 {
    u16::from_be_bytes(key.port[1])
}

/// A table, and the numbers of the flows that it ended.
struct Pressed {
    table: FlowTable<()>,
    ended: Ended,
}

impl Pressed {
    fn new(flow_count_max: usize) -> Pressed {
        let limits = FlowConfig { flow_count_max, ..FlowConfig::default() };
        Pressed { table: FlowTable::new(limits), ended: Ended::default() }
    }

    /// A segment of the connection `number`.
    fn take(&mut self, number: u16, sent: &Sent) {
        let mut segment = sent.segment();
        segment.key.port[1] = number.to_be_bytes();
        if let Some(index) = self.table.enter(&segment, &mut self.ended) {
            self.table.accept(index, &segment, |_, _, (), _, _| {});
        }
    }

    fn ask(&mut self, number: u16, at_ms: u64) {
        self.take(number, &Sent::data(Forward, 0, 0, b"GET / HTTP/1.1\r\n\r\n", at_ms));
    }

    fn numbers(&mut self) -> BTreeSet<u16> {
        let indices = self.table.indices();
        let number = |index| number_of(self.table.parts(index).expect("a flow").0);
        indices.into_iter().map(number).collect()
    }
}

const REQUEST_BYTES: u32 = 18;

/// The answers: SYN-ACK, acknowledgement, and data that acknowledges less.
fn answers() -> [Sent; 3] {
    [
        Sent::data(Reverse, 0, 0, b"", 0).flags(TcpFlags::SYN | TcpFlags::ACK),
        Sent::data(Reverse, 0, REQUEST_BYTES, b"", 0),
        Sent::data(Reverse, 0, 0, b"HTTP/1.1 200 OK\r\n", 0),
    ]
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn whoever_was_answered_outlives_a_flood_of_requests() {
    for answer in answers() {
        let mut pressed = Pressed::new(500);
        for number in 0..300 {
            pressed.ask(number, 0);
            pressed.take(number, &answer);
        }
        // One that waits 12 s for its response, beside requests that are milliseconds old.
        for number in 1000..20_000 {
            pressed.ask(number, 12_000 + u64::from(number) / 1000);
        }
        assert_eq!(pressed.table.len(), 500);
        assert!(pressed.ended.0.iter().all(|number| *number >= 1000), "{answer:?}");
    }
}

/// Of requests without an answer, those that were quiet longest go first, and the newest stay.
#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn the_newest_request_has_time_to_be_answered() {
    let mut pressed = Pressed::new(500);
    for number in 0..20_000 {
        pressed.ask(number, number.into());
    }
    assert!(pressed.numbers().contains(&19_999));
    let lived_least = pressed.ended.0.iter().enumerate().map(|(nth, number)| {
        // The flow that ended nth made room for number 500 + nth.
        500 + nth as i64 - i64::from(*number)
    });
    assert!(lived_least.min() >= Some(50), "a tenth of the table came after it");
}

#[test]
fn closed_connections_still_go_first() {
    let mut pressed = Pressed::new(64);
    let [.., answer] = answers();
    for number in 0..64 {
        pressed.ask(number, 0);
        if number % 2 == 1 {
            pressed.take(number, &answer);
            pressed.take(number, &Sent::data(Forward, 18, 0, b"", 1).flags(TcpFlags::RST));
            // Until then, something may have come before it.
            pressed.take(number, &Sent::data(Forward, 18, 0, b"", 20));
        }
    }
    (100..130).for_each(|number| pressed.ask(number, 21));
    assert!(pressed.ended.0.iter().all(|number| *number % 2 == 1), "{:?}", pressed.ended.0);
}

/// If no connection is answered, only one direction is captured: the quietest are evicted.
#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn in_one_direction_all_are_equal() {
    let mut pressed = Pressed::new(200);
    for number in 0..5000 {
        pressed.ask(number, number.into());
        let offset = REQUEST_BYTES * (u32::from(number) + 1);
        let next = Sent::data(Forward, offset, 0, b"GET / HTTP/1.1\r\n\r\n", number.into());
        pressed.take(0, &next);
    }
    assert!(pressed.numbers().contains(&0), "it sends all the time");
}

/// Connections that are being opened are not evicted for idle ones that fill the table.
#[test]
#[cfg_attr(miri, ignore = "takes minutes under Miri")]
fn a_few_new_connections_do_not_give_way_to_idle_ones() {
    let mut pressed = Pressed::new(500);
    let [syn_ack, ..] = answers();
    for number in 0..500 {
        pressed.ask(number, 0);
        pressed.take(number, &syn_ack);
    }
    for number in 1000..1020 {
        pressed.ask(number, 60_000);
    }
    assert_eq!(pressed.ended.0.len(), 20);
    assert!(pressed.ended.0.iter().all(|number| *number < 500), "{:?}", pressed.ended.0);
}

#[test]
fn what_is_an_answer() {
    let is_answered = |sent: &Sent| {
        let mut pressed = Pressed::new(10);
        pressed.take(1, &Sent::data(Forward, 0, 0, b"", 0).flags(TcpFlags::SYN));
        pressed.ask(1, 0);
        pressed.take(1, sent);
        let index = pressed.table.indices()[0];
        let is_in_set = pressed.table.unanswered.all.count() == 1;
        let (_, handshake, ()) = pressed.table.parts(index).expect("a flow");
        assert_eq!(is_in_set, !handshake.is_answered());
        handshake.is_answered()
    };
    answers().iter().for_each(|answer| assert!(is_answered(answer), "{answer:?}"));
    let acked = |ack| Sent::data(Reverse, 0, ack, b"", 0);
    assert!(is_answered(&acked(REQUEST_BYTES).flags(TcpFlags::ACK | TcpFlags::FIN)));
    let reset = acked(REQUEST_BYTES).flags(TcpFlags::ACK | TcpFlags::RST);
    assert!(!is_answered(&reset), "a host that knows of no connection");
    assert!(!is_answered(&acked(0).flags(0)), "it acknowledges nothing");
    assert!(!is_answered(&acked(u32::MAX - 5)), "of an earlier connection");
    assert!(!is_answered(&Sent::data(Forward, 18, 0, b"more", 0)), "the same side");
}

/// A slot is used again, and the flow in it is another.
#[test]
fn a_new_flow_in_an_old_slot_is_not_answered() {
    let mut pressed = Pressed::new(10);
    let [syn_ack, ..] = answers();
    pressed.ask(1, 0);
    pressed.take(1, &syn_ack);
    let index = pressed.table.indices()[0];
    pressed.table.end(index, End::Exit, &mut Ended::default());
    assert_eq!(pressed.table.unanswered.all.count(), 0);
    pressed.ask(2, 1);
    assert_eq!((pressed.table.indices()[0], pressed.table.unanswered.all.count()), (index, 1));
}
