//! Who sends the requests of a connection whose beginning is unknown.
//!
//! The first message that is found there may be text in the middle of a body. So it is only a
//! guess ([`Guess`]) which direction is the client's, and nothing is reported on its word alone.
//! The guess is
//! - confirmed by a message of the other direction that fits, by a second message of the same
//!   direction that was sent after more had been read, or by the end of the connection;
//! - withdrawn, with everything that rests on it, if the bytes behind its message do not begin
//!   another, or if a later message says the opposite.

use super::{Http1Connection, Spoken};
use crate::flow::SegmentMeta;
use crate::ids::Direction;
use crate::protocol::Context;
use crate::protocol::first_bytes::FirstBytes;
use crate::protocol::http1::framer::{Framer, ParseState};
use crate::protocol::http1::head::{self, Expected};
use crate::protocol::http1::loss_pairing::Cause;
use crate::protocol::http1::pairer::Guess;
use crate::record::EventSink;

impl Http1Connection {
    /// Searches for a head while it is not certain who the client is. Returns whether `data` begins
    /// one that is believed.
    #[cold]
    pub(super) fn search_unsure<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> bool {
        if self.note_other_protocol(cx, direction, data, meta) {
            return false;
        }
        if self.spoken == Spoken::Unclear && self.leaves_to_frames(data, meta) {
            return false;
        }
        if !Framer::is_found(data, meta, Expected::Either) {
            if self.is_strange_answer(cx, direction, meta) {
                self.withdraw(cx, direction, meta);
            }
            return false;
        }
        let is_response = head::may_begin_response(data);
        let client = if is_response { direction.opposite() } else { direction };
        if let Some(guess) = &self.pairer.guess {
            let is_later = guess.direction == direction
                || meta.ack.is_none_or(|ack| guess.start.precedes(ack));
            if guess.client == client {
                return true;
            }
            if !is_later || cx.flow.handshake.client == Some(guess.client) {
                return false;
            }
            self.withdraw(cx, direction, meta);
        }
        self.pairer.guess = Some(Guess {
            client,
            direction,
            start: meta.seq,
            read_until: meta.ack,
            message_count: 0,
        });
        true
    }

    /// Looks for a start line of another protocol that may carry messages of HTTP, and returns
    /// whether `data` begins with one. If it is among the first that passed, or the other side
    /// sends such lines as well, the connection speaks that protocol.
    #[cold]
    pub(super) fn note_other_protocol<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        data: &[u8],
        meta: &SegmentMeta,
    ) -> bool {
        if !meta.is_frame_start || !head::is_of_other_protocol(data) {
            return false;
        }
        if self.pairer.guess.is_some() {
            self.withdraw(cx, direction, meta);
        }
        let other_by = self.other_by.replace(direction);
        if !cx.flow.handshake.is_midstream() || other_by == Some(direction.opposite()) {
            self.spoken = Spoken::Other;
            self.left_by = Some(FirstBytes::of(direction, data, meta));
            for framer in &mut self.framers {
                framer.restart(ParseState::Off, &mut cx.shared.recorder.pool);
            }
        }
        true
    }

    /// While there is a guess: a message passes in `direction`, whose first byte came in `first`.
    #[cold]
    pub(super) fn weigh_message<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        first: &SegmentMeta,
    ) {
        let Some(guess) = &mut self.pairer.guess else { return };
        guess.message_count += u32::from(direction == guess.direction);
        let has_read_more =
            guess.read_until.zip(first.ack).is_some_and(|(before, now)| before.precedes(now));
        // A request whose body is still in progress may yet turn out to be text itself.
        let has_agreed =
            direction != guess.direction && self.pairer.open[guess.client.index()].id.is_none();
        if has_agreed || guess.message_count > 1 && has_read_more {
            let (pairer, mut http1) = self.parts(cx, direction);
            pairer.confirm(&mut http1);
        }
    }

    /// The time of what waits is over. Returns whether anything has waited.
    pub fn end_wait<S: EventSink>(&mut self, cx: &mut Context<'_, S>) -> bool {
        let (pairer, mut http1) = self.parts(cx, Direction::Forward);
        let has_waited = pairer.is_unsure();
        pairer.confirm(&mut http1);
        pairer.end_batch(&mut http1, false);
        has_waited
    }

    /// In `direction`, the bytes in `meta`, where a message must begin, do not begin one. Withdraws
    /// the guess if this refutes it, and returns whether it does.
    pub(super) fn refute<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        meta: &SegmentMeta,
    ) -> bool {
        let Some(guess) = &self.pairer.guess else { return false };
        if guess.direction != direction || guess.message_count > 1 {
            return false;
        }
        self.withdraw(cx, direction, meta);
        true
    }

    /// While there is a guess: whether what may still become a head is more likely text.
    #[cold]
    pub(super) fn is_text(&self, direction: Direction) -> bool {
        let framer = &self.framers[direction.index()];
        let is_line_begun = matches!(framer.state, ParseState::Head { has_line: false });
        is_line_begun
            && framer.partial.contains(&b' ')
            && !head::may_become_certain(&framer.partial)
    }

    /// Whether bytes that begin no message, in `direction`, are the answer to the request that the
    /// guess rests on, on a connection that did not begin with HTTP.
    pub(super) fn is_strange_answer<S>(
        &self,
        cx: &Context<'_, S>,
        direction: Direction,
        meta: &SegmentMeta,
    ) -> bool {
        self.pairer.guess.as_ref().is_some_and(|guess| {
            guess.direction != direction
                && guess.client == guess.direction
                && guess.read_until == Some(meta.seq)
                && meta.ack.is_some_and(|ack| guess.start.precedes(ack))
                && !cx.flow.handshake.is_midstream()
        })
    }

    /// The guess was wrong, as the bytes of `direction` in `meta` show: forgets everything that
    /// rests on it. Both directions are searched again, this one from those bytes on.
    #[cold]
    pub(super) fn withdraw<S: EventSink>(
        &mut self,
        cx: &mut Context<'_, S>,
        direction: Direction,
        meta: &SegmentMeta,
    ) {
        for framer in &mut self.framers {
            framer.restart(ParseState::Search, &mut cx.shared.recorder.pool);
        }
        self.spoken = Spoken::Unclear;
        cx.shared.stats.http1.guesses_withdrawn += 1;
        let mut passed_until = self.framers.each_ref().map(|framer| framer.passed_until);
        passed_until[direction.index()] = Some(meta.seq);
        let (pairer, mut http1) = self.parts(cx, Direction::Forward);
        pairer.withdraw(&mut http1);
        for direction in [Direction::Forward, Direction::Reverse] {
            if let Some(until) = passed_until[direction.index()] {
                self.pairer.lose_messages(cx.flow, direction, until, Cause::NotUnderstood);
            }
        }
    }
}
