//! [`RecordWriter`]: the sink for a shard's events. Joins a [`Format`] to a [`BatchSender`].

use super::BatchSender;
use super::selector::{Selector, Subject};
use crate::capture::Polled;
use crate::config::{RecordKinds, Selection};
use crate::record::{Event, EventSink, ExchangeRecord, Format, Wants};
use crate::stats::EmitStats;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of exchanges that may still be reported, by all shards together (`-c`).
#[derive(Clone, Debug)]
pub struct Quota(Arc<AtomicU64>);

impl Quota {
    /// A quota of `exchange_count` exchanges.
    pub fn new(exchange_count: u64) -> Quota {
        Quota(Arc::new(AtomicU64::new(exchange_count)))
    }

    /// Takes one; false if none is left.
    fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    fn is_used_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// Writes the events of one shard as lines.
#[derive(Debug)]
pub struct RecordWriter {
    format: Box<dyn Format + Send>,
    /// `None` once closed.
    sender: Option<BatchSender>,
    quota: Option<Quota>,
    selector: Option<Selector>,
    kinds: RecordKinds,
    /// There is a quota or a selector, or exchanges are not wanted: not all events get a line.
    is_choosy: bool,
    is_prompt: bool,
    /// An exchange was on a connection with an answer.
    has_answered: bool,
    stats: EmitStats,
}

impl RecordWriter {
    /// Sends lines of `format` through `sender`. With `is_prompt`, lines are handed over after each
    /// poll, because a reader may wait for them; otherwise in full batches.
    pub fn new(
        format: Box<dyn Format + Send>,
        sender: BatchSender,
        quota: Option<Quota>,
        is_prompt: bool,
    ) -> RecordWriter {
        RecordWriter {
            format,
            sender: Some(sender),
            is_choosy: quota.is_some(),
            quota,
            selector: None,
            kinds: RecordKinds::default(),
            is_prompt,
            has_answered: false,
            stats: EmitStats::default(),
        }
    }

    /// Withholds the exchanges that `selection` does not want. They do not use up the quota.
    #[must_use]
    pub fn with_selection(mut self, selection: &Selection) -> RecordWriter {
        if !selection.is_empty() {
            self.selector = Some(Selector::new(selection));
            self.is_choosy = true;
        }
        self
    }

    /// Writes records of these kinds only. Events of others are not produced, except exchanges.
    #[must_use]
    pub fn with_kinds(mut self, kinds: RecordKinds) -> RecordWriter {
        self.kinds = kinds;
        self.is_choosy |= !kinds.http;
        self
    }

    /// Whether an event gets a line, by its kind, the selection and the quota. An exchange or a
    /// talk that gets none is counted.
    #[inline(never)]
    fn admits(&mut self, event: &Event<'_>) -> bool {
        match event {
            // These do not use up the quota, but once it is used up they get no line either.
            Event::Message(_) => !self.is_used_up(),
            Event::Partial(exchange) => {
                let selector = self.selector.as_mut();
                let is_wanted = selector.is_none_or(|it| it.will_admit(exchange));
                is_wanted && self.kinds.http && !self.is_used_up()
            }
            Event::Exchange(exchange) => {
                let is_admitted = self.admits_exchange(exchange);
                self.has_answered |= !is_admitted && exchange.is_answered;
                is_admitted
            }
            Event::Tls(tls) => {
                let selector = self.selector.as_mut();
                let is_admitted = selector.is_none_or(|it| it.admits(&Subject::tls(tls)));
                self.stats.tls_withheld += u64::from(!is_admitted);
                is_admitted
            }
            Event::WebSocket(talk) => {
                let selector = self.selector.as_mut();
                let is_admitted = selector.is_none_or(|it| it.admits(&Subject::websocket(talk)));
                let is_over = talk.active_ns.is_none();
                self.stats.websockets_withheld += u64::from(is_over && !is_admitted);
                is_admitted && (is_over || !self.is_used_up())
            }
        }
    }

    fn is_used_up(&self) -> bool {
        self.quota.as_ref().is_some_and(Quota::is_used_up)
    }

    fn admits_exchange(&mut self, exchange: &ExchangeRecord<'_>) -> bool {
        let selector = self.selector.as_mut();
        if selector
            .is_some_and(|it| !it.admits(&Subject::exchange(exchange.flow, exchange.exchange)))
        {
            self.stats.exchanges_withheld += 1;
            return false;
        }
        if !self.kinds.http {
            self.stats.exchanges_unnamed += 1;
            return false;
        }
        let is_left = self.quota.as_ref().is_none_or(Quota::take);
        self.stats.exchanges_beyond_count += u64::from(!is_left);
        is_left
    }

    /// The line of a talk of WebSocket that is over.
    #[cold]
    fn websocket(&mut self, event: &Event<'_>) {
        let Some(sender) = &mut self.sender else { return };
        let before = self.stats.lines;
        sender.line(&mut self.stats, |out| self.format.line(event, out));
        self.stats.lines_websocket += self.stats.lines - before;
    }

    /// The line of a connection of TLS.
    #[cold]
    fn tls(&mut self, event: &Event<'_>) {
        let Some(sender) = &mut self.sender else { return };
        let before = self.stats.lines;
        sender.line(&mut self.stats, |out| self.format.line(event, out));
        self.stats.lines_tls += self.stats.lines - before;
    }

    /// Whether the line of an exchange on a connection without an answer gives way to others,
    /// because the writer is behind; then it is counted. (Text has no line for an exchange.) If
    /// nobody answers at all, only one direction is captured, and all are equal.
    #[cold]
    fn gives_way(&mut self) -> bool {
        let is_less_wanted = self.has_answered && !self.format.wants().messages;
        match &mut self.sender {
            Some(sender) if is_less_wanted && sender.is_behind() => {
                sender.drop_line(&mut self.stats);
                true
            }
            _ => false,
        }
    }

    /// The line of what is under way. If the writer is behind, it gives way to those of what is
    /// over, and is counted as dropped. (Text has no such line.)
    #[cold]
    #[inline(never)]
    fn partial(&mut self, event: &Event<'_>) {
        let Some(sender) = &mut self.sender else { return };
        if self.format.wants().messages {
            return;
        }
        self.stats.records_partial += 1;
        if sender.is_behind() {
            sender.drop_line(&mut self.stats);
        } else {
            let format = &mut self.format;
            sender.line(&mut self.stats, |out| format.line(event, out));
        }
    }

    /// Called after each poll of the source.
    pub fn rest(&mut self, polled: Polled) {
        self.format.rest();
        if let Some(sender) = &mut self.sender
            && (self.is_prompt || polled == Polled::Idle)
        {
            sender.flush(&mut self.stats);
        }
    }

    /// Hands over the last lines, since no more come.
    pub fn close(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.close(&mut self.stats);
        }
    }

    /// Whether no more lines are needed: the quota is used up, or the reader has gone.
    pub fn is_enough(&self) -> bool {
        self.is_used_up() || self.sender.as_ref().is_some_and(BatchSender::is_closed)
    }

    /// Batches that wait for the writer.
    pub fn queued_batches(&self) -> u64 {
        self.sender.as_ref().map_or(0, BatchSender::queued_batches)
    }

    /// The counters of this shard's lines.
    pub fn stats(&self) -> &EmitStats {
        &self.stats
    }
}

impl EventSink for RecordWriter {
    fn wants(&self) -> Wants {
        self.format.wants()
    }

    // It is called for each kind of event, and without the attribute then in none of these places.
    #[inline(always)]
    fn event(&mut self, event: Event<'_>) {
        if self.is_choosy && !self.admits(&event) {
            return;
        }
        match event {
            Event::Exchange(exchange) if exchange.is_answered => self.has_answered = true,
            Event::Exchange(_) if self.gives_way() => return,
            Event::WebSocket(talk) if talk.active_ns.is_none() => return self.websocket(&event),
            Event::Tls(_) => return self.tls(&event),
            Event::Partial(_) | Event::WebSocket(_) => return self.partial(&event),
            _ => {}
        }
        if let Some(sender) = &mut self.sender {
            let format = &mut self.format;
            sender.line(&mut self.stats, |out| format.line(&event, out));
        }
    }
}
